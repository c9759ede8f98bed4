"""What every data plane has to show on a real host: ``CHECKS``, each of them ``await check(rig)``.

A check gets a :class:`Rig` around a factory of the implementation and makes its ports through it. Needs root. Frames
are compared byte by byte; nothing waits but for frames to come.

::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_conforms(check):
        async with Rig(MyDataPlane) as rig:
            await check(rig)
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.network import PortEvent, SegmentPlan, WirePlan
from wireloom.testing.conformance.dataplane_counters import COUNTER_CHECKS
from wireloom.testing.conformance.dataplane_frames import (
    both_ways,
    each_arrives_once,
    hears_nothing,
    one_frame,
    silent,
    wire,
)
from wireloom.testing.conformance.dataplane_impairment import IMPAIRMENT_CHECKS
from wireloom.testing.conformance.dataplane_paths import PATH_CHECKS
from wireloom.testing.conformance.dataplane_rig import NET, Plug, Rig
from wireloom.testing.conformance.dataplane_segments import SEGMENT_CHECKS
from wireloom.testing.conformance.dataplane_uplinks import UPLINK_CHECKS
from wireloom.testing.frames import (
    FRAMES,
    JUMBO_FRAMES,
    MAXIMUM_MTU,
    SEGMENT_FRAMES,
    internet_checksum,
)
from wireloom.testing.guests import NamespaceGuest, receive, run_command, socket_in

__all__ = ["CHECKS", "Check", "Plug", "Rig"]

_EVENT_DEADLINE_S: Final = 2.0

Check = Callable[[Rig], Awaitable[None]]


# --- wires ------------------------------------------------------------------------------------


async def _check_wire(rig: Rig, kind_a: str, kind_b: str) -> None:
    a, b = await rig.plug(kind_a), await rig.plug(kind_b)
    await rig.plane.ensure_wires([wire(a, b)])
    await both_ways(a, b, FRAMES)


async def check_wire_between_namespaces_is_transparent(rig: Rig) -> None:
    """Every kind of frame crosses a wire between two containers unchanged, both ways."""
    await _check_wire(rig, "veth", "veth")


async def check_wire_between_namespace_and_tap_is_transparent(rig: Rig) -> None:
    """Every kind of frame crosses a wire between a container and a machine unchanged, both ways."""
    await _check_wire(rig, "veth", "tap")


async def check_wire_between_taps_is_transparent(rig: Rig) -> None:
    """Every kind of frame crosses a wire between two machines unchanged, both ways."""
    await _check_wire(rig, "tap", "tap")


async def check_wire_carries_jumbo_frames(rig: Rig) -> None:
    """Frames of the greatest MTU cross wires between all kinds of ports."""
    for kind_a, kind_b in (("veth", "veth"), ("veth", "tap"), ("tap", "tap")):
        a, b = await rig.plug(kind_a, mtu=MAXIMUM_MTU), await rig.plug(kind_b, mtu=MAXIMUM_MTU)
        await rig.plane.ensure_wires([wire(a, b, MAXIMUM_MTU)])
        await both_ways(a, b, JUMBO_FRAMES)


async def check_wire_sets_its_mtu_on_all_sides(rig: Rig) -> None:
    """The MTU of a wire is the MTU of both ports, on the host and in the guests."""
    a, b = await rig.plug("veth"), await rig.plug("veth")
    await rig.plane.ensure_wires([wire(a, b, MAXIMUM_MTU)])
    state = await rig.plane.observe()
    assert [state.ports[plug.device].mtu for plug in (a, b)] == [MAXIMUM_MTU] * 2
    assert (a.nic.mtu(), b.nic.mtu()) == (MAXIMUM_MTU, MAXIMUM_MTU)
    await both_ways(a, b, JUMBO_FRAMES)


async def check_checksums_are_whole_on_a_tap(rig: Rig) -> None:
    """A kernel leaves checksums to its NIC; a machine behind a tap must not be given an unfinished one."""
    plan = rig.plan(await rig.namespace()).model_copy(update={"addresses": ("198.51.100.1/24",)})
    await rig.plane.ensure_ports([plan])
    tap = await rig.plug("tap")
    await rig.plane.ensure_wires([WirePlan(a=plan.device, b=tap.device)])
    assert isinstance(plan.attachment, NamespaceAttachment)
    sender = await socket_in(plan.attachment.netns, socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(b"a datagram", ("198.51.100.255", 9))
        frame = await receive(tap.guest, bytes.fromhex(plan.mac.replace(":", "")))
    assert frame is not None, "the datagram did not arrive"
    datagram = frame[34:52]
    pseudo = frame[26:34] + b"\0\x11" + len(datagram).to_bytes(2)
    assert internet_checksum(pseudo + datagram) == 0, "the checksum of the datagram is wrong"


async def check_wires_are_isolated(rig: Rig) -> None:
    """A frame reaches the other end of its wire and no port of another wire."""
    a, b, c, d = [await rig.plug(kind) for kind in ("veth", "tap", "veth", "tap")]
    await rig.plane.ensure_wires([wire(a, b), wire(c, d)])
    for listener, marker in ((c, d), (d, c)):
        await hears_nothing(a, listener, marker)
        await hears_nothing(b, listener, marker)
    await both_ways(a, b, one_frame())


async def check_unwired_port_reaches_nobody(rig: Rig) -> None:
    """A port without a wire, or whose wire was removed, sends to nobody and hears nobody."""
    a, b = await rig.plug("veth"), await rig.plug("veth")
    await silent(a, b)
    await rig.plane.ensure_wires([wire(a, b)])
    await both_ways(a, b, one_frame())
    await rig.plane.remove_wires([wire(a, b)])
    await silent(a, b)
    await silent(b, a)
    await rig.plane.remove_wires([wire(a, b)])


async def check_wire_moves(rig: Rig) -> None:
    """A port that is wired anew leaves its old peer; a late removal of the old wire does not cut the new one."""
    a, b, c = await rig.plug("veth"), await rig.plug("tap"), await rig.plug("veth")
    await rig.plane.ensure_wires([wire(a, b)])
    await rig.plane.ensure_wires([wire(c, a)])
    await both_ways(a, c, one_frame())
    await silent(b, a)
    state = await rig.plane.observe()
    assert state.ports[a.device].peer == c.device
    assert state.ports[c.device].peer == a.device
    assert state.ports[b.device].peer is None
    # A cut of the wire that was must not cut the wire that is.
    await rig.plane.remove_wires([wire(a, b)])
    await both_ways(a, c, one_frame())


async def check_wires_swap_in_one_batch(rig: Rig) -> None:
    """Two wires exchange their ends in one request."""
    a, b, c, d = [await rig.plug("veth") for _ in range(4)]
    await rig.plane.ensure_wires([wire(a, b), wire(c, d)])
    await rig.plane.ensure_wires([wire(a, c), wire(b, d)])
    await both_ways(a, c, one_frame())
    await both_ways(b, d, one_frame())
    await hears_nothing(a, b, d)


async def check_move_loses_and_doubles_no_frame(rig: Rig) -> None:
    """While a wire moves to and fro under traffic, each frame arrives exactly once."""
    a, b, c = await rig.plug("veth"), await rig.plug("veth"), await rig.plug("veth")
    await rig.plane.ensure_wires([wire(a, b)])
    await each_arrives_once(a, (b, c), lambda turn: rig.plane.ensure_wires([wire(a, b if turn % 2 else c)]))


async def check_wires_are_idempotent(rig: Rig) -> None:
    """The same wire asked for again, or named from its other end, stays as it is."""
    a, b = await rig.plug("veth"), await rig.plug("tap")
    for plans in ([wire(a, b)], [wire(a, b)], [wire(b, a)]):
        await rig.plane.ensure_wires(plans)
    await both_ways(a, b, one_frame())


async def check_concurrent_batches(rig: Rig) -> None:
    """Requests made at the same time, and observations beside them, all succeed."""
    netns = await rig.namespace()
    plans = [rig.plan(netns) for _ in range(40)]
    await asyncio.gather(*(rig.plane.ensure_ports(plans[start : start + 10]) for start in range(0, 40, 10)))
    wires = [WirePlan(a=plans[i].device, b=plans[i + 1].device) for i in range(0, 40, 2)]
    batches = [rig.plane.ensure_wires(wires[start : start + 5]) for start in range(0, 20, 5)]
    await asyncio.gather(*batches, rig.plane.observe(), rig.plane.observe())
    state = await rig.plane.observe()
    assert {state.ports[wire.a].peer for wire in wires} == {wire.b for wire in wires}
    assert {state.ports[wire.b].peer for wire in wires} == {wire.a for wire in wires}


# --- ports ------------------------------------------------------------------------------------


async def check_port_is_what_its_plan_says(rig: Rig) -> None:
    """A new port has the kind, MTU, state and label of its plan, and the guest its name and MTU."""
    netns = await rig.namespace()
    plans = [rig.plan(netns, mtu=1400), rig.plan(None, mtu=MAXIMUM_MTU, carrier=False)]
    await rig.plane.ensure_ports(plans)
    state = await rig.plane.observe()
    for plan, kind in zip(plans, ("veth", "tap"), strict=True):
        port = state.ports[plan.device]
        shown = (port.kind, port.mtu, port.up, port.alias, port.peer, port.segment)
        assert shown == (kind, plan.mtu, plan.carrier, plan.alias, None, None)
    nic = await NamespaceGuest.open(netns, plans[0].guest_name)
    assert nic.mtu() == 1400
    nic.close()


async def check_ports_are_idempotent(rig: Rig) -> None:
    """A port asked for again is the same device, and its wire stays."""
    a, b = await rig.plug("veth"), await rig.plug("tap")
    await rig.plane.ensure_wires([wire(a, b)])
    before = {plug.device: (NET / plug.device / "ifindex").read_text() for plug in (a, b)}
    await rig.plane.ensure_ports([a.plan, b.plan])
    assert {plug.device: (NET / plug.device / "ifindex").read_text() for plug in (a, b)} == before
    await both_ways(a, b, one_frame())


async def check_port_follows_its_plan(rig: Rig) -> None:
    """A changed MTU or label is taken over by a port that exists."""
    a = await rig.plug("veth")
    alias = a.plan.alias.model_copy(update={"name": "renamed/node/e"})
    await rig.plane.ensure_ports([a.plan.model_copy(update={"mtu": MAXIMUM_MTU, "alias": alias})])
    port = (await rig.plane.observe()).ports[a.device]
    assert (port.mtu, port.alias) == (MAXIMUM_MTU, alias)
    assert a.nic.mtu() == MAXIMUM_MTU


async def check_port_is_remade_in_a_new_namespace(rig: Rig) -> None:
    """The port of a container that was restarted is made anew in its new namespace and can be wired."""
    a, b = await rig.plug("veth"), await rig.plug("veth")
    moved = a.plan.model_copy(update={"attachment": NamespaceAttachment(netns=await rig.namespace())})
    await rig.plane.ensure_ports([moved])
    await rig.plane.ensure_wires([wire(a, b)])
    await both_ways(Plug(moved, await rig.guest(moved)), b, one_frame())


async def check_vanished_namespace_is_no_error(rig: Rig) -> None:
    """A container that vanishes under its ports breaks no request about them or about their peers."""
    a, b = await rig.plug("veth"), await rig.plug("tap")
    await rig.plane.ensure_wires([wire(a, b)])
    assert isinstance(a.plan.attachment, NamespaceAttachment)
    a.guest.close()
    await run_command("ip", "netns", "del", Path(a.plan.attachment.netns).name)
    await _until_gone(a.device)
    await rig.plane.ensure_ports([a.plan, b.plan])
    await rig.plane.ensure_wires([wire(a, b)])
    await rig.plane.set_carrier({a.device: True, b.device: True})
    state = await rig.plane.observe()
    assert a.device not in state.ports
    assert state.ports[b.device].peer is None
    await rig.plane.remove_wires([wire(a, b)])
    await rig.plane.remove_ports([a.device])


async def _until_gone(device: str) -> None:
    """The kernel takes namespaces down in its own time."""
    for _ in range(500):
        if not (NET / device).exists():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a device outlives the namespace of its guest")


async def check_carrier_is_seen_by_the_guest(rig: Rig) -> None:
    """A carrier that is dropped is seen by its guest alone, and comes back with the traffic."""
    a, b = await rig.plug("veth"), await rig.plug("veth")
    await rig.plane.ensure_wires([wire(a, b)])
    assert a.nic.carrier()
    await rig.plane.set_carrier({a.device: False})
    assert not a.nic.carrier()
    assert b.nic.carrier()
    assert not (await rig.plane.observe()).ports[a.device].up
    await rig.plane.set_carrier({a.device: True})
    assert a.nic.carrier()
    await both_ways(a, b, one_frame())


async def check_host_stays_silent(rig: Rig) -> None:
    """The host itself sends no frame into a wire, not even when a carrier comes back."""
    a, b = await rig.plug("veth"), await rig.plug("tap")
    await rig.plane.ensure_wires([wire(a, b)])
    await rig.plane.set_carrier({a.device: False})
    await rig.plane.set_carrier({a.device: True})
    # Listener reports and router solicitations would come within a second of a carrier's return.
    await asyncio.sleep(1.2)
    assert [a.guest.read(), b.guest.read()] == [None, None], "the host itself sent a frame into a wire"


# --- recovery ---------------------------------------------------------------------------------


async def check_new_instance_observes_the_same(rig: Rig) -> None:
    """After a restart of the agent everything is found as it was: ports, wires and segments."""
    segment = await rig.segment()
    a, b = await rig.plug("veth"), await rig.plug("tap")
    await rig.plug("veth", segment=segment)
    await rig.plane.ensure_wires([wire(a, b)])
    before = await rig.plane.observe()
    assert len(before.ports) == 3
    assert list(before.segments) == [segment]
    await rig.restart()
    after = await rig.plane.observe()
    assert (after.ports, after.segments) == (before.ports, before.segments)
    await both_ways(a, b, one_frame())


async def check_removal_leaves_nothing(rig: Rig) -> None:
    """Removing ports and segments leaves no device on the host; removing them again is no error."""
    segment = await rig.segment()
    plugs = [await rig.plug(kind) for kind in ("veth", "tap", "tap", "veth")]
    await rig.plane.ensure_wires([wire(plugs[0], plugs[1]), wire(plugs[2], plugs[3])])
    await rig.plane.remove_ports([plug.device for plug in plugs])
    await rig.plane.remove_segment(segment)
    state = await rig.plane.observe()
    assert (state.ports, state.segments) == ({}, {})
    assert rig.devices_left() == []
    await rig.plane.remove_ports([plug.device for plug in plugs])
    await rig.plane.remove_segment(segment)


async def check_other_installations_are_invisible(rig: Rig) -> None:
    """Two installations on one host neither see nor remove each other's ports."""
    async with Rig(rig.factory) as other:
        mine, theirs = await rig.plug("veth"), await other.plug("tap")
        assert list((await rig.plane.observe()).ports) == [mine.device]
        await rig.plane.remove_ports([theirs.device])
        assert list((await other.plane.observe()).ports) == [theirs.device]


