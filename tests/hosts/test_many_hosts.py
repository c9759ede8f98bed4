"""A lab over three real hosts: what works on one works across them."""

from __future__ import annotations

from pathlib import Path

import pytest
from many_hosts_rig import ManyHosts, is_wired

from wireloom.testing.installation import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_EXAMPLE = Path(__file__).parents[2] / "examples" / "ospf-mixed.yml"
_HOSTS = {"r1": "h1", "r2": "h2", "r3": "h3", "r4": "h1", "h1": "h2", "h2": "h1"}


def spread(topology: str, hosts: dict[str, str]) -> str:
    """The example with its nodes pinned to hosts."""
    lines = []
    for line in topology.splitlines():
        lines.append(line)
        name = line.strip().removesuffix(":")
        if line.startswith("  ") and not line.startswith("   ") and name in hosts and line.endswith(":"):
            lines.append(f"    host: {hosts[name]}")
    return "\n".join(lines) + "\n"


async def test_ospf_runs_over_containers_and_machines_on_three_hosts(rig: ManyHosts) -> None:
    await rig.deploy(spread(_EXAMPLE.read_text(), _HOSTS))
    view = await rig.wired(lab="ospf-mixed", within_s=240)
    assert {node.name: node.host for node in view.nodes} == _HOSTS
    for router in ("r1", "r3"):

        async def full(router: str = router) -> bool:
            shown = await rig.execute(router, "vtysh", "-c", "show ip ospf neighbor", lab="ospf-mixed")
            return shown.count("Full") == 2

        await until(full, f"OSPF on {router} is not full", within_s=120)

    async def reached() -> bool:
        for source, target in (("h1", "10.3.1.10"), ("h2", "10.1.1.10")):
            shown = await rig.execute(source, "ping", "-c", "1", "-W", "2", target, lab="ospf-mixed")
            if " 0% packet loss" not in shown:
                return False
        return True

    await until(reached, "the hosts do not reach each other", within_s=60)
    await rig.destroy("ospf-mixed")


async def test_a_wire_between_hosts_carries_large_frames_and_its_carrier(rig: ManyHosts) -> None:
    await rig.deploy(
        "name: lab\ndefaults: {device: linux, provider: docker}\n"
        "nodes:\n  a: {host: h1}\n  b: {host: h2}\n"
        "links:\n  - {endpoints: [a:eth1, b:eth1], mtu: 9000}\n"
    )
    await rig.wired()
    for node, address in (("a", "10.9.0.1"), ("b", "10.9.0.2")):
        await rig.execute(node, "ip", "address", "add", f"{address}/24", "dev", "eth1")
    shown = await rig.execute("a", "ping", "-c", "2", "-W", "3", "-s", "8900", "10.9.0.2")
    assert " 0% packet loss" in shown
    async with rig.client() as client:
        await client.stop("lab", ["b"])

    async def cable_fell() -> bool:
        return "NO-CARRIER" in await rig.execute("a", "ip", "link", "show", "eth1")

    await until(cable_fell, "the far node has stopped, and the cable here shows nothing of it")
    async with rig.client() as client:
        await client.start("lab", ["b"])
    await rig.reach(is_wired, "the link did not come back")
    await rig.destroy()
