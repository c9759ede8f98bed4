"""What segments are, on every data plane: ``SEGMENT_CHECKS``, each of them ``await check(rig)``.

What a host cannot do it says in its abilities; then the check asserts that it refuses the need with that reason.
NICs of the host are veth pairs here, with a neighbour in a namespace.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from wireloom.errors import Conflict, NotFound, Unsupported, WireloomError
from wireloom.model.network import PlugPlan, SegmentAlias, SegmentPlan, Uplink
from wireloom.model.vlans import Tagging, Vlans
from wireloom.testing.conformance.dataplane_frames import Speaker, both_ways, one_frame, silent, wire
from wireloom.testing.conformance.dataplane_rig import NET, Plug, Rig
from wireloom.testing.conformance.dataplane_world import World, world
from wireloom.testing.frames import MAXIMUM_MTU, SEGMENT_FRAMES, ethernet, source_of
from wireloom.testing.guests import receive, run_command, socket_in

__all__ = ["SEGMENT_CHECKS", "Check"]

Check = Callable[[Rig], Awaitable[None]]

_UNICAST: Final = "020000000001"
_NOISE_S: Final = 0.2
#: How long the host may be away while its address moves; a connection over TCP does not notice less than a second.
_CUT_S: Final = 0.9


def segment_plan(rig: Rig, *, tagging: Tagging = "none", uplink: Uplink | None = None, mtu: int = 1500) -> SegmentPlan:
    """A segment of the rig's, not made yet."""
    name = rig.segment_name()
    alias = SegmentAlias(installation=rig.installation, lab_id="lab-1", segment_id=name, name=f"lab/{name}")
    return SegmentPlan(name=name, alias=alias.text(), tagging=tagging, uplink=uplink, mtu=mtu)


async def _plugged(rig: Rig, segment: SegmentPlan, kind: str = "veth", vlans: Vlans | None = None) -> Plug:
    """A new port in ``segment``."""
    plug = await rig.plug(kind, mtu=segment.mtu)
    await _put(rig, segment, plug, vlans)
    return plug


async def _put(rig: Rig, segment: SegmentPlan, plug: Plug, vlans: Vlans | None = None) -> None:
    plan = PlugPlan(device=plug.device, segment=segment.name, vlans=vlans, mtu=segment.mtu)
    await rig.plane.ensure_plugs([plan])


async def _crosses(sender: Speaker, sent: bytes, receiver: Speaker, expected: bytes | None = None) -> None:
    """A frame comes out as it went in, or as ``expected``."""
    sender.guest.send(sent)
    got = await receive(receiver.guest, source_of(sent))
    wanted = expected or sent
    assert got is not None, f"the frame {sent.hex()} did not arrive"
    assert got == wanted, f"a frame arrived as {got.hex()}, not as {wanted.hex()}"


async def _stays_away(sender: Speaker, frame: bytes, listener: Speaker) -> None:
    sender.guest.send(frame)
    assert await receive(listener.guest, source_of(frame), _NOISE_S) is None, "a frame crossed a border"


def _frame(*tags: str) -> bytes:
    """A frame with these tags, outermost first, each eight digits, e.g. ``8100000a`` for VLAN 10."""
    return ethernet(_UNICAST, bytes.fromhex("".join(tags) + "88b5") + bytes(range(46)))


def _tagged(frame: bytes, tag: str) -> bytes:
    """The same frame with one more tag around it."""
    return frame[:12] + bytes.fromhex(tag) + frame[12:]


async def _refused(rig: Rig, plan: SegmentPlan, kind: type[WireloomError], words: str = "") -> WireloomError:
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
    a, b, c = await rig.plug("veth"), await rig.plug("tap"), await _plugged(rig, plan)
    await rig.plane.ensure_wires([wire(a, b)])
    await both_ways(a, b, one_frame())
    await _put(rig, plan, a)
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
    a, b = await _plugged(rig, plan), await _plugged(rig, plan, "tap")
    await both_ways(a, b, one_frame())
    for _ in range(2):
        await rig.plane.remove_plugs([a.device])
        await silent(a, b)
        await silent(b, a)
        assert (await rig.plane.observe()).ports[a.device].segment is None
    await _put(rig, plan, a)
    await both_ways(a, b, one_frame())


