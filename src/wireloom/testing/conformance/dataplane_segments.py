"""What segments are, on every data plane: ``SEGMENT_CHECKS``, each of them ``await check(rig)``.

What a host cannot do it says in its abilities; then the check asserts that it refuses the need with that reason.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from wireloom.errors import Unsupported, WireloomError
from wireloom.model.network import PlugPlan, SegmentAlias, SegmentPlan, Uplink
from wireloom.model.vlans import Tagging, Vlans
from wireloom.testing.conformance.dataplane_frames import Speaker, both_ways, one_frame, silent, wire
from wireloom.testing.conformance.dataplane_rig import Plug, Rig
from wireloom.testing.conformance.dataplane_world import world
from wireloom.testing.frames import MAXIMUM_MTU, SEGMENT_FRAMES, ethernet, source_address, source_of
from wireloom.testing.guests import receive

__all__ = [
    "SEGMENT_CHECKS",
    "Check",
    "crosses",
    "frame_with",
    "plugged",
    "refused",
    "segment_plan",
    "stays_away",
    "tagged",
]

Check = Callable[[Rig], Awaitable[None]]

_UNICAST: Final = "020000000001"
_NOISE_S: Final = 0.2


def segment_plan(rig: Rig, *, tagging: Tagging = "none", uplink: Uplink | None = None, mtu: int = 1500) -> SegmentPlan:
    """A segment of the rig's, not made yet."""
    name = rig.segment_name()
    alias = SegmentAlias(installation=rig.installation, lab_id="lab-1", segment_id=name, name=f"lab/{name}")
    return SegmentPlan(name=name, alias=alias.text(), tagging=tagging, uplink=uplink, mtu=mtu)


async def plugged(rig: Rig, segment: SegmentPlan, kind: str = "veth", vlans: Vlans | None = None) -> Plug:
    """A new port in ``segment``."""
    plug = await rig.plug(kind, mtu=segment.mtu)
    await put(rig, segment, plug, vlans)
    return plug


async def put(rig: Rig, segment: SegmentPlan, plug: Plug, vlans: Vlans | None = None) -> None:
    plan = PlugPlan(device=plug.device, segment=segment.name, vlans=vlans, mtu=segment.mtu)
    await rig.plane.ensure_plugs([plan])


async def crosses(sender: Speaker, sent: bytes, receiver: Speaker, expected: bytes | None = None) -> None:
    """A frame comes out as it went in, or as ``expected``."""
    sender.guest.send(sent)
    got = await receive(receiver.guest, source_of(sent))
    wanted = expected or sent
    assert got is not None, f"the frame {sent.hex()} did not arrive"
    assert got == wanted, f"a frame arrived as {got.hex()}, not as {wanted.hex()}"


async def stays_away(sender: Speaker, frame: bytes, listener: Speaker) -> None:
    sender.guest.send(frame)
    assert await receive(listener.guest, source_of(frame), _NOISE_S) is None, "a frame crossed a border"


def frame_with(*tags: str) -> bytes:
    """A frame with these tags, outermost first, each eight digits, e.g. ``8100000a`` for VLAN 10."""
    return ethernet(_UNICAST, bytes.fromhex("".join(tags) + "88b5") + bytes(range(46)))


def tagged(frame: bytes, tag: str) -> bytes:
    """The same frame with one more tag around it."""
    return frame[:12] + bytes.fromhex(tag) + frame[12:]


async def refused(rig: Rig, plan: SegmentPlan, kind: type[WireloomError], words: str = "") -> WireloomError:
    """The plan is refused, and leaves nothing behind."""
    refusal: WireloomError | None = None
    try:
        await rig.plane.ensure_segment(plan)
    except kind as error:
        refusal = error
    assert refusal is not None, f"{plan} was not refused"
    assert words in refusal.message, f"the refusal does not say why: {refusal.message}"
    assert plan.name not in (await rig.plane.observe()).segments, "a refused segment stands"
    return refusal


# --- plugs ------------------------------------------------------------------------------------


