"""Planning of links: what must hold from every state of the host, whatever guests and users do."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from wiring_world import LAN, LOSSY, ROUNDS, SLOW, World, make_node, make_slice, ref, sees_carrier, segment, with_lab

from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.network import HostPort, Segment, SegmentAlias, Uplink
from wireloom.model.slice import NatIntent, NodeIntent, PlugIntent, PortRef, Slice, WireIntent
from wireloom.model.state import RuntimePhase
from wireloom.model.vlans import Vlans

PORTS = 3
phases = st.sampled_from(
    [RuntimePhase.RUNNING] * 4 + [RuntimePhase.GATED, RuntimePhase.EXITED, RuntimePhase.ABSENT, RuntimePhase.UNKNOWN]
)
impairments = st.builds(
    LinkImpairment,
    forward=st.sampled_from([None, SLOW, LOSSY, Impairment()]),
    backward=st.sampled_from([None, SLOW]),
    forward_until=st.sampled_from([None, 900.0, 1_200.0]),
    backward_until=st.sampled_from([None, 1_100.0]),
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