async def check_ports_of_a_removed_segment_reach_nobody(rig: Rig) -> None:
    """A segment that is removed leaves its ports, and these reach nobody; plugs into nothing are left out."""
    plan = segment_plan(rig)
    await rig.plane.ensure_segment(plan)
    a, b = await _plugged(rig, plan), await _plugged(rig, plan, "tap")
    await rig.plane.remove_segment(plan.name)
    await silent(a, b)
    state = await rig.plane.observe()
    assert {state.ports[plug.device].segment for plug in (a, b)} == {None}
    await _put(rig, plan, a)
    await rig.plane.remove_plugs([a.device, "wlpnosuchdevice"])
    await rig.plane.ensure_segment(plan)
    await _put(rig, plan, a)
    await _put(rig, plan, b)
    await both_ways(a, b, one_frame())


async def check_plug_sets_its_mtu_on_all_sides(rig: Rig) -> None:
    """The MTU of a plug is the MTU of its port, on the host and in the guest, and frames of that size cross."""
    plan = segment_plan(rig, mtu=MAXIMUM_MTU)
    await rig.plane.ensure_segment(plan)
    a, b = await rig.plug("veth"), await rig.plug("tap")
    for plug in (a, b):
        await _put(rig, plan, plug)
    state = await rig.plane.observe()
    assert {state.ports[plug.device].mtu for plug in (a, b)} == {MAXIMUM_MTU}
    assert state.segments[plan.name].mtu == MAXIMUM_MTU
    assert a.nic.mtu() == MAXIMUM_MTU
    await both_ways(a, b, {"jumbo": lambda: ethernet(_UNICAST, bytes.fromhex("88b5") + bytes(MAXIMUM_MTU))})


async def check_withdrawn_data_plane_joins_nothing(rig: Rig) -> None:
    """After it withdrew, the ports stand alone: no wire, no segment; it can begin anew."""
    async with world() as outside:
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic))
        await rig.plane.ensure_segment(plan)
        a, b = await _plugged(rig, plan), await rig.plug("tap")
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
        await _refused(rig, plan, Unsupported, reason)
        return None
    await rig.plane.ensure_segment(plan)
    assert (await rig.plane.observe()).segments[plan.name].tagging == tagging
    return plan


async def check_access_ports_are_in_their_vlan_alone(rig: Rig) -> None:
    """Access ports of one VLAN reach each other without tags, and no other VLAN; who says nothing is in VLAN 1."""
    plan = await _switch(rig, "802.1q")
    if plan is None:
        return
    ten, also_ten = [await _plugged(rig, plan, kind, Vlans.access(10)) for kind in ("veth", "tap")]
    twenty, one = await _plugged(rig, plan, "tap", Vlans.access(20)), await _plugged(rig, plan, "veth", Vlans.access())
    other_one = await _plugged(rig, plan, "tap")
    await both_ways(ten, also_ten, {"plain": _frame})
    await both_ways(one, other_one, {"plain": _frame})
    for sender, listener in ((ten, twenty), (ten, one), (twenty, also_ten), (one, twenty)):
        await _stays_away(sender, _frame(), listener)
    # A guest cannot choose another VLAN by a tag of its own.
    await _stays_away(ten, _frame("81000014"), twenty)
    await _stays_away(ten, _frame("8100000a8100000a"), twenty)
    state = await rig.plane.observe()
    assert state.ports[ten.device].vlans == Vlans.access(10)
    assert state.ports[other_one.device].vlans == Vlans.access()


