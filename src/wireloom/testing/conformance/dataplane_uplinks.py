"""What uplinks of segments are, on every data plane: ``UPLINK_CHECKS``, each of them ``await check(rig)``.

NICs of the host are veth pairs here, with a neighbour in a namespace.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Sequence
from typing import Final

from wireloom.errors import Conflict, NotFound, Unsupported
from wireloom.model.network import Uplink
from wireloom.testing.conformance.dataplane_frames import both_ways, one_frame, silent
from wireloom.testing.conformance.dataplane_rig import NET, Plug, Rig
from wireloom.testing.conformance.dataplane_segments import (
    Check,
    crosses,
    frame_with,
    plugged,
    refused,
    segment_plan,
    stays_away,
    tagged,
)
from wireloom.testing.conformance.dataplane_world import World, world
from wireloom.testing.frames import SEGMENT_FRAMES, source_of
from wireloom.testing.guests import receive, run_command, socket_in

__all__ = ["UPLINK_CHECKS"]

#: How long the host may be away while its address moves; a connection over TCP does not notice less than a second.
_CUT_S: Final = 0.9
#: Tries, ten a second.
_OPEN_TRIES: Final = 50


async def check_uplink_leads_to_the_world(rig: Rig) -> None:
    """A NIC that a segment takes joins its ports with the world; it is given back as it was, down if it was down."""
    for up in (True, False):
        async with world(up=up) as outside:
            before = outside.link()["flags"]
            plan = segment_plan(rig, uplink=Uplink(device=outside.nic))
            await rig.plane.ensure_segment(plan)
            plug = await plugged(rig, plan)
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


async def _until_open(sender: Plug, receiver: World) -> None:
    """A switch learns in its own time that a device has come up, and drops what comes before."""
    for _ in range(_OPEN_TRIES):
        frame = frame_with()
        sender.guest.send(frame)
        if await receive(receiver.guest, source_of(frame), 0.1) is not None:
            return
    raise AssertionError("no frame leaves by the uplink")


async def check_host_keeps_its_address_unless_told(rig: Rig) -> None:
    """A NIC that carries the host's address is not taken without consent; the refusal names the address."""
    async with world(addressed=True) as outside:
        before = outside.lines()
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic))
        error = await refused(rig, plan, Conflict, outside.host)
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
        plug = await plugged(rig, plan)
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
        self._echoing: asyncio.Task[None] | None = None
        self._quiet = False
        self.longest = 0.0

    async def __aenter__(self) -> _Talk:
        self._server = await asyncio.start_server(self._accept, self._outside.host, 0)
        port = self._server.sockets[0].getsockname()[1]
        opened = await socket_in(self._outside.netns, socket.AF_INET, socket.SOCK_STREAM)
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().sock_connect(opened, (self._outside.host, port))
            self._reader, self._writer = await asyncio.open_connection(sock=opened)
        self._talking = asyncio.create_task(self._talk())
        await self.goes_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        # What is on its way is awaited: a close with bytes unread would reset the connection.
        self._quiet = True
        await asyncio.wait([self._talking], timeout=5)
        self._talking.cancel()
        await asyncio.gather(self._talking, return_exceptions=True)
        self._writer.close()
        if self._echoing is not None:
            await self._echoing
        self._server.close()

    async def goes_on(self) -> None:
        """More is echoed from now on."""
        self._echoed.clear()
        async with asyncio.timeout(5):
            await self._echoed.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._echoing = asyncio.create_task(self._echo(reader, writer))

    @staticmethod
    async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64):
            writer.write(data)
        writer.close()

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._quiet:
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


async def check_addresses_that_a_nic_gets_anew_move_too(rig: Rig) -> None:
    """As when a DHCP client renews: it shows, and the next time that the segment is asked for it holds them."""
    async with world(addressed=True) as outside:
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic, addresses="move"))
        await rig.plane.ensure_segment(plan)
        again = f"{outside.host}/24"
        await run_command("ip", "address", "add", again, "dev", outside.nic, "valid_lft", "900", "preferred_lft", "900")
        assert (await rig.plane.observe()).segments[plan.name].uplink is None
        await rig.plane.ensure_segment(plan)
        assert (await rig.plane.observe()).segments[plan.name].uplink == outside.nic
        assert outside.lines() == ([], [])
        await rig.plane.remove_segment(plan.name)
        assert sum(again in line for line in outside.lines()[0]) == 1


