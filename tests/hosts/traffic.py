"""Traffic through labs over :mod:`many_hosts_rig`, and ways between hosts that are cut in one direction or for some."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from host_rig import Host
from many_hosts_rig import ManyHosts

_SECONDS = "1"


async def give_addresses(rig: ManyHosts, *addresses: tuple[str, str], nic: str = "eth1") -> None:
    """Give nodes (first) addresses with their prefix length (second)."""
    for node, given in addresses:
        await rig.execute(node, "ip", "address", "replace", given, "dev", nic)


async def pings(rig: ManyHosts, node: str, target: str) -> bool:
    """Whether one of three packets is answered."""
    shown = await rig.execute(node, "ping", "-c", "3", "-i", "0.3", "-W", "1", target)
    return ", 0 received" not in shown


async def tcp_both_ways(rig: ManyHosts, client: str, server: str, target: str, *, lab: str = "lab") -> tuple[int, int]:
    """Bytes that reach ``server`` at ``target``, and that come back from it, each within a second of TCP."""
    await rig.execute(server, "iperf3", "--server", "--daemon", lab=lab)
    carried = []
    for way in ((), ("--reverse",)):
        command = ("iperf3", "--client", target, "--json", "--time", _SECONDS, "--connect-timeout", "5000", *way)
        told = json.loads(await rig.execute(client, *command, lab=lab))
        assert "error" not in told, told["error"]
        carried.append(int(told["end"]["sum_received"]["bytes"]))
    return carried[0], carried[1]


@contextmanager
def deaf(host: Host, *sources: str) -> Iterator[None]:
    """``host`` hears nothing of these addresses meanwhile; they hear it."""
    rules = [("PREROUTING", "-t", "raw", "-i", "eth0", "-s", source, "-j", "DROP") for source in sources]
    made = []
    try:
        for rule in rules:
            host.output("iptables", "-w", "-I", *rule)
            made.append(rule)
        yield
    finally:
        for rule in made:
            host.output("iptables", "-w", "-D", *rule)
