"""Links that behave like cables, in a whole installation: carriers, segments, NAT, impairment, MTU, counters."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from typing import Final

import pytest

from wireloom.model.link_views import Parts
from wireloom.model.views import DeployRequest
from wireloom.testing.installation import Installation, installed, own_folder, until

SUBNET: Final = "172.30.119.0/24"
NAT: Final = f"172.29.{210 + os.getpid() % 40}"
LAB: Final = f"""
name: lab
defaults: {{device: linux, provider: docker}}
segments:
  lan: {{kind: switch, mtu: 4000}}
  internet: {{kind: nat, subnet: {NAT}.0/24}}
nodes:
  a: {{startup-config: "ip address add 10.7.0.1/24 dev eth2\\n"}}
  b: {{startup-config: "ip address add 10.7.0.2/24 dev eth2\\n"}}
  v: {{provider: libvirt, startup-config: "ip address add 10.7.0.3/24 dev eth2\\n"}}
links:
  - [a:eth1, b:eth1]
  - [a:eth2, lan]
  - [b:eth2, lan]
  - [v:eth2, lan]
  - [a:eth3, v:eth1]
  - [a:eth4, internet]
  - [v:eth3, internet]
"""


@pytest.fixture(params=["kernel", "ovs"])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Installation]:
    environment = {"WIRELOOM_MANAGEMENT_SUBNET": SUBNET, "WIRELOOM_DATAPLANE": request.param}
    with own_folder() as folder:
        async with installed(folder, **environment) as installation:
            await installation.deploy(LAB)
            await installation.wired(within_s=120)
            async with installation.client() as client:
                await client.wait_ready("lab", timeout_s=180)
            yield installation


async def shell(host: Installation, node: str, command: str) -> str:
    async with host.client() as client:
        answer = await client.exec("lab", node, ["sh", "-c", command])
    return answer.stdout.strip()


async def sees(host: Installation, node: str, port: str, carrier: str) -> bool:
    return await shell(host, node, f"cat /sys/class/net/{port}/carrier 2>/dev/null || echo shut") == carrier


async def pings(host: Installation, node: str, target: str) -> bool:
    return await shell(host, node, f"ping -c 1 -W 1 {target} >/dev/null && echo yes") == "yes"


async def leases(host: Installation, node: str, port: str) -> bool:
    """Have a node ask for an address by DHCP; whether it has one of the segment then."""
    script = 'ip address add "$ip/$mask" dev "$interface"'
    make = f"printf '#!/bin/sh\\n[ \"$1\" = bound ] && {script}\\n' >/tmp/lease; chmod +x /tmp/lease"
    await shell(host, node, f"{make}; busybox udhcpc -i {port} -n -q -t 8 -T 1 -s /tmp/lease")
    return f"{NAT}." in await shell(host, node, f"ip -4 address show dev {port}")


async def test_links_behave_like_cables(host: Installation) -> None:
    """One lab for all of it: machines take their time to boot."""
    await _nodes_of_a_segment_talk(host)
    await _nat_leases_names_and_outlives_the_agent(host)
    await _a_guest_that_shuts_its_port_is_seen_at_the_far_end(host)
    await _a_node_that_dies_pulls_its_cables(host)
    await _an_impairment_ends_by_itself(host)
    await _links_are_checked_and_counted(host)
    await _a_port_moves_between_wire_and_segment(host)


async def _nodes_of_a_segment_talk(host: Installation) -> None:
    for node, target in (("a", "10.7.0.2"), ("a", "10.7.0.3"), ("v", "10.7.0.2")):
        await until(lambda node=node, target=target: pings(host, node, target), f"{node} reaches {target}")  # type: ignore[misc]


async def _nat_leases_names_and_outlives_the_agent(host: Installation) -> None:
    for node, port in (("a", "eth4"), ("v", "eth3")):
        await until(lambda node=node, port=port: leases(host, node, port), f"{node} has a lease")  # type: ignore[misc]
    assert await pings(host, "a", f"{NAT}.1")
    other = (await shell(host, "v", "ip -4 -o address show dev eth3")).split()[3].partition("/")[0]
    assert other in await shell(host, "a", f"busybox nslookup v {NAT}.1")
    before = _daemons(host)
    await host.replace("agent")
    await host.answering()
    await host.wired()
    await until(lambda: pings(host, "a", other), "the segment lives on")
    assert before
    assert _daemons(host) == before


def _daemons(host: Installation) -> list[str]:
    """Process ids of the segments' DHCP servers."""
    command = ["pgrep", "-f", f"conf-file={host.folder}/run/segments/"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=10).stdout.split()


