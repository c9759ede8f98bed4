"""What wires between hosts are, on every data plane: ``TUNNEL_CHECKS``, each of them ``await check(hosts)``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from wireloom.errors import InvalidInput
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.network import PlugPlan, Tunnel, TunnelPlan, WirePlan
from wireloom.testing.conformance.dataplane_frames import (
    both_ways,
    each_arrives_once,
    hears_nothing,
    one_frame,
    silent,
    wire,
)
from wireloom.testing.conformance.dataplane_hosts import NIC, Host, Hosts
from wireloom.testing.conformance.dataplane_rig import Plug
from wireloom.testing.frames import FRAMES, JUMBO_FRAMES, MAXIMUM_MTU
from wireloom.testing.guests import run_command

__all__ = ["TUNNEL_CHECKS", "TunnelCheck"]

TunnelCheck = Callable[[Hosts], Awaitable[None]]


# --- frames -----------------------------------------------------------------------------------


async def check_containers_on_two_hosts_are_wired(hosts: Hosts) -> None:
    """Every kind of frame crosses a wire between containers of two hosts unchanged, both ways."""
    await both_ways(*await hosts.pair("veth", "veth", 5001), FRAMES)


async def check_container_and_machine_on_two_hosts_are_wired(hosts: Hosts) -> None:
    """Every kind of frame crosses a wire between a container and a machine of two hosts unchanged, both ways."""
    await both_ways(*await hosts.pair("veth", "tap", 5001), FRAMES)


async def check_machines_on_two_hosts_are_wired(hosts: Hosts) -> None:
    """Every kind of frame crosses a wire between machines of two hosts unchanged, both ways."""
    await both_ways(*await hosts.pair("tap", "tap", 5001), FRAMES)


async def check_jumbo_frames_cross_a_way_of_a_lesser_mtu(hosts: Hosts) -> None:
    """Frames of the greatest MTU cross what lies between the hosts, in pieces, and come out whole."""
    for vni, kinds in ((5001, ("veth", "veth")), (5002, ("veth", "tap")), (5003, ("tap", "tap"))):
        a, b = await hosts.pair(*kinds, vni, MAXIMUM_MTU)
        await both_ways(a, b, JUMBO_FRAMES)


async def check_tunnel_sets_its_mtu_on_both_sides_of_a_port(hosts: Hosts) -> None:
    """The MTU of a wire between hosts is that of the port here, on the host and in the guest."""
    plug = await hosts.a.plug("veth")
    await hosts.a.plane.ensure_tunnels([TunnelPlan(device=plug.device, remote=hosts.b.address, vni=7, mtu=MAXIMUM_MTU)])
    assert (await hosts.a.port(plug)).mtu == MAXIMUM_MTU
    assert plug.nic.mtu() == MAXIMUM_MTU


async def check_tunnels_are_isolated(hosts: Hosts) -> None:
    """A frame reaches the other end of its wire and no port of another one, on neither host."""
    a, b = await hosts.pair("veth", "tap", 5001)
    c, d = await hosts.pair("tap", "veth", 5002)
    await hears_nothing(a, d, c)
    await hears_nothing(a, c, d)
    await hears_nothing(d, b, a)
    await both_ways(a, b, one_frame())
    await both_ways(c, d, one_frame())


async def check_number_of_another_wire_is_not_heard(hosts: Hosts) -> None:
    """Frames of a number that this host does not know, or that its port gave up, go nowhere."""
    a, b = await hosts.pair("veth", "veth", 5001)
    await hosts.b.plane.ensure_tunnels([TunnelPlan(device=b.device, remote=hosts.a.address, vni=5002)])
    await silent(a, b)
    await silent(b, a)
    await hosts.join(a, b, 5002)
    await both_ways(a, b, one_frame())


async def check_tunnel_over_ipv6(hosts: Hosts) -> None:
    """Hosts that know each other by IPv6 are joined as well; nothing is cut into pieces on that way."""
    a, b = await hosts.a.plug("veth"), await hosts.b.plug("tap")
    plans = (
        TunnelPlan(device=a.device, remote=hosts.b.address6, vni=5001),
        TunnelPlan(device=b.device, remote=hosts.a.address6, local=hosts.b.address6, vni=5001),
    )
    await hosts.a.plane.ensure_tunnels(plans[:1])
    await hosts.b.plane.ensure_tunnels(plans[1:])
    await both_ways(a, b, {name: make for name, make in FRAMES.items() if not name.startswith("full-size")})
    assert (await hosts.b.port(b)).tunnel == plans[1].tunnel


# --- moves ------------------------------------------------------------------------------------


async def check_port_moves_between_wire_and_tunnel(hosts: Hosts) -> None:
    """A wire on one host becomes one to another host and back; who had the port before hears of it no more."""
    a, b = await hosts.a.plug("veth"), await hosts.b.plug("veth")
    near = await hosts.a.plug("tap")
    await hosts.a.plane.ensure_wires([wire(a, near)])
    await hosts.join(a, b, 5001)
    await both_ways(a, b, one_frame())
    await silent(near, a)
    assert await _joined(hosts.a, near) == (None, None, None)
    # A cut of the wire that was does not cut the one that is.
    await hosts.a.plane.remove_wires([wire(a, near)])
    await both_ways(a, b, one_frame())
    await hosts.a.plane.ensure_wires([wire(a, near)])
    await both_ways(a, near, one_frame())
    await silent(b, a)
    assert await _joined(hosts.a, a) == (near.device, None, None)
    await hosts.a.plane.remove_tunnels([a.device])
    await both_ways(a, near, one_frame())


async def check_port_moves_between_segment_and_tunnel(hosts: Hosts) -> None:
    """A port of a switch becomes that of a wire to another host and back."""
    a, b = await hosts.a.plug("veth"), await hosts.b.plug("tap")
    near = await hosts.a.plug("veth")
    segment = await hosts.a.segment()
    plugs = [PlugPlan(device=plug.device, segment=segment) for plug in (a, near)]
    await hosts.a.plane.ensure_plugs(plugs)
    await both_ways(a, near, one_frame())
    await hosts.join(a, b, 5001)
    await both_ways(a, b, one_frame())
    await silent(near, a)
    assert await _joined(hosts.a, a) == (None, None, Tunnel(remote=hosts.b.address, vni=5001))
    await hosts.a.plane.ensure_plugs(plugs)
    await both_ways(a, near, one_frame())
    await silent(b, a)
    assert await _joined(hosts.a, a) == (None, segment, None)


async def check_end_of_a_tunnel_moves_to_another_port(hosts: Hosts) -> None:
    """A port that gets the number of another takes its wire over."""
    a, b = await hosts.pair("veth", "veth", 5001)
    other = await hosts.a.plug("tap")
    await hosts.a.plane.ensure_tunnels([TunnelPlan(device=other.device, remote=hosts.b.address, vni=5001)])
    await both_ways(other, b, one_frame())
    await silent(a, b)
    assert await _joined(hosts.a, a) == (None, None, None)
    # The port that had it is told to give it up, late.
    await hosts.a.plane.remove_tunnels([a.device])
    await both_ways(other, b, one_frame())


async def check_tunnels_swap_in_one_batch(hosts: Hosts) -> None:
    """Two wires to another host exchange their ends in one request."""
    a, b = await hosts.pair("veth", "veth", 5001)
    c, d = await hosts.pair("veth", "tap", 5002)
    remote = hosts.b.address
    await hosts.a.plane.ensure_tunnels(
        [TunnelPlan(device=a.device, remote=remote, vni=5002), TunnelPlan(device=c.device, remote=remote, vni=5001)]
    )
    await both_ways(a, d, one_frame())
    await both_ways(c, b, one_frame())


async def check_tunnel_follows_the_other_host(hosts: Hosts) -> None:
    """The other host, or this one, has another address, of IPv6 at last; the wire follows."""
    a, b = await hosts.pair("veth", "veth", 5001)
    here, there = hosts.a, hosts.b
    for remote, local in (
        (there.second_address, ""),
        (there.second_address, here.second_address),
        (there.address, here.address),
        (there.address, ""),
    ):
        plan = TunnelPlan(device=a.device, remote=remote, local=local, vni=5001)
        await here.plane.ensure_tunnels([plan])
        back = TunnelPlan(device=b.device, remote=local or here.address, local=remote, vni=5001)
        await there.plane.ensure_tunnels([back])
        assert [(await here.port(a)).tunnel, (await there.port(b)).tunnel] == [plan.tunnel, back.tunnel]
        await both_ways(a, b, one_frame())
    await here.output("ping", "-c", "1", "-w", "10", there.address6)  # its neighbours are not in question
    await here.plane.ensure_tunnels([TunnelPlan(device=a.device, remote=there.address6, vni=5001)])
    await there.plane.ensure_tunnels([TunnelPlan(device=b.device, remote=here.address6, vni=5001)])
    await both_ways(a, b, one_frame())


async def check_moves_lose_and_double_no_frame_to_a_host(hosts: Hosts) -> None:
    """While an end here moves from one port to another under traffic, each frame from there arrives exactly once."""
    a, b = await hosts.pair("veth", "veth", 5001)
    other = await hosts.a.plug("veth")

    async def turn(number: int) -> None:
        device = (a if number % 2 else other).device
        await hosts.a.plane.ensure_tunnels([TunnelPlan(device=device, remote=hosts.b.address, vni=5001)])

    await each_arrives_once(b, (a, other), turn)


async def check_moves_lose_and_double_no_frame_from_a_host(hosts: Hosts) -> None:
    """While a port moves between a wire and a tunnel under traffic, each frame from it arrives exactly once."""
    a, b = await hosts.pair("veth", "veth", 5001)
    near = await hosts.a.plug("veth")

    async def turn(number: int) -> None:
        if number % 2:
            await hosts.a.plane.ensure_tunnels([TunnelPlan(device=a.device, remote=hosts.b.address, vni=5001)])
        else:
            await hosts.a.plane.ensure_wires([wire(a, near)])

    await each_arrives_once(a, (b, near), turn)


# --- books ------------------------------------------------------------------------------------


async def _joined(host: Host, plug: Plug) -> tuple[str | None, str | None, Tunnel | None]:
    """Wire, segment and tunnel of a port, as observed."""
    port = await host.port(plug)
    return port.peer, port.segment, port.tunnel


async def check_tunnel_is_observed_as_it_was_asked_for(hosts: Hosts) -> None:
    """What joins a port is told, and nothing when it was cut; asking again changes nothing."""
    a, b = await hosts.a.plug("veth"), await hosts.b.plug("tap")
    here, there = hosts.plans(a, b, 5001)
    there = there.model_copy(update={"local": hosts.b.address})
    for _ in range(2):
        await hosts.a.plane.ensure_tunnels([here])
        await hosts.b.plane.ensure_tunnels([there])
        assert await _joined(hosts.a, a) == (None, None, here.tunnel)
        assert await _joined(hosts.b, b) == (None, None, there.tunnel)
    await both_ways(a, b, one_frame())
    for _ in range(2):
        await hosts.a.plane.remove_tunnels([a.device])
        assert await _joined(hosts.a, a) == (None, None, None)
        await silent(a, b)
        await silent(b, a)


async def check_restarted_agents_find_their_tunnels(hosts: Hosts) -> None:
    """After a restart of the agents everything is found as it was, and frames have passed meanwhile."""
    a, b = await hosts.pair("veth", "tap", 5001)
    before = [(await host.plane.observe()).ports for host in (hosts.a, hosts.b)]
    await hosts.a.restart()
    await both_ways(a, b, one_frame())
    await hosts.b.restart()
    assert [(await host.plane.observe()).ports for host in (hosts.a, hosts.b)] == before
    await both_ways(a, b, one_frame())


async def check_removed_port_takes_its_tunnel_along(hosts: Hosts) -> None:
    """With a port goes its way to another host, and its number is free for another port."""
    a, b = await hosts.pair("veth", "tap", 5001)
    await hosts.a.plane.remove_ports([a.device])
    assert await hosts.a.tunnel_devices() == []
    other = await hosts.a.plug("tap")
    await silent(b, other)
    await hosts.join(other, b, 5001)
    await both_ways(other, b, one_frame())


async def check_container_that_died_leaves_no_tunnel(hosts: Hosts) -> None:
    """The device of a port that went by itself goes when the host is looked at; requests about it are no error."""
    a, b = await hosts.pair("veth", "tap", 5001)
    assert isinstance(a.plan.attachment, NamespaceAttachment)
    a.guest.close()
    await run_command("ip", "netns", "del", Path(a.plan.attachment.netns).name)
    await _until_gone(hosts.a, a)
    assert await hosts.a.tunnel_devices() == []
    here, _ = hosts.plans(a, b, 5001)
    await hosts.a.plane.ensure_tunnels([here])
    await hosts.a.plane.remove_tunnels([a.device])
    assert await hosts.a.tunnel_devices() == []


async def _until_gone(host: Host, plug: Plug) -> None:
    """The kernel takes namespaces down in its own time."""
    for _ in range(500):
        if plug.device not in (await host.plane.observe()).ports:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a device outlives the namespace of its guest")


async def check_withdrawn_data_plane_reaches_no_other_host(hosts: Hosts) -> None:
    """A data plane that gives up leaves ports that are joined to nothing, and no device to another host."""
    a, b = await hosts.pair("veth", "veth", 5001)
    await hosts.a.plane.withdraw()
    await silent(a, b)
    await silent(b, a)
    assert await _joined(hosts.a, a) == (None, None, None)
    assert await hosts.a.tunnel_devices() == []


async def check_carrier_does_not_depend_on_the_way_between_hosts(hosts: Hosts) -> None:
    """A way that is interrupted loses frames and nothing else."""
    a, b = await hosts.pair("veth", "veth", 5001)
    before = await hosts.a.port(a)
    name = Path(hosts.a.netns).name
    await run_command("ip", "-n", name, "link", "set", NIC, "down")
    await silent(a, b)
    assert await hosts.a.port(a) == before
    assert a.nic.carrier()
    await run_command("ip", "-n", name, "link", "set", NIC, "up")
    await _until_reachable(hosts)
    await both_ways(a, b, one_frame())
    await hosts.a.plane.set_carrier({a.device: False})
    assert (a.nic.carrier(), b.nic.carrier()) == (False, True)


async def _until_reachable(hosts: Hosts) -> None:
    """Neighbours find each other again in their own time."""
    for _ in range(50):
        if "1 received" in await hosts.a.output("ping", "-c", "1", "-W", "1", hosts.b.address):
            return
    raise AssertionError("the hosts do not reach each other")


async def check_unfit_tunnels_are_refused(hosts: Hosts) -> None:
    """What no wire between hosts can be is refused before anything is changed."""
    a, b = await hosts.a.plug("tap"), await hosts.a.plug("tap")
    remote = hosts.b.address
    good = TunnelPlan(device=a.device, remote=remote, vni=5001)
    for plans in (
        [good, TunnelPlan(device=a.device, remote=remote, vni=5002)],
        [good, TunnelPlan(device=b.device, remote=remote, vni=5001)],
        *([good, TunnelPlan(device=b.device, remote=remote, vni=vni)] for vni in (0, 2**24)),
        *([good, TunnelPlan(device=b.device, remote=odd, vni=6)] for odd in ("", "host2", "239.1.1.1", "::")),
        [good, TunnelPlan(device=b.device, remote=remote, local=hosts.a.address6, vni=6)],
    ):
        try:
            await hosts.a.plane.ensure_tunnels(plans)
        except InvalidInput:
            continue
        raise AssertionError(f"these were not refused: {plans}")
    assert await _joined(hosts.a, a) == (None, None, None)


async def check_wires_of_one_host_are_as_before(hosts: Hosts) -> None:
    """Ports beside a tunnel are wired, and cut, as on a host without any."""
    await hosts.pair("veth", "tap", 5001)
    c, d = await hosts.a.plug("veth"), await hosts.a.plug("tap")
    await hosts.a.plane.ensure_wires([WirePlan(a=c.device, b=d.device)])
    await both_ways(c, d, one_frame())
    await hosts.a.plane.remove_wires([wire(c, d)])
    await silent(c, d)


TUNNEL_CHECKS: Final[Sequence[TunnelCheck]] = (
    check_containers_on_two_hosts_are_wired,
    check_container_and_machine_on_two_hosts_are_wired,
    check_machines_on_two_hosts_are_wired,
    check_jumbo_frames_cross_a_way_of_a_lesser_mtu,
    check_tunnel_sets_its_mtu_on_both_sides_of_a_port,
    check_tunnels_are_isolated,
    check_number_of_another_wire_is_not_heard,
    check_tunnel_over_ipv6,
    check_port_moves_between_wire_and_tunnel,
    check_port_moves_between_segment_and_tunnel,
    check_end_of_a_tunnel_moves_to_another_port,
    check_tunnels_swap_in_one_batch,
    check_tunnel_follows_the_other_host,
    check_moves_lose_and_double_no_frame_to_a_host,
    check_moves_lose_and_double_no_frame_from_a_host,
    check_tunnel_is_observed_as_it_was_asked_for,
    check_restarted_agents_find_their_tunnels,
    check_removed_port_takes_its_tunnel_along,
    check_container_that_died_leaves_no_tunnel,
    check_withdrawn_data_plane_reaches_no_other_host,
    check_carrier_does_not_depend_on_the_way_between_hosts,
    check_unfit_tunnels_are_refused,
    check_wires_of_one_host_are_as_before,
)
