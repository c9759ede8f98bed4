"""NAT segments on the real kernel: leases, names, the way out, and what keeps such a segment apart; clean-up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from wireloom.agent.gateway import firewall
from wireloom.agent.gateway.dnsmasq import Dnsmasq
from wireloom.agent.gateway.forwarding import Forwarding
from wireloom.agent.segments import NatSegments
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.errors import Conflict
from wireloom.iptables import Rule, read_rules
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import PlugPlan, PortAlias, PortPlan, SegmentAlias, SegmentPlan
from wireloom.model.slice import NatIntent, NodeIntent, PlugIntent, PortIntent, PortRef, SegmentIntent, Slice

pytestmark = pytest.mark.kernel

INSTALLATION = f"nat-test-{os.getpid()}"
PREFIX, WORLD = "172.29.211", "172.29.212"
SEGMENT = device_name("s", INSTALLATION, "internet")
MANAGEMENT = device_name("b", INSTALLATION, "management")
NAT = NatIntent(subnet=f"{PREFIX}.0/24", gateway=f"{PREFIX}.1", dhcp=(f"{PREFIX}.100", f"{PREFIX}.120"))
PLAN = SegmentPlan(
    name=SEGMENT,
    alias=SegmentAlias(installation=INSTALLATION, lab_id="lab", segment_id="s1", name="ring/internet").text(),
    address=f"{PREFIX}.1/24",
)

LEASE_SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "$ip $router $dns" > "$LEASE"
"""


