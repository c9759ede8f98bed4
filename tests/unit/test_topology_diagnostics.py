"""Every mistake in a topology is said with its place and what to write instead, and all of them at once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from topology_mistakes import TABLE, TWO, lab

from wireloom.devices import DeviceCatalogue
from wireloom.errors import TopologyInvalid
from wireloom.model.diagnostic import Diagnostic, format_diagnostics
from wireloom.planning.topology import parse_topology, startup_config_paths

CATALOGUE = DeviceCatalogue.load()
SCHEMAS = {
    "docker": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "cap_add": {"type": "array", "items": {"type": "string"}},
            "tty": {"type": "boolean"},
            "size": {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]},
            "bus": {"enum": ["ide", "virtio"]},
            "user": {"$ref": "#/$defs/Word"},
            "sysctls": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
        "$defs": {"Word": {"type": "string", "pattern": "^[a-z]+$"}},
    }
}


def mistakes(text: str, **files: str) -> list[Diagnostic]:
    with pytest.raises(TopologyInvalid) as caught:
        parse_topology(text, source="lab.yml", files=files, devices=CATALOGUE, settings_schemas=SCHEMAS)
    return [Diagnostic.model_validate(item) for item in caught.value.details["diagnostics"]]


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "suggestion"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_mistake_is_said_with_its_place_and_a_suggestion(
    text: str, line: int, column: int, message: str, suggestion: str
) -> None:
    found = mistakes(text)
    matching = [item for item in found if message in item.message]
    assert matching, format_diagnostics(found)
    if line:
        assert (matching[0].line, matching[0].column) == (line, column)
    assert suggestion in matching[0].suggestion
    assert matching[0].file == "lab.yml"


@pytest.mark.parametrize("text", [row[1] for row in TABLE if row[2]], ids=[row[0] for row in TABLE if row[2]])
def test_one_mistake_is_reported_once_and_causes_no_others(text: str) -> None:
    found = mistakes(text)
    assert len(found) == 1, format_diagnostics(found)


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    text = (
        "name: my lab\n"
        "nodes:\n"
        "  r1: {devise: frr, memory: lots}\n"
        "  r2: {device: linx, cpu: 0}\n"
        "  r3: {device: linux, image: x.qcow2, depends-on: [r9]}\n"
        "links:\n"
        "- [r1:eth1, r3:eth99]\n"
        "- [r3:eth1, r7:eth1]\n"
        "- {endpoints: [r3:eth1, r1:eth2], mtu: 1}\n"
        "color: red\n"
    )
    lines = [item.line for item in mistakes(text)]
    assert lines == [1, 3, 3, 4, 4, 5, 5, 7, 8, 9, 9, 10]


def test_the_error_itself_tells_the_first_mistakes() -> None:
    with pytest.raises(TopologyInvalid, match=r"lab.yml has 1 mistake: line 3: unknown key 'devise'"):
        parse_topology("name: lab\nnodes:\n  r1: {devise: frr}\n", source="lab.yml", devices=CATALOGUE)


def test_diagnostics_are_printed_as_terminals_and_editors_know_them() -> None:
    printed = format_diagnostics(mistakes(lab("  r1: {device: ffr}\n")))
    assert printed == "lab.yml:3:16: there is no device 'ffr'\n    did you mean 'frr'?"


def test_a_mistake_has_a_path() -> None:
    assert [item.path for item in mistakes(lab(TWO, "- [r1:eth1, r9:eth1]\n"))] == ["links[0].endpoints[1]"]
    assert [item.path for item in mistakes(lab("  r1: {device: frr, memory: x}\n"))] == ["nodes.r1.memory"]


def test_two_knots_of_dependencies_are_two_mistakes() -> None:
    waits = {"a": "b", "b": "a", "c": "d", "d": "c"}
    nodes = "".join(f"  {name}: {{device: frr, depends-on: [{other}]}}\n" for name, other in waits.items())
    assert [item.message.rpartition(": ")[2] for item in mistakes(lab(nodes))] == ["a → b → a", "c → d → c"]


fragments = st.lists(
    st.sampled_from(
        [
            "name: x\n",
            "nodes:\n",
            "  r1:",
            " {device: frr}\n",
            "\n",
            "    device: linux\n",
            "links:\n",
            "- [r1:eth1, r1:eth2]\n",
            "[",
            "{",
            "}",
            "]",
            "&a ",
            "*a",
            "<<: ",
            "? ",
            "|\n",
            "'",
            '"',
            "#",
            "\t",
            "- ",
            ": ",
            "!!int ",
            "---\n",
            "mtu: 1\n",
            "~",
            "5",
            "defaults:\n",
            "  settings: {docker: {tty: 1}}\n",
            "    depends-on: [r1]\n",
            "    env: [a]\n",
            "  r1: *a\n",
        ]
    ),
    max_size=25,
).map("".join)


def test_a_dependency_that_could_never_end_is_refused(tmp_path: Path) -> None:
    silent = "name: silent\nproviders: {docker: {image: x}}\nready: {chain: []}\n"
    remote = "name: remote\nports: {management: eth0}\nproviders: {docker: {image: x}}\nready: {chain: [{tcp: 22}]}\n"
    for name, text in (("silent", silent), ("remote", remote)):
        (tmp_path / f"{name}.yaml").write_text(text)
    devices = DeviceCatalogue.load([tmp_path])
    text = lab(
        "  a: {device: silent}\n  b: {device: remote, mgmt: false}\n  c: {device: frr, depends-on: [a]}\n"
        "  d: {device: frr, depends-on: {b: ready}}\n  e: {device: frr, depends-on: {a: running, b: running}}\n"
    )
    with pytest.raises(TopologyInvalid) as caught:
        parse_topology(text, source="lab.yml", devices=devices)
    found = [(item["line"], item["message"], item["suggestion"]) for item in caught.value.details["diagnostics"]]
    assert found == [
        (5, "node 'a' never becomes ready: device 'silent' declares no probe", "wait until it runs: `a: running`"),
        (
            6,
            "node 'b' never becomes ready: it is asked on the management network, which it is not on",
            "wait until it runs: `b: running`",
        ),
    ]


@settings(deadline=None)
@given(st.one_of(fragments, st.text(max_size=120)))
def test_no_text_raises_anything_but_topology_invalid(text: str) -> None:
    with suppress(TopologyInvalid):
        parse_topology(text, devices=CATALOGUE, settings_schemas=SCHEMAS)
    startup_config_paths(text)
