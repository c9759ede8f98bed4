"""What the kernel data plane promises beyond the contract: left-overs, foreign devices, the host kept apart."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from wireloom.dataplane.host.joiner import Joins
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.plane import HostDataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.kernel.joiner import KernelJoiner
from wireloom.errors import DataPlaneFailed, InvalidInput, Unavailable
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.network import PortPlan, ProbeEnd, WirePlan
from wireloom.testing.conformance.dataplane_rig import NET, Plug, Rig
from wireloom.testing.frames import FRAMES, SEGMENT_FRAMES, internet_checksum, source_of
from wireloom.testing.guests import NamespaceGuest, receive, run_command

pytestmark = pytest.mark.kernel


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig(KernelDataPlane) as made:
        yield made


async def both_ways(a: Plug, b: Plug, name: str = "lldp") -> None:
    for sender, receiver in ((a, b), (b, a)):
        frame = FRAMES[name]()
        sender.guest.send(frame)
        assert await receive(receiver.guest, source_of(frame)) == frame


def netns_of(plan: PortPlan) -> str:
    assert isinstance(plan.attachment, NamespaceAttachment)
    return Path(plan.attachment.netns).name


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@pytest.mark.parametrize("kind", ["veth", "tuntap"])
async def test_unlabelled_leftover_of_a_crash_is_remade(rig: Rig, kind: str) -> None:
    plan = rig.plan(await rig.namespace())
    if kind == "veth":
        await run_command("ip", "link", "add", plan.device, "type", "veth", "peer", "name", f"{plan.device[:13]}x")
    else:
        await run_command("ip", "tuntap", "add", plan.device, "mode", "tap")
    await rig.plane.ensure_ports([plan])
    other = await rig.plug("veth")
    await rig.plane.ensure_wires([WirePlan(a=plan.device, b=other.device)])
    await both_ways(Plug(plan, await rig.guest(plan)), other)


async def test_pair_of_ours_that_holds_the_guests_name_gives_way(rig: Rig) -> None:
    netns = await rig.namespace()
    old, new = rig.plan(netns), rig.plan(netns)
    new = new.model_copy(update={"guest_name": old.guest_name})
    await rig.plane.ensure_ports([old])
    await rig.plane.ensure_ports([new])
    assert list((await rig.plane.observe()).ports) == [new.device]


async def test_foreign_nic_that_holds_the_guests_name_stays(rig: Rig) -> None:
    plan, fine = rig.plan(await rig.namespace()), rig.plan(await rig.namespace())
    inside = ("ip", "-n", netns_of(plan), "link")
    await run_command(*inside, "add", plan.guest_name, "type", "veth", "peer", "name", "other")
    with pytest.raises(DataPlaneFailed) as caught:
        await rig.plane.ensure_ports([plan, fine])
    assert (caught.value.details["errno"], caught.value.details["device"]) == ("EEXIST", plan.device)
    assert not (NET / plan.device).exists()
    assert list((await rig.plane.observe()).ports) == [fine.device], "one failure must not stop the others"
    assert "other" in output(*inside)


async def test_device_of_another_installation_is_not_touched(rig: Rig) -> None:
    async with Rig(KernelDataPlane) as other:
        theirs = await other.plug("tap")
        mine = rig.plan(None).model_copy(update={"device": theirs.device})
        with pytest.raises(DataPlaneFailed) as caught:
            await rig.plane.ensure_ports([mine])
        assert caught.value.details["errno"] == "EEXIST"
        assert (await other.plane.observe()).ports[theirs.device].alias == theirs.plan.alias


async def test_missing_segment_leaves_no_debris(rig: Rig) -> None:
    plan = rig.plan(await rig.namespace(), segment="wlbnosuch")
    with pytest.raises(DataPlaneFailed) as caught:
        await rig.plane.ensure_ports([plan])
    assert caught.value.details["device"] == "wlbnosuch"
    assert not (NET / plan.device).exists()


async def test_hosts_own_namespace_is_refused(rig: Rig) -> None:
    plan = rig.plan("/proc/self/ns/net")
    with pytest.raises(InvalidInput):
        await rig.plane.ensure_ports([plan])
    assert not (NET / plan.device).exists()


async def test_wire_with_a_device_twice_is_refused(rig: Rig) -> None:
    for wires in ([WirePlan(a="a", b="a")], [WirePlan(a="a", b="b"), WirePlan(a="b", b="c")]):
        with pytest.raises(InvalidInput):
            await rig.plane.ensure_wires(wires)


async def test_guest_gets_its_addresses_and_route(rig: Rig) -> None:
    addresses = ("198.51.100.2/24", "2001:db8::2/64")
    plan = rig.plan(await rig.namespace()).model_copy(update={"addresses": addresses, "gateway": "198.51.100.1"})
    name = netns_of(plan)
    await run_command("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=0")
    for _ in range(2):
        await rig.plane.ensure_ports([plan])
        shown = output("ip", "-n", name, "-o", "address")
        assert all(f" {address} " in shown for address in addresses)
        assert "127.0.0.1" in shown
        assert output("ip", "-n", name, "route").startswith("default via 198.51.100.1 ")


async def test_unwired_guest_does_not_reach_the_host(rig: Rig) -> None:
    """The host holds 198.51.100.1 on another device; Linux would answer for it on any."""
    await rig.segment("198.51.100.1/24")
    plug = await rig.plug("veth")
    ask = FRAMES["arp"]()[:12] + bytes.fromhex("08060001080006040001") + source_of(FRAMES["arp"]())
    ask += socket.inet_aton("198.51.100.9") + bytes(6) + socket.inet_aton("198.51.100.1")
    plug.guest.send(ask)
    assert await receive(plug.guest, None, 0.3) is None


async def test_fence_keeps_packets_for_the_host_out(rig: Rig) -> None:
    """A guest that knows the host's addresses, link and IP, still cannot talk to it over an unwired port."""
    plug = await rig.plug("veth")
    datagram = FRAMES["ipv4"]()
    packet = bytearray(datagram[14:])
    await rig.segment("198.51.100.1/24")
    packet[16:20] = socket.inet_aton("198.51.100.1")
    packet[10:12] = bytes(2)
    packet[10:12] = internet_checksum(bytes(packet[:20])).to_bytes(2)
    packet[26:28] = bytes(2)  # UDP without a checksum
    host = bytes.fromhex((NET / plug.device / "address").read_text().strip().replace(":", ""))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("198.51.100.1", 0xC001))
        listener.setblocking(False)
        plug.guest.send(host + datagram[6:14] + bytes(packet))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(listener, 2048), 0.3)


