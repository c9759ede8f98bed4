"""What a topology and the config store say of a node's configuration, as its agent gets it."""

from __future__ import annotations

import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.model.slice import SPEC_FIELDS, NodeIntent, StoredConfig
from wireloom.planning.changes import describe_changes
from wireloom.planning.expand import Expansion, node_intents
from wireloom.planning.topology import parse_topology

TEXT = "name: lab\ndefaults: {{device: frr{}}}\nnodes:\n  r1: {{{}}}\n  r2:\n"
STORED = StoredConfig(revision=3, sha256="abc", text="hostname r1\n")
DEVICES = DeviceCatalogue.load()


def known(**changes: object) -> Expansion:
    fields: dict[str, object] = {
        "installation": "i",
        "lab_id": "l",
        "generation": 1,
        "devices": DEVICES,
        "ids": {"r1": "n1", "r2": "n2"},
        "host_of": {"r1": "h1", "r2": "h1"},
    }
    return Expansion(**{**fields, **changes})  # type: ignore[arg-type]


def intents(defaults: str = "", node: str = "", **changes: object) -> dict[str, NodeIntent]:
    topology = parse_topology(
        TEXT.format(defaults, node), source="t.yml", files={}, devices=DEVICES, settings_schemas={}
    ).topology
    return node_intents(topology, known(**changes))


@pytest.mark.parametrize(
    ("defaults", "node", "expected"),
    [
        ("", "", {"r1": True, "r2": True}),
        ("", "extract-on-stop: false", {"r1": False, "r2": True}),
        (", extract-on-stop: false", "extract-on-stop: true", {"r1": True, "r2": False}),
    ],
)
def test_a_topology_says_whether_a_stop_reads_the_configuration(
    defaults: str, node: str, expected: dict[str, bool]
) -> None:
    assert {name: intent.extract_on_stop for name, intent in intents(defaults, node).items()} == expected


def test_the_active_revision_travels_with_the_node_and_changes_nothing_of_its_runtime() -> None:
    plain = intents()["r1"]
    given = intents(stored_configs={"r1": STORED}, chosen=frozenset({"r1"}), choices={"r1": 2})["r1"]
    assert (given.stored_config, given.config_chosen, given.config_choice) == (STORED, True, 2)
    assert given.spec_hash() == plain.spec_hash()
    assert not {"stored_config", "config_chosen", "config_choice", "extract_on_stop"} & SPEC_FIELDS


def test_a_preview_says_what_changes_about_extraction_and_nothing_of_the_store() -> None:
    def topology(node: str) -> object:
        return parse_topology(
            TEXT.format("", node), source="t.yml", files={}, devices=DEVICES, settings_schemas={}
        ).topology

    expansion = known(stored_configs={"r1": STORED})
    assert describe_changes(topology(""), topology(""), expansion) == ()  # type: ignore[arg-type]
    changes = describe_changes(topology(""), topology("extract-on-stop: false"), expansion)  # type: ignore[arg-type]
    assert [(change.name, change.action, change.reasons) for change in changes] == [
        ("r1", "change", ("extract-on-stop: True → False",))
    ]