async def check_port_moves_between_wire_and_segment(rig: Rig) -> None:
    """A wired port that is plugged leaves its wire, one that is wired leaves its segment, and nobody else notices."""
    plan = segment_plan(rig)
    await rig.plane.ensure_segment(plan)
    a, b, c = await rig.plug("veth"), await rig.plug("tap"), await plugged(rig, plan)
    await rig.plane.ensure_wires([wire(a, b)])
    await both_ways(a, b, one_frame())
    await put(rig, plan, a)
    await both_ways(a, c, SEGMENT_FRAMES)
    await silent(b, a)
    await silent(b, c)
    port = (await rig.plane.observe()).ports[a.device]
    assert (port.peer, port.segment, port.vlans) == (None, plan.name, None)
    await rig.plane.ensure_wires([wire(a, b)])
    await both_ways(a, b, one_frame())
    await silent(c, a)
    port = (await rig.plane.observe()).ports[a.device]
    assert (port.peer, port.segment) == (b.device, None)


async def check_unplugged_port_reaches_nobody(rig: Rig) -> None:
    """A port that is taken out of its segment is nowhere, and can be put back."""
    plan = segment_plan(rig)
    await rig.plane.ensure_segment(plan)
    a, b = await plugged(rig, plan), await plugged(rig, plan, "tap")
    await both_ways(a, b, one_frame())
    for _ in range(2):
        await rig.plane.remove_plugs([a.device])
        await silent(a, b)
        await silent(b, a)
        assert (await rig.plane.observe()).ports[a.device].segment is None
    await put(rig, plan, a)
    await both_ways(a, b, one_frame())


async def check_ports_of_a_removed_segment_reach_nobody(rig: Rig) -> None:
    """A segment that is removed leaves its ports, and these reach nobody; plugs into nothing are left out."""
    plan = segment_plan(rig)
    await rig.plane.ensure_segment(plan)
    a, b = await plugged(rig, plan), await plugged(rig, plan, "tap")
    await rig.plane.remove_segment(plan.name)
    await silent(a, b)
    state = await rig.plane.observe()
    assert {state.ports[plug.device].segment for plug in (a, b)} == {None}
    await put(rig, plan, a)
    await rig.plane.remove_plugs([a.device, "wlpnosuchdevice"])
    await rig.plane.ensure_segment(plan)
    await put(rig, plan, a)
    await put(rig, plan, b)
    await both_ways(a, b, one_frame())


async def check_mending_what_is_whole_changes_nothing(rig: Rig) -> None:
    """Asked to mend, with nothing made yet or with everything as it should be, a data plane leaves all as it is."""
    await rig.plane.mend()
    plan = segment_plan(rig)
    await rig.plane.ensure_segment(plan)
    a, b = await plugged(rig, plan), await plugged(rig, plan, "tap")
    c, d = await rig.plug("veth"), await rig.plug("tap")
    await rig.plane.ensure_wires([wire(c, d)])
    before = await rig.plane.observe()
    await rig.restart()  # whoever mends may have made none of it
    await rig.plane.mend()
    assert await rig.plane.observe() == before
    for pair in ((a, b), (c, d)):
        await both_ways(*pair, one_frame())


async def check_plug_sets_its_mtu_on_all_sides(rig: Rig) -> None:
    """The MTU of a plug is the MTU of its port, on the host and in the guest, and frames of that size cross."""
    plan = segment_plan(rig, mtu=MAXIMUM_MTU)
    await rig.plane.ensure_segment(plan)
    a, b = await rig.plug("veth"), await rig.plug("tap")
    for plug in (a, b):
        await put(rig, plan, plug)
    state = await rig.plane.observe()
    assert {state.ports[plug.device].mtu for plug in (a, b)} == {MAXIMUM_MTU}
    assert state.segments[plan.name].mtu == MAXIMUM_MTU
    assert a.nic.mtu() == MAXIMUM_MTU
    await both_ways(a, b, {"jumbo": lambda: ethernet(_UNICAST, bytes.fromhex("88b5") + bytes(MAXIMUM_MTU))})