async def check_trunk_carries_its_vlans_with_tags(rig: Rig) -> None:
    """A trunk has its VLANs with tags and its native one without; others do not cross it."""
    plan = await _switch(rig, "802.1q")
    if plan is None:
        return
    vlans = Vlans(untagged=1, tagged=((10, 10), (20, 29)))
    trunk = await _plugged(rig, plan, "veth", vlans)
    strict = await _plugged(rig, plan, "tap", Vlans(tagged=((10, 10), (25, 30))))
    access = {vlan: await _plugged(rig, plan, "tap", Vlans.access(vlan)) for vlan in (1, 10, 25, 30)}
    for vlan in (10, 25):
        frame, tag = _frame(), f"8100{vlan:04x}"
        await _crosses(access[vlan], frame, trunk, _tagged(frame, tag))
        frame = _frame()
        await _crosses(trunk, _tagged(frame, tag), access[vlan], frame)
        await _crosses(trunk, _frame(tag), strict)
    frame = _frame()
    await _crosses(trunk, frame, access[1], frame)
    await _crosses(access[1], _frame(), trunk)
    await _stays_away(access[30], _frame(), trunk)
    await _stays_away(trunk, _frame("8100001e"), access[30])
    await _stays_away(strict, _frame(), access[1])
    await _stays_away(access[1], _frame(), strict)
    assert (await rig.plane.observe()).ports[trunk.device].vlans == vlans


async def check_port_changes_its_vlans_in_place(rig: Rig) -> None:
    """A port that is given other VLANs is in these alone, also after a restart of the agent."""
    plan = await _switch(rig, "802.1q")
    if plan is None:
        return
    a, ten, twenty = [await _plugged(rig, plan, "veth", Vlans.access(vlan)) for vlan in (10, 10, 20)]
    await both_ways(a, ten, {"plain": _frame})
    await _put(rig, plan, a, Vlans.access(20))
    await both_ways(a, twenty, {"plain": _frame})
    await _stays_away(a, _frame(), ten)
    await rig.restart()
    vlans = Vlans(untagged=10, tagged=((20, 20),))
    await _put(rig, plan, a, vlans)
    await both_ways(a, ten, {"plain": _frame})
    frame = _frame()
    await _crosses(twenty, frame, a, _tagged(frame, "81000014"))
    assert (await rig.plane.observe()).ports[a.device].vlans == vlans


async def check_provider_tags_go_around_customers_tags(rig: Rig) -> None:
    """With Q-in-Q a customer's frames, tagged or not, cross unchanged; a trunk shows the provider's tag around them."""
    plan = await _switch(rig, "802.1ad")
    if plan is None:
        return
    a, b = [await _plugged(rig, plan, kind, Vlans.access(100)) for kind in ("veth", "tap")]
    other = await _plugged(rig, plan, "tap", Vlans.access(200))
    trunk = await _plugged(rig, plan, "veth", Vlans(tagged=((100, 200),)))
    for tags in ((), ("81000005",), ("81000005", "81000006")):
        frame = _frame(*tags)
        await _crosses(a, frame, b)
        frame = _frame(*tags)
        await _crosses(b, frame, trunk, _tagged(frame, "88a80064"))
        frame = _frame(*tags)
        await _crosses(trunk, _tagged(frame, "88a80064"), a, frame)
    # The customer's own tag is none of the provider's.
    await _stays_away(a, _frame("810000c8"), other)


async def check_switch_with_vlans_takes_no_short_cut(rig: Rig) -> None:
    """Link-local groups stay in their VLAN as all frames do, and cross within it."""
    plan = await _switch(rig, "802.1q")
    if plan is None:
        return
    a, b, other = [await _plugged(rig, plan, "veth", Vlans.access(vlan)) for vlan in (10, 10, 20)]
    plain = {name: make for name, make in SEGMENT_FRAMES.items() if name not in {"802.1q", "q-in-q"}}
    await both_ways(a, b, plain)
    for make in plain.values():
        a.guest.send(make())
    await _stays_away(a, SEGMENT_FRAMES["lldp"](), other)


# --- uplinks ----------------------------------------------------------------------------------


async def check_uplink_leads_to_the_world(rig: Rig) -> None:
    """A NIC that a segment takes joins its ports with the world; it is given back as it was, down if it was down."""
    for up in (True, False):
        async with world(up=up) as outside:
            before = outside.link()["flags"]
            plan = segment_plan(rig, uplink=Uplink(device=outside.nic))
            await rig.plane.ensure_segment(plan)
            plug = await _plugged(rig, plan)
            await _until_carrier(outside.nic)
            await both_ways(plug, outside, SEGMENT_FRAMES)
            await rig.plane.ensure_segment(plan)
            assert (await rig.plane.observe()).segments[plan.name].uplink == outside.nic
            await both_ways(plug, outside, one_frame())
            await rig.plane.remove_segment(plan.name)
            await silent(outside, plug)
            link = outside.link()
            assert (link.get("master"), "UP" in link["flags"]) == (None, "UP" in before)


