"""Two hosts on one machine: each a network namespace with a data plane of its own, joined by a cable between them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wireloom.commands import run
from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.host.namespaces import live_in
from wireloom.model.network import HostPort, SegmentAlias, SegmentPlan, TunnelPlan
from wireloom.testing.conformance.dataplane_rig import Plug, Rig
from wireloom.testing.guests import namespace, run_command

__all__ = ["NIC", "Host", "Hosts", "cable", "hosts", "living_in"]

#: The NIC by which a host reaches the other, of the least MTU that is common.
NIC: Final = "lan0"
UNDERLAY_MTU: Final = 1500
_NET, _NET6 = "192.0.2.", "2001:db8:77::"


@contextmanager
def living_in(netns: str) -> Iterator[None]:
    """Have the calling thread, and the threads and processes that begin meanwhile, live in the namespace at a path."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    away = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        live_in(away)
        try:
            yield
        finally:
            live_in(home)
    finally:
        os.close(away)
        os.close(home)


@dataclass(frozen=True)
class Host:
    """A host with its data plane.

    :ivar netns: path of its namespace. :ivar number: 1 or 2; its addresses end so.
    """

    netns: str
    number: int
    rig: Rig

    @property
    def plane(self) -> DataPlane:
        return self.rig.plane

    @property
    def address(self) -> str:
        return f"{_NET}{self.number}"

    @property
    def second_address(self) -> str:
        return f"{_NET}{10 + self.number}"

    @property
    def address6(self) -> str:
        return f"{_NET6}{self.number}"

    async def wake(self) -> None:
        """Have the data plane's own threads begin; they live where their maker does."""
        with living_in(self.netns):
            await self.plane.observe()
            await self.plane.set_carrier({})

    async def restart(self) -> None:
        """As after a restart of the agent."""
        with living_in(self.netns):
            await self.rig.restart()
        await self.wake()

    async def plug(self, kind: str, *, mtu: int = 1500) -> Plug:
        """A port of ``kind`` (``veth`` or ``tap``) with a guest on it."""
        with living_in(self.netns):
            plug = await self.rig.plug(kind, mtu=mtu)
        if kind == "tap":
            # Reading it has the kernel act on the carrier now, not within a second.
            await self.output("cat", f"/sys/class/net/{plug.device}/carrier")
        return plug

    async def segment(self) -> str:
        """A switch without VLANs; its name."""
        name = self.rig.segment_name()
        alias = SegmentAlias(installation=self.rig.installation, lab_id="lab-1", segment_id=name, name="lab/lan")
        await self.plane.ensure_segment(SegmentPlan(name=name, alias=alias.text()))
        return name

    async def port(self, plug: Plug) -> HostPort:
        """As it is observed."""
        return (await self.plane.observe()).ports[plug.device]

    async def output(self, *command: str) -> str:
        """What a command prints that runs on this host."""
        done = await run("ip", "netns", "exec", Path(self.netns).name, *command)
        return done.output

    async def tunnel_devices(self) -> list[str]:
        """VXLAN devices that the host's kernel has."""
        shown = await self.output("ip", "-brief", "link", "show", "type", "vxlan")
        return [line.split()[0] for line in shown.splitlines()]


@dataclass(frozen=True)
class Hosts:
    """Two of them."""

    a: Host
    b: Host

    def plans(self, a: Plug, b: Plug, vni: int, mtu: int = 1500) -> tuple[TunnelPlan, TunnelPlan]:
        """What joins a port of the one to a port of the other."""
        return (
            TunnelPlan(device=a.device, remote=self.b.address, vni=vni, mtu=mtu),
            TunnelPlan(device=b.device, remote=self.a.address, vni=vni, mtu=mtu),
        )

    async def join(self, a: Plug, b: Plug, vni: int, mtu: int = 1500) -> None:
        """Join a port of the one to a port of the other."""
        here, there = self.plans(a, b, vni, mtu)
        await self.a.plane.ensure_tunnels([here])
        await self.b.plane.ensure_tunnels([there])

    async def pair(self, kind_a: str, kind_b: str, vni: int, mtu: int = 1500) -> tuple[Plug, Plug]:
        """Two new ports, joined."""
        a, b = await self.a.plug(kind_a, mtu=mtu), await self.b.plug(kind_b, mtu=mtu)
        await self.join(a, b, vni, mtu)
        return a, b


@asynccontextmanager
async def cable(mtu: int = UNDERLAY_MTU) -> AsyncIterator[tuple[str, str]]:
    """Two namespaces with a cable between them; their paths."""
    async with namespace() as first, namespace() as second:
        names = [Path(path).name for path in (first, second)]
        pair = ("ip", "-n", names[0], "link", "add", NIC, "mtu", str(mtu), "type", "veth")
        await run_command(*pair, "peer", "name", NIC, "mtu", str(mtu), "netns", names[1])
        for number, name in enumerate(names, 1):
            for setting in ("disable_ipv6=0", "keep_addr_on_down=1"):
                await run_command("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv6.conf.{NIC}.{setting}")
            for address in (f"{_NET}{number}/24", f"{_NET}{10 + number}/24"):
                await run_command("ip", "-n", name, "address", "add", address, "dev", NIC)
            await run_command("ip", "-n", name, "address", "add", f"{_NET6}{number}/64", "dev", NIC, "nodad")
            for device in ("lo", NIC):
                await run_command("ip", "-n", name, "link", "set", device, "up")
        yield first, second


@asynccontextmanager
async def hosts(
    spaces: tuple[str, str], factories: tuple[Callable[[str], DataPlane], Callable[[str], DataPlane]]
) -> AsyncIterator[Hosts]:
    """Two hosts in the namespaces of a :func:`cable`, each with what its factory makes of an installation.

    They leave nothing behind in their namespaces, and say so if they do.
    """
    with living_in(spaces[0]):
        first = Rig(factories[0])
    with living_in(spaces[1]):
        second = Rig(factories[1])
    made = Hosts(Host(spaces[0], 1, first), Host(spaces[1], 2, second))
    await made.a.wake()
    await made.b.wake()
    async with first, second:
        yield made
    left = [await made.a.tunnel_devices(), await made.b.tunnel_devices()]
    assert left == [[], []], f"devices to other hosts are left after removal: {left}"
