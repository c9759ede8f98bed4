"""Planning of links: tables for single rules, Hypothesis for what must hold from every state of the host."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wiring_world import MANAGEMENT, World, make_node, with_lab

from wireloom.model.identity import device_name
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.network import HostPort, Segment, SegmentAlias, Uplink
from wireloom.model.slice import NatIntent, NodeIntent, PlugIntent, PortRef, SegmentIntent, Slice, WireIntent
from wireloom.model.state import LinkState, RuntimePhase
from wireloom.model.vlans import Vlans
from wireloom.planning.link_status import link_statuses, plug_status, segment_status, wire_status

ROUNDS = 5
SLOW = Impairment(delay_ms=50)
LOSSY = Impairment(loss=1)


def make_slice(*nodes: NodeIntent, **changes: object) -> Slice:
    return Slice(installation="inst", lab_id="lab-1", lab="lab", generation=1, nodes=nodes).model_copy(update=changes)


def ref(node: NodeIntent, index: int = 1) -> PortRef:
    return PortRef(node_id=node.id, index=index)


def wire(a: NodeIntent, b: NodeIntent, **changes: object) -> WireIntent:
    return WireIntent(id=f"{a.name}-{b.name}", a=ref(a), b=ref(b)).model_copy(update=changes)


def segment(name: str = "lan", kind: str = "switch", **changes: object) -> SegmentIntent:
    made = SegmentIntent(id=f"id-{name}", name=name, kind="switch", device=device_name("s", name))
    return made.model_copy(update={"kind": kind, **changes})


def plug(node: NodeIntent, into: SegmentIntent, **changes: object) -> PlugIntent:
    made = PlugIntent(id=f"{node.name}-{into.name}", port=ref(node), segment=into.id)
    return made.model_copy(update=changes)


async def at_rest(lab: Slice, **changes: object) -> World:
    """A host on which everything of ``lab`` runs and is as it should be."""
    world = World(lab, {node.id: RuntimePhase.RUNNING for node in lab.nodes}, **changes)  # type: ignore[arg-type]
    await world.converge(ROUNDS)
    return world


def host_port(world: World, node: NodeIntent, index: int = 1) -> HostPort:
    found = node.port(index)
    assert found is not None
    return world.network.ports[found.device]


def sees_carrier(world: World, node: NodeIntent, index: int = 1) -> bool:
    found = node.port(index)
    assert found is not None
    return world.carrier(node, found)


R1, R2, R3 = make_node("r1"), make_node("r2", "hosted"), make_node("r3")
C1 = make_node("c1", link_down="cut")
LAN = segment()

# -- carriers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [R2, R3], ids=["machine", "container"])
async def test_a_guest_that_shuts_its_port_takes_the_far_carrier_and_gives_it_back(far: NodeIntent) -> None:
    world = await at_rest(make_slice(R1, far, wires=(wire(R1, far),)))
    assert sees_carrier(world, far)
    device = host_port(world, R1).device
    world.shut.add(device)
    plans = await world.plan()
    assert not plans.join
    assert not plans.cut
    await world.converge(1)
    assert not sees_carrier(world, far)
    assert host_port(world, R1).up, "only a port that is up can tell when its guest comes back"
    world.shut.clear()
    await world.converge(1)
    assert sees_carrier(world, far)


async def test_two_guests_that_both_shut_their_ports_keep_the_host_at_rest() -> None:
    world = await at_rest(make_slice(R1, R3, wires=(wire(R1, R3),)))
    devices = [host_port(world, node).device for node in (R1, R3)]
    world.shut.update(devices)
    assert (await world.plan()).empty
    world.shut.remove(devices[0])
    await world.converge(2)
    assert not sees_carrier(world, R1)
    world.shut.clear()
    await world.converge(2)
    assert sees_carrier(world, R1)
    assert sees_carrier(world, R3)


async def test_a_machine_that_lost_its_tap_takes_the_far_carrier() -> None:
    lab = make_slice(R1, R2, wires=(wire(R1, R2),))
    world = await at_rest(lab)
    world.let_go.add(host_port(world, R2).device)
    await world.converge(1)
    assert not sees_carrier(world, R1)
    assert "restart" in wire_status(lab.wires[0], lab, await world.observed()).message
    world.let_go.clear()
    await world.converge(1)
    assert sees_carrier(world, R1)


async def test_what_we_hold_down_ourselves_tells_nothing() -> None:
    lab = make_slice(R1, R3, wires=(wire(R1, R3, up=False),))
    world = await at_rest(lab)
    assert not sees_carrier(world, R1)
    world = with_lab(world, lab.model_copy(update={"wires": (wire(R1, R3),)}))
    assert await world.converge(1) == 1
    assert sees_carrier(world, R1)
    assert sees_carrier(world, R3)


async def test_a_device_that_minds_falling_carriers_is_cut_instead_and_its_peer_is_not() -> None:
    lab = make_slice(C1, R3, wires=(wire(C1, R3),))
    world = await at_rest(lab)
    down = with_lab(world, lab.model_copy(update={"wires": (wire(C1, R3, up=False),)}))
    await down.converge(1)
    assert sees_carrier(down, C1)
    assert not sees_carrier(down, R3)
    assert host_port(down, C1).peer is None
    assert host_port(down, R3).peer is None
    up = with_lab(down, lab)
    await up.converge(1)
    assert host_port(up, C1).peer == host_port(up, R3).device
    assert sees_carrier(up, R3)


async def test_a_cut_link_stays_apart_while_its_far_node_is_down_and_as_it_is_while_nobody_knows() -> None:
    far = make_node("r2", "hosted")
    lab = make_slice(C1, far, wires=(wire(C1, far),))
    world = await at_rest(lab)
    world.end(far, RuntimePhase.UNKNOWN)
    assert (await world.plan()).empty
    world.end(far, RuntimePhase.EXITED)
    await world.converge(1)
    assert host_port(world, C1).peer is None
    assert sees_carrier(world, C1)


async def test_a_link_into_a_segment_that_is_down_takes_the_carrier_or_the_port() -> None:
    lab = make_slice(C1, R1, segments=(LAN,), plugs=(plug(C1, LAN), plug(R1, LAN)))
    world = await at_rest(lab)
    assert sees_carrier(world, R1)
    down = lab.model_copy(update={"plugs": (plug(C1, LAN, up=False), plug(R1, LAN, up=False))})
    world = with_lab(world, down)
    await world.converge(1)
    assert sees_carrier(world, C1)
    assert not sees_carrier(world, R1)
    assert host_port(world, C1).segment is None
    assert host_port(world, R1).segment == LAN.device


# -- segments ----------------------------------------------------------------------------------------------------------


async def test_a_segment_is_made_before_its_ports_go_in_and_goes_after_they_left() -> None:
    lab = make_slice(R1, R2, segments=(LAN,), plugs=(plug(R1, LAN), plug(R2, LAN)))
    world = await at_rest(lab)
    assert world.network.segments[LAN.device].alias == (
        f"wireloom segment i=inst l=lab-1 s={LAN.id} name=lab/lan"
    )  # fmt: skip
    assert {host_port(world, node).segment for node in (R1, R2)} == {LAN.device}
    world = with_lab(world, make_slice(R1, R2))
    plans = await world.plan()
    assert plans.drop_segments == (LAN.device,)
    assert set(plans.detach) == {host_port(world, node).device for node in (R1, R2)}
    await world.converge(1)
    assert world.network.segments == {}


async def test_segments_of_others_are_never_dropped() -> None:
    world = await at_rest(make_slice(R1))
    for name, alias in {
        "other-lab": SegmentAlias(installation="inst", lab_id="lab-2", segment_id="s", name="x").text(),
        "the-host's": SegmentAlias(installation="inst", name="management").text(),
        "stranger": "",
    }.items():
        world.network.segments[name] = Segment(name=name, alias=alias, up=True)
    assert (await world.plan()).empty


@pytest.mark.parametrize(
    "changes", [{"mtu": 9000}, {"tagging": "802.1q"}, {"tagging": "802.1ad"}, {"name": "other"}], ids=str
)
async def test_a_segment_that_changed_is_mended_with_its_ports(changes: dict[str, object]) -> None:
    lab = make_slice(R1, segments=(LAN,), plugs=(plug(R1, LAN),))
    world = await at_rest(lab)
    wanted = segment(**{"device": LAN.device, "id": LAN.id, **changes})  # type: ignore[arg-type]
    world = with_lab(world, lab.model_copy(update={"segments": (wanted,)}))
    assert [plan.name for plan in (await world.plan()).segments] == [LAN.device]
    assert await world.converge(1) == 1
    vlans = None if wanted.tagging == "none" else Vlans.access()
    assert (host_port(world, R1).vlans, host_port(world, R1).mtu) == (vlans, wanted.mtu)


async def test_a_port_becomes_another_port_of_its_switch() -> None:
    lan = segment(tagging="802.1q")
    lab = make_slice(R1, R3, segments=(lan,), plugs=(plug(R1, lan), plug(R3, lan, vlans=Vlans.access(7))))
    world = await at_rest(lab)
    assert host_port(world, R1).vlans == Vlans.access(1)
    trunk = Vlans.trunk([(10, 20)], 1)
    world = with_lab(world, lab.model_copy(update={"plugs": (plug(R1, lan, vlans=trunk), lab.plugs[1])}))
    plans = await world.plan()
    assert [(item.device, item.vlans) for item in plans.attach] == [(host_port(world, R1).device, trunk)]
    assert not plans.detach


async def test_a_bridge_of_the_host_is_plugged_into_and_left_alone() -> None:
    office = segment("office", "external", uplink=Uplink(device="br0"))
    lab = make_slice(R1, segments=(office,), plugs=(plug(R1, office),))
    world = await at_rest(lab, bridges=frozenset({"br0"}))
    assert host_port(world, R1).segment == "br0"
    assert world.network.segments == {}
    status = segment_status(office, lab, await world.observed())
    assert (status.state, status.details["device"]) == (LinkState.UP, "br0")
    world = with_lab(world, make_slice(R1))
    plans = await world.plan()
    assert not plans.drop_segments
    assert plans.detach == (host_port(world, R1).device,)


async def test_a_vlan_of_the_hosts_bridge_is_an_uplink_like_any_other() -> None:
    office = segment("office", "external", uplink=Uplink(device="br0", vlan=20))
    world = World(make_slice(segments=(office,)), bridges=frozenset({"br0"}))
    plans = await world.plan()
    assert [plan.uplink for plan in plans.segments] == [office.uplink]
    await world.apply(plans)
    found = world.network.segments[office.device]
    member = Uplink(device="br0", vlan=20).member("inst")
    world.network.segments[office.device] = found.model_copy(update={"uplink": member})
    assert (await world.plan()).empty


async def test_a_way_out_has_the_hosts_address() -> None:
    nat = NatIntent(subnet="10.99.4.0/24", gateway="10.99.4.1", dhcp=("10.99.4.128", "10.99.4.254"))
    way = segment("way", "nat", nat=nat)
    world = World(make_slice(segments=(way,)))
    assert [plan.address for plan in (await world.plan()).segments] == ["10.99.4.1/24"]
    status = segment_status(way, world.lab, await world.observed())
    assert (status.state, status.details["dhcp"]) == (LinkState.PENDING, "10.99.4.128 - 10.99.4.254")


async def test_a_cable_moves_from_a_wire_to_a_switch_and_back_in_one_step() -> None:
    lab = make_slice(R1, R3, segments=(LAN,), wires=(wire(R1, R3),))
    world = await at_rest(lab)
    world = with_lab(world, lab.model_copy(update={"wires": (), "plugs": (plug(R1, LAN),)}))
    plans = await world.plan()
    assert [item.device for item in plans.attach] == [host_port(world, R1).device]
    assert [item.a for item in plans.cut] == [host_port(world, R3).device], "what moves is never cut first"
    assert host_port(world, R1).device not in plans.device_carriers
    await world.converge(1)
    world = with_lab(world, lab)
    plans = await world.plan()
    assert not plans.detach
    await world.converge(1)
    assert host_port(world, R1).peer == host_port(world, R3).device
    assert host_port(world, R1).segment is None


async def test_a_wire_whose_new_segment_is_refused_does_not_go_on() -> None:
    lab = make_slice(R1, R3, wires=(wire(R1, R3),))
    world = await at_rest(lab)
    other = with_lab(world, make_slice(R1, R3, segments=(LAN,), plugs=(plug(R1, LAN),)))
    plans = await other.plan()
    assert {item.a for item in plans.cut} == {host_port(world, R1).device, host_port(world, R3).device}


async def test_management_ports_stay_where_they_are() -> None:
    world = await at_rest(make_slice(R1, R2))
    assert {host_port(world, node, 0).segment for node in (R1, R2)} == {MANAGEMENT}
    assert (await world.plan()).empty


# -- impairments -------------------------------------------------------------------------------------------------------


async def test_each_direction_of_a_wire_is_made_where_its_frames_leave_the_host() -> None:
    lab = make_slice(R1, R2, wires=(wire(R1, R2, impairment=LinkImpairment(forward=SLOW, backward=LOSSY)),))
    world = await at_rest(lab)
    assert (host_port(world, R2).to_guest, host_port(world, R1).to_guest) == (SLOW, LOSSY)
    read = wire_status(lab.wires[0], lab, await world.observed()).impairment
    assert (read.forward, read.backward) == (SLOW, LOSSY)
    world = with_lab(world, make_slice(R1, R2, wires=(wire(R1, R2),)))
    await world.converge(1)
    assert (host_port(world, R2).to_guest, host_port(world, R1).to_guest) == (None, None)


async def test_a_link_into_a_segment_is_impaired_at_its_one_port() -> None:
    impairment = LinkImpairment(forward=SLOW, backward=LOSSY)
    lab = make_slice(R1, segments=(LAN,), plugs=(plug(R1, LAN, impairment=impairment),))
    world = await at_rest(lab)
    assert (host_port(world, R1).from_guest, host_port(world, R1).to_guest) == (SLOW, LOSSY)
    assert plug_status(lab.plugs[0], lab, await world.observed()).impairment == impairment


async def test_an_impairment_ends_when_its_time_is_over() -> None:
    impairment = LinkImpairment(forward=SLOW, until=1_500.0)
    later = LinkImpairment(forward=SLOW, until=1_800.0)
    lab = make_slice(
        R1, R3, segments=(LAN,), wires=(wire(R1, R3, impairment=impairment),),
        plugs=(PlugIntent(id="p", port=ref(R1, 2), segment=LAN.id, impairment=later),),
    )  # fmt: skip
    world = await at_rest(lab)
    plans = await world.plan()
    assert plans.empty
    assert plans.wake_at == 1_500.0
    world.now = 1_500.0
    plans = await world.plan()
    assert [(plan.device, plan.to_guest) for plan in plans.impair] == [(host_port(world, R3).device, None)]
    assert plans.wake_at == 1_800.0
    await world.apply(plans)
    world.now = 1_900.0
    await world.converge(1)
    assert (await world.plan()).wake_at is None
    assert host_port(world, R1, 2).from_guest is None


async def test_an_impairment_of_nothing_is_none() -> None:
    nothing = LinkImpairment(forward=Impairment(), backward=Impairment(), until=2_000.0)
    world = await at_rest(make_slice(R1, R3, wires=(wire(R1, R3, impairment=nothing),)))
    assert (await world.plan()).empty


# -- status ------------------------------------------------------------------------------------------------------------


async def test_a_link_whose_guest_shut_its_port_is_down_and_says_so() -> None:
    lab = make_slice(R1, R2, segments=(LAN,), wires=(wire(R1, R2),))
    world = await at_rest(lab)
    world.shut.add(host_port(world, R1).device)
    await world.converge(1)
    status = wire_status(lab.wires[0], lab, await world.observed())
    assert (status.state, status.message) == (LinkState.DOWN, "r1:eth1 is shut down by its guest")


async def test_a_link_into_a_segment_is_up_only_when_the_host_shows_it_there() -> None:
    lan = segment(tagging="802.1q", mtu=9000)
    lab = make_slice(R1, R2, segments=(lan,), plugs=(plug(R1, lan), plug(R2, lan, up=False)))
    world = await at_rest(lab)
    first, second = link_statuses(lab, await world.observed()).plugs
    assert (first.state, first.mtu, second.state) == (LinkState.UP, 9000, LinkState.DOWN)
    observed = await world.observed()
    problems = {lan.device: "refused"}
    assert link_statuses(lab, observed, problems).segments[0].state is LinkState.FAILED
    assert link_statuses(lab, observed, problems).plugs[0].state is LinkState.FAILED
    device = host_port(world, R1).device
    for changes in ({"segment": None}, {"vlans": Vlans.access(9)}, {"up": False}):
        ports = {**observed.network.ports, device: host_port(world, R1).model_copy(update=changes)}
        network = observed.network.model_copy(update={"ports": ports})
        seen = type(observed)(runtimes=observed.runtimes, network=network, capabilities=observed.capabilities)
        assert plug_status(lab.plugs[0], lab, seen).state is LinkState.PENDING
    gone = observed.network.model_copy(update={"segments": {}})
    seen = type(observed)(runtimes=observed.runtimes, network=gone, capabilities=observed.capabilities)
    assert plug_status(lab.plugs[0], lab, seen).message == "the segment lan is not there yet"
    assert segment_status(lan, lab, seen).message == "not made yet"
    world.end(R1, RuntimePhase.EXITED)
    assert plug_status(lab.plugs[0], lab, await world.observed()).message == "r1 is not running"


async def test_a_removed_lab_has_no_links() -> None:
    lab = make_slice(R1, R2, segments=(LAN,), wires=(wire(R1, R2),))
    world = await at_rest(lab)
    world = with_lab(world, lab.model_copy(update={"removed": True}))
    found = link_statuses(world.lab, await world.observed())
    assert (found.wires, found.plugs, found.segments) == ((), (), ())
    await world.converge(2)
    assert world.network.ports == {}
    assert world.network.segments == {}


# -- every state -------------------------------------------------------------------------------------------------------

PORTS = 3
phases = st.sampled_from(
    [RuntimePhase.RUNNING] * 4 + [RuntimePhase.GATED, RuntimePhase.EXITED, RuntimePhase.ABSENT, RuntimePhase.UNKNOWN]
)
impairments = st.builds(
    LinkImpairment,
    forward=st.sampled_from([None, SLOW, LOSSY, Impairment()]),
    backward=st.sampled_from([None, SLOW]),
    until=st.sampled_from([None, 900.0, 1_200.0]),
)
SEGMENTS = (
    LAN,
    segment("core", tagging="802.1ad", mtu=9000),
    segment("vlans", tagging="802.1q"),
    segment("nic", "external", uplink=Uplink(device="eth9")),
    segment("office", "external", uplink=Uplink(device="br0")),
    segment("way", "nat", nat=NatIntent(subnet="10.99.4.0/24", gateway="10.99.4.1")),
)
all_vlans = st.sampled_from([None, Vlans.access(1), Vlans.access(9), Vlans.trunk([(2, 5)], 1)])


@st.composite
def labs(draw: st.DrawFn, nodes: tuple[NodeIntent, ...]) -> Slice:
    """A lab in which each port is in one link at most."""
    refs = draw(st.permutations([ref(node, index) for node in nodes for index in range(1, PORTS + 1)]))
    wires, plugs = [], []
    segments = tuple(item for item in SEGMENTS if draw(st.booleans()))
    while len(refs) > 1:
        kind = draw(st.sampled_from(["wire", "wire", "plug", "none"]))
        up, impairment = draw(st.integers(0, 3)) > 0, draw(impairments)
        if kind == "wire":
            a, b = refs.pop(), refs.pop()
            mtu = draw(st.sampled_from([1500, 9000]))
            wires.append(WireIntent(id=f"w{len(wires)}", a=a, b=b, up=up, mtu=mtu, impairment=impairment))
            continue
        port = refs.pop()
        if kind == "plug" and segments:
            into, vlans = draw(st.sampled_from(segments)), draw(all_vlans)
            own = PlugIntent(id=f"p{len(plugs)}", port=port, segment=into.id, vlans=vlans, up=up, impairment=impairment)
            plugs.append(own)
    return make_slice(*nodes, wires=tuple(wires), segments=segments, plugs=tuple(plugs))


@st.composite
def many_nodes(draw: st.DrawFn) -> tuple[NodeIntent, ...]:
    return tuple(
        make_node(
            f"n{number}",
            draw(st.sampled_from(["own", "own", "hosted"])),
            PORTS,
            link_down=draw(st.sampled_from(["carrier", "carrier", "cut"])),
        )
        for number in range(draw(st.integers(1, 4)))
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Any lab on a host in any state."""
    nodes = draw(many_nodes())
    lab = draw(labs(nodes))
    world = World(lab, {node.id: draw(phases) for node in nodes}, bridges=frozenset({"br0"}))
    joined = {}
    for item in lab.wires:
        here, there = (_device(world, end) for end in (item.a, item.b))
        joined |= {here: there, there: here}
    bridges = [*(item.device for item in SEGMENTS), "br0", None, None]
    devices = [port.device for node in nodes for port in node.ports]
    for node in nodes:
        complete = world.phases[node.id] is RuntimePhase.GATED  # until then, a node is left to its action
        world.carriers[node.id] = {port.index: draw(st.booleans()) for port in node.ports}
        for port in (*node.ports, *make_node(node.name, ports=PORTS + 1).ports[PORTS + 1 :]):
            if port.role == "mgmt" or not (complete or draw(st.integers(0, 5))):
                continue
            world.plant(
                node,
                port,
                up=draw(st.booleans()),
                peer=draw(st.sampled_from([None, joined.get(port.device), *devices])),
                segment=draw(st.sampled_from(bridges)),
                vlans=draw(all_vlans),
                mtu=draw(st.sampled_from([1500, 9000])),
                to_guest=draw(st.sampled_from([None, SLOW])),
                from_guest=draw(st.sampled_from([None, LOSSY])),
            )
    for item in SEGMENTS:
        if draw(st.booleans()):
            alias = SegmentAlias(installation="inst", lab_id="lab-1", segment_id=item.id, name=f"lab/{item.name}")
            mtu, up = draw(st.sampled_from([1500, 9000])), draw(st.booleans())
            found = Segment(name=item.device, alias=alias.text(), up=up, mtu=mtu, uplink=draw(st.sampled_from([None])))
            world.network.segments[item.device] = found
    world.shut = {device for device in devices if draw(st.booleans())}
    return world


