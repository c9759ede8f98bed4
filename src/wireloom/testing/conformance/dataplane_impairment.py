"""What every data plane has to show of impairments, measured on real frames: ``IMPAIRMENT_CHECKS``.

A part that the host can make is made as it was asked for, read back, and really gone when it is cleared. One that it
cannot make is refused by name, with what lacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Final

from wireloom.errors import DataPlaneFailed, WireloomError
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.identity import device_name
from wireloom.model.impairment import PARTS, Impairment
from wireloom.model.network import ImpairmentPlan, PlugPlan
from wireloom.model.presets import PRESETS
from wireloom.testing.conformance.dataplane_frames import both_ways, one_frame, silent, wire
from wireloom.testing.conformance.dataplane_impaired import (
    EXAMPLES,
    SLACK_S,
    Check,
    arrives_at,
    has,
    impair,
    in_order,
    lacking,
    measures_time,
    refusal,
    wired,
)
from wireloom.testing.conformance.dataplane_rig import NET, Plug, Rig
from wireloom.testing.conformance.dataplane_stream import frames, send_stream
from wireloom.testing.frames import FRAMES, JUMBO_FRAMES, MAXIMUM_MTU, SEGMENT_FRAMES
from wireloom.testing.guests import run_command

__all__ = ["IMPAIRMENT_CHECKS"]

#: Values at the edges of what kernels can keep.
_EDGES: Final[Sequence[Impairment]] = (
    Impairment(rate_kbit=1),
    Impairment(rate_kbit=34_359_739),  # the first that needs more than 32 bits of bytes a second
    Impairment(rate_kbit=400_000_000),
    Impairment(rate_kbit=400_000_000, limit=10_000_000),
    Impairment(rate_kbit=64, limit=1),
    Impairment(delay_ms=0.001),
    Impairment(delay_ms=600_000, jitter_ms=2147),
    Impairment(delay_ms=274_877.907, limit=1),  # more than 32 bits of ticks
    Impairment(loss=100),
    Impairment(loss=0.0001, duplicate=100, corrupt=100),
    Impairment(duplicate=1),
    Impairment(delay_ms=5, duplicate=1, limit=9),
    Impairment(delay_ms=5, duplicate=1),
    Impairment(delay_ms=5, jitter_ms=5, reorder=100),
    Impairment(delay_ms=40, jitter_ms=5, loss=1, duplicate=2, corrupt=3, reorder=4, rate_kbit=10_000, limit=500),
    Impairment(delay_ms=40, rate_kbit=34_359_739),
)

#: A namespace is gone by then.
_GONE_S: Final = 10


# --- setting, reading back, refusing -----------------------------------------------------------


async def check_each_part_is_made_or_refused(rig: Rig) -> None:
    """Every part can be set, read back and cleared; or it is refused, and the refusal names what lacks."""
    _, b = await wired(rig)
    for part in PARTS:
        if await has(rig, b, EXAMPLES[part]):
            await impair(rig, b, None)


async def check_a_refusal_stops_nothing_else(rig: Rig) -> None:
    """Of plans in one call those that can be carried out are."""
    a, b = await wired(rig)
    reasons = (await rig.plane.abilities()).impairments
    impossible = next((EXAMPLES[part] for part in PARTS if part in reasons), None)
    possible = EXAMPLES["rate"]
    if impossible is None or await lacking(rig, possible):
        return
    refused = await refusal(
        rig,
        ImpairmentPlan(device=a.device, to_guest=impossible),
        ImpairmentPlan(device=b.device, to_guest=possible),
    )
    assert refused is not None
    assert [failure["device"] for failure in refused.details["failures"]] == [a.device]
    ports = (await rig.plane.observe()).ports
    assert (ports[a.device].to_guest, ports[b.device].to_guest) == (None, possible)


async def check_what_is_set_is_read_back(rig: Rig) -> None:
    """Also values at the edge of what kernels can keep, one after another, and by a new instance."""
    _, b = await wired(rig)
    for wanted in (*_EDGES, *(preset.forward for preset in PRESETS.values())):
        await has(rig, b, wanted)
    last = (await rig.plane.observe()).ports[b.device].to_guest
    await rig.restart()
    assert (await rig.plane.observe()).ports[b.device].to_guest == last
    await impair(rig, b, None)


async def check_impairing_is_idempotent(rig: Rig) -> None:
    """Setting the same again changes nothing; a device that went meanwhile is no error."""
    _, b = await wired(rig)
    if not await has(rig, b, EXAMPLES["rate"]):
        return
    await impair(rig, b, EXAMPLES["rate"])
    await rig.plane.impair([ImpairmentPlan(device=device_name("p", rig.installation, "gone"), to_guest=Impairment())])
    await impair(rig, b, None)
    await impair(rig, b, None)


async def check_an_impaired_wire_is_transparent(rig: Rig) -> None:
    """Every kind of frame crosses a wire that is held up both ways, unchanged, between all kinds of ports."""
    for kind_a, kind_b in (("veth", "veth"), ("veth", "tap"), ("tap", "tap")):
        a, b = await wired(rig, kind_a, kind_b)
        for wanted in (Impairment(rate_kbit=20_000), Impairment(delay_ms=2, jitter_ms=1, rate_kbit=20_000)):
            for plug in (a, b):
                await has(rig, plug, wanted)
            await both_ways(a, b, FRAMES)


async def check_a_rate_lets_jumbo_frames_pass(rig: Rig) -> None:
    """However slow it is; and a wire whose MTU grows is seen to need its impairment anew."""
    a, b = await wired(rig, mtu=MAXIMUM_MTU)
    wanted = Impairment(rate_kbit=2000)
    if not await has(rig, b, wanted):
        return
    await both_ways(a, b, JUMBO_FRAMES)
    c, d = await wired(rig)
    await impair(rig, d, wanted)
    await rig.plane.ensure_wires([wire(c, d, MAXIMUM_MTU)])
    if (await rig.plane.observe()).ports[d.device].to_guest != wanted:
        await impair(rig, d, wanted)
    await both_ways(c, d, JUMBO_FRAMES)
    await rig.plane.ensure_wires([wire(c, d)])
    await impair(rig, d, None)
    await impair(rig, d, wanted)
    await rig.plane.ensure_wires([wire(c, d, MAXIMUM_MTU)])
    await impair(rig, d, None)
    await both_ways(c, d, JUMBO_FRAMES)


# --- what frames feel --------------------------------------------------------------------------


@measures_time
async def check_a_rate_is_kept(rig: Rig) -> None:
    """Frames arrive as fast as they may, in their order, and none is lost that may wait; the other way is free."""
    for kind_a, kind_b in (("veth", "veth"), ("veth", "tap")):
        a, b = await wired(rig, kind_a, kind_b)
        for sender, receiver in ((a, b), (b, a)):
            if not await has(rig, receiver, Impairment(rate_kbit=1000, limit=100)):
                continue
            await arrives_at(sender, receiver, 1000)
            back = await send_stream(receiver, sender, frames(50, 1000), enough=50)
            assert median(arrival.seconds for arrival in back) < SLACK_S, "the other direction is slow too"
            await impair(rig, receiver, None)


async def check_a_limit_drops_what_is_too_much(rig: Rig) -> None:
    """No more frames wait than may; the rest is dropped, and those behind it pass again later."""
    a, b = await wired(rig)
    if not await has(rig, b, Impairment(rate_kbit=500, limit=5)):
        return
    arrivals = await send_stream(a, b, frames(100, 1000))
    # One or two fit into the burst, and some leave while the others come.
    assert 5 <= len(arrivals) < 20, f"{len(arrivals)} of 100 frames passed a queue of 5"
    await both_ways(a, b, one_frame())


@measures_time
async def check_clearing_clears(rig: Rig) -> None:
    """Nothing of an impairment is left when it is cleared."""
    a, b = await wired(rig)
    for wanted in (Impairment(rate_kbit=64), Impairment(delay_ms=500, loss=50)):
        if not await has(rig, b, wanted):
            continue
        await impair(rig, b, None)
        arrivals = await send_stream(a, b, frames(200), enough=200)
        assert len(arrivals) == 200, "frames are still lost"
        assert median(arrival.seconds for arrival in arrivals) < SLACK_S, "frames are still held up"


@measures_time
async def check_a_change_takes_effect_at_once(rig: Rig) -> None:
    """A new value takes the place of the old one; what was not asked for again is gone."""
    a, b = await wired(rig)
    if not await has(rig, b, Impairment(rate_kbit=500)):
        return
    await impair(rig, b, Impairment(rate_kbit=1500, limit=100))
    await arrives_at(a, b, 1500)
    if await has(rig, b, Impairment(delay_ms=5, loss=100, corrupt=50, reorder=50, rate_kbit=8000)):
        await impair(rig, b, Impairment(delay_ms=5))
        await both_ways(a, b, FRAMES)


@measures_time
async def check_an_impairment_outlasts_its_link(rig: Rig) -> None:
    """A link that went down and came up again is impaired as before, and so is one that moved."""
    a, b = await wired(rig)
    wanted = Impairment(rate_kbit=1000, limit=100)
    if not await has(rig, b, wanted):
        return
    await rig.plane.set_carrier({a.device: False, b.device: False})
    await rig.plane.set_carrier({a.device: True, b.device: True})
    c = await rig.plug("veth")
    await rig.plane.ensure_wires([wire(c, b)])
    assert (await rig.plane.observe()).ports[b.device].to_guest == wanted
    await arrives_at(c, b, 1000)


@measures_time
async def check_a_delay_is_kept(rig: Rig) -> None:
    """Each frame takes so much longer in one direction, no longer in the other, and none is overtaken."""
    for kind in ("veth", "tap"):
        a, b = await wired(rig, "veth", kind)
        if not await has(rig, b, Impairment(delay_ms=50)):
            return
        arrivals = await send_stream(a, b, frames(100), pace_s=0.002, enough=100)
        assert len(arrivals) == 100
        assert in_order(arrivals)
        assert min(arrival.seconds for arrival in arrivals) >= 0.0499
        assert median(arrival.seconds for arrival in arrivals) < 0.05 + SLACK_S
        back = await send_stream(b, a, frames(50), pace_s=0.002, enough=50)
        assert median(arrival.seconds for arrival in back) < SLACK_S


@measures_time
async def check_jitter_spreads_and_keeps_the_order(rig: Rig) -> None:
    """Delays differ within their bounds, and no frame overtakes another."""
    a, b = await wired(rig)
    if not await has(rig, b, Impairment(delay_ms=50, jitter_ms=20)):
        return
    arrivals = await send_stream(a, b, frames(200), pace_s=0.002, enough=200)
    taken = [arrival.seconds for arrival in arrivals]
    assert len(arrivals) == 200
    assert in_order(arrivals), "jitter changed the order of frames"
    assert min(taken) >= 0.0299
    assert median(taken) < 0.07 + SLACK_S
    # Further apart than the frames, each alone: not held in order by what is ahead of it.
    alone = [arrival.seconds for arrival in await send_stream(a, b, frames(30), pace_s=0.045, enough=30)]
    assert max(alone) - min(alone) > 0.015, "all frames take the same time"


@measures_time
async def check_loss_is_kept(rig: Rig) -> None:
    """So many frames get lost as they should, give or take five standard deviations."""
    a, b = await wired(rig)
    if not await has(rig, b, Impairment(loss=20)):
        return
    arrivals = await send_stream(a, b, frames(2000))
    assert 1511 <= len(arrivals) <= 1689, f"{len(arrivals)} of 2000 frames arrived"
    assert in_order(arrivals)
    await impair(rig, b, Impairment(loss=100))
    await silent(a, b)


@measures_time
async def check_duplicates_arrive_twice(rig: Rig) -> None:
    """So many frames arrive twice as they should."""
    a, b = await wired(rig)
    if not await has(rig, b, Impairment(duplicate=30)):
        return
    arrivals = await send_stream(a, b, frames(1000))
    assert {arrival.number for arrival in arrivals} == set(range(1000))
    assert 1228 <= len(arrivals) <= 1372, f"{len(arrivals) - 1000} of 1000 frames arrived twice"


@measures_time
async def check_corruption_changes_one_bit(rig: Rig) -> None:
    """So many frames arrive with one wrong bit as they should, the others unchanged."""
    a, b = await wired(rig)
    if not await has(rig, b, Impairment(corrupt=30)):
        return
    stream = frames(1000)
    arrivals = await send_stream(a, b, stream)
    assert len(arrivals) == 1000
    # Nothing overtakes, so the position tells which frame it is, whatever of it was hit.
    wrong_bits = [
        (int.from_bytes(arrival.frame) ^ int.from_bytes(sent)).bit_count()
        for arrival, sent in zip(arrivals, stream, strict=True)
    ]
    assert set(wrong_bits) == {0, 1}
    assert 228 <= sum(wrong_bits) <= 372, f"{sum(wrong_bits)} of 1000 frames were corrupted"


@measures_time
async def check_reordered_frames_go_ahead(rig: Rig) -> None:
    """So many frames overtake those that wait as they should, without any delay; the others stay in their order."""
    a, b = await wired(rig)
    if not await has(rig, b, Impairment(delay_ms=100, reorder=25)):
        return
    arrivals = await send_stream(a, b, frames(400), pace_s=0.001, enough=400)
    assert {arrival.number for arrival in arrivals} == set(range(400))
    ahead = [arrival for arrival in arrivals if arrival.seconds < 0.09]
    assert 57 <= len(ahead) <= 143, f"{len(ahead)} of 400 frames went ahead"
    assert mean(arrival.seconds for arrival in ahead) < SLACK_S
    assert in_order([arrival for arrival in arrivals if arrival.seconds >= 0.09])


@measures_time
async def check_a_delay_and_a_rate_go_together(rig: Rig) -> None:
    """Frames come as late as they should, and as fast as they may."""
    a, b = await wired(rig)
    if not await has(rig, b, Impairment(delay_ms=50, jitter_ms=5, rate_kbit=1000, limit=100)):
        return
    arrivals = await arrives_at(a, b, 1000)
    assert 0.0449 <= arrivals[0].seconds < 0.06 + SLACK_S


# --- segments ----------------------------------------------------------------------------------


async def _in_segment(rig: Rig) -> tuple[Plug, Plug, bool]:
    """Two ports of a segment, and whether what comes from the first can be impaired; if not, it is refused."""
    segment = await rig.segment()
    a, b = await rig.plug("veth", segment=segment), await rig.plug("tap", segment=segment)
    reason = (await rig.plane.abilities()).impair_from_guest or await lacking(rig, EXAMPLES["rate"])
    if not reason:
        return a, b, True
    refused = await refusal(rig, ImpairmentPlan(device=a.device, from_guest=EXAMPLES["rate"]))
    assert refused is not None, f"frames from a guest to a segment are impaired, though {reason}"
    assert reason in refused.message
    return a, b, False


@measures_time
async def check_frames_from_a_guest_to_a_segment_are_impaired(rig: Rig) -> None:
    """Both directions of a plug, each on its own; what the segment carries is unchanged."""
    a, b, able = await _in_segment(rig)
    if not able:
        return
    to_guest, from_guest = Impairment(rate_kbit=1500, limit=100), Impairment(rate_kbit=1000, limit=100)
    await impair(rig, a, to_guest, from_guest)
    await arrives_at(a, b, 1000)
    await arrives_at(b, a, 1500)
    await both_ways(a, b, SEGMENT_FRAMES)
    await rig.restart()
    port = (await rig.plane.observe()).ports[a.device]
    assert (port.to_guest, port.from_guest) == (to_guest, from_guest)
    await impair(rig, a, None)
    arrivals = await send_stream(a, b, frames(100, 1000), enough=100)
    assert median(arrival.seconds for arrival in arrivals) < SLACK_S, "frames are still held up"


async def check_an_impaired_plug_leaves_nothing_behind(rig: Rig) -> None:
    """Pulled out, wired, put back, or gone with its namespace: what held up its frames is gone too."""
    a, b, able = await _in_segment(rig)
    if not able:
        return
    wanted = Impairment(rate_kbit=4000, limit=100)
    helper = NET / device_name("i", a.device)
    segment = (await rig.plane.observe()).ports[a.device].segment or ""
    await impair(rig, a, None, wanted)
    await rig.plane.remove_plugs([a.device])
    await _expect_whole(rig, a)
    await silent(a, b)
    await _expect_refused_outside_of_segments(rig, a)
    await rig.plane.ensure_plugs([PlugPlan(device=a.device, segment=segment)])
    await impair(rig, a, None, wanted)
    c = await rig.plug("veth")
    await rig.plane.ensure_wires([wire(a, c)])
    await _expect_whole(rig, a)
    await both_ways(a, c, FRAMES)
    await rig.plane.ensure_plugs([PlugPlan(device=a.device, segment=segment)])
    await impair(rig, a, None, wanted)
    await both_ways(a, b, SEGMENT_FRAMES)
    await rig.plane.remove_segment(segment)
    await _expect_whole(rig, a)
    assert not helper.exists(), "the device that held up frames is left"


async def check_a_dead_node_takes_along_what_held_up_its_frames(rig: Rig) -> None:
    """When a port goes with its namespace, the next observation leaves nothing of its impairment."""
    _, _, able = await _in_segment(rig)
    if not able:
        return
    segment = await rig.segment()
    plan = rig.plan(await rig.namespace(), segment=segment)
    await rig.plane.ensure_ports([plan])
    wanted = Impairment(rate_kbit=4000)
    await rig.plane.impair([ImpairmentPlan(device=plan.device, from_guest=wanted)])
    assert (await rig.plane.observe()).ports[plan.device].from_guest == wanted
    assert isinstance(plan.attachment, NamespaceAttachment)
    await run_command("ip", "netns", "del", Path(plan.attachment.netns).name)
    async with asyncio.timeout(_GONE_S):
        # The kernel takes a namespace apart when it finds the time.
        while plan.device in (await rig.plane.observe()).ports:
            pass
    assert not (NET / device_name("i", plan.device)).exists(), "the device that held up frames is left"


async def _expect_refused_outside_of_segments(rig: Rig, plug: Plug) -> None:
    """What comes from a guest would go on into the host; what goes to it is impaired all the same."""
    to_guest = Impairment(rate_kbit=3000)
    plan = ImpairmentPlan(device=plug.device, to_guest=to_guest, from_guest=to_guest)
    refused: WireloomError | None = None
    try:
        await rig.plane.impair([plan])
    except DataPlaneFailed as error:
        refused = error
    assert refused is not None
    assert (refused.details["errno"], refused.details["device"]) == ("ENOTCONN", plug.device)
    port = (await rig.plane.observe()).ports[plug.device]
    assert (port.to_guest, port.from_guest) == (to_guest, None)


async def _expect_whole(rig: Rig, plug: Plug) -> None:
    assert (await rig.plane.observe()).ports[plug.device].from_guest is None


IMPAIRMENT_CHECKS: Final[Sequence[Check]] = (
    check_each_part_is_made_or_refused,
    check_a_refusal_stops_nothing_else,
    check_what_is_set_is_read_back,
    check_impairing_is_idempotent,
    check_an_impaired_wire_is_transparent,
    check_a_rate_lets_jumbo_frames_pass,
    check_a_rate_is_kept,
    check_a_limit_drops_what_is_too_much,
    check_clearing_clears,
    check_a_change_takes_effect_at_once,
    check_an_impairment_outlasts_its_link,
    check_a_delay_is_kept,
    check_jitter_spreads_and_keeps_the_order,
    check_loss_is_kept,
    check_duplicates_arrive_twice,
    check_corruption_changes_one_bit,
    check_reordered_frames_go_ahead,
    check_a_delay_and_a_rate_go_together,
    check_frames_from_a_guest_to_a_segment_are_impaired,
    check_an_impaired_plug_leaves_nothing_behind,
    check_a_dead_node_takes_along_what_held_up_its_frames,
)