async def run(*command: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def eventually(check: Callable[[], Awaitable[bool]], timeout_s: float = 8) -> None:
    for _ in range(int(timeout_s / 0.1)):
        if await check():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


def lab(*names: str, nat: NatIntent | None = NAT) -> dict[str, Slice]:
    """A lab whose nodes are all plugged into the segment; by lab id, as the agent holds it."""
    nodes = tuple(
        NodeIntent(
            id=name,
            name=name,
            device="host",
            provider="docker",
            image="",
            ports=(PortIntent(index=1, name="eth1", guest_name="eth1", device=_device(name), mac=_mac(name)),),
        )
        for name in names
    )
    plugs = tuple(
        PlugIntent(id=f"p-{name}", port=PortRef(node_id=name, index=1), segment="s1", port_name=f"{name}:eth1")
        for name in names
    )
    segment = SegmentIntent(id="s1", name="internet", kind="nat", device=SEGMENT, nat=nat)
    return {
        "lab": Slice(
            installation=INSTALLATION,
            lab_id="lab",
            lab="ring",
            generation=1,
            nodes=nodes,
            segments=(segment,),
            plugs=plugs,
        )
    }


def _device(name: str) -> str:
    return device_name("p", INSTALLATION, name)


def _mac(name: str) -> str:
    return mac_address(INSTALLATION, name)


@dataclass
class Stage:
    folder: Path
    plane: KernelDataPlane
    segments: NatSegments
    spaces: list[str]

    def space(self, name: str) -> str:
        return f"wltest{os.getpid()}{name}"

    async def namespace(self, name: str) -> str:
        space = self.space(name)
        assert (await run("ip", "netns", "add", space))[0] == 0
        self.spaces.append(space)
        return space

    async def node(self, name: str) -> None:
        """A namespace that plays a node, plugged into the segment; it has no address yet."""
        space = await self.namespace(name)
        alias = PortAlias(installation=INSTALLATION, lab_id="lab", node_id=name, index=1, name=f"ring/{name}/eth1")
        attachment = NamespaceAttachment(netns=f"/run/netns/{space}")
        await self.plane.ensure_ports(
            [PortPlan(device=_device(name), alias=alias, attachment=attachment, guest_name="eth1", mac=_mac(name))]
        )
        await self.plane.ensure_plugs([PlugPlan(device=_device(name), segment=SEGMENT)])
        await self.plane.set_carrier({_device(name): True})

    async def inside(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        return await run("ip", "netns", "exec", self.space(name), *command, env=env)

    async def pings(self, name: str, address: str) -> bool:
        return (await self.inside(name, "busybox", "ping", "-c", "1", "-W", "1", address))[0] == 0

    async def reaches(self, name: str, address: str, port: int) -> bool:
        """Whether a service over TCP takes a connection from ``name``."""
        connect = f"import socket; socket.create_connection(({address!r}, {port}), 1)"
        return (await self.inside(name, sys.executable, "-c", connect))[0] == 0

    async def send(self, name: str, address: str, port: int) -> None:
        """Send a datagram from ``name``."""
        send = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto({name.encode()!r}, ({address!r}, {port}))"
        assert (await self.inside(name, sys.executable, "-c", send))[0] == 0

    async def lease(self, name: str) -> list[str]:
        """What DHCP gives to a node: address, router, DNS."""
        script, result = self.folder / "lease.sh", self.folder / f"lease-{name}"
        script.write_text(LEASE_SCRIPT)
        script.chmod(0o755)
        words = ("busybox", "udhcpc", "-i", "eth1", "-n", "-q", "-t", "8", "-T", "1", "-s", str(script))
        code, output = await self.inside(name, *words, env={"LEASE": str(result)})
        assert code == 0, output
        return result.read_text().split()

    async def world(self) -> None:
        """A namespace behind a NIC of the host; it knows no route to the segment."""
        space, device = await self.namespace("w"), device_name("t", INSTALLATION, "world")
        await run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", space)
        await run("ip", "address", "add", f"{WORLD}.1/24", "dev", device)
        await run("ip", "link", "set", device, "up")
        await self.inside("w", "ip", "address", "add", f"{WORLD}.2/24", "dev", "eth0")
        await self.inside("w", "ip", "link", "set", "eth0", "up")


class Listener(asyncio.DatagramProtocol):
    """A service over UDP, on all addresses of the host."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.port = 0

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.heard.append(data)


@contextlib.asynccontextmanager
async def services() -> AsyncIterator[tuple[int, Listener]]:
    """Services on all addresses of the host: the port of one over TCP, and one over UDP."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", 0)  # noqa: S104  that is the point
    transport, listener = await asyncio.get_running_loop().create_datagram_endpoint(Listener, ("0.0.0.0", 0))  # noqa: S104
    listener.port = transport.get_extra_info("sockname")[1]
    try:
        yield server.sockets[0].getsockname()[1], listener
    finally:
        transport.close()
        server.close()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    for program in ("dnsmasq", "iptables", "ip", "busybox"):
        assert shutil.which(program), f"{program} is missing"
    plane = KernelDataPlane(INSTALLATION)
    made = Stage(tmp_path, plane, _segments(tmp_path), [])
    try:
        yield made
    finally:
        for space in made.spaces:
            await run("ip", "netns", "del", space)
        await plane.remove_ports([_device(name) for name in "abc"])
        await made.segments.update({})
        await made.segments.close()
        await plane.remove_segment(SEGMENT)
        await plane.close()
        assert await debris(tmp_path) == []


def _segments(folder: Path, guard_s: float = 30) -> NatSegments:
    forwarding = Forwarding(folder / "forwarding.json")
    return NatSegments(INSTALLATION, folder / "segments", management=MANAGEMENT, forwarding=forwarding, guard_s=guard_s)


async def marked(table: str) -> list[Rule]:
    """The rules of the installation's segments in a table of the host's firewall."""
    _, listing = await run("iptables", "-w", "10", "-t", table, "-S")
    mark = firewall.segments_mark(INSTALLATION)
    return [rule for rule in read_rules(table, listing) if firewall.is_marked(rule, mark)]


async def debris(folder: Path) -> list[str]:
    left = []
    for table in ("filter", "nat", "mangle"):
        _, listing = await run("iptables", "-w", "10", "-t", table, "-S")
        left += [line for line in listing.splitlines() if SEGMENT in line]
    if (await run("ip", "link", "show", SEGMENT))[0] == 0:
        left.append("bridge")
    if await Dnsmasq(folder / "segments" / SEGMENT).process() is not None:
        left.append("dnsmasq")
    with contextlib.suppress(FileNotFoundError):
        left += [str(path) for path in (folder / "segments").iterdir()]
    return left


async def test_nodes_lease_addresses_know_each_other_by_name_and_reach_the_world(stage: Stage) -> None:
    await stage.segments.update(lab("a", "b"))  # before there is a bridge
    await stage.plane.ensure_segment(PLAN)
    await stage.node("a")
    await stage.node("b")
    await stage.world()
    address, router, dns = await stage.lease("a")
    assert address in {f"{PREFIX}.{last}" for last in range(100, 121)}
    assert (router, dns) == (NAT.gateway, NAT.gateway)
    other, *_ = await stage.lease("b")
    assert await stage.pings("a", other)
    assert other in (await stage.inside("a", "busybox", "nslookup", "b", NAT.gateway))[1]
    await eventually(lambda: stage.pings("a", f"{WORLD}.2"))


async def test_nobody_outside_begins_to_talk_to_a_node_behind_it(stage: Stage) -> None:
    await stage.plane.ensure_segment(PLAN)
    await stage.segments.update(lab("a"))
    await stage.node("a")
    await stage.world()
    address, *_ = await stage.lease("a")
    await eventually(lambda: stage.pings("a", f"{WORLD}.2"))
    await stage.inside("w", "ip", "route", "add", f"{PREFIX}.0/24", "via", f"{WORLD}.1")
    assert not await stage.pings("w", address)
    assert await stage.pings("a", f"{WORLD}.2")


async def test_of_the_host_a_node_reaches_dhcp_dns_and_ping_alone(stage: Stage) -> None:
    """And whoever on the host begins to talk to a node is answered."""
    await stage.plane.ensure_segment(PLAN)
    await stage.segments.update(lab("a"))
    await stage.node("a")
    await stage.world()
    address, *_ = await stage.lease("a")
    assert address in (await stage.inside("a", "busybox", "nslookup", "a", NAT.gateway))[1]
    assert await stage.reaches("a", NAT.gateway, 53)
    assert (await run("busybox", "ping", "-c", "1", "-W", "1", address))[0] == 0
    async with services() as (tcp, udp):
        for own in (NAT.gateway, f"{WORLD}.1"):
            assert await stage.pings("a", own)
            assert not await stage.reaches("a", own, tcp)
            await stage.send("a", own, udp.port)
        # The services are there: whoever is not behind the fence reaches them.
        assert await stage.reaches("w", f"{WORLD}.1", tcp)
        await stage.send("w", f"{WORLD}.1", udp.port)
        await eventually(lambda: asyncio.sleep(0, bool(udp.heard)))
    assert udp.heard == [b"w"]


async def test_a_fence_that_lost_a_rule_is_put_up_anew_in_its_order(stage: Stage) -> None:
    """A chain without its exceptions would shut DHCP out; one whose exceptions come last, too."""
    await stage.plane.ensure_segment(PLAN)
    await stage.segments.close()
    stage.segments = _segments(stage.folder, guard_s=0.2)
    await stage.segments.update(lab("a"))
    await stage.node("a")
    whole = await marked("mangle")
    rule = next(one for one in whole if one.chain == "INPUT" and one.match[-1] == "DROP")
    assert (await run("iptables", "-w", "10", "-t", "mangle", "-D", "INPUT", *rule.match))[0] == 0

    async def mended() -> bool:
        return await marked("mangle") == whole

    await eventually(mended)
    assert (await stage.lease("a"))[1] == NAT.gateway


async def test_without_dhcp_there_is_still_dns(stage: Stage) -> None:
    await stage.plane.ensure_segment(PLAN)
    await stage.segments.update(lab("a", nat=NAT.model_copy(update={"dhcp": None})))
    await stage.node("a")
    code, _ = await stage.inside(
        "a", "busybox", "udhcpc", "-i", "eth1", "-n", "-q", "-t", "2", "-T", "1", "-s", "/bin/true"
    )
    assert code != 0
    process = await Dnsmasq(stage.folder / "segments" / SEGMENT).process()
    assert process is not None
    _, listing = await run("ss", "-Hlnptu")
    own = [line.split() for line in listing.splitlines() if f"pid={process.pid}," in line]
    assert {fields[4] for fields in own} == {f"{NAT.gateway}:53"}


async def test_the_next_agent_takes_over_and_ends_what_nobody_wants(stage: Stage) -> None:
    await stage.plane.ensure_segment(PLAN)
    await stage.segments.update(lab("a"))
    before = await Dnsmasq(stage.folder / "segments" / SEGMENT).process()
    heir = _segments(stage.folder)
    await heir.update(lab("a"))
    assert await Dnsmasq(stage.folder / "segments" / SEGMENT).process() == before
    await heir.close()
    last = _segments(stage.folder)
    await last.update({})
    assert before is not None
    assert not before.alive
    assert not await marked("filter")


async def test_leases_outlive_a_change_of_the_nodes(stage: Stage) -> None:
    await stage.plane.ensure_segment(PLAN)
    await stage.segments.update(lab("a"))
    await stage.node("a")
    address, *_ = await stage.lease("a")
    await stage.segments.update(lab("a", "b"))
    await stage.inside("a", "ip", "address", "flush", "dev", "eth1")
    assert (await stage.lease("a"))[0] == address


async def test_a_daemon_that_dies_comes_back(stage: Stage) -> None:
    await stage.plane.ensure_segment(PLAN)
    await stage.segments.close()
    stage.segments = _segments(stage.folder, guard_s=0.2)
    await stage.segments.update(lab("a"))
    daemon = Dnsmasq(stage.folder / "segments" / SEGMENT)
    process = await daemon.process()
    assert process is not None
    os.kill(process.pid, 9)

    async def mended() -> bool:
        return await daemon.process() not in {None, process}

    await eventually(mended)


async def test_a_network_that_the_host_routes_elsewhere_is_refused(stage: Stage) -> None:
    await stage.world()
    with pytest.raises(Conflict) as refused:
        await stage.segments.admit(PLAN.model_copy(update={"address": f"{WORLD}.1/24"}))
    assert WORLD in refused.value.message
    await stage.segments.admit(PLAN)


async def test_nothing_is_done_to_packets_of_a_network_that_is_somebody_elses(stage: Stage) -> None:
    await stage.world()
    nat = NatIntent(subnet=f"{WORLD}.0/24", gateway=f"{WORLD}.1")
    await stage.segments.update(lab("a", nat=nat))
    assert WORLD in stage.segments.problems[SEGMENT]
    _, listing = await run("iptables", "-w", "10", "-t", "nat", "-S")
    assert SEGMENT not in listing
    assert await Dnsmasq(stage.folder / "segments" / SEGMENT).process() is None
