"""Expansion to slices: everything resolved, ports stable while links come and go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wireloom.devices import DeviceCatalogue
from wireloom.errors import TopologyInvalid
from wireloom.model.identity import DEVICE_NAME_LIMIT
from wireloom.model.slice import Condition, Management, NodeIntent, PortRef, Slice
from wireloom.model.topology import LinkEnd, LinkSpec, Topology
from wireloom.model.underlay import Encryption
from wireloom.planning.expand import Expansion, NodeCounters, data_ports, expand, link_id, ports_made
from wireloom.planning.topology import parse_topology

CATALOGUE = DeviceCatalogue.load()
LIMIT = CATALOGUE.get("frr").ports.limit

LAB = """
name: lab
nodes:
  c: {device: frr, exec: [ls], depends-on: {v: running}}
  v: {device: frr, provider: libvirt, spare-ports: 3}
  h: {device: linux, mgmt: false}
  w: {device: linux, provider: libvirt, mgmt: false}
links:
- [c:eth1, v:eth1]
- {endpoints: [c:eth4, v:eth2], mtu: 9000, down: true}
"""


def parse(text: str = LAB) -> Topology:
    return parse_topology(text, devices=CATALOGUE).topology


def knowledge(topology: Topology, host: str = "host-1") -> Expansion:
    return Expansion(
        installation="inst",
        lab_id="lab-1",
        generation=7,
        devices=CATALOGUE,
        ids={node.name: f"id-{node.name}" for node in topology.nodes},
        host_of={node.name: host for node in topology.nodes},
        mgmt={host: Management(subnet="172.30.128.0/20", gateway="172.30.128.1")},
        mgmt_ipv4={node.name: f"172.30.128.{index}" for index, node in enumerate(topology.nodes, 2)},
        spare_providers=frozenset({"libvirt"}),
    )


def only(topology: Topology, known: Expansion) -> Slice:
    slices = expand(topology, known)
    assert list(slices) == ["host-1"]
    return slices["host-1"]


def node(document: Slice, name: str) -> NodeIntent:
    return next(item for item in document.nodes if item.name == name)


def roles(intent: NodeIntent) -> dict[str, str]:
    return {port.name: port.role for port in intent.ports}


def test_a_slice_names_its_lab_and_management_network() -> None:
    document = only(parse(), knowledge(parse()))
    assert (document.installation, document.lab_id, document.lab, document.generation) == ("inst", "lab-1", "lab", 7)
    assert document.management is not None
    assert document.management.gateway == "172.30.128.1"
    assert [item.id for item in document.nodes] == ["id-c", "id-v", "id-h", "id-w"]


def test_a_node_carries_all_that_its_device_says() -> None:
    found = node(only(parse(), knowledge(parse())), "c")
    support = CATALOGUE.get("frr").on("docker")
    assert (found.image, found.day0, found.console, found.run) == (
        support.image, support.day0, support.console, support.run,
    )  # fmt: skip
    assert found.ready == support.ready
    assert found.access == CATALOGUE.get("frr").access
    assert found.post_boot == ("ls",)
    assert found.depends_on == {"id-v": Condition.RUNNING}
    assert (found.startup_config, found.startup_template) == (
        None,
        "frr defaults traditional\nhostname {{ hostname }}\n",
    )
    assert found.mgmt_ipv4 == "172.30.128.2"


def test_counters_and_permission_come_from_outside() -> None:
    topology = parse()
    counters = {"c": NodeCounters(power="off", incarnation=3, restarts=2, attention=5)}
    found = node(only(topology, replace(knowledge(topology), counters=counters, allow_privileged=True)), "c")
    assert (found.power, found.incarnation, found.restarts, found.attention) == ("off", 3, 2, 5)
    assert found.privileged_allowed


def test_a_provider_that_adds_ports_live_gets_those_in_use() -> None:
    found = node(only(parse(), knowledge(parse())), "c")
    assert roles(found) == {"eth0": "mgmt", "eth1": "data", "eth4": "data"}
    assert not found.ports_fixed


def test_a_provider_that_fixes_ports_gets_spares_without_gaps() -> None:
    found = node(only(parse(), knowledge(parse())), "v")
    assert roles(found) == {"eth0": "mgmt", "eth1": "data", "eth2": "data", "eth3": "spare"}
    assert found.ports_fixed


def test_off_the_management_network_a_guest_that_counts_nics_keeps_the_place() -> None:
    document = only(parse(), knowledge(parse()))
    assert roles(node(document, "h")) == {}
    assert roles(node(document, "w"))["eth0"] == "spare"
    assert node(document, "w").mgmt_ipv4 is None


def test_links_become_wires_between_ports() -> None:
    document = only(parse(), knowledge(parse()))
    assert [
        (wire.a.node_id, wire.a.index, wire.b.node_id, wire.b.index, wire.mtu, wire.up) for wire in document.wires
    ] == [
        ("id-c", 1, "id-v", 1, 1500, True),
        ("id-c", 4, "id-v", 2, 9000, False),
    ]


def test_the_wish_of_a_user_overrides_the_state_in_the_file() -> None:
    topology = parse()
    wire = only(topology, knowledge(topology)).wires[0]
    known = replace(knowledge(topology), link_overrides={wire.id: False})
    assert [item.up for item in only(topology, known).wires] == [False, False]


def test_a_link_keeps_its_id_when_it_is_turned_round() -> None:
    a, b = PortRef(node_id="x", index=1), PortRef(node_id="y", index=2)
    assert link_id(a, b) == link_id(b, a)
    assert link_id(a, b) != link_id(a, PortRef(node_id="y", index=3))


def test_device_names_and_addresses_are_unique_and_fit_the_kernel() -> None:
    document = only(parse(), knowledge(parse()))
    ports = [port for item in document.nodes for port in item.ports]
    assert len({port.device for port in ports}) == len({port.mac for port in ports}) == len(ports)
    assert all(len(port.device) <= DEVICE_NAME_LIMIT and port.device.startswith("wlp") for port in ports)


def test_every_host_gets_its_own_slice() -> None:
    topology = parse(
        "name: l\nnodes: {a: {device: linux}, b: {device: linux}, c: {device: linux}}\nlinks: [[a:eth1, b:eth1]]\n"
    )
    known = replace(knowledge(topology), host_of={"a": "one", "b": "one", "c": "two"})
    slices = expand(topology, known)
    assert {host: [item.name for item in document.nodes] for host, document in slices.items()} == {
        "one": ["a", "b"],
        "two": ["c"],
    }
    assert [len(document.wires) for document in slices.values()] == [1, 0]


def test_a_link_between_hosts_is_on_both_with_the_same_id_and_number() -> None:
    topology = parse()
    apart = replace(knowledge(topology), host_of={"c": "one", "v": "two"})
    together = only(topology, knowledge(topology)).wires[0]
    slices = expand(topology, replace(apart, vnis={together.id: 77}, encryption="wireguard"))
    first, second = slices["one"].wires[0], slices["two"].wires[0]
    assert first.model_copy(update={"remote": None}) == together == second.model_copy(update={"remote": None})
    assert first.remote is not None
    assert second.remote is not None
    assert {first.remote.end, second.remote.end} == {"a", "b"}
    assert (first.remote.host, second.remote.host) == ("two", "one")
    assert first.remote.vni == second.remote.vni == 77
    assert first.remote.encryption == "wireguard"
    assert first.remote.name.startswith("v:")
    assert [ref.node_id for ref in (*first.local_ends, *second.local_ends)] == ["id-c", "id-v"]


@pytest.mark.parametrize(
    ("lab", "installation", "found"),
    [("", "wireguard", "wireguard"), ("none", "wireguard", "none"), ("wireguard", "none", "wireguard")],
)
def test_a_lab_says_for_itself_what_hides_its_links(lab: str, installation: Encryption, found: str) -> None:
    option = f"link-encryption: {lab}\n" if lab else ""
    topology = parse(
        f"name: l\n{option}nodes: {{a: {{device: linux}}, b: {{device: linux}}}}\nlinks: [[a:eth1, b:eth1]]\n"
    )
    known = replace(knowledge(topology), host_of={"a": "one", "b": "two"}, encryption=installation)
    (wire,) = expand(topology, known)["one"].wires
    assert wire.remote is not None
    assert wire.remote.encryption == found


def test_a_link_between_hosts_without_a_lease_has_no_number() -> None:
    topology = parse()
    slices = expand(topology, replace(knowledge(topology), host_of={"c": "one", "v": "two"}))
    assert {wire.remote.vni for document in slices.values() for wire in document.wires if wire.remote} == {0}


def test_a_node_without_a_host_is_left_out_with_its_links() -> None:
    topology = parse()
    document = only(topology, replace(knowledge(topology), host_of={"c": "host-1"}))
    assert [item.name for item in document.nodes] == ["c"]
    assert document.wires == ()


def test_intents_survive_the_wire_with_the_same_hash() -> None:
    document = only(parse(), knowledge(parse()))
    again = Slice.model_validate_json(document.model_dump_json())
    assert again == document
    assert [item.spec_hash() for item in again.nodes] == [item.spec_hash() for item in document.nodes]


# Ports while links come and go.

indexes = st.sets(st.integers(1, LIMIT), max_size=8)


def wired(used: set[int], spares: int, provider: str, ports: int | None) -> NodeIntent:
    """The intent of a node whose ports in ``used`` are linked."""
    text = f"name: l\nnodes:\n  v: {{device: frr, provider: {provider}, spare-ports: {spares}}}\n  p: {{device: frr}}\n"
    topology = parse(text)
    links = tuple(
        LinkSpec(
            a=LinkEnd(node="v", index=index, port=f"eth{index}"), b=LinkEnd(node="p", index=index, port=f"eth{index}")
        )
        for index in sorted(used)
    )
    topology = topology.model_copy(update={"links": links})
    known = replace(knowledge(topology), counters={"v": NodeCounters(ports=ports)})
    return node(only(topology, known), "v")


@settings(deadline=None, max_examples=40)
@given(indexes, st.integers(0, 8), st.data())
def test_links_on_spare_ports_never_take_a_new_runtime(used: set[int], spares: int, data: st.DataObject) -> None:
    memory = data.draw(st.booleans())
    made = wired(used, spares, "libvirt", 0 if memory else None)
    total = data_ports(made)
    kept = data.draw(st.sets(st.integers(1, total), max_size=8)) if total else set()
    later = wired(kept, spares, "libvirt", total if memory else None)
    if memory or max(kept, default=0) > max(used, default=0) or kept == used:
        assert later.spec_hash() == made.spec_hash()


@settings(deadline=None, max_examples=25)
@given(indexes, indexes)
def test_where_ports_are_added_live_no_link_takes_a_new_runtime(before: set[int], after: set[int]) -> None:
    assert wired(before, 4, "docker", None).spec_hash() == wired(after, 4, "docker", None).spec_hash()


@given(st.integers(0, LIMIT), st.integers(0, 64), st.one_of(st.none(), st.integers(0, LIMIT)))
def test_a_runtime_has_the_ports_in_use_and_its_spares(used: int, spares: int, remembered: int | None) -> None:
    total = ports_made(used, spares, remembered, LIMIT)
    assert used <= total <= LIMIT
    if remembered == 0 and used:
        assert total == min(used + spares, LIMIT)
    if remembered is not None and used <= remembered:
        assert total in {remembered, min(used + spares, LIMIT)}
    if remembered is None:
        assert all(ports_made(more, spares, None, LIMIT) == total for more in range(used, total + 1))


@pytest.mark.parametrize(
    ("used", "spares", "remembered", "total"),
    [
        (0, 4, 0, 4),  # never made: the spares
        (2, 4, 0, 6),  # never made: those in use and the spares
        (2, 4, 6, 6),
        (6, 4, 6, 6),  # all spares in use
        (7, 4, 6, 11),  # grows once, with new spares
        (0, 4, 6, 6),  # links removed
        (2, 4, None, 4),
        (5, 4, None, 8),
        (3, 0, None, 3),
    ],
)
def test_how_many_ports_a_runtime_gets(used: int, spares: int, remembered: int | None, total: int) -> None:
    assert ports_made(used, spares, remembered, LIMIT) == total


def test_what_makes_up_a_runtime_changes_its_hash_and_the_rest_does_not() -> None:
    base = node(only(parse(), knowledge(parse())), "v")
    live = {"restarts": 9, "attention": 9, "power": "off", "labels": {"a": "b"}, "post_boot": ("x",), "stop_grace_s": 9}
    assert base.model_copy(update=live).spec_hash() == base.spec_hash()
    for field, value in {
        "image": "other.qcow2", "cpu": 2.0, "memory_mb": 512, "env": {"A": "1"}, "settings": {"x": 1},
        "startup_config": "new", "provider": "docker", "day0": (), "ports": base.ports[:-1],
    }.items():  # fmt: skip
        assert base.model_copy(update={field: value}).spec_hash() != base.spec_hash(), field


LINE_CARDS = """
name: chassis
ports: {name: "ge-0/0/{n}", first: 0, management: fxp0, limit: 12}
hardware: {cpu: 1, memory: 256MB, spare-ports: 1, reserved-ports: 2, min-ports: 4}
providers:
  libvirt: {image: chassis.qcow2}
  docker: {image: acme/chassis}
