"""Open vSwitch on one host and the kernel's data plane on the others: wires between them carry, fall and come back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from host_rig import Host
from many_hosts_rig import ManyHosts, is_wired, many_hosts
from traffic import give_addresses, tcp_both_ways

pytestmark = pytest.mark.asyncio(loop_scope="module")

_CTL = "/usr/share/openvswitch/scripts/ovs-ctl"
_LAB = """\
name: lab
defaults: {device: linux, provider: docker}
nodes:
  a: {host: h1}
  b: {host: h2}
  c: {host: h3}
links:
  - [a:eth1, b:eth1]
  - {endpoints: [b:eth2, c:eth1], mtu: 9000}
"""


def control(host: Host, *words: str) -> None:
    """``ovs-ctl`` of a host: its files are its own, its sockets where the agent looks for them."""
    folder = host.folder / "ovs"
    folder.mkdir(exist_ok=True)
    own = (f"OVS_{name}={folder}" for name in ("DBDIR", "LOGDIR", "SYSCONFDIR"))
    host.output("env", *own, _CTL, *words, timeout_s=60)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[ManyHosts]:
    """Three hosts; the agents of two of them join ports by an Open vSwitch of their own."""
    async with many_hosts() as made:
        switched = [made.hosts["h1"], made.hosts["h2"]]
        for host in switched:
            control(host, "--system-id=random", "--no-mlockall", "start")
        try:
            for host in switched:
                agent = host.programs["agent"]
                agent.end()
                agent.environment["WIRELOOM_DATAPLANE"] = "ovs"
                agent.start()
            await made.alive(*made.hosts)
            yield made
        finally:
            for host in switched:
                control(host, "stop")


async def test_wires_between_data_planes_of_both_kinds_carry_and_fall(rig: ManyHosts) -> None:
    await rig.deploy(_LAB)
    await rig.wired()
    for name in ("h1", "h2"):
        assert "wl" in rig.hosts[name].output("ovs-vsctl", "show"), f"Open vSwitch of {name} has nothing to do"
    await give_addresses(rig, ("a", "10.9.0.1/24"), ("b", "10.9.0.2/24"))
    await give_addresses(rig, ("b", "10.9.1.2/24"), nic="eth2")
    await give_addresses(rig, ("c", "10.9.1.3/24"))
    assert all(carried > 0 for carried in await tcp_both_ways(rig, "a", "b", "10.9.0.2"))
    assert all(carried > 0 for carried in await tcp_both_ways(rig, "b", "c", "10.9.1.3"))
    assert " 0% packet loss" in await rig.execute("c", "ping", "-c", "2", "-W", "3", "-s", "8900", "10.9.1.2")
    async with rig.client() as client:
        await client.stop("lab", ["b"])
    await rig.reach(lambda view: not any(link.state == "up" for link in view.links), "the links do not fall")
    async with rig.client() as client:
        await client.start("lab", ["b"])
    await rig.reach(is_wired, "the links did not come back")
    await rig.destroy()