async def check_self_test_passes_and_cleans_up(rig: Rig) -> None:
    """The self-test of the host passes and leaves no device behind."""
    before = set(NET.iterdir())
    found = await rig.plane.self_test()
    assert found, "nothing was tested"
    assert [path for path in found if path.problem] == []
    assert not [path.name for path in set(NET.iterdir()) - before if path.name.startswith("wlt")]


# --- segments ---------------------------------------------------------------------------------


async def check_segment_joins_its_ports(rig: Rig) -> None:
    """All ports of a segment reach each other, containers and machines alike."""
    segment = await rig.segment()
    plugs = [await rig.plug(kind, segment=segment) for kind in ("veth", "tap", "veth")]
    for sender, receiver in ((plugs[0], plugs[1]), (plugs[1], plugs[2]), (plugs[2], plugs[0])):
        await both_ways(sender, receiver, SEGMENT_FRAMES)
    state = await rig.plane.observe()
    assert {state.ports[plug.device].segment for plug in plugs} == {segment}


async def check_segments_are_isolated(rig: Rig) -> None:
    """A frame does not leave its segment."""
    first, second = await rig.segment(), await rig.segment()
    a, b = await rig.plug("veth", segment=first), await rig.plug("tap", segment=first)
    c, d = await rig.plug("veth", segment=second), await rig.plug("tap", segment=second)
    await hears_nothing(a, c, d)
    await both_ways(a, b, one_frame())


