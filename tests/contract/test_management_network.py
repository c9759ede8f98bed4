"""The management network on the real kernel: two namespaces as nodes, leases by MAC, names, reachability, clean-up."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from wireloom.agent.gateway import firewall
from wireloom.agent.management import ManagementNetwork, NodeEntry
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.errors import Conflict
from wireloom.iptables import Rule, read_rules
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import PortAlias, PortPlan
from wireloom.model.slice import Management

pytestmark = pytest.mark.kernel

INSTALLATION = f"mgmt-test-{os.getpid()}"
# Apart from the product's default and from what other suites use.
SUBNET, GATEWAY, PREFIX = "172.29.201.0/24", "172.29.201.1", "172.29.201"
NETWORK = Management(subnet=SUBNET, gateway=GATEWAY)

LEASE_SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "$ip $router $dns $domain $search" > "$LEASE"
"""


async def run(*command: str, env: dict[str, str] | None = None, timeout_s: float = 30) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
    )
    async with asyncio.timeout(timeout_s):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def eventually(check: Callable[[], Awaitable[bool]], timeout_s: float = 8) -> None:
    for _ in range(int(timeout_s / 0.1)):
        if await check():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


@dataclass
class Node:
    """A namespace that plays a node, plugged into the management bridge."""

    name: str
    entry: NodeEntry

    async def run(self, *command: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        return await run("ip", "netns", "exec", self.name, *command, env=env)

    async def pings(self, address: str) -> bool:
        return (await self.run("busybox", "ping", "-c", "1", "-W", "1", address))[0] == 0

    async def looks_up(self, name: str) -> str:
        return (await self.run("busybox", "nslookup", name, GATEWAY))[1]


@dataclass
class Stage:
    folder: Path
    hosts: Path
    dataplane: KernelDataPlane
    network: ManagementNetwork

    async def node(self, number: int, *, address: bool) -> Node:
        """A node ``n<number>``; with a fixed address as a container gets it, or with none as a VM boots."""
        name = f"wltest{os.getpid()}n{number}"
        code, output = await run("ip", "netns", "add", name)
        assert code == 0, output
        await run("ip", "netns", "exec", name, "ip", "link", "set", "lo", "up")
        entry = NodeEntry(
            lab="ring", node=f"n{number}", address=f"{PREFIX}.{10 + number}", mac=mac_address(INSTALLATION, number)
        )
        plan = PortPlan(
            device=device_name("p", INSTALLATION, number),
            alias=PortAlias(
                installation=INSTALLATION, lab_id="l", node_id=f"n{number}", index=0, name=f"ring/n{number}/eth0"
            ),
            attachment=NamespaceAttachment(netns=f"/run/netns/{name}"),
            guest_name="eth0",
            mac=entry.mac,
            segment=self.network.segment,
            addresses=(f"{entry.address}/24",) if address else (),
            gateway=GATEWAY if address else None,
            carrier=True,
        )
        await self.dataplane.ensure_ports([plan])
        await run("ip", "netns", "exec", name, "ip", "link", "set", "eth0", "up")
        return Node(name, entry)


def way_out(stage: Stage) -> tuple[Rule, ...]:
    mark = firewall.installation_mark(INSTALLATION)
    return firewall.way_out_rules(mark, stage.network.segment, NETWORK.subnet)


def command(verb: str, rule: Rule) -> tuple[str, ...]:
    return ("iptables", "-w", "10", "-t", rule.table, verb, rule.chain, *rule.match)


async def marked(table: str) -> list[Rule]:
    """The rules of the installation in a table of the host's firewall."""
    _, listing = await run("iptables", "-w", "10", "-t", table, "-S")
    mark = firewall.installation_mark(INSTALLATION)
    return [rule for rule in read_rules(table, listing) if firewall.is_marked(rule, mark)]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    for program in ("dnsmasq", "iptables", "ip", "busybox"):
        assert shutil.which(program), f"{program} is missing"
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    dataplane = KernelDataPlane(INSTALLATION)
    network = ManagementNetwork(INSTALLATION, dataplane, tmp_path / "state", hosts_file=hosts, guard_s=0.3)
    made = Stage(tmp_path, hosts, dataplane, network)
    try:
        yield made
    finally:
        for number in range(1, 5):
            await run("ip", "netns", "del", f"wltest{os.getpid()}n{number}")
            await dataplane.remove_ports([device_name("p", INSTALLATION, number)])
        await network.remove()
        await network.close()
        await dataplane.close()
        assert await debris(made) == []


async def debris(stage: Stage) -> list[str]:
    """What of the installation is left on the host."""
    left = []
    for table in ("filter", "nat", "mangle"):
        _, listing = await run("iptables", "-w", "10", "-t", table, "-S")
        left += [f"rule {rule}" for rule in await marked(table)]
        left += [f"rule {line}" for line in listing.splitlines() if stage.network.segment in line]
    if (await run("ip", "link", "show", stage.network.segment))[0] == 0:
        left.append("bridge")
    if await stage.network._dnsmasq.process() is not None:
        left.append("dnsmasq")
    if (stage.folder / "state").exists():
        left += [f"file {path}" for path in (stage.folder / "state").iterdir()]
    if stage.hosts.read_text() != "127.0.0.1 localhost\n":
        left.append("names")
    return left


async def lease(stage: Stage, node: Node) -> list[str]:
    """What DHCP gives to ``node``: address, router, DNS, domain, search."""
    script, result = stage.folder / "lease.sh", stage.folder / f"lease-{node.entry.node}"
    script.write_text(LEASE_SCRIPT)
    script.chmod(0o755)
    code, output = await node.run(
        *("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "5", "-T", "1", "-O", "search", "-s", str(script)),
        env={"LEASE": str(result)},
    )
    assert code == 0, output
    return result.read_text().split()


async def test_nodes_get_their_addresses_names_and_reach_each_other(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    container, machine = await stage.node(1, address=True), await stage.node(2, address=False)
    await stage.network.set_nodes([container.entry, machine.entry])
    assert await lease(stage, machine) == [f"{PREFIX}.12", GATEWAY, GATEWAY, "ring.wl", "ring.wl"]
    assert await container.pings(machine.entry.address)
    assert await machine.pings(container.entry.address)
    assert await machine.pings(GATEWAY)
    assert (await run("busybox", "ping", "-c", "1", "-W", "1", machine.entry.address))[0] == 0
    assert f"{PREFIX}.12" in await container.looks_up("n2.ring.wl")
    assert f"{PREFIX}.11" in await machine.looks_up("N1.ring.wl")
    assert f"{PREFIX}.12 n2.ring.wl\n" in stage.hosts.read_text()


async def test_an_unknown_mac_gets_no_address(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    stranger = await stage.node(1, address=False)
    await stage.network.set_nodes([])
    code, _ = await stranger.run(
        *("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "2", "-T", "1", "-s", "/bin/true")
    )
    assert code != 0


async def test_an_address_given_to_another_node_is_leased_at_once(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    first, second = await stage.node(1, address=False), await stage.node(2, address=False)
    await stage.network.set_nodes([first.entry])
    assert (await lease(stage, first))[0] == first.entry.address
    await stage.network.set_nodes([])
    moved = NodeEntry(lab="ring", node="n2", address=first.entry.address, mac=second.entry.mac)
    await stage.network.set_nodes([moved])
    assert (await lease(stage, second))[0] == first.entry.address


async def test_an_address_given_to_another_node_is_reached_at_once(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    first, second = await stage.node(1, address=True), await stage.node(2, address=False)
    await stage.network.set_nodes([first.entry])
    ping = ("busybox", "ping", "-c", "1", "-W", "1", first.entry.address)
    assert (await run(*ping))[0] == 0
    await first.run("ip", "address", "flush", "dev", "eth0")
    await second.run("ip", "address", "add", f"{first.entry.address}/24", "dev", "eth0")
    moved = NodeEntry(lab="ring", node="n2", address=first.entry.address, mac=second.entry.mac)
    await stage.network.set_nodes([moved])
    assert (await run(*ping))[0] == 0


async def test_nodes_reach_beyond_the_host_past_an_engines_firewall(stage: Stage) -> None:
    """A namespace behind another veth plays the world; it knows no route to the management network."""
    world, device = f"wltest{os.getpid()}n4", device_name("t", INSTALLATION, "world")
    await stage.network.ensure(NETWORK)
    node = await stage.node(1, address=True)
    await stage.network.set_nodes([node.entry])
    await run("ip", "netns", "add", world)
    try:
        await run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", world)
        await run("ip", "address", "add", "172.29.202.1/24", "dev", device)
        await run("ip", "link", "set", device, "up")
        await run("ip", "netns", "exec", world, "ip", "address", "add", "172.29.202.2/24", "dev", "eth0")
        await run("ip", "netns", "exec", world, "ip", "link", "set", "eth0", "up")

        async def reached() -> bool:
            return await node.pings("172.29.202.2")

        await eventually(reached)
    finally:
        await run("ip", "netns", "del", world)


async def test_dnsmasq_hears_on_the_bridge_and_nowhere_else(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    await stage.network.set_nodes([])
    process = await stage.network._dnsmasq.process()
    assert process is not None
    _, listing = await run("ss", "-Hlnptu")
    own = [line.split() for line in listing.splitlines() if f"pid={process.pid}," in line]
    assert {fields[4] for fields in own} == {f"{GATEWAY}:53", f"0.0.0.0%{stage.network.segment}:67"}


async def test_the_next_agent_takes_the_daemon_over(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    await stage.network.set_nodes([])
    before = await stage.network._dnsmasq.process()
    await stage.network.close()
    heir = ManagementNetwork(INSTALLATION, stage.dataplane, stage.folder / "state", hosts_file=stage.hosts)
    await heir.ensure(NETWORK)
    await heir.set_nodes([])
    assert await heir._dnsmasq.process() == before
    await heir.close()


async def test_a_daemon_without_its_pid_file_is_found_and_ended(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    await stage.network.set_nodes([])
    before = await stage.network._dnsmasq.process()
    assert before is not None
    await stage.network.close()
    shutil.rmtree(stage.folder / "state")
    heir = ManagementNetwork(INSTALLATION, stage.dataplane, stage.folder / "state", hosts_file=stage.hosts)
    await heir.remove()
    assert not before.alive


async def test_what_others_took_away_comes_back(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    node = await stage.node(1, address=False)
    await stage.network.set_nodes([node.entry])
    process = await stage.network._dnsmasq.process()
    assert process is not None
    os.kill(process.pid, 9)
    for rule in way_out(stage)[:2]:
        assert (await run(*command("-D", rule)))[0] == 0

    async def mended() -> bool:
        checks = [await run(*command("-C", rule)) for rule in way_out(stage)]
        return await stage.network._dnsmasq.process() is not None and all(code == 0 for code, _ in checks)

    await eventually(mended)
    assert (await lease(stage, node))[0] == node.entry.address


async def test_ensuring_twice_adds_no_second_rule(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    await stage.network.close()
    again = ManagementNetwork(INSTALLATION, stage.dataplane, stage.folder / "state", hosts_file=stage.hosts)
    await again.ensure(NETWORK)
    await again.close()
    rules = await marked("filter")
    assert len(rules) == len(set(rules)) == 5


async def test_another_subnet_replaces_the_first_without_stale_rules(stage: Stage) -> None:
    await stage.network.ensure(NETWORK)
    other = Management(subnet="172.29.203.0/24", gateway="172.29.203.1")
    await stage.network.ensure(other)
    await stage.network.set_nodes([])
    _, listing = await run("iptables", "-w", "10", "-S")
    assert SUBNET not in listing
    _, addresses = await run("ip", "-j", "-4", "address", "show", "dev", stage.network.segment)
    assert [entry["local"] for entry in json.loads(addresses)[0]["addr_info"]] == ["172.29.203.1"]


async def test_a_subnet_that_the_host_routes_elsewhere_is_refused_without_debris(stage: Stage) -> None:
    device = device_name("t", INSTALLATION, "clash")
    await run("ip", "link", "add", device, "type", "veth", "peer", "name", device_name("t", INSTALLATION, "far"))
    try:
        await run("ip", "address", "add", "172.29.201.129/25", "dev", device)
        await run("ip", "link", "set", device, "up")
        with pytest.raises(Conflict, match=device):
            await stage.network.ensure(NETWORK)
        assert await debris(stage) == []
    finally:
        await run("ip", "link", "del", device)


async def test_removing_twice_and_without_anything_is_fine(stage: Stage) -> None:
    await stage.network.remove()
    await stage.network.ensure(NETWORK)
    await stage.network.remove()
    await stage.network.remove()
    assert await debris(stage) == []
