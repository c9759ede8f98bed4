"""The verbs of every data plane on a real host, each one job for a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeVar

from wireloom.dataplane.host import frame_probe, links, selftest, watcher
from wireloom.dataplane.host.counters import Counters
from wireloom.dataplane.host.impairment import Impairments
from wireloom.dataplane.host.joiner import JoinerFactory
from wireloom.dataplane.host.netlink import Netlink, check, open_transport
from wireloom.dataplane.host.observer import observe
from wireloom.dataplane.host.ports import Ports
from wireloom.dataplane.host.worker import Worker
from wireloom.dataplane.tunnel_plans import refuse_unfit_tunnels
from wireloom.errors import InvalidInput
from wireloom.model.network import (
    DataPlaneAbilities,
    DataPlaneState,
    ImpairmentPlan,
    LargestPayload,
    PathTest,
    PlugPlan,
    PortCounters,
    PortEvent,
    PortPlan,
    ProbeEnd,
    SegmentPlan,
    TunnelPlan,
    WirePlan,
)

__all__ = ["HostDataPlane"]

T = TypeVar("T")


class _Host:
    """Everything that lives in the worker thread, over one netlink socket of the host's namespace."""

    def __init__(self, installation: str, make_joiner: JoinerFactory) -> None:
        self.installation = installation
        self.netlink = Netlink(open_transport())
        self.joiner = make_joiner(self.netlink, installation)
        self.ports = Ports(self.netlink, installation, self.joiner)
        self.impairments = Impairments(self.netlink, installation)
        self.counters = Counters(self.netlink, installation)
        self._abilities: DataPlaneAbilities | None = None

    def abilities(self) -> DataPlaneAbilities:
        """As last found out."""
        return self._abilities or self.look()

    def look(self) -> DataPlaneAbilities:
        """Find out what the host can do; what it could already it still can."""
        if self._abilities is None or self._abilities.lacks:
            self._abilities = self.impairments.add_to(self.joiner.abilities())
        return self._abilities

    def observe(self) -> DataPlaneState:
        return observe(self.netlink, self.joiner, self.impairments, self.installation)

    def remove_ports(self, devices: Sequence[str]) -> None:
        self.impairments.leave_segments(devices)
        self.ports.remove(devices)

    def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        self.impairments.leave_segments(device for wire in wires for device in (wire.a, wire.b))
        self.joiner.ensure_wires(wires)

    def ensure_tunnels(self, tunnels: Sequence[TunnelPlan]) -> None:
        self.impairments.leave_segments(plan.device for plan in tunnels)
        self.joiner.ensure_tunnels(tunnels)

    def remove_segment(self, name: str) -> None:
        self.impairments.leave_segment(name)
        self.joiner.remove_segment(name)

    def remove_plugs(self, devices: Sequence[str]) -> None:
        self.impairments.leave_segments(devices)
        self.joiner.remove_plugs(devices)

    def withdraw(self) -> None:
        # Only what this one has joined: another data plane may have the rest already.
        self.impairments.leave_segments(self.joiner.plugged())
        self.joiner.withdraw()

    def impair(self, plans: Sequence[ImpairmentPlan]) -> None:
        self.impairments.set(plans, self.abilities())

    def close(self) -> None:
        self.joiner.close()
        self.netlink.close()