async def check_uplink_changes(rig: Rig) -> None:
    """A segment that gets another uplink, or none, gives the first one back."""
    async with world(addressed=True) as first, world() as second:
        before = first.lines()
        plan = segment_plan(rig, uplink=Uplink(device=first.nic, addresses="move"))
        await rig.plane.ensure_segment(plan)
        plug = await plugged(rig, plan)
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
    await refused(rig, segment_plan(rig, uplink=Uplink(device="nosuchnic0")), NotFound, "nosuchnic0")
    await refused(rig, segment_plan(rig, uplink=Uplink(device="lo")), Conflict)
    port = await rig.plug("veth")
    await refused(rig, segment_plan(rig, uplink=Uplink(device=port.device)), Conflict)
    async with world(mtu=1400) as outside:
        await refused(rig, segment_plan(rig, uplink=Uplink(device=outside.nic)), Conflict, "1400")
        fitting = segment_plan(rig, uplink=Uplink(device=outside.nic), mtu=1400)
        await rig.plane.ensure_segment(fitting)
        await refused(rig, segment_plan(rig, uplink=Uplink(device=outside.nic), mtu=1400), Conflict, fitting.name)
        await rig.plane.remove_segment(fitting.name)


async def check_nic_that_other_devices_live_on_is_refused(rig: Rig) -> None:
    """A NIC under a device that the host uses is not taken as a whole; the refusal names device and address."""
    async with world() as outside:
        above = f"up{secrets.token_hex(4)}"
        await run_command("ip", "link", "add", above, "link", outside.nic, "type", "macvlan")
        await run_command("ip", "address", "add", "198.51.100.77/32", "dev", above)
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic, addresses="move"))
        error = await refused(rig, plan, Conflict, f"{above} (198.51.100.77/32)")
        assert error.hint, "the refusal does not say what to do"
        assert outside.link().get("master") is None
        await run_command("ip", "link", "del", above)
        await rig.plane.ensure_segment(plan)
        assert (await rig.plane.observe()).segments[plan.name].uplink == outside.nic


async def check_vlan_of_a_nic_is_an_uplink(rig: Rig) -> None:
    """A VLAN of a NIC reaches the world with a tag, beside the host's own use of the NIC."""
    async with world(addressed=True) as outside, _Talk(outside) as talk:
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic, vlan=20))
        if reason := (await rig.plane.abilities()).vlan_devices:
            await refused(rig, plan, Unsupported, reason)
            return
        before = outside.lines()
        await rig.plane.ensure_segment(plan)
        plug = await plugged(rig, plan)
        await _until_open(plug, outside)
        for make in (frame_with, SEGMENT_FRAMES["lldp"]):
            frame = make()
            await crosses(plug, frame, outside, tagged(frame, "81000014"))
            frame = make()
            await crosses(outside, tagged(frame, "81000014"), plug, frame)
        await stays_away(outside, frame_with("81000015"), plug)
        await stays_away(outside, frame_with(), plug)
        await talk.goes_on()
        assert outside.lines() == before
        uplink = Uplink(device=outside.nic, vlan=20).member(rig.installation)
        assert (await rig.plane.observe()).segments[plan.name].uplink == uplink
        await refused(rig, segment_plan(rig, uplink=Uplink(device=outside.nic, vlan=20)), Conflict)
        whole = Uplink(device=outside.nic, addresses="move")
        await refused(rig, segment_plan(rig, uplink=whole), Conflict, f"VLAN 20 of {outside.nic}")
        await rig.plane.remove_segment(plan.name)
        await stays_away(outside, frame_with("81000014"), plug)
        assert not (NET / uplink).exists()
        assert outside.lines() == before


UPLINK_CHECKS: Final[Sequence[Check]] = (
    check_uplink_leads_to_the_world,
    check_host_keeps_its_address_unless_told,
    check_hosts_address_moves_and_comes_back,
    check_what_a_removed_segment_held_is_given_back,
    check_addresses_that_a_nic_gets_anew_move_too,
    check_uplink_changes,
    check_unfit_uplinks_are_refused,
    check_nic_that_other_devices_live_on_is_refused,
    check_vlan_of_a_nic_is_an_uplink,
)