async def test_wire_that_someone_cut_is_seen_and_mended(rig: Rig) -> None:
    a, b = await rig.plug("veth"), await rig.plug("tap")
    wire = WirePlan(a=a.device, b=b.device)
    await rig.plane.ensure_wires([wire])
    await run_command("tc", "qdisc", "del", "dev", a.device, "ingress")
    assert (await rig.plane.observe()).ports[a.device].peer is None
    await rig.plane.ensure_wires([wire])
    await both_ways(a, b)


async def test_port_moves_between_segment_and_wire(rig: Rig) -> None:
    segment = await rig.segment()
    a, b, c = await rig.plug("veth", segment=segment), await rig.plug("veth", segment=segment), await rig.plug("tap")
    await rig.plane.ensure_wires([WirePlan(a=a.device, b=c.device)])
    state = await rig.plane.observe()
    assert (state.ports[a.device].peer, state.ports[a.device].segment) == (c.device, None)
    await both_ways(a, c)
    await rig.plane.remove_wires([WirePlan(a=a.device, b=c.device)])
    await rig.plane.ensure_ports([a.plan])
    await both_ways(a, b)


async def test_observing_survives_constant_change(rig: Rig) -> None:
    plug = await rig.plug("veth")
    plans = [rig.plan(None) for _ in range(10)]

    async def churn() -> None:
        for _ in range(5):
            await other.ensure_ports(plans)
            await other.remove_ports([plan.device for plan in plans])

    other = KernelDataPlane(rig.installation)
    churning = asyncio.create_task(churn())
    while not churning.done():
        assert plug.device in (await rig.plane.observe()).ports
    await churning
    await other.close()


