"""The part of a lab around a few of its nodes: their links, and the nodes at the far ends.

What concerns one node is planned over this part alone, so that it costs the same in a large lab as in a small one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from wireloom.agent.network import HostNetwork
from wireloom.agent.underlay import NO_UNDERLAY, UnderlayView
from wireloom.agent.world import World, now
from wireloom.model.network import HostPort
from wireloom.model.runtime import Capabilities, RuntimeStatus
from wireloom.model.slice import NodeIntent, PlugIntent, PortRef, Slice, WireIntent
from wireloom.planning.cabling import Cabling
from wireloom.planning.plan import Observed
from wireloom.planning.tunnels import told_ends
from wireloom.planning.wires import WirePlans, plan_wires

__all__ = ["Part", "Surroundings", "part_around", "restricted", "switched_nodes"]

_NONE: Mapping[str, RuntimeStatus] = MappingProxyType({})


@dataclass(frozen=True)
class Part:
    """Some nodes of a lab with everything that they are linked to.

    :ivar lab: the slice, reduced to them.
    :ivar devices: host devices of all ports of the nodes themselves, and of the far ends of their links.
    """

    lab: Slice
    devices: frozenset[str] = field(default_factory=frozenset)


def part_around(lab: Slice, node_ids: Collection[str]) -> Part:
    """The part of ``lab`` around the nodes of these ids."""
    wires = tuple(wire for wire in lab.wires if wire.a.node_id in node_ids or wire.b.node_id in node_ids)
    members = {*node_ids, *(ref.node_id for wire in wires for ref in (wire.a, wire.b))}
    nodes = {node.id: node for node in lab.nodes if node.id in members}
    plugs = tuple(plug for plug in lab.plugs if plug.port.node_id in node_ids)
    ends = {device for wire in wires for ref in (wire.a, wire.b) if (device := _device(nodes, ref))}
    own = {port.device for node_id in node_ids if node_id in nodes for port in nodes[node_id].ports}
    reduced = lab.model_copy(update={"nodes": tuple(nodes.values()), "wires": wires, "plugs": plugs})
    return Part(reduced, frozenset(ends | own))


def switched_nodes(before: Slice, after: Slice) -> frozenset[str]:
    """Nodes at the ends of links that the user has switched off or on."""
    links = {link.id: link.up for link in _links(before)}
    switched = (link for link in _links(after) if links.get(link.id, link.up) != link.up)
    return frozenset(ref.node_id for link in switched for ref in link.ends)


def _links(lab: Slice) -> Iterator[WireIntent | PlugIntent]:
    yield from lab.wires
    yield from lab.plugs


def _device(nodes: Mapping[str, NodeIntent], ref: PortRef) -> str | None:
    node = nodes.get(ref.node_id)
    port = node.port(ref.index) if node else None
    return port.device if port else None


def restricted(plans: WirePlans, devices: Collection[str]) -> WirePlans:
    """What ``plans`` does to links of ``devices``: nothing is plugged, and no segment is dropped."""
    segments = {plug.segment for plug in plans.attach if plug.device in devices}
    return replace(
        plans,
        plug={},
        unplug=(),
        join=tuple(wire for wire in plans.join if wire.a in devices and wire.b in devices),
        cut=tuple(wire for wire in plans.cut if wire.a in devices),
        tunnels=tuple(plan for plan in plans.tunnels if plan.device in devices),
        untunnel=tuple(device for device in plans.untunnel if device in devices),
        device_carriers={device: up for device, up in plans.device_carriers.items() if device in devices},
        segments=tuple(segment for segment in plans.segments if segment.name in segments),
        drop_segments=(),
        attach=tuple(plug for plug in plans.attach if plug.device in devices),
        detach=tuple(device for device in plans.detach if device in devices),
        impair=tuple(plan for plan in plans.impair if plan.device in devices),
        wake_at=None,
    )


class Surroundings:
    """Plans the links of some nodes from what is known, without asking anybody, and tells other hosts of their ends."""

    def __init__(self, world: World, network: HostNetwork, underlay: UnderlayView = NO_UNDERLAY) -> None:
        self._world = world
        self._network = network
        self._underlay = underlay

    def plan(
        self,
        lab: Slice,
        node_ids: Collection[str],
        *,
        busy: frozenset[str] = frozenset(),
        runtimes: Mapping[str, RuntimeStatus] = _NONE,
        capabilities: Mapping[str, Capabilities] = MappingProxyType({}),
    ) -> WirePlans:
        """What to do to the links of these nodes of ``lab``, at both ends.

        :param runtimes: by node id; newer than what the world knows. ``capabilities`` likewise, by provider.
        """
        part = part_around(lab, node_ids)
        members = {node.id for node in part.lab.nodes}
        known = {node_id: self._world.runtimes[node_id] for node_id in members if node_id in self._world.runtimes}
        observed = Observed(
            runtimes={**known, **runtimes},
            network=self._network.state.model_copy(update={"ports": self._ports(part.lab)}),
            capabilities={**self._world.capabilities, **capabilities},
            ways=self._underlay.ways,
            far_ends=self._underlay.far_ends,
        )
        if self._network.known:  # the other hosts hear of it now, and need not wait for the loop
            self._underlay.tell(lab.lab_id, told_ends(Cabling(part.lab, observed)), whole=False)
        plans = restricted(plan_wires(part.lab, observed, busy, now()), part.devices)
        return replace(plans, runtime_carriers=_linked(plans.runtime_carriers, part))

    def _ports(self, lab: Slice) -> Mapping[str, HostPort]:
        ports = self._network.ports
        return {port.device: ports[port.device] for node in lab.nodes for port in node.ports if port.device in ports}


def _linked(carriers: Mapping[str, Mapping[int, bool]], part: Part) -> dict[str, dict[int, bool]]:
    """Carriers by node id and port index, of the part's own devices only."""
    nodes = {node.id: node for node in part.lab.nodes}
    found: dict[str, dict[int, bool]] = {}
    for node_id, by_index in carriers.items():
        for index, up in by_index.items():
            if _device(nodes, PortRef(node_id=node_id, index=index)) in part.devices:
                found.setdefault(node_id, {})[index] = up
    return found
