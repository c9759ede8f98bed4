"""Planning of ports, wires and carriers: which host devices to plug, join, cut, and whose carrier to raise.

A wire is joined as soon as both of its host ports exist. Its carrier is up while the user wants the link up and
both of its nodes are alive, so a node that stops takes its peers' carriers down, like a cable. A node whose engine
does not answer may well be alive: its wires and carriers stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wireloom.model.network import HostPort, ImpairmentPlan, PlugPlan, SegmentPlan, WirePlan
from wireloom.model.slice import NodeIntent, PortIntent, PortRef, Slice, WireIntent
from wireloom.model.state import RuntimePhase

if TYPE_CHECKING:
    from wireloom.planning.plan import Observed

__all__ = ["WirePlans", "plan_wires"]

_ALIVE = frozenset({RuntimePhase.GATED, RuntimePhase.RUNNING, RuntimePhase.SUSPENDED})


@dataclass(frozen=True)
class WirePlans:
    """What to do to host ports and wires.

    :ivar plug: node id → port indexes that a live node lacks, or that fell out of the management segment.
    :ivar unplug: host devices that no node of the lab declares any more.
    :ivar join: wires to be joined or mended; ``cut``: pairs whose redirection nobody wants.
    :ivar device_carriers: host device → up; ``runtime_carriers``: node id → port index → up.
    :ivar segments: to be made or mended; ``drop_segments``: device names of those that nobody wants.
    :ivar attach: ports to be put into segments; ``detach``: devices that are in one and should not be.
    :ivar impair: what devices are to do to frames, where that is not what they do.
    :ivar wake_at: when an impairment ends by itself, UNIX seconds.
    """

    plug: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unplug: tuple[str, ...] = ()
    join: tuple[WirePlan, ...] = ()
    cut: tuple[WirePlan, ...] = ()
    device_carriers: Mapping[str, bool] = field(default_factory=dict)
    runtime_carriers: Mapping[str, Mapping[int, bool]] = field(default_factory=dict)
    segments: tuple[SegmentPlan, ...] = ()
    drop_segments: tuple[str, ...] = ()
    attach: tuple[PlugPlan, ...] = ()
    detach: tuple[str, ...] = ()
    impair: tuple[ImpairmentPlan, ...] = ()
    wake_at: float | None = None

    @property
    def empty(self) -> bool:
        """Nothing to do; a time to wake is nothing to do yet."""
        ports = self.plug or self.unplug or self.device_carriers or self.runtime_carriers
        joins = self.join or self.cut or self.segments or self.drop_segments or self.attach or self.detach
        return not (ports or joins or self.impair)


def plan_wires(wanted: Slice, observed: Observed, touched: frozenset[str]) -> WirePlans:
    """Plan the networking of one lab. Nodes in ``touched`` are left to the action that is at work on them."""
    nodes = {} if wanted.removed else {node.id: node for node in wanted.nodes}
    wires = () if wanted.removed else wanted.wires
    ports = {device: port for device, port in observed.network.ports.items() if port.alias.lab_id == wanted.lab_id}
    ends = {wire.id: (_port(nodes, wire.a), _port(nodes, wire.b)) for wire in wires}
    partner = _partners(ends)
    device_carriers, runtime_carriers = _carriers(wires, nodes, observed, ports, touched)
    return WirePlans(
        plug=_missing_ports(wanted, nodes, observed, ports, touched),
        unplug=tuple(sorted(_undeclared_ports(nodes, ports, touched))),
        join=tuple(_joins(wires, ends, ports)),
        cut=tuple(_cuts(partner, ports)),
        device_carriers=device_carriers,
        runtime_carriers=runtime_carriers,
    )


def _port(nodes: Mapping[str, NodeIntent], ref: PortRef) -> PortIntent | None:
    node = nodes.get(ref.node_id)
    return node.port(ref.index) if node else None


def _partners(ends: Mapping[str, tuple[PortIntent | None, PortIntent | None]]) -> dict[str, str]:
    partner: dict[str, str] = {}
    for a, b in ends.values():
        if a is not None and b is not None:
            partner[a.device] = b.device
            partner[b.device] = a.device
    return partner


def _missing_ports(
    wanted: Slice,
    nodes: Mapping[str, NodeIntent],
    observed: Observed,
    ports: Mapping[str, HostPort],
    touched: frozenset[str],
) -> dict[str, tuple[int, ...]]:
    missing: dict[str, tuple[int, ...]] = {}
    for node in nodes.values():
        runtime = observed.runtimes.get(node.id)
        if node.id in touched or runtime is None or runtime.phase is not RuntimePhase.RUNNING:
            continue
        lacking = tuple(port.index for port in node.ports if not _is_plugged(port, wanted, ports))
        if lacking:
            missing[node.id] = lacking
    return missing


def _is_plugged(port: PortIntent, wanted: Slice, ports: Mapping[str, HostPort]) -> bool:
    """A management port is plugged only while it is in a segment: that goes when somebody removes the bridge."""
    there = ports.get(port.device)
    loose = port.role == "mgmt" and wanted.management is not None and there is not None and there.segment is None
    return there is not None and not loose


def _undeclared_ports(
    nodes: Mapping[str, NodeIntent], ports: Mapping[str, HostPort], touched: frozenset[str]
) -> Iterator[str]:
    declared = {port.device for node in nodes.values() for port in node.ports}
    for device, port in ports.items():
        if device not in declared and port.alias.node_id not in touched:
            yield device


def _joins(
    wires: tuple[WireIntent, ...],
    ends: Mapping[str, tuple[PortIntent | None, PortIntent | None]],
    ports: Mapping[str, HostPort],
) -> Iterator[WirePlan]:
    for wire in wires:
        a, b = ends[wire.id]
        if a is None or b is None or a.device not in ports or b.device not in ports:
            continue
        here, there = ports[a.device], ports[b.device]
        joined = here.peer == there.device and there.peer == here.device
        if not joined or here.mtu != wire.mtu or there.mtu != wire.mtu:
            yield WirePlan(a=a.device, b=b.device, mtu=wire.mtu)


def _cuts(partner: Mapping[str, str], ports: Mapping[str, HostPort]) -> Iterator[WirePlan]:
    for device, port in sorted(ports.items()):
        # A wanted partner that is there is joined, which moves the wire in one step.
        wanted = partner.get(device)
        if port.peer is not None and wanted != port.peer and wanted not in ports:
            yield WirePlan(a=device, b=port.peer)


def _carriers(
    wires: tuple[WireIntent, ...],
    nodes: Mapping[str, NodeIntent],
    observed: Observed,
    ports: Mapping[str, HostPort],
    touched: frozenset[str],
) -> tuple[dict[str, bool], dict[str, dict[int, bool]]]:
    desired = _desired_carriers(wires, nodes, observed, ports)
    on_device: dict[str, bool] = {}
    on_runtime: dict[str, dict[int, bool]] = {}
    for node in nodes.values():
        runtime = observed.runtimes.get(node.id)
        capabilities = observed.capabilities.get(node.provider)
        if capabilities is None or runtime is None or runtime.phase not in _ALIVE:
            continue
        for port in node.ports:
            up = True if port.role == "mgmt" else desired.get(port.device, False)
            if up is None:
                continue
            host_port = ports.get(port.device)
            by_provider = capabilities.carrier == "provider"
            if host_port is not None and host_port.up != (up or by_provider):
                on_device[port.device] = up or by_provider
            if by_provider and node.id not in touched and runtime.carriers.get(port.index, up) != up:
                on_runtime.setdefault(node.id, {})[port.index] = up
    return on_device, on_runtime


def _desired_carriers(
    wires: tuple[WireIntent, ...],
    nodes: Mapping[str, NodeIntent],
    observed: Observed,
    ports: Mapping[str, HostPort],
) -> dict[str, bool | None]:
    """Whether a port's carrier should be up, by device; ``None``: nobody knows, leave it."""

    def alive(ref: PortRef) -> bool | None:
        runtime = observed.runtimes.get(ref.node_id)
        port = _port(nodes, ref)
        if runtime is None or port is None or port.device not in ports:
            return False
        return None if runtime.phase is RuntimePhase.UNKNOWN else runtime.phase in _ALIVE

    desired: dict[str, bool | None] = {}
    for wire in wires:
        facts = (wire.up, alive(wire.a), alive(wire.b))
        up = False if False in facts else None if None in facts else True
        for ref in (wire.a, wire.b):
            port = _port(nodes, ref)
            if port is not None:
                desired[port.device] = up
    return desired
