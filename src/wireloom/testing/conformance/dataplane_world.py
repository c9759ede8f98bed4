"""A NIC of the host that is no real one: a veth pair whose other end is a neighbour on the host's network."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from wireloom.testing.guests import Guest, NamespaceGuest, namespace, run_command

__all__ = ["World", "address_lines", "world"]

#: The neighbour's NIC, in its namespace.
_NEIGHBOUR = "world0"


@dataclass(frozen=True)
class World:
    """The network that the host is on.

    :ivar nic: the host's device on it. :ivar guest: a neighbour there, who speaks raw frames.
    :ivar netns: path of the neighbour's namespace.
    :ivar host: the host's address in the world, ``neighbour`` the other's; both without prefix, in a /24.
    """

    nic: str
    guest: Guest
    netns: str
    host: str
    neighbour: str

    @property
    def elsewhere(self) -> str:
        """A network that the neighbour routes to."""
        return f"{self.host.rsplit('.', 1)[0].replace('198.', '100.')}.0/24"

    def lines(self, device: str | None = None) -> tuple[list[str], list[str]]:
        """Addresses and routes of ``device`` (the NIC) as ``ip`` shows them."""
        return address_lines(device or self.nic)

    def link(self, device: str | None = None) -> dict[str, Any]:
        """What ``ip`` shows of ``device`` (the NIC)."""
        found: list[dict[str, Any]] = json.loads(_output("ip", "-d", "-j", "link", "show", device or self.nic))
        return found[0]


def address_lines(device: str) -> tuple[list[str], list[str]]:
    """Addresses (all but those of link scope) and routes of a device as ``ip`` shows them, without its name."""
    addresses = json.loads(_output("ip", "-j", "address", "show", "dev", device))[0]["addr_info"]
    shown = [
        f"{one['local']}/{one['prefixlen']} {one['scope']} {one.get('label', '')}"
        for one in addresses
        if one["scope"] != "link"
    ]
    routes = [
        " ".join(line.split())
        for family in ("-4", "-6")
        for line in _output("ip", family, "route", "show", "dev", device, "table", "all").splitlines()
        if not line.startswith(("fe80::", "multicast", "local", "anycast", "broadcast"))
    ]
    return sorted(shown), sorted(routes)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@asynccontextmanager
async def world(*, addressed: bool = False, up: bool = True, mtu: int = 1500) -> AsyncIterator[World]:
    """A NIC of the host with a neighbour; gone with the block.

    :param addressed: the host has an address on it, IPv4 and IPv6, and a route by the neighbour.
    """
    mark = secrets.token_hex(4)
    nic = f"nic{mark}"
    net = f"198.{18 + int(mark[0], 16) % 2}.{int(mark[1:3], 16)}"
    async with namespace() as netns:
        inside = ("ip", "-n", netns.rsplit("/", 1)[1])
        pair = ("ip", "link", "add", nic, "mtu", str(mtu), "type", "veth", "peer", "name", _NEIGHBOUR)
        await run_command(*pair, "mtu", str(mtu), "netns", netns.rsplit("/", 1)[1])
        await run_command(*inside, "link", "set", "lo", "up")
        await run_command(*inside, "link", "set", _NEIGHBOUR, "up")
        if up:
            await run_command("ip", "link", "set", nic, "up")
        if addressed:
            await run_command(*inside, "address", "add", f"{net}.2/24", "dev", _NEIGHBOUR)
            await run_command("ip", "address", "add", f"{net}.1/24", "dev", nic, "label", f"{nic}:1")
            await run_command("ip", "address", "add", f"{net}.3/24", "dev", nic)
            await run_command("ip", "address", "add", f"2001:db8:{mark[:4]}::1/64", "dev", nic, "nodad")
        guest = await NamespaceGuest.open(netns, _NEIGHBOUR)
        made = World(nic, guest, netns, f"{net}.1", f"{net}.2")
        try:
            if addressed:
                await run_command(
                    "ip", "route", "add", made.elsewhere, "via", made.neighbour, "dev", nic, "metric", "77"
                )
                await run_command("ip", "route", "add", f"2001:db8:{mark[4:]}:7::/64", "via", _router(mark), "dev", nic)
            yield made
        finally:
            guest.close()
            await run_command("ip", "link", "del", nic)


def _router(mark: str) -> str:
    return f"2001:db8:{mark[:4]}::2"