async def check_host_speaks_where_it_has_an_address_alone(rig: Rig) -> None:
    """The host answers in a segment while it has an address there, also when it gets one later, and not afterwards."""
    plan = segment_plan(rig)
    await rig.plane.ensure_segment(plan)
    plug = await plugged(rig, plan)
    # Of its own: the host answers for whatever address it has, whichever device that is on.
    net = f"100.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}"
    for turn, present in enumerate((None, 1, 2, None)):
        address = None if present is None else f"{net}.{present}/24"
        await rig.plane.ensure_segment(plan.model_copy(update={"address": address}))
        for asked in (1, 2):
            # Another neighbour each time: what was answered once may be remembered.
            plug.guest.send(_who_has(f"{net}.{asked}", f"{net}.{100 + turn}"))
            answer = await receive(plug.guest, None, 2.0 if asked == present else _NOISE_S)
            heard = answer is not None and answer[12:14] == b"\x08\x06"
            assert heard == (asked == present), f"the host, at {address}, was asked for {net}.{asked}"


def _who_has(address: str, neighbour: str) -> bytes:
    """A request over ARP."""
    source = source_address()
    body = bytes.fromhex("08060001080006040001") + source + socket.inet_aton(neighbour)
    return ethernet("ffffffffffff", body + bytes(6) + socket.inet_aton(address), source)


async def check_withdrawn_data_plane_joins_nothing(rig: Rig) -> None:
    """After it withdrew, the ports stand alone: no wire, no segment; it can begin anew."""
    async with world() as outside:
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic))
        await rig.plane.ensure_segment(plan)
        a, b = await plugged(rig, plan), await rig.plug("tap")
        c = await rig.plug("veth")
        await rig.plane.ensure_wires([wire(b, c)])
        await rig.plane.withdraw()
        await silent(b, c)
        await silent(a, outside)
        state = await rig.plane.observe()
        assert state.segments == {}
        assert {(port.peer, port.segment) for port in state.ports.values()} == {(None, None)}
        assert set(state.ports) == {a.device, b.device, c.device}
        assert outside.link().get("master") is None
        await rig.plane.ensure_wires([wire(a, b)])
        await both_ways(a, b, one_frame())


# --- VLANs ------------------------------------------------------------------------------------


async def _switch(rig: Rig, tagging: Tagging) -> SegmentPlan | None:
    """A switch with VLANs; ``None`` where the host refuses it as its abilities say."""
    plan = segment_plan(rig, tagging=tagging)
    able = await rig.plane.abilities()
    reason = able.qinq if tagging == "802.1ad" else able.vlans
    if reason:
        await refused(rig, plan, Unsupported, reason)
        return None
    await rig.plane.ensure_segment(plan)
    assert (await rig.plane.observe()).segments[plan.name].tagging == tagging
    return plan


async def check_access_ports_are_in_their_vlan_alone(rig: Rig) -> None:
    """Access ports of one VLAN reach each other without tags, and no other VLAN; who says nothing is in VLAN 1."""
    plan = await _switch(rig, "802.1q")
    if plan is None:
        return
    ten, also_ten = [await plugged(rig, plan, kind, Vlans.access(10)) for kind in ("veth", "tap")]
    twenty, one = await plugged(rig, plan, "tap", Vlans.access(20)), await plugged(rig, plan, "veth", Vlans.access())
    other_one = await plugged(rig, plan, "tap")
    await both_ways(ten, also_ten, {"plain": frame_with})
    await both_ways(one, other_one, {"plain": frame_with})
    for sender, listener in ((ten, twenty), (ten, one), (twenty, also_ten), (one, twenty)):
        await stays_away(sender, frame_with(), listener)
    # A guest cannot choose another VLAN by a tag of its own.
    await stays_away(ten, frame_with("81000014"), twenty)
    await stays_away(ten, frame_with("8100000a8100000a"), twenty)
    state = await rig.plane.observe()
    assert state.ports[ten.device].vlans == Vlans.access(10)
    assert state.ports[other_one.device].vlans == Vlans.access()


