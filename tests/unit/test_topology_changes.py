"""What ``plan`` says: adds, live changes, new runtimes and removals, each with its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.model.slice import Slice
from wireloom.model.topology import Topology
from wireloom.model.views import ChangeView
from wireloom.planning.changes import describe_changes
from wireloom.planning.expand import Expansion, NodeCounters, expand
from wireloom.planning.topology import parse_topology

CATALOGUE = DeviceCatalogue.load()
LAB = """
name: lab
nodes:
  a: {device: frr, env: {X: 1}, labels: {team: red}, cpu: 1, startup-config: "x\\ny"}
  v: {device: frr, provider: libvirt, spare-ports: 2, restart: always}
links:
- [a:eth1, v:eth1]
"""


def parse(text: str) -> Topology:
    return parse_topology(text, devices=CATALOGUE).topology


def knowledge(*topologies: Topology, ports: int | None = None) -> Expansion:
    names = [node.name for topology in topologies for node in topology.nodes]
    return Expansion(
        installation="i",
        lab_id="l",
        generation=1,
        devices=CATALOGUE,
        ids={name: f"id-{name}" for name in names},
        host_of=dict.fromkeys(names, "here"),
        counters={"v": NodeCounters(ports=ports)},
        spare_providers=frozenset({"libvirt"}),
    )


def changes(before: str | None, after: str, ports: int | None = None) -> list[ChangeView]:
    old = None if before is None else parse(before)
    new = parse(after)
    return list(describe_changes(old, new, knowledge(*filter(None, (old, new)), ports=ports)))


def lines(found: list[ChangeView]) -> list[tuple[str, str, str]]:
    return [(change.kind, change.name, change.action) for change in found]


def test_a_new_lab_adds_everything() -> None:
    found = changes(None, LAB)
    assert lines(found) == [("node", "a", "add"), ("node", "v", "add"), ("link", "a:eth1 -- v:eth1", "add")]
    assert found[0].reasons == ("frr on docker, image wireloom/frr:latest, 1 core, 256 MiB",)
    assert {change.host for change in found} == {"here"}


def test_an_equal_topology_changes_nothing() -> None:
    assert changes(LAB, LAB) == []
    assert changes(LAB, LAB.replace("[a:eth1, v:eth1]", "[v:ETH1, a:eth1]")) == []
    assert changes(LAB, LAB.replace("device: frr,", "device: frrouting, position: [1, 2],")) == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("cpu: 1", "cpu: 2", "cpu: 1 → 2"),
        ("cpu: 1", "memory: 512MB", "memory: 256 → 512"),
        ("X: 1", "X: 2, Y: 3", "env: X, Y differ"),
        ("x\\ny", "x\\nz", "startup-config: changed"),
        ("cpu: 1", "image: other:1", "image: wireloom/frr:latest → other:1"),
        ("cpu: 1", "settings: {tty: false}", "settings: tty differs"),
        ("cpu: 1", "binds: ['/a:/b']", "binds: changed"),
    ],
)
def test_what_a_runtime_is_made_of_takes_a_new_one(old: str, new: str, reason: str) -> None:
    found = changes(LAB, LAB.replace(old, new, 1))
    assert lines(found) == [("node", "a", "recreate")]
    assert found[0].reasons == (f"{reason}; this takes a new runtime",)


@pytest.mark.parametrize(
    ("old", "new", "node", "reason"),
    [
        ("team: red", "team: blue", "a", "labels: team differs"),
        ("restart: always", "restart: never", "v", "restart: always → never"),
        ("restart: always", "restart: always, exec: [ls]", "v", "exec: changed"),
        ("restart: always", "restart: always, depends-on: [a]", "v", "depends-on: a differs"),
        ("cpu: 1", "mgmt: false", "a", "mgmt: leaves the management network"),
    ],
)
def test_the_rest_is_changed_live(old: str, new: str, node: str, reason: str) -> None:
    found = changes(LAB, LAB.replace(old, new, 1))
    assert lines(found) == [("node", node, "change")]
    assert found[0].reasons == (reason,)


def test_live_changes_are_named_beside_those_that_take_a_new_runtime() -> None:
    found = changes(LAB, LAB.replace("cpu: 1", "cpu: 2").replace("red", "blue"))
    assert found[0].reasons == ("cpu: 1 → 2; this takes a new runtime", "labels: team differs")


def test_nodes_and_links_come_and_go() -> None:
    after = LAB.replace("  v:", "  w:").replace("v:eth1", "w:eth1")
    assert lines(changes(LAB, after)) == [
        ("node", "w", "add"),
        ("node", "v", "remove"),
        ("link", "a:eth1 -- w:eth1", "add"),
        ("link", "a:eth1 -- v:eth1", "remove"),
    ]


def test_a_link_changes_live() -> None:
    found = changes(LAB, LAB.replace("[a:eth1, v:eth1]", "{endpoints: [a:eth1, v:eth1], mtu: 9000, down: true}"))
    assert lines(found) == [("link", "a:eth1 -- v:eth1", "change")]
    assert found[0].reasons == ("MTU 1500 → 9000", "goes down")


def test_a_link_on_a_spare_port_leaves_the_machine_alone_and_one_beyond_does_not() -> None:
    spare = LAB + "- [a:eth2, v:eth3]\n"
    assert lines(changes(LAB, spare, ports=3)) == [("link", "a:eth2 -- v:eth3", "add")]
    beyond = changes(LAB, LAB + "- [a:eth2, v:eth4]\n", ports=3)
    assert lines(beyond) == [("node", "v", "recreate"), ("link", "a:eth2 -- v:eth4", "add")]
    assert beyond[0].reasons == ("ports: it has 3 and needs 6; this takes a new runtime",)


def as_deployed(**changes: object) -> list[Slice]:
    """What the host has of the lab, from a time when node ``a`` was defined otherwise."""
    slices = expand(parse(LAB), knowledge(parse(LAB))).values()
    return [
        document.model_copy(
            update={
                "nodes": tuple(node.model_copy(update=changes) if node.name == "a" else node for node in document.nodes)
            }
        )
        for document in slices
    ]


@pytest.mark.parametrize(
    ("changes", "action", "reason"),
    [
        (
            {"memory_mb": 128},
            "recreate",
            "memory: 128 → 256, as its device definition changed; this takes a new runtime",
        ),
        ({"stop_grace_s": 60.0}, "change", "grace time of the device: 60 → 5, as its device definition changed"),
        ({"cli": ""}, "change", "command line of the device:  → frr, as its device definition changed"),
    ],
)
def test_a_device_that_changed_since_the_lab_was_deployed_is_the_reason(
    changes: dict[str, object], action: str, reason: str
) -> None:
    lab = parse(LAB)
    found = list(describe_changes(lab, lab, knowledge(lab), deployed=as_deployed(**changes)))
    assert [(change.name, change.action, change.reasons) for change in found] == [("a", action, (reason,))]


def test_what_the_topology_changes_is_not_laid_to_the_device() -> None:
    old, new = parse(LAB), parse(LAB.replace("cpu: 1", "memory: 512MB"))
    found = list(describe_changes(old, new, knowledge(old, new), deployed=as_deployed(memory_mb=128)))
    assert found[0].reasons == ("memory: 128 → 512; this takes a new runtime",)


def test_other_ports_of_a_machine_take_a_new_runtime() -> None:
    lab = parse(LAB)
    deployed = expand(lab, knowledge(lab, ports=3))["here"]
    machine = deployed.nodes[1]
    renamed = tuple(port.model_copy(update={"guest_name": f"old{port.index}"}) for port in machine.ports)
    changed = deployed.model_copy(update={"nodes": (deployed.nodes[0], machine.model_copy(update={"ports": renamed}))})
    found = list(describe_changes(lab, lab, knowledge(lab, ports=3), deployed=[changed]))
    assert lines(found) == [("node", "v", "recreate")]
    assert found[0].reasons == ("ports: changed, as its device definition changed; this takes a new runtime",)


def test_nodes_that_depended_on_one_that_goes_are_described() -> None:
    before = LAB.replace("restart: always", "depends-on: [a]")
    old, new = parse(before), parse("name: lab\nnodes:\n  v: {device: frr, provider: libvirt, spare-ports: 2}\n")
    deployed = expand(old, knowledge(old)).values()
    found = describe_changes(old, new, knowledge(new), deployed=deployed)
    assert ("v", "change", ("depends-on: a differs",)) in [(item.name, item.action, item.reasons) for item in found]


def test_a_node_that_moves_to_another_host_is_made_anew() -> None:
    old = parse(LAB)
    known = replace(knowledge(old), host_of={"a": "here", "v": "here"})
    found = describe_changes(old, old, known, old_host_of={"a": "there", "v": "here"})
    assert [(change.name, change.action, change.reasons) for change in found] == [
        ("a", "recreate", ("host: there → here; this takes a new runtime",))
    ]