"""


def chassis(tmp_path: Path, links: str, *, remembered: int | None = 0, provider: str = "libvirt") -> NodeIntent:
    (tmp_path / "chassis.yaml").write_text(LINE_CARDS)
    devices = DeviceCatalogue.load([tmp_path])
    text = (
        f"name: lab\nnodes: {{v: {{device: chassis, provider: {provider}}}, h: {{device: linux}}}}\nlinks: [{links}]\n"
    )
    topology = parse_topology(text, devices=devices).topology
    counters = {"v": NodeCounters(ports=remembered)}
    return node(only(topology, replace(knowledge(topology), devices=devices, counters=counters)), "v")


def test_reserved_ports_stand_between_management_and_data(tmp_path: Path) -> None:
    made = chassis(tmp_path, "[v:ge-0/0/0, h:eth1]")
    assert [(port.index, port.role, port.position) for port in made.ports] == [
        (0, "mgmt", 0), (-1, "reserved", 1), (-2, "reserved", 2),
        (1, "data", 3), (2, "spare", 4), (3, "spare", 5), (4, "spare", 6),
    ]  # fmt: skip
    assert len({port.device for port in made.ports}) == len({port.mac for port in made.ports}) == len(made.ports)
    assert data_ports(made) == 4


def test_links_on_ports_that_are_made_in_any_case_take_no_new_runtime(tmp_path: Path) -> None:
    bare = chassis(tmp_path, "")
    assert data_ports(bare) == 4
    linked = chassis(tmp_path, "[v:ge-0/0/3, h:eth1]", remembered=data_ports(bare))
    assert linked.spec_hash() == bare.spec_hash()
    grown = chassis(tmp_path, "[v:ge-0/0/4, h:eth1]", remembered=data_ports(bare))
    assert (grown.spec_hash() != bare.spec_hash(), data_ports(grown)) == (True, 6)


def test_reserved_ports_cannot_be_linked(tmp_path: Path) -> None:
    with pytest.raises(TopologyInvalid, match="reserved1"):
        chassis(tmp_path, "[v:reserved1, h:eth1]")


def test_where_ports_are_added_live_none_is_reserved(tmp_path: Path) -> None:
    made = chassis(tmp_path, "[v:ge-0/0/2, h:eth1]", provider="docker")
    assert [(port.index, port.role) for port in made.ports] == [(0, "mgmt"), (3, "data")]