async def _a_guest_that_shuts_its_port_is_seen_at_the_far_end(host: Installation) -> None:
    for far, port in (("b", "eth1"), ("v", "eth1")):
        mine = "eth1" if far == "b" else "eth3"
        await shell(host, "a", f"ip link set {mine} down")
        await until(lambda far=far, port=port: sees(host, far, port, "0"), f"{far} lost its carrier")  # type: ignore[misc]
        await shell(host, "a", f"ip link set {mine} up")
        await until(lambda far=far, port=port: sees(host, far, port, "1"), f"{far} has its carrier back")  # type: ignore[misc]
    for node in ("a", "b"):  # both: nothing latches
        await shell(host, node, "ip link set eth1 down")
    for node in ("a", "b"):
        await shell(host, node, "ip link set eth1 up")
    for node in ("a", "b"):
        await until(lambda node=node: sees(host, node, "eth1", "1"), f"{node} has its carrier back")  # type: ignore[misc]


async def _a_node_that_dies_pulls_its_cables(host: Installation) -> None:
    engine_id, _ = host.runtimes()["b"]
    async with host.client() as client:
        await client.stop("lab", ["b"])
    await until(lambda: sees(host, "a", "eth1", "0"), "the carrier fell with a node that was stopped")
    async with host.client() as client:
        await client.start("lab", ["b"])
    await until(lambda: sees(host, "a", "eth1", "1"), "the carrier came back with the node")
    await host.wired()
    domain = next(iter(host.domains()))
    (emulator,) = host.emulators(domain)
    os.kill(emulator, signal.SIGKILL)
    await until(lambda: sees(host, "a", "eth3", "0"), "the carrier fell with a machine that was killed")
    await until(lambda: sees(host, "a", "eth3", "1"), "the carrier came back with the machine", within_s=60)
    await host.wired(within_s=120)
    async with host.client() as client:
        await client.wait_ready("lab", timeout_s=180)
    assert host.runtimes()["b"][0] == engine_id


async def _an_impairment_ends_by_itself(host: Installation) -> None:
    async with host.client() as client:
        await client.links.impair("lab", "a:eth1", "b:eth1", Parts(rate_kbit=10_000), direction="forward", for_s=4)

    async def impaired(wanted: int) -> bool:
        async with host.client() as client:
            (link,) = await client.links.find("lab", "a:eth1", "b:eth1")
        seen = link.impairment.operational
        return seen is not None and (seen.forward.rate_kbit if seen.forward else 0) == wanted

    await until(lambda: impaired(10_000), "the link is impaired")
    await until(lambda: impaired(0), "the impairment is over")
    async with host.client() as client:
        kinds = [event.kind for event in await client.events("lab")]
    assert kinds.count("link.impaired") == 1
    assert kinds.count("link.impairment-ended") == 1


async def _links_are_checked_and_counted(host: Installation) -> None:
    async with host.client() as client:
        answer = await client.links.check("lab", "a:eth3", "v:eth1")
        assert (answer.forward.largest, answer.forward.method) == (1500, "sent")
        assert (answer.backward.largest, answer.backward.method) == (1500, "configured")
        answer = await client.links.check("lab", "a:eth2", "lan")
        assert {answer.forward.largest, answer.backward.largest} == {4000}
        tested = await client.links.self_test("h1")
        assert [path for path in tested.paths if path.problem] == []
        samples = client.links.counters("lab", interval_s=0.5)
        pinging = asyncio.create_task(shell(host, "a", "ping -c 20 -i 0.1 10.7.0.3"))
        async with asyncio.timeout(30):
            async for sample in samples:
                rates = {(port.node, port.port): port.rates for port in sample.ports}
                if min(rates["a", "eth2"].tx_packets, rates["v", "eth2"].rx_packets) > 1:
                    break
        await samples.aclose()
        await pinging


async def _a_port_moves_between_wire_and_segment(host: Installation) -> None:
    before = host.runtimes()
    edited = LAB.replace("  - [a:eth3, v:eth1]\n", "  - [v:eth1, lan]\n  - [a:eth3, lan]\n")
    async with host.client() as client:
        await client.deploy(DeployRequest(topology=edited))
    await host.wired()
    await shell(host, "v", "ip link set eth1 up; ip address add 10.7.1.3/24 dev eth1")
    await shell(host, "a", "ip link set eth3 up; ip address add 10.7.1.1/24 dev eth3")
    await until(lambda: pings(host, "a", "10.7.1.3"), "the moved port talks in its segment")
    assert host.runtimes() == before
    without = "\n".join(line for line in edited.splitlines() if "internet" not in line)
    async with host.client() as client:
        await client.deploy(DeployRequest(topology=without))
    await until(lambda: _no_daemons(host), "the services of a segment went with it")
    await host.wired()


async def _no_daemons(host: Installation) -> bool:
    return not _daemons(host)