async def check_trunk_carries_its_vlans_with_tags(rig: Rig) -> None:
    """A trunk has its VLANs with tags and its native one without; others do not cross it."""
    plan = await _switch(rig, "802.1q")
    if plan is None:
        return
    vlans = Vlans(untagged=1, tagged=((10, 10), (20, 29)))
    trunk = await plugged(rig, plan, "veth", vlans)
    strict = await plugged(rig, plan, "tap", Vlans(tagged=((10, 10), (25, 30))))
    access = {vlan: await plugged(rig, plan, "tap", Vlans.access(vlan)) for vlan in (1, 10, 25, 30)}
    for vlan in (10, 25):
        frame, tag = frame_with(), f"8100{vlan:04x}"
        await crosses(access[vlan], frame, trunk, tagged(frame, tag))
        frame = frame_with()
        await crosses(trunk, tagged(frame, tag), access[vlan], frame)
        await crosses(trunk, frame_with(tag), strict)
    frame = frame_with()
    await crosses(trunk, frame, access[1], frame)
    await crosses(access[1], frame_with(), trunk)
    await stays_away(access[30], frame_with(), trunk)
    await stays_away(trunk, frame_with("8100001e"), access[30])
    await stays_away(strict, frame_with(), access[1])
    await stays_away(access[1], frame_with(), strict)
    assert (await rig.plane.observe()).ports[trunk.device].vlans == vlans


async def check_port_changes_its_vlans_in_place(rig: Rig) -> None:
    """A port that is given other VLANs is in these alone, also after a restart of the agent."""
    plan = await _switch(rig, "802.1q")
    if plan is None:
        return
    a, ten, twenty = [await plugged(rig, plan, "veth", Vlans.access(vlan)) for vlan in (10, 10, 20)]
    await both_ways(a, ten, {"plain": frame_with})
    await put(rig, plan, a, Vlans.access(20))
    await both_ways(a, twenty, {"plain": frame_with})
    await stays_away(a, frame_with(), ten)
    await rig.restart()
    vlans = Vlans(untagged=10, tagged=((20, 20),))
    await put(rig, plan, a, vlans)
    await both_ways(a, ten, {"plain": frame_with})
    frame = frame_with()
    await crosses(twenty, frame, a, tagged(frame, "81000014"))
    assert (await rig.plane.observe()).ports[a.device].vlans == vlans


async def check_provider_tags_go_around_customers_tags(rig: Rig) -> None:
    """With Q-in-Q a customer's frames, tagged or not, cross unchanged; a trunk shows the provider's tag around them."""
    plan = await _switch(rig, "802.1ad")
    if plan is None:
        return
    a, b = [await plugged(rig, plan, kind, Vlans.access(100)) for kind in ("veth", "tap")]
    other = await plugged(rig, plan, "tap", Vlans.access(200))
    trunk = await plugged(rig, plan, "veth", Vlans(tagged=((100, 200),)))
    for tags in ((), ("81000005",), ("81000005", "81000006")):
        frame = frame_with(*tags)
        await crosses(a, frame, b)
        frame = frame_with(*tags)
        await crosses(b, frame, trunk, tagged(frame, "88a80064"))
        frame = frame_with(*tags)
        await crosses(trunk, tagged(frame, "88a80064"), a, frame)
    # The customer's own tag is none of the provider's.
    await stays_away(a, frame_with("810000c8"), other)


async def check_switch_with_vlans_takes_no_short_cut(rig: Rig) -> None:
    """Link-local groups stay in their VLAN as all frames do, and cross within it."""
    plan = await _switch(rig, "802.1q")
    if plan is None:
        return
    a, b, other = [await plugged(rig, plan, "veth", Vlans.access(vlan)) for vlan in (10, 10, 20)]
    plain = {name: make for name, make in SEGMENT_FRAMES.items() if name not in {"802.1q", "q-in-q"}}
    await both_ways(a, b, plain)
    for make in plain.values():
        a.guest.send(make())
    await stays_away(a, SEGMENT_FRAMES["lldp"](), other)


SEGMENT_CHECKS: Final[Sequence[Check]] = (
    check_port_moves_between_wire_and_segment,
    check_unplugged_port_reaches_nobody,
    check_ports_of_a_removed_segment_reach_nobody,
    check_mending_what_is_whole_changes_nothing,
    check_plug_sets_its_mtu_on_all_sides,
    check_host_speaks_where_it_has_an_address_alone,
    check_withdrawn_data_plane_joins_nothing,
    check_access_ports_are_in_their_vlan_alone,
    check_trunk_carries_its_vlans_with_tags,
    check_port_changes_its_vlans_in_place,
    check_provider_tags_go_around_customers_tags,
    check_switch_with_vlans_takes_no_short_cut,
)
