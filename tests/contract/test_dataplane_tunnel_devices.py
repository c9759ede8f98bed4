"""Devices to other hosts: left-overs, those of others, and what becomes of them when somebody touches them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wireloom.dataplane.host.tunnels import device_of
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.errors import DataPlaneFailed
from wireloom.model.network import Tunnel, TunnelPlan
from wireloom.testing.conformance.dataplane_frames import both_ways, one_frame, silent
from wireloom.testing.conformance.dataplane_hosts import Host, Hosts, cable, hosts, living_in
from wireloom.testing.guests import run_command

pytestmark = pytest.mark.kernel


@pytest.fixture
async def two() -> AsyncIterator[Hosts]:
    async with cable() as spaces, hosts(spaces, (KernelDataPlane, KernelDataPlane)) as made:
        yield made


async def ip(host: Host, *words: str) -> None:
    await run_command("ip", "-n", Path(host.netns).name, *words)


async def add_vxlan(host: Host, name: str, vni: int) -> None:
    await ip(host, "link", "add", name, "type", "vxlan", "id", str(vni), "remote", host.address, "dstport", "4789")


async def test_number_that_somebody_else_has_is_refused_for_its_port_alone(two: Hosts) -> None:
    await add_vxlan(two.a, "theirs", 5001)
    a, b = await two.a.plug("veth"), await two.b.plug("tap")
    c = await two.a.plug("veth")
    refused, fine = (TunnelPlan(device=plug.device, remote=two.b.address, vni=vni) for plug, vni in ((c, 5001), (a, 7)))
    with pytest.raises(DataPlaneFailed) as caught:
        await two.a.plane.ensure_tunnels([refused, fine])
    assert (caught.value.details["errno"], caught.value.details["device"]) == ("EEXIST", c.device)
    await two.b.plane.ensure_tunnels([TunnelPlan(device=b.device, remote=two.a.address, vni=7)])
    await both_ways(a, b, one_frame())
    assert (await two.a.port(c)).tunnel is None
    await ip(two.a, "link", "del", "theirs")


async def test_devices_of_others_are_left_alone(two: Hosts) -> None:
    await two.pair("veth", "tap", 5001)
    names = ["theirs", f"wlx{secrets.token_hex(6)}"]
    for vni, name in enumerate(names, 6001):
        await add_vxlan(two.a, name, vni)
    await two.a.plane.observe()
    await two.a.plane.withdraw()
    assert sorted(await two.a.tunnel_devices()) == sorted(names)
    for name in names:
        await ip(two.a, "link", "del", name)


async def test_unlabelled_left_over_of_a_crash_is_removed_or_taken_over(two: Hosts) -> None:
    for vni in (5001, 5002):
        await add_vxlan(two.a, device_of(two.a.rig.installation, vni), vni)
    await both_ways(*await two.pair("veth", "veth", 5001), one_frame())
    await two.a.plane.observe()
    assert await two.a.tunnel_devices() == [device_of(two.a.rig.installation, 5001)]


async def test_tunnels_of_another_installation_are_invisible(two: Hosts) -> None:
    a, b = await two.pair("veth", "tap", 5001)
    other = KernelDataPlane("somebody-else")
    with living_in(two.a.netns):
        assert (await other.observe()).ports == {}
    await other.withdraw()
    await other.close()
    await both_ways(a, b, one_frame())


@pytest.mark.parametrize("what", ["device is down", "way in is cut", "way out is cut"])
async def test_tunnel_that_somebody_cut_in_one_direction_is_seen_and_mended(two: Hosts, what: str) -> None:
    a, b = await two.pair("veth", "tap", 5001)
    device = device_of(two.a.rig.installation, 5001)
    if what == "device is down":
        await ip(two.a, "link", "set", device, "down")
    else:
        cut = a.device if what == "way out is cut" else device
        await two.a.output("tc", "qdisc", "del", "dev", cut, "ingress")
    assert (await two.a.port(a)).tunnel == Tunnel(remote="", vni=5001)
    plan, _ = two.plans(a, b, 5001)
    await two.a.plane.ensure_tunnels([plan])
    assert (await two.a.port(a)).tunnel == plan.tunnel
    await both_ways(a, b, one_frame())


async def test_deleted_device_is_seen_and_made_anew(two: Hosts) -> None:
    a, b = await two.pair("veth", "tap", 5001)
    await ip(two.a, "link", "del", device_of(two.a.rig.installation, 5001))
    assert (await two.a.port(a)).tunnel is None
    await silent(a, b)
    await two.join(a, b, 5001)
    await both_ways(a, b, one_frame())


async def test_device_that_goes_is_told_to_those_who_watch(two: Hosts) -> None:
    await two.pair("veth", "tap", 5001)
    device = device_of(two.a.rig.installation, 5001)
    with living_in(two.a.netns):
        events = two.a.plane.watch()
    await ip(two.a, "link", "del", device)
    async with asyncio.timeout(2):
        while not ((event := await anext(events)).removed and event.device == device):
            pass


async def test_host_hears_nothing_from_a_tunnel_before_it_is_joined(two: Hosts) -> None:
    """The device of a tunnel keeps what comes in from the host's own stack, and the host sends nothing into it."""
    await two.pair("veth", "tap", 5001)
    device = device_of(two.a.rig.installation, 5001)
    shown = await two.a.output("tc", "filter", "show", "dev", device, "ingress")
    assert " bpf " in shown
    assert "inet" not in await two.a.output("ip", "address", "show", "dev", device)
