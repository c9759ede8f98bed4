"""Planning of ports and links: which host devices to plug, join, cut, impair, and whose carrier to raise.

A wire is joined as soon as both of its host ports exist, and a port is put into its segment as soon as it exists.
Where a device takes offence at a carrier that falls, its links are joined only while they are up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wireloom.model.network import ImpairmentPlan, PlugPlan, SegmentPlan, TunnelPlan, WirePlan
from wireloom.model.slice import PortIntent, Slice
from wireloom.model.state import RuntimePhase
from wireloom.planning.cabling import Cabling
from wireloom.planning.carriers import plan_carriers
from wireloom.planning.impairments import next_end, plan_impairments
from wireloom.planning.segments import dropped_segments, plan_plugs, plan_segments, wanted_plugs
from wireloom.planning.tunnels import dropped_tunnels, may_join, plan_tunnels, wanted_tunnels

if TYPE_CHECKING:
    from wireloom.planning.plan import Observed

__all__ = ["WirePlans", "plan_wires"]


@dataclass(frozen=True)
class WirePlans:
    """What to do to host ports and wires.

    :ivar plug: node id → port indexes that a live node lacks, or that fell out of the management segment.
    :ivar unplug: host devices that no node of the lab declares any more.
    :ivar join: wires to be joined or mended; ``cut``: pairs whose redirection nobody wants.
    :ivar tunnels: ports to be joined to other hosts; ``untunnel``: devices that lead to one and should not.
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
    tunnels: tuple[TunnelPlan, ...] = ()
    untunnel: tuple[str, ...] = ()
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
        joins = self.join or self.cut or self.tunnels or self.untunnel
        segments = self.segments or self.drop_segments or self.attach or self.detach
        return not (ports or joins or segments or self.impair)


def plan_wires(wanted: Slice, observed: Observed, touched: frozenset[str], now: float) -> WirePlans:
    """Plan the networking of one lab. Nodes in ``touched`` are left to the action that is at work on them.

    :param now: UNIX seconds.
    """
    cabling = Cabling(wanted, observed, touched)
    unplug = tuple(sorted(_undeclared_ports(cabling)))
    plugs = wanted_plugs(cabling)
    attach = tuple(plan_plugs(cabling, plugs))
    join = tuple(_joins(cabling))
    tunnels = tuple(plan_tunnels(cabling))
    joined = {*_ends(join), *(plan.device for plan in tunnels)}
    moved = joined | _attached(cabling, attach)
    device_carriers, runtime_carriers = plan_carriers(cabling)
    return WirePlans(
        plug=_missing_ports(cabling),
        unplug=unplug,
        join=join,
        cut=tuple(_cuts(cabling, moved)),
        tunnels=tunnels,
        untunnel=tuple(dropped_tunnels(cabling, wanted_tunnels(cabling), {*unplug, *moved})),
        device_carriers=device_carriers,
        runtime_carriers=runtime_carriers,
        segments=tuple(plan_segments(cabling)),
        drop_segments=tuple(dropped_segments(cabling)),
        attach=attach,
        detach=tuple(_detached(cabling, plugs, {*unplug, *joined})),
        impair=tuple(plan for plan in plan_impairments(cabling, now) if plan.device not in unplug),
        wake_at=next_end(cabling, now),
    )


def _missing_ports(cabling: Cabling) -> dict[str, tuple[int, ...]]:
    missing: dict[str, tuple[int, ...]] = {}
    for node in cabling.nodes.values():
        runtime = cabling.observed.runtimes.get(node.id)
        if node.id in cabling.touched or runtime is None or runtime.phase is not RuntimePhase.RUNNING:
            continue
        lacking = tuple(port.index for port in node.ports if not _is_plugged(port, cabling))
        if lacking:
            missing[node.id] = lacking
    return missing


def _is_plugged(port: PortIntent, cabling: Cabling) -> bool:
    """A management port is plugged only while it is in a segment: that goes when somebody removes the bridge."""
    there = cabling.ports.get(port.device)
    loose = port.role == "mgmt" and cabling.lab.management is not None and there is not None and there.segment is None
    return there is not None and not loose


def _undeclared_ports(cabling: Cabling) -> Iterator[str]:
    for device, port in cabling.ports.items():
        if device not in cabling.declared and port.alias.node_id not in cabling.touched:
            yield device


def _joins(cabling: Cabling) -> Iterator[WirePlan]:
    for wire in cabling.near_wires:
        a, b = (cabling.ports.get(cabling.device(ref) or "") for ref in (wire.a, wire.b))
        if a is None or b is None or not may_join(wire, cabling):
            continue
        alone = all(port.segment is None and port.tunnel is None for port in (a, b))
        joined = a.peer == b.device and b.peer == a.device and alone
        if not joined or a.mtu != wire.mtu or b.mtu != wire.mtu:
            yield WirePlan(a=a.device, b=b.device, mtu=wire.mtu)


def _attached(cabling: Cabling, attach: tuple[PlugPlan, ...]) -> set[str]:
    """Devices that a segment takes in this step: it is there."""
    present = cabling.observed.network.bridges | cabling.observed.network.segments.keys()
    return {plan.device for plan in attach if plan.segment in present}


def _cuts(cabling: Cabling, moved: set[str]) -> Iterator[WirePlan]:
    """Redirections that nobody wants, and that no move to something else ends in the same step."""
    partner = _partners(cabling)
    for device, port in sorted(cabling.ports.items()):
        if port.peer is not None and partner.get(device) != port.peer and device not in moved:
            yield WirePlan(a=device, b=port.peer)


def _partners(cabling: Cabling) -> dict[str, str]:
    partner: dict[str, str] = {}
    for wire in cabling.near_wires:
        a, b = cabling.device(wire.a), cabling.device(wire.b)
        if a is not None and b is not None and may_join(wire, cabling) is not False:
            partner[a], partner[b] = b, a
    return partner


def _detached(cabling: Cabling, plugs: Mapping[str, PlugPlan], leaving: set[str]) -> Iterator[str]:
    """Ports in a segment that should be in none. Those of the management network are not ours to judge."""
    for device, port in sorted(cabling.ports.items()):
        if port.segment is not None and port.alias.index != 0 and device not in plugs and device not in leaving:
            yield device


def _ends(join: tuple[WirePlan, ...]) -> set[str]:
    return {device for wire in join for device in (wire.a, wire.b)}