def check_rest(world: World) -> None:
    """What must be true of a host that is at rest."""
    alive = {node.id for node in world.lab.nodes if world.phases[node.id] in {RuntimePhase.RUNNING, RuntimePhase.GATED}}
    unknown = {node.id for node in world.lab.nodes if world.phases[node.id] is RuntimePhase.UNKNOWN}
    nodes = {node.id: node for node in world.lab.nodes}
    joined = {}
    for item in world.lab.wires:
        a, b = nodes[item.a.node_id], nodes[item.b.node_id]
        here, there = (_device(world, ref) for ref in (item.a, item.b))
        joined |= {here: there, there: here}
        if {a.id, b.id} & unknown or not {here, there} <= world.network.ports.keys():
            continue
        works = item.up and {a.id, b.id} <= alive
        cut = not works and "cut" in {a.link_down, b.link_down}
        ends = [world.network.ports[device] for device in (here, there)]
        assert [end.peer for end in ends] == ([None, None] if cut else [there, here])
        assert [end.segment for end in ends] == [None, None]
        for end, far, node in ((ends[0], ends[1], a), (ends[1], ends[0], b)):
            _check_carrier(world, node, end, far, works)
    for device, port in world.network.ports.items():
        assert port.peer is None or joined.get(device) == port.peer
    for item in world.lab.plugs:
        _check_plug(world, nodes[item.port.node_id], item)
    wanted = {item.device for item in world.lab.segments if item.name != "office"}
    assert world.network.segments.keys() == wanted
    for into in world.lab.segments:
        found = world.network.segments.get(into.device)
        assert found is None or (found.up, found.mtu, found.tagging) == (True, into.mtu, into.tagging)