async def _until_carrier(device: str) -> None:
    """Devices that come up are told of in the kernel's own time."""
    for _ in range(200):
        if (NET / device / "operstate").read_text().strip() == "up":
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{device} has no carrier")


async def check_host_keeps_its_address_unless_told(rig: Rig) -> None:
    """A NIC that carries the host's address is not taken without consent; the refusal names the address."""
    async with world(addressed=True) as outside:
        before = outside.lines()
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic))
        error = await _refused(rig, plan, Conflict, outside.host)
        assert error.hint, "the refusal does not say what to do"
        assert (outside.lines(), outside.link().get("master")) == (before, None)


async def check_hosts_address_moves_and_comes_back(rig: Rig) -> None:
    """With consent the segment holds the host's addresses and routes, and the NIC has all of them again in the end.

    A TCP connection of the host outlives both.
    """
    async with world(addressed=True) as outside, _Talk(outside) as talk:
        before = outside.lines()
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic, addresses="move"))
        await rig.plane.ensure_segment(plan)
        held = ([line.replace(f"{outside.nic}:1", plan.name) for line in before[0]], before[1])
        await talk.goes_on()
        assert outside.lines() == ([], []), "the NIC still has something of the host's"
        assert ([_unlabelled(line) for line in outside.lines(plan.name)[0]], outside.lines(plan.name)[1]) == (
            [_unlabelled(line) for line in held[0]],
            held[1],
        )
        plug = await _plugged(rig, plan)
        await both_ways(plug, outside, one_frame())
        await rig.restart()
        await rig.plane.ensure_segment(plan)
        await talk.goes_on()
        await rig.plane.remove_segment(plan.name)
        await talk.goes_on()
        assert outside.lines() == before
        assert talk.longest < _CUT_S, f"the host was away for {talk.longest:.2f} s"


def _unlabelled(line: str) -> str:
    return " ".join(line.split()[:2])


class _Talk:
    """A TCP connection between the host and its neighbour on which numbers are echoed, to and fro."""

    def __init__(self, outside: World) -> None:
        self._outside = outside
        self._echoed = asyncio.Event()
        self.longest = 0.0

    async def __aenter__(self) -> _Talk:
        self._server = await asyncio.start_server(self._echo, self._outside.host, 0)
        port = self._server.sockets[0].getsockname()[1]
        opened = await socket_in(self._outside.netns, socket.AF_INET, socket.SOCK_STREAM)
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().sock_connect(opened, (self._outside.host, port))
            self._reader, self._writer = await asyncio.open_connection(sock=opened)
        self._talking = asyncio.create_task(self._talk())
        await self.goes_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._talking.cancel()
        await asyncio.gather(self._talking, return_exceptions=True)
        self._writer.close()
        self._server.close()

    async def goes_on(self) -> None:
        """More is echoed from now on."""
        self._echoed.clear()
        async with asyncio.timeout(5):
            await self._echoed.wait()

    @staticmethod
    async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64):
            writer.write(data)
        writer.close()

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._writer.write(b"x")
            await self._reader.readexactly(1)
            self.longest = max(self.longest, loop.time() - began)
            self._echoed.set()
            await asyncio.sleep(0.002)


async def check_what_a_removed_segment_held_is_given_back(rig: Rig) -> None:
    """Somebody removes the device that holds the host's addresses: it shows, and removing it gives them back."""
    async with world(addressed=True) as outside:
        before = outside.lines()
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic, addresses="move"))
        await rig.plane.ensure_segment(plan)
        await run_command("ip", "link", "del", plan.name)
        await rig.restart()
        segment = (await rig.plane.observe()).segments[plan.name]
        assert (segment.up, segment.alias) == (False, plan.alias)
        await rig.plane.remove_segment(plan.name)
        assert outside.lines() == before