class HostDataPlane:
    """Ports, wires and segments of one installation, joined by what ``make_joiner`` makes.

    Verbs may be called concurrently: they are done one after another, in a thread of their own, so that the
    event loop never waits for the host. Carriers have a thread to themselves, as whoever sees one is in a hurry.
    A cancelled call may still take effect; all verbs are idempotent.

    :param installation: only devices whose alias names it are seen and touched.
    """

    name: str

    def __init__(self, installation: str, make_joiner: JoinerFactory) -> None:
        self._installation = installation
        self._worker = Worker(f"wireloom-{self.name}", lambda: _Host(installation, make_joiner))
        self._carriers = Worker(f"wireloom-{self.name}-carriers", lambda: Netlink(open_transport()))
        self._closed = asyncio.Event()

    async def abilities(self) -> DataPlaneAbilities:
        return await self._do(lambda host: host.look())

    async def observe(self) -> DataPlaneState:
        return await self._do(lambda host: host.observe())

    async def ensure_ports(self, ports: Sequence[PortPlan]) -> None:
        await self._do(lambda host: host.ports.ensure(ports))

    async def remove_ports(self, devices: Sequence[str]) -> None:
        await self._do(lambda host: host.remove_ports(devices))

    async def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        _refuse_shared_ends(wires)
        await self._do(lambda host: host.ensure_wires(wires))

    async def remove_wires(self, wires: Sequence[WirePlan]) -> None:
        await self._do(lambda host: host.joiner.remove_wires(wires))

    async def ensure_tunnels(self, tunnels: Sequence[TunnelPlan]) -> None:
        refuse_unfit_tunnels(tunnels)
        await self._do(lambda host: host.ensure_tunnels(tunnels))

    async def remove_tunnels(self, devices: Sequence[str]) -> None:
        await self._do(lambda host: host.joiner.remove_tunnels(devices))

    async def set_carrier(self, carriers: dict[str, bool]) -> None:
        requests = [links.set_flags(device, up=up) for device, up in carriers.items()]
        await self._carriers.do(lambda netlink: check(netlink.batch(requests)))

    async def ensure_segment(self, segment: SegmentPlan) -> None:
        await self._do(lambda host: host.joiner.ensure_segment(segment))

    async def remove_segment(self, name: str) -> None:
        await self._do(lambda host: host.remove_segment(name))

    async def mend(self) -> None:
        await self._do(lambda host: host.joiner.mend())

    async def ensure_plugs(self, plugs: Sequence[PlugPlan]) -> None:
        await self._do(lambda host: host.joiner.ensure_plugs(plugs))

    async def remove_plugs(self, devices: Sequence[str]) -> None:
        await self._do(lambda host: host.remove_plugs(devices))

    async def impair(self, plans: Sequence[ImpairmentPlan]) -> None:
        await self._do(lambda host: host.impair(plans))

    async def counters(self) -> Mapping[str, PortCounters]:
        return await self._do(lambda host: host.counters.read())

    async def withdraw(self) -> None:
        await self._do(lambda host: host.withdraw())

    async def largest_payload(
        self, sender: ProbeEnd, receiver: ProbeEnd, most: int, *, patience_s: float, limit_s: float
    ) -> LargestPayload:
        probe = await self._do(lambda host: frame_probe.open_probe(host.netlink, sender, receiver))
        try:
            return await frame_probe.largest_payload(probe, most, patience_s, limit_s)
        finally:
            probe.close()

    async def self_test(self) -> tuple[PathTest, ...]:
        stage = await self._do(lambda _: selftest.Stage.open())
        try:
            return await selftest.run(self, stage, self._installation)
        finally:
            stage.close()

    def watch(self) -> AsyncIterator[PortEvent]:
        """Events from this call on, not only from the first that is awaited."""
        return watcher.watch(watcher.subscribe(), self._installation, self._closed)

    async def close(self) -> None:
        """Let go of sockets and threads. Everything in the kernel stays."""
        self._closed.set()
        self._worker.close()
        self._carriers.close()

    async def _do(self, job: Callable[[_Host], T]) -> T:
        return await self._worker.do(job)


def _refuse_shared_ends(wires: Sequence[WirePlan]) -> None:
    """:raises InvalidInput: a device is in two of the wires, or joined to itself."""
    seen: set[str] = set()
    for wire in wires:
        if wire.a == wire.b or wire.a in seen or wire.b in seen:
            raise InvalidInput(
                f"the wire {wire.a} to {wire.b} uses a device that another end has", details={"device": wire.a}
            )
        seen |= {wire.a, wire.b}
