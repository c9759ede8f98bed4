"""What a data plane tells of the paths over it: how large a frame passes, and whose guest has shut its port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

from wireloom.errors import NotFound, Unsupported
from wireloom.model.network import LargestPayload, PlugPlan, PortEvent, ProbeEnd, SegmentAlias, SegmentPlan, WirePlan
from wireloom.testing.conformance.dataplane_rig import Plug, Rig
from wireloom.testing.guests import run_command

__all__ = ["PATH_CHECKS"]

_PATIENCE_S = 1.0
_LIMIT_S = 60.0
_EVENT_S = 5.0


def _end(plug: Plug) -> ProbeEnd:
    return ProbeEnd(device=plug.device, attachment=plug.plan.attachment, mac=plug.plan.mac)


async def _largest(
    rig: Rig, sender: Plug, receiver: Plug, most: int, patience_s: float = _PATIENCE_S
) -> LargestPayload:
    return await rig.plane.largest_payload(_end(sender), _end(receiver), most, patience_s=patience_s, limit_s=_LIMIT_S)


async def check_largest_payload_is_sent_and_measured(rig: Rig) -> None:
    """The whole MTU passes over a wire to a container and to a machine; beyond that nothing does."""
    sender = await rig.plug("veth")
    for kind in ("veth", "tap"):
        receiver = await rig.plug(kind)
        await rig.plane.ensure_wires([WirePlan(a=sender.device, b=receiver.device, mtu=3000)])
        assert await _largest(rig, sender, receiver, 3000) == LargestPayload(passes=3000)
        assert await _largest(rig, sender, receiver, 9000) == LargestPayload(passes=3000, fails=3001)


async def check_largest_payload_over_a_segment(rig: Rig) -> None:
    """Frames go from port to port of a segment."""
    segment = rig.segment_name()
    alias = SegmentAlias(installation=rig.installation, lab_id="lab-1", segment_id="s", name="lab/s").text()
    await rig.plane.ensure_segment(SegmentPlan(name=segment, alias=alias, mtu=2000))
    plugs = [await rig.plug(kind) for kind in ("veth", "tap")]
    await rig.plane.ensure_plugs([PlugPlan(device=plug.device, segment=segment, mtu=2000) for plug in plugs])
    assert await _largest(rig, plugs[0], plugs[1], 2000) == LargestPayload(passes=2000)


async def check_nothing_passes_where_nothing_is_joined(rig: Rig) -> None:
    """Ports without a wire: no frame gets through, and that is no error."""
    first, second = await rig.plug("veth"), await rig.plug("veth")
    assert (await _largest(rig, first, second, 1500, patience_s=0.1)).passes == 0


async def check_frames_are_not_sent_for_machines_nor_from_ports_that_went(rig: Rig) -> None:
    """Nobody can send in the name of a machine; an end that is not there is said to be missing."""
    container, machine = await rig.plug("veth"), await rig.plug("tap")
    with contextlib.suppress(Unsupported):
        await _largest(rig, machine, container, 1500)
        raise AssertionError("frames were sent in the name of a machine")
    await rig.plane.remove_ports([machine.device])
    with contextlib.suppress(NotFound):
        await _largest(rig, container, machine, 1500)
        raise AssertionError("a port that has gone was found")


async def check_events_say_whether_a_guest_has_shut_its_port(rig: Rig) -> None:
    """A container that shuts its NIC, and opens it again, is told at once, with the host's side as it is: up."""
    plug = await rig.plug("veth")
    async with aclosing(cast(AsyncGenerator[PortEvent, None], rig.plane.watch())) as events:
        for up in (False, True):
            await _set_nic(plug, up=up)
            async with asyncio.timeout(_EVENT_S):
                event = await _carrier_event(events, plug.device, up)
            assert event.up, "the host's side is up all the time"
    port = (await rig.plane.observe()).ports[plug.device]
    assert (port.up, port.carrier) == (True, True)


async def _set_nic(plug: Plug, *, up: bool) -> None:
    attachment = plug.plan.attachment
    assert attachment.kind == "namespace"
    state = "up" if up else "down"
    await run_command("ip", "-n", Path(attachment.netns).name, "link", "set", plug.plan.guest_name, state)


async def _carrier_event(events: AsyncIterator[PortEvent], device: str, carrier: bool) -> PortEvent:
    async for event in events:
        if event.device == device and event.carrier is carrier:
            return event
    raise AssertionError("the events ended")


PATH_CHECKS = (
    check_largest_payload_is_sent_and_measured,
    check_largest_payload_over_a_segment,
    check_nothing_passes_where_nothing_is_joined,
    check_frames_are_not_sent_for_machines_nor_from_ports_that_went,
    check_events_say_whether_a_guest_has_shut_its_port,
)