async def check_segment_is_idempotent(rig: Rig) -> None:
    """A segment asked for again, with an address of the host in it, keeps its ports and its traffic."""
    name = await rig.segment("198.51.100.1/24")
    alias = f"wireloom segment i={rig.installation} name={name}"
    a, b = await rig.plug("veth", segment=name), await rig.plug("veth", segment=name)
    await rig.plane.ensure_segment(SegmentPlan(name=name, alias=alias, address="198.51.100.1/24"))
    segment = (await rig.plane.observe()).segments[name]
    assert (segment.alias, segment.up) == (alias, True)
    await both_ways(a, b, SEGMENT_FRAMES)


# --- watching ---------------------------------------------------------------------------------


async def check_watch_tells_changes(rig: Rig) -> None:
    """A port that is made, changed or removed is told to those who watch."""
    plan = rig.plan(await rig.namespace())
    events: asyncio.Queue[PortEvent] = asyncio.Queue()
    listening = asyncio.Event()

    async def listen() -> None:
        stream = rig.plane.watch()
        listening.set()
        async for event in stream:
            events.put_nowait(event)

    listener = asyncio.create_task(listen())
    await listening.wait()
    await asyncio.sleep(0)
    try:
        await rig.plane.ensure_ports([plan])
        await _expect(events, lambda event: event.device == plan.device and not event.removed)
        _drain(events)
        await rig.plane.set_carrier({plan.device: False})
        await _expect(events, lambda event: event.device == plan.device and event.up is False)
        await rig.plane.remove_ports([plan.device])
        await _expect(events, lambda event: event.device == plan.device and event.removed)
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


