"""Reading topologies that are right: what is said where, and what wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.errors import TopologyInvalid
from wireloom.model.slice import Condition, RestartPolicy
from wireloom.model.topology import NodeSpec, Topology
from wireloom.planning.topology import parse_topology, startup_config_paths

EXAMPLES = Path(__file__).parents[2] / "examples"
CATALOGUE = DeviceCatalogue.load()


def parse(text: str, **files: str) -> Topology:
    return parse_topology(text, devices=CATALOGUE, files=files).topology


def node(body: str, *, defaults: str = "", **files: str) -> NodeSpec:
    text = f"name: lab\ndefaults: {{{defaults}}}\nnodes:\n  r2: {{device: linux}}\n  r1: {body}\n"
    found = parse(text, **files).node("r1")
    assert found is not None
    return found


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yml")), ids=lambda path: path.name)
def test_the_examples_are_right(path: Path) -> None:
    parsed = parse_topology(path.read_text(encoding="utf-8"), source=str(path), devices=CATALOGUE)
    assert parsed.topology.name == path.stem
    assert parsed.warnings == ()


def test_the_mixed_example_is_a_ring_of_both_technologies_with_a_host_at_each_end() -> None:
    topology = parse((EXAMPLES / "ospf-mixed.yml").read_text(encoding="utf-8"))
    providers = {item.name: item.provider for item in topology.nodes}
    assert providers == {
        "r1": "docker",
        "r2": "libvirt",
        "r3": "docker",
        "r4": "libvirt",
        "h1": "docker",
        "h2": "docker",
    }
    joined = {frozenset((link.a.node, link.b.node)) for link in topology.links}
    assert joined == {
        frozenset(pair) for pair in (("r1", "r2"), ("r2", "r3"), ("r3", "r4"), ("r4", "r1"), ("h1", "r1"), ("h2", "r3"))
    }


FRR_DEFAULT = "frr defaults traditional\nhostname {{ hostname }}\n"


@pytest.mark.parametrize(
    ("name", "content", "template", "text"),
    [
        ("r1.cfg", "ntp {{ x", "", "ntp {{ x"),
        ("r1.cfg.j2", "hostname {{ hostname }}-x\n", "hostname {{ hostname }}-x\n", None),
        ("r1.partial", "ntp {{ x", FRR_DEFAULT, "ntp {{ x"),
        ("conf/r1.partial.cfg", "ntp\n", FRR_DEFAULT, "ntp\n"),
        ("r1.partial.j2", "ip {{ mgmt_ipv4 }}\n", FRR_DEFAULT + "ip {{ mgmt_ipv4 }}\n", None),
        ("partial.cfg", "whole\n", "", "whole\n"),
        ("not.partially.cfg", "whole\n", "", "whole\n"),
    ],
)
def test_the_name_of_a_file_says_how_it_is_used(name: str, content: str, template: str, text: str | None) -> None:
    found = node(f"{{device: frr, startup-config: {name}}}", **{name: content})
    assert (found.startup_template, found.startup_config) == (template, text)


def test_a_mistake_in_a_template_is_found_before_anything_is_deployed() -> None:
    with pytest.raises(TopologyInvalid, match=r"line 5: r1\.j2: 'hostnam' is undefined"):
        node("{device: frr, startup-config: r1.j2}", **{"r1.j2": "hostname {{ hostnam }}"})
    with pytest.raises(TopologyInvalid, match=r"r1\.j2: line 2: Encountered unknown tag 'endfor'"):
        node("{device: frr, startup-config: r1.j2}", **{"r1.j2": "x\n{% endfor %}"})


def test_the_file_of_the_node_wins_over_that_of_the_defaults() -> None:
    files = {"a.cfg": "a", "b.partial": "b"}
    found = node("{device: frr, startup-config: a.cfg}", defaults="startup-config: b.partial", **files)
    assert (found.startup_template, found.startup_config) == ("", "a")


def test_a_node_gets_everything_that_it_does_not_say_from_its_device() -> None:
    found = node("{device: frr, provider: libvirt}")
    assert found.image == "frr.qcow2"
    assert (found.cpu, found.memory_mb, found.spare_ports) == (1, 256, 4)
    assert (found.startup_config, found.startup_template) == (None, FRR_DEFAULT)
    assert found.restart is RestartPolicy.ON_FAILURE
    assert found.management


def test_a_device_is_found_by_its_alias() -> None:
    assert node("{device: frrouting}").device == "frr"


def test_the_node_wins_over_defaults_and_defaults_over_the_device() -> None:
    found = node(
        "{cpu: 0.5, env: {B: 2, C: 3}, labels: {x: own}}",
        defaults="device: frr, cpu: 2, memory: 1GiB, restart: never, env: {A: 1, B: 1}, labels: {x: shared, y: z}",
    )
    assert (found.device, found.cpu, found.memory_mb, found.restart) == ("frr", 0.5, 1024, RestartPolicy.NEVER)
    assert found.env == {"A": "1", "B": "2", "C": "3"}
    assert found.labels == {"x": "own", "y": "z"}


def test_provider_settings_are_merged_from_device_defaults_and_node() -> None:
    found = node(
        "{device: frr, settings: {tty: false}}",
        defaults="settings: {docker: {tty: true, user: root}, libvirt: {machine: q35}}",
    )
    assert found.settings["tty"] is False
    assert found.settings["user"] == "root"
    assert found.settings["cap_add"] == ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]
    assert "machine" not in found.settings


@pytest.mark.parametrize(
    ("written", "mebibytes"),
    [("512", 512), ("512MB", 512), ("512 MiB", 512), ("2GiB", 2048), ("2g", 2048), ("1.5GB", 1536), ("1TiB", 1048576)],
)
def test_memory_is_written_in_many_ways(written: str, mebibytes: int) -> None:
    assert node(f"{{device: frr, memory: {written}}}").memory_mb == mebibytes


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("[r2]", {"r2": Condition.READY}),
        ("r2", {"r2": Condition.READY}),
        ("{r2: running}", {"r2": Condition.RUNNING}),
        ("[]", {}),
    ],
)
def test_dependencies_are_a_list_or_name_conditions(written: str, wanted: dict[str, Condition]) -> None:
    assert node(f"{{device: frr, depends-on: {written}}}").depends_on == wanted


@pytest.mark.parametrize("written", ["[10, -2.5]", "{x: 10, y: -2.5}"])
def test_a_position_is_a_pair_or_a_mapping(written: str) -> None:
    position = node(f"{{device: frr, position: {written}}}").position
    assert position is not None
    assert (position.x, position.y) == (10, -2.5)


def test_environment_is_text_as_it_was_written() -> None:
    found = node("{device: linux, env: {A: 010, B: 1.10, C: true, D: '', E: x}}")
    assert found.env == {"A": "010", "B": "1.10", "C": "true", "D": "", "E": "x"}
    assert node("{device: linux, env: [A=1, B=x=y]}").env == {"A": "1", "B": "x=y"}


def test_binds_are_written_short_or_long() -> None:
    found = node("{device: linux, binds: ['/a:/b', '/c:/d:ro', {source: /e, target: /f, read-only: true}]}")
    assert [(item.source, item.target, item.read_only) for item in found.binds] == [
        ("/a", "/b", False),
        ("/c", "/d", True),
        ("/e", "/f", True),
    ]


def test_a_block_is_a_configuration_and_a_line_names_a_file() -> None:
    text = (
        "name: x\nnodes:\n  a:\n    device: frr\n    startup-config: |\n      one line\n"
        "  b: {device: frr, startup-config: b.cfg}\n"
    )
    topology = parse_topology(text, devices=CATALOGUE, files={"b.cfg": "from a file"}).topology
    assert [item.startup_config for item in topology.nodes] == ["one line\n", "from a file"]
    assert startup_config_paths(text) == ("b.cfg",)


def test_the_files_of_a_topology_are_known_even_when_it_has_mistakes() -> None:
    text = "nodes: {a: {startup-config: x, colour: red}, b: {startup-config: y}}\ndefaults: {startup-config: x}"
    assert startup_config_paths(text) == ("x", "y")
    assert startup_config_paths("[") == ()


@pytest.mark.parametrize(
    ("body", "top", "managed"),
    [("{device: frr}", "", True), ("{device: frr, mgmt: false}", "", False), ("{device: frr}", "mgmt: false", False)],
)
def test_the_management_network_can_be_left_out(body: str, top: str, managed: bool) -> None:
    found = parse(f"name: x\n{top}\nnodes:\n  r1: {body}\n").nodes[0]
    assert found.management is managed


LINKS = "name: x\ndefaults: {{device: frr, mtu: 1400}}\nnodes: {{r1: , r2: }}\nlinks:\n- {link}\n"


@pytest.mark.parametrize(
    ("link", "wanted"),
    [
        ("[r1:eth1, r2:eth2]", {"mtu": 1400, "up": True}),
        ("['r1:ETH1', ' r2 : eth2 ']", {"mtu": 1400, "up": True}),
        ("{endpoints: [r1:eth1, r2:eth2], mtu: 9000, down: true, labels: {a: 1}}", {"mtu": 9000, "up": False}),
        ("{endpoints: [r1:eth1, r2:eth2], down: false}", {"mtu": 1400, "up": True}),
    ],
)
def test_links_are_written_short_or_long(link: str, wanted: dict[str, Any]) -> None:
    found = parse(LINKS.format(link=link)).links[0]
    assert (str(found.a), str(found.b)) == ("r1:eth1", "r2:eth2")
    assert {"mtu": found.mtu, "up": found.up} == wanted


def test_a_link_has_one_name_whichever_end_comes_first() -> None:
    there, back = (parse(LINKS.format(link=link)).links[0] for link in ("[r1:eth1, r2:eth2]", "[r2:eth2, r1:eth1]"))
    assert there.name == back.name == "r1:eth1 -- r2:eth2"


def test_anchors_and_merge_keys_save_typing() -> None:
    topology = parse("name: x\nnodes:\n  a: &router {device: frr, cpu: 2}\n  b: {<<: *router, memory: 1GB}\n")
    assert [(item.cpu, item.memory_mb) for item in topology.nodes] == [(2, 256), (2, 1024)]


def test_any_device_runs_simulated() -> None:
    found = node("{device: frr, provider: simulated, startup-config: cfg}", cfg="text")
    assert (found.image, found.startup_config) == ("simulated", "text")


def test_values_are_plain_and_survive_the_wire() -> None:
    topology = parse("name: x\nnodes: {a: {device: generic, image: i, settings: {a: [1, 2.5, x, {b: null}]}}}\n")
    assert Topology.model_validate_json(topology.model_dump_json()) == topology
    settings = topology.nodes[0].settings["a"]
    assert [type(item) for item in settings] == [int, float, str, dict]


def test_placement_is_asked_for_at_a_node_or_at_all() -> None:
    found = node(
        "{device: linux, host-labels: {disk: ssd}, apart: spines, apart-preferred: [a, b]}",
        defaults="host-labels: {rack: b}, apart: all",
    )
    assert found.host_labels == {"rack": "b", "disk": "ssd"}
    assert found.apart == ("spines",)
    assert found.apart_preferred == ("a", "b")
    assert node("{device: linux}", defaults="apart: all").apart == ("all",)


@pytest.mark.parametrize("wrong", ["apart: {a: b}", "apart: [[a]]", "host-labels: 5"])
def test_what_is_no_wish_for_a_place_is_a_mistake_of_its_line(wrong: str) -> None:
    with pytest.raises(TopologyInvalid) as caught:
        parse(f"name: lab\nnodes:\n  r1:\n    device: linux\n    {wrong}\n")
    assert [item["line"] for item in caught.value.details["diagnostics"]] == [5]