async def test_segments_carry_packets_that_the_container_engines_firewall_would_drop(rig: Rig) -> None:
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    assert setting.read_text().strip() == "1", "the container engine is not running"
    assert "-P FORWARD DROP" in output("iptables", "-S", "FORWARD"), "the container engine is not running"
    segment = await rig.segment()
    a, b = await rig.plug("veth", segment=segment), await rig.plug("tap", segment=segment)
    await both_ways(a, b, "ipv4")
    rules = [line for line in output("iptables", "-S", "FORWARD").splitlines() if segment in line]
    assert len(rules) == 1
    # Without the rule the same packet is dropped: the engine's firewall is really in the way.
    await run_command("iptables", "-w", *rules[0].replace("-A", "-D", 1).split())
    frame = SEGMENT_FRAMES["ipv4"]()
    a.guest.send(frame)
    assert await receive(b.guest, source_of(frame), 0.2) is None
    await rig.plane.remove_ports([a.device, b.device])
    await rig.plane.remove_segment(segment)
    assert segment not in output("iptables", "-S") + output("ip6tables", "-S")


async def test_owner_lets_an_unprivileged_hypervisor_open_a_tap(rig: Rig) -> None:
    plug = await rig.plug("tap")
    owner = (NET / plug.device / "owner").read_text().strip()
    assert owner != "-1", "the host has no user for QEMU"
    flags = int((NET / plug.device / "tun_flags").read_text(), 16)
    assert flags & 0x0800, "not persistent"
    assert not flags & 0x0100, "a multi-queue tap refuses a hypervisor with one queue"


async def test_guests_nic_shows_the_planned_address(rig: Rig) -> None:
    plan = rig.plan(await rig.namespace())
    await rig.plane.ensure_ports([plan])
    nic = await NamespaceGuest.open(f"/run/netns/{netns_of(plan)}", plan.guest_name)
    try:
        assert plan.mac in output("ip", "-n", netns_of(plan), "link", "show", plan.guest_name)
    finally:
        nic.close()


async def test_closed_data_plane_says_so(rig: Rig) -> None:
    plane = KernelDataPlane(rig.installation)
    watching = plane.watch()
    ended = asyncio.ensure_future(anext(watching, None))
    await plane.observe()
    await plane.close()
    await plane.close()
    assert await ended is None
    with pytest.raises(Unavailable):
        await plane.observe()


def test_frames_of_the_suite_are_what_they_say() -> None:
    assert internet_checksum(FRAMES["ipv4"]()[14:34]) == 0


@pytest.mark.parametrize(("limit_s", "exact"), [(60, True), (1.0, False)])
async def test_search_for_the_largest_frame_ends_in_time(rig: Rig, limit_s: float, exact: bool) -> None:
    """What does not pass is waited for, each time; what is known when the time is over is said."""
    a, b = await rig.plug("veth", mtu=3000), await rig.plug("veth", mtu=3000)
    await rig.plane.ensure_wires([WirePlan(a=a.device, b=b.device, mtu=3000)])
    output("ip", "-n", netns_of(b.plan), "link", "set", b.plan.guest_name, "mtu", "1500")  # somebody in the guest
    ends = [ProbeEnd(device=plug.device, attachment=plug.plan.attachment, mac=plug.plan.mac) for plug in (a, b)]
    began = time.monotonic()
    found = await rig.plane.largest_payload(*ends, 3000, patience_s=0.1, limit_s=limit_s)
    assert found.exact is exact
    if exact:
        assert found.passes in range(1500, 1505), "a NIC leaves room for a VLAN tag"
    else:
        assert found.fails is not None
        assert found.passes < 1505 < found.fails
        assert time.monotonic() - began < limit_s + 1


class _SlowJoiner(KernelJoiner):
    """Takes as long to look at the host as the test wants."""

    looking, go_on = threading.Event(), threading.Event()

    def observe(self, found: Sequence[Link], ports: Sequence[Link]) -> Joins:
        self.looking.set()
        assert self.go_on.wait(20)
        return super().observe(found, ports)


class _SlowPlane(HostDataPlane):
    name = "slow"

    def __init__(self, installation: str) -> None:
        super().__init__(installation, _SlowJoiner)


async def test_carriers_wait_for_nobody() -> None:
    """Whoever sees a cable pulled is in a hurry; looking at a large host is not."""
    async with Rig(_SlowPlane) as rig:
        plug = await rig.plug("veth")
        _SlowJoiner.looking.clear()
        _SlowJoiner.go_on.clear()
        looking = asyncio.create_task(rig.plane.observe())
        try:
            assert await asyncio.to_thread(_SlowJoiner.looking.wait, 10)
            await asyncio.wait_for(rig.plane.set_carrier({plug.device: False}), 5)
            assert "state DOWN" in output("ip", "link", "show", plug.device)
            assert not looking.done()
        finally:
            _SlowJoiner.go_on.set()
        await looking
