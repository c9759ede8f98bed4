"""The simulated data plane: keeps every rule of the contract over a :class:`SimulatedNetwork`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from wireloom.dataplane.refusals import refusals, unsupported
from wireloom.dataplane.tunnel_plans import refuse_unfit_tunnels
from wireloom.errors import DataPlaneFailed, Unsupported, WireloomError
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.network import (
    DataPlaneAbilities,
    DataPlaneState,
    HostPort,
    ImpairmentPlan,
    LargestPayload,
    PathTest,
    PlugPlan,
    PortCounters,
    PortEvent,
    PortPlan,
    ProbeEnd,
    Segment,
    SegmentPlan,
    TunnelPlan,
    WirePlan,
)

__all__ = ["SimulatedDataPlane", "SimulatedNetwork"]


@dataclass
class _Fault:
    call: str
    error: WireloomError
    times: int
    device: str | None


@dataclass
class SimulatedNetwork:
    """What the simulated kernel of one host holds; outlives the data planes on it.

    :ivar ports: by device name; ``plans`` what they were made from.
    :ivar alive: whether a namespace exists; ports in one that does not are skipped.
    :ivar abilities: what the host says that it can do; ``counters``: by device.
    :ivar calls: how often each call was made.
    """

    ports: dict[str, HostPort] = field(default_factory=dict)
    plans: dict[str, PortPlan] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    alive: Callable[[str], bool] = lambda netns: True
    abilities: DataPlaneAbilities = field(default_factory=lambda: DataPlaneAbilities(name="simulated"))
    counters: dict[str, PortCounters] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    delays: dict[str, float] = field(default_factory=dict)
    faults: list[_Fault] = field(default_factory=list)
    watchers: dict[asyncio.Queue[PortEvent], str] = field(default_factory=dict)

    def fail(self, call: str, error: WireloomError, *, times: int = 1, device: str | None = None) -> None:
        """Let a call fail, for one device or for any."""
        self.faults.append(_Fault(call, error, times, device))

    def namespace_gone(self, netns: str) -> None:
        """A runtime ended: the kernel takes the ports in its namespace away."""
        for device, plan in list(self.plans.items()):
            if isinstance(plan.attachment, NamespaceAttachment) and plan.attachment.netns == netns:
                self.delete(device)

    def delete(self, device: str) -> None:
        """Remove a device, as anyone on the host could."""
        port = self.ports.pop(device, None)
        self.plans.pop(device, None)
        if port is None:
            return
        if port.peer in self.ports:
            self.ports[port.peer] = self.ports[port.peer].model_copy(update={"peer": None})
        self.publish(port, removed=True)

    def publish(self, port: HostPort, *, removed: bool = False) -> None:
        for queue, installation in self.watchers.items():
            if installation == port.alias.installation:
                queue.put_nowait(PortEvent(device=port.device, removed=removed, up=port.up, carrier=port.carrier))

    def lose_events(self) -> None:
        """Tell every watcher that it must observe again."""
        for queue in self.watchers:
            queue.put_nowait(PortEvent())


class SimulatedDataPlane:
    """A :class:`~wireloom.dataplane.contract.DataPlane` in memory.

    :param network: shared by all data planes of a test; make a new one on it to play an agent's restart.
    """

    name = "simulated"

    def __init__(self, installation: str, network: SimulatedNetwork) -> None:
        self.installation = installation
        self.network = network

    async def observe(self) -> DataPlaneState:
        await self._begin("observe", ())
        ours = {
            device: port for device, port in self.network.ports.items() if port.alias.installation == self.installation
        }
        return DataPlaneState(ports=ours, segments=dict(self.network.segments))

    async def ensure_ports(self, ports: Sequence[PortPlan]) -> None:
        await self._begin("ensure_ports", [port.device for port in ports])
        for plan in ports:
            if isinstance(plan.attachment, NamespaceAttachment) and not self.network.alive(plan.attachment.netns):
                continue
            self._ensure_port(plan)

    async def remove_ports(self, devices: Sequence[str]) -> None:
        await self._begin("remove_ports", devices)
        for device in devices:
            self.network.delete(device)

    async def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        await self._begin("ensure_wires", [device for wire in wires for device in (wire.a, wire.b)])
        for wire in wires:
            if wire.a in self.network.ports and wire.b in self.network.ports:
                self._join(wire.a, wire.b, wire.mtu)
                self._join(wire.b, wire.a, wire.mtu)

    async def remove_wires(self, wires: Sequence[WirePlan]) -> None:
        await self._begin("remove_wires", [device for wire in wires for device in (wire.a, wire.b)])
        for wire in wires:
            for device, peer in ((wire.a, wire.b), (wire.b, wire.a)):
                port = self.network.ports.get(device)
                if port is not None and port.peer == peer:
                    self._update(port, peer=None)

    async def ensure_tunnels(self, tunnels: Sequence[TunnelPlan]) -> None:
        refuse_unfit_tunnels(tunnels)
        await self._begin("ensure_tunnels", [plan.device for plan in tunnels])
        for plan in tunnels:
            port = self.network.ports.get(plan.device)
            if port is None or (port.tunnel, port.mtu) == (plan.tunnel, plan.mtu):
                continue
            self._part(port)
            self._free(plan.vni)
            port = self.network.ports[plan.device]
            self._update(port, tunnel=plan.tunnel, mtu=plan.mtu, segment=None, vlans=None)

    async def remove_tunnels(self, devices: Sequence[str]) -> None:
        await self._begin("remove_tunnels", devices)
        for device in devices:
            port = self.network.ports.get(device)
            if port is not None and port.tunnel is not None:
                self._update(port, tunnel=None)

    async def set_carrier(self, carriers: dict[str, bool]) -> None:
        await self._begin("set_carrier", list(carriers))
        for device, up in carriers.items():
            port = self.network.ports.get(device)
            if port is not None and port.up != up:
                self._update(port, up=up)

    async def ensure_segment(self, segment: SegmentPlan) -> None:
        await self._begin("ensure_segment", [segment.name])
        self.network.segments[segment.name] = Segment(
            name=segment.name,
            alias=segment.alias,
            up=True,
            mtu=segment.mtu,
            tagging=segment.tagging,
            uplink=segment.uplink.device if segment.uplink else None,
        )

    async def remove_segment(self, name: str) -> None:
        await self._begin("remove_segment", [name])
        self.network.segments.pop(name, None)
        for port in list(self.network.ports.values()):
            if port.segment == name:
                self._update(port, segment=None, vlans=None)

    async def mend(self) -> None:
        await self._begin("mend", ())

    async def abilities(self) -> DataPlaneAbilities:
        await self._begin("abilities", ())
        return self.network.abilities

    async def ensure_plugs(self, plugs: Sequence[PlugPlan]) -> None:
        await self._begin("ensure_plugs", [plug.device for plug in plugs])
        for plug in plugs:
            port = self.network.ports.get(plug.device)
            if port is None or plug.segment not in self.network.segments:
                continue
            self._part(port)
            self._update(self.network.ports[plug.device], segment=plug.segment, vlans=plug.vlans, mtu=plug.mtu)

    async def remove_plugs(self, devices: Sequence[str]) -> None:
        await self._begin("remove_plugs", devices)
        for device in devices:
            port = self.network.ports.get(device)
            if port is not None:
                self._update(port, segment=None, vlans=None)

    async def impair(self, plans: Sequence[ImpairmentPlan]) -> None:
        await self._begin("impair", [plan.device for plan in plans])
        refused = refusals(plans, self.network.abilities)
        for plan in plans:
            port = self.network.ports.get(plan.device)
            if port is not None and plan.device not in refused:
                to_guest, from_guest = (part.or_none() if part else None for part in (plan.to_guest, plan.from_guest))
                self._update(port, to_guest=to_guest, from_guest=from_guest)
        if refused:
            raise unsupported(refused)

    async def counters(self) -> Mapping[str, PortCounters]:
        await self._begin("counters", ())
        return {device: self.network.counters.get(device, PortCounters()) for device in self.network.ports}

    async def largest_payload(
        self, sender: ProbeEnd, receiver: ProbeEnd, most: int, *, patience_s: float, limit_s: float
    ) -> LargestPayload:
        await self._begin("largest_payload", (sender.device, receiver.device))
        if sender.attachment.kind != "namespace":
            raise Unsupported("frames cannot be sent in the name of a virtual machine")
        here, there = (self.network.ports.get(end.device) for end in (sender, receiver))
        if here is None or there is None:
            return LargestPayload(passes=0, fails=min(most, 46))
        held_s = sum(part.delay_ms for part in (here.from_guest, there.to_guest) if part) / 1000
        if held_s > min(patience_s, limit_s):
            return LargestPayload(passes=0, fails=min(most, 46))
        passes = min(most, here.mtu, there.mtu)
        if passes == most:
            return LargestPayload(passes=passes)
        in_time = 3 * patience_s <= limit_s  # a frame that does not come is waited for that often
        return LargestPayload(passes=passes, fails=passes + 1) if in_time else LargestPayload(passes=46, fails=most)

    async def self_test(self) -> tuple[PathTest, ...]:
        await self._begin("self_test", ())
        return (PathTest(path="simulated wire"),)

    async def withdraw(self) -> None:
        await self._begin("withdraw", ())
        for port in list(self.network.ports.values()):
            if port.alias.installation == self.installation:
                self._update(port, peer=None, tunnel=None, segment=None, vlans=None)
        self.network.segments.clear()

    async def watch(self) -> AsyncIterator[PortEvent]:
        queue: asyncio.Queue[PortEvent] = asyncio.Queue()
        self.network.watchers[queue] = self.installation
        try:
            while True:
                yield await queue.get()
        finally:
            self.network.watchers.pop(queue, None)

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _begin(self, call: str, devices: Sequence[str]) -> None:
        self.network.calls[call] += 1
        if seconds := self.network.delays.get(call, 0):
            await asyncio.sleep(seconds)
        for fault in self.network.faults:
            if fault.call == call and (fault.device is None or fault.device in devices):
                fault.times -= 1
                if fault.times <= 0:
                    self.network.faults.remove(fault)
                raise fault.error

    def _ensure_port(self, plan: PortPlan) -> None:
        known = self.network.ports.get(plan.device)
        if known is not None and known.alias.installation != plan.alias.installation:
            raise DataPlaneFailed(
                f"the device {plan.device} belongs to somebody else", details={"errno": "EEXIST", "device": plan.device}
            )
        if self.network.plans.get(plan.device) == plan:
            return
        # A port that moved to another namespace is a new device: its wire went with the old one.
        same = known is not None and self.network.plans[plan.device].attachment == plan.attachment
        port = HostPort(
            device=plan.device,
            alias=plan.alias,
            kind="veth" if isinstance(plan.attachment, NamespaceAttachment) else "tap",
            mtu=plan.mtu,
            up=known.up if same and known is not None else plan.carrier,
            carrier=True,
            peer=known.peer if same and known is not None else None,
            segment=plan.segment or (known.segment if same and known is not None else None),
            vlans=known.vlans if same and known is not None else None,
            tunnel=known.tunnel if same and known is not None else None,
        )
        self.network.ports[plan.device] = port
        self.network.plans[plan.device] = plan
        self.network.publish(port)

    def _join(self, device: str, peer: str, mtu: int) -> None:
        port = self.network.ports[device]
        if (port.peer, port.mtu, port.segment) == (peer, mtu, None):
            return
        if port.peer != peer:
            self._part(port)
        self._update(self.network.ports[device], peer=peer, mtu=mtu, segment=None, vlans=None)

    def _part(self, port: HostPort) -> None:
        """Take a port off its wire or tunnel, and its former peer's half with it."""
        former = self.network.ports.get(port.peer or "")
        if former is not None and former.peer == port.device:
            self._update(former, peer=None)
        self._update(port, peer=None, tunnel=None)

    def _free(self, vni: int) -> None:
        """Take a number from the port of this host that has it."""
        for port in list(self.network.ports.values()):
            if port.tunnel is not None and port.tunnel.vni == vni:
                self._update(port, tunnel=None)

    def _update(self, port: HostPort, **changes: object) -> None:
        changed = port.model_copy(update=changes)
        self.network.ports[port.device] = changed
        self.network.publish(changed)