def _drain(events: asyncio.Queue[PortEvent]) -> None:
    while not events.empty():
        events.get_nowait()


async def _expect(events: asyncio.Queue[PortEvent], wanted: Callable[[PortEvent], bool]) -> None:
    async with asyncio.timeout(_EVENT_DEADLINE_S):
        while not wanted(await events.get()):
            pass


CHECKS: Final[Sequence[Check]] = (
    check_port_is_what_its_plan_says,
    check_ports_are_idempotent,
    check_port_follows_its_plan,
    check_port_is_remade_in_a_new_namespace,
    check_vanished_namespace_is_no_error,
    check_carrier_is_seen_by_the_guest,
    check_wire_between_namespaces_is_transparent,
    check_wire_between_namespace_and_tap_is_transparent,
    check_wire_between_taps_is_transparent,
    check_wire_carries_jumbo_frames,
    check_wire_sets_its_mtu_on_all_sides,
    check_checksums_are_whole_on_a_tap,
    check_wires_are_isolated,
    check_unwired_port_reaches_nobody,
    check_wire_moves,
    check_wires_swap_in_one_batch,
    check_move_loses_and_doubles_no_frame,
    check_wires_are_idempotent,
    check_concurrent_batches,
    check_host_stays_silent,
    check_new_instance_observes_the_same,
    check_removal_leaves_nothing,
    check_other_installations_are_invisible,
    check_self_test_passes_and_cleans_up,
    check_segment_joins_its_ports,
    check_segments_are_isolated,
    check_segment_is_idempotent,
    check_watch_tells_changes,
    *SEGMENT_CHECKS,
    *UPLINK_CHECKS,
    *IMPAIRMENT_CHECKS,
    *COUNTER_CHECKS,
    *PATH_CHECKS,
)
