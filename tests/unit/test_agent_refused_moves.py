"""A move that the host refuses leaves no frame where it went before: nobody declares that any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.errors import DataPlaneFailed
from wireloom.model.slice import PlugIntent, PortRef, SegmentIntent, Slice, WireIntent
from wireloom.model.state import LinkState, SliceStatus
from wireloom.model.vlans import Vlans

REFUSED = DataPlaneFailed("no room", details={"errno": "ENOSPC"})
#: More often than any test asks.
FOR_EVER = 10_000

NODES = [make_node(name) for name in "abc"]
#: Each node's port 1 and 2 by its name.
A1, A2, B1, B2, C1, C2 = (PortRef(node_id=node.id, index=index) for node in NODES for index in (1, 2))
LAN, OTHER = (
    SegmentIntent(id=name, name=name, kind="switch", device=f"wls{name}", tagging="802.1q") for name in ("lan", "other")
)


def lab(*links: tuple[PortRef, PortRef | SegmentIntent], vlan: int = 1, generation: int = 1) -> Slice:
    wires = [WireIntent(id=f"w{a}{b}", a=a, b=b) for a, b in links if isinstance(b, PortRef)]
    plugs = [
        PlugIntent(id=f"p{a}{b.id}", port=a, segment=b.id, vlans=Vlans.access(vlan))
        for a, b in links
        if isinstance(b, SegmentIntent)
    ]
    segments = {b.id: b for _, b in links if isinstance(b, SegmentIntent)}
    changes = {"wires": tuple(wires), "plugs": tuple(plugs), "segments": tuple(segments.values())}
    return make_lab(*NODES, generation=generation).model_copy(update=changes)


def device(ref: PortRef) -> str:
    return next(node.ports[ref.index].device for node in NODES if node.id == ref.node_id)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def refused(status: SliceStatus) -> bool:
    links = [*status.wires, *status.plugs]
    return status.generation == 2 and any(link.state is LinkState.FAILED for link in links)


Links = tuple[tuple[PortRef, PortRef | SegmentIntent], ...]

MOVES: dict[str, tuple[Links, Links, str]] = {
    "both ends to other wires": (((A1, B1),), ((A1, C1), (B1, C2)), "ensure_wires"),
    "both ends to a segment": (((A1, B1),), ((A1, LAN), (B1, LAN)), "ensure_plugs"),
    "to a segment that is not made": (((A1, B1),), ((A1, LAN), (B1, LAN)), "ensure_segment"),
    "from a segment to a wire": (((A1, LAN), (C2, LAN)), ((A1, B1), (C2, LAN)), "ensure_wires"),
    "to another segment": (((A1, LAN), (C2, LAN)), ((A1, OTHER), (C2, LAN)), "ensure_plugs"),
    "to another segment that is not made": (((A1, LAN), (C2, LAN)), ((A1, OTHER), (C2, LAN)), "ensure_segment"),
}


@pytest.mark.parametrize("move", MOVES)
async def test_refused_move_ends_what_was(host: Host, move: str) -> None:
    before, after, call = MOVES[move]
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab(*before, (A2, B2)))
        await agent.until(settled())
        host.network.fail(call, REFUSED, times=FOR_EVER)
        agent.reconciler.set_slice("lab-1", lab(*after, (A2, B2), generation=2))
        await agent.until(lambda status: refused(status) and no_link(host, A1) and no_link(host, B1))
        assert host.network.ports[device(A2)].peer == device(B2)
        host.network.faults.clear()
        await agent.until(settled(2))


def no_link(host: Host, ref: PortRef) -> bool:
    port = host.network.ports[device(ref)]
    return (port.peer, port.segment) == (None, None)


async def test_refused_vlan_leaves_the_port_in_none(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab((A1, LAN), (B1, LAN)))
        await agent.until(settled())
        host.network.fail("ensure_plugs", REFUSED, device=device(A1), times=FOR_EVER)
        agent.reconciler.set_slice("lab-1", lab((A1, LAN), (B1, LAN), vlan=7, generation=2))
        await agent.until(lambda status: refused(status) and no_link(host, A1))
        assert host.network.ports[device(B1)].vlans == Vlans.access(7)


async def test_former_wire_that_cannot_be_cut_is_tried_again_after_a_pause(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab((A1, B1)))
        await agent.until(settled())
        host.network.fail("ensure_wires", REFUSED, times=FOR_EVER)
        host.network.fail("remove_wires", REFUSED, times=2)
        agent.reconciler.set_slice("lab-1", lab((A1, C1), generation=2))
        await agent.until(refused)
        await agent.until(lambda _: no_link(host, A1))
        assert host.network.calls["remove_wires"] <= 6


async def test_wire_that_is_to_be_another_in_its_mtu_alone_stays(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab((A1, B1)))
        await agent.until(settled())
        host.network.fail("ensure_wires", REFUSED, times=FOR_EVER)
        wide = lab((A1, B1), generation=2)
        wires = tuple(wire.model_copy(update={"mtu": 9000}) for wire in wide.wires)
        agent.reconciler.set_slice("lab-1", wide.model_copy(update={"wires": wires}))
        await agent.until(refused)
        assert host.network.ports[device(A1)].peer == device(B1)