async def check_uplink_changes(rig: Rig) -> None:
    """A segment that gets another uplink, or none, gives the first one back."""
    async with world(addressed=True) as first, world() as second:
        before = first.lines()
        plan = segment_plan(rig, uplink=Uplink(device=first.nic, addresses="move"))
        await rig.plane.ensure_segment(plan)
        plug = await _plugged(rig, plan)
        await rig.plane.ensure_segment(plan.model_copy(update={"uplink": Uplink(device=second.nic)}))
        assert (first.lines(), first.link().get("master")) == (before, None)
        await both_ways(plug, second, one_frame())
        await silent(first, plug)
        await rig.plane.ensure_segment(plan.model_copy(update={"uplink": None}))
        await silent(second, plug)
        assert second.link().get("master") is None
        assert (await rig.plane.observe()).segments[plan.name].uplink is None


async def check_unfit_uplinks_are_refused(rig: Rig) -> None:
    """A NIC that is missing, too narrow, or another segment's is refused, and so is a port of a lab."""
    await _refused(rig, segment_plan(rig, uplink=Uplink(device="nosuchnic0")), NotFound, "nosuchnic0")
    await _refused(rig, segment_plan(rig, uplink=Uplink(device="lo")), Conflict)
    port = await rig.plug("veth")
    await _refused(rig, segment_plan(rig, uplink=Uplink(device=port.device)), Conflict)
    async with world(mtu=1400) as outside:
        await _refused(rig, segment_plan(rig, uplink=Uplink(device=outside.nic)), Conflict, "1400")
        fitting = segment_plan(rig, uplink=Uplink(device=outside.nic), mtu=1400)
        await rig.plane.ensure_segment(fitting)
        await _refused(rig, segment_plan(rig, uplink=Uplink(device=outside.nic), mtu=1400), Conflict, fitting.name)
        await rig.plane.remove_segment(fitting.name)


async def check_vlan_of_a_nic_is_an_uplink(rig: Rig) -> None:
    """A VLAN of a NIC reaches the world with a tag, beside the host's own use of the NIC."""
    async with world(addressed=True) as outside, _Talk(outside) as talk:
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic, vlan=20))
        if reason := (await rig.plane.abilities()).vlan_devices:
            await _refused(rig, plan, Unsupported, reason)
            return
        before = outside.lines()
        await rig.plane.ensure_segment(plan)
        plug = await _plugged(rig, plan)
        for make in (_frame, SEGMENT_FRAMES["lldp"]):
            frame = make()
            await _crosses(plug, frame, outside, _tagged(frame, "81000014"))
            frame = make()
            await _crosses(outside, _tagged(frame, "81000014"), plug, frame)
        await _stays_away(outside, _frame("81000015"), plug)
        await _stays_away(outside, _frame(), plug)
        await talk.goes_on()
        assert outside.lines() == before
        uplink = Uplink(device=outside.nic, vlan=20).member(rig.installation)
        assert (await rig.plane.observe()).segments[plan.name].uplink == uplink
        await _refused(rig, segment_plan(rig, uplink=Uplink(device=outside.nic, vlan=20)), Conflict)
        await rig.plane.remove_segment(plan.name)
        await _stays_away(outside, _frame("81000014"), plug)
        assert not (NET / uplink).exists()
        assert outside.lines() == before


SEGMENT_CHECKS: Final[Sequence[Check]] = (
    check_port_moves_between_wire_and_segment,
    check_unplugged_port_reaches_nobody,
    check_ports_of_a_removed_segment_reach_nobody,
    check_plug_sets_its_mtu_on_all_sides,
    check_withdrawn_data_plane_joins_nothing,
    check_access_ports_are_in_their_vlan_alone,
    check_trunk_carries_its_vlans_with_tags,
    check_port_changes_its_vlans_in_place,
    check_provider_tags_go_around_customers_tags,
    check_switch_with_vlans_takes_no_short_cut,
    check_uplink_leads_to_the_world,
    check_host_keeps_its_address_unless_told,
    check_hosts_address_moves_and_comes_back,
    check_what_a_removed_segment_held_is_given_back,
    check_uplink_changes,
    check_unfit_uplinks_are_refused,
    check_vlan_of_a_nic_is_an_uplink,
)