def _device(world: World, end: PortRef) -> str:
    port = next(node for node in world.lab.nodes if node.id == end.node_id).port(end.index)
    assert port is not None
    return port.device


def _check_carrier(world: World, node: NodeIntent, end: HostPort, far: HostPort, works: bool) -> None:
    if world.phases[node.id] not in {RuntimePhase.RUNNING, RuntimePhase.GATED}:
        return
    port = next(port for port in node.ports if port.device == end.device)
    far_shut = far.kind == "veth" and far.device in world.shut
    if node.link_down == "cut" or (works and not far_shut):
        assert world.carrier(node, port)
    elif not works:
        assert not world.carrier(node, port)
    elif end.device not in world.shut:
        assert not world.carrier(node, port), "the far guest has shut its port"


def _check_plug(world: World, node: NodeIntent, item: PlugIntent) -> None:
    into = world.lab.segment(item.segment)
    port = world.network.ports.get(_device(world, item.port))
    assert into is not None
    if port is None:
        return
    inside = item.up or node.link_down == "carrier"
    assert port.segment == ((into.device if into.name != "office" else "br0") if inside else None)
    assert port.peer is None
    if inside:
        expected = None if into.tagging == "none" else item.vlans or Vlans.access()
        assert (port.vlans, port.mtu) == (expected, into.mtu)
    current = item.impairment.at(world.now)
    whole = (current.backward and current.backward.or_none(), current.forward and current.forward.or_none())
    assert (port.to_guest, port.from_guest) == whole


@settings(deadline=None, max_examples=150)
@given(worlds())
def test_carrying_out_plans_comes_to_rest_from_every_state(world: World) -> None:
    asyncio.run(world.converge(ROUNDS))
    check_rest(world)


@settings(deadline=None, max_examples=80)
@given(worlds(), st.data())
def test_carriers_never_latch_nor_loop_whatever_guests_and_users_do(world: World, data: st.DataObject) -> None:
    async def live() -> None:
        nonlocal world
        await world.converge(ROUNDS)
        for _ in range(4):
            what = data.draw(st.sampled_from(["shut", "node", "lab", "time"]))
            nodes = world.lab.nodes
            if what == "shut":
                devices = [port.device for node in nodes for port in node.ports]
                world.shut ^= set(data.draw(st.lists(st.sampled_from(devices), max_size=4)))
            elif what == "node":
                node = data.draw(st.sampled_from(nodes))
                world.end(node, data.draw(st.sampled_from([RuntimePhase.RUNNING, RuntimePhase.EXITED])))
            elif what == "lab":
                world = with_lab(world, data.draw(labs(nodes)))
            else:
                world.now += 200
            await world.converge(ROUNDS)
            check_rest(world)
        world.shut.clear()
        for node in world.lab.nodes:
            world.end(node, RuntimePhase.RUNNING)
        await world.converge(ROUNDS)
        for item in world.lab.wires:
            for end in (item.a, item.b):
                owner = next(node for node in world.lab.nodes if node.id == end.node_id)
                if item.up:
                    assert sees_carrier(world, owner, end.index)

    asyncio.run(live())
