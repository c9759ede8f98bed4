"""One lab's ports as its slice and its host see them: what every part of the planning of links looks at."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from wireloom.model.network import HostPort
from wireloom.model.slice import NodeIntent, PlugIntent, PortIntent, PortRef, SegmentIntent, Slice, WireIntent
from wireloom.model.state import RuntimePhase
from wireloom.model.underlay import FarEnd

if TYPE_CHECKING:
    from wireloom.planning.plan import Observed

__all__ = ["ALIVE", "Cabling", "bridge_of", "is_let_go", "is_shut"]

#: A node in one of these phases holds its ends of cables up.
ALIVE: Final = frozenset({RuntimePhase.GATED, RuntimePhase.RUNNING, RuntimePhase.SUSPENDED})


def is_shut(port: HostPort) -> bool:
    """The guest is known to have shut the port down.

    Only the host side of a veth tells, and only while it is up itself: what we hold down ourselves tells nothing.
    """
    return port.kind == "veth" and port.up and not port.carrier


def is_let_go(port: HostPort) -> bool:
    """No hypervisor holds the tap: its machine is not there (any more), whatever its engine says."""
    return port.kind == "tap" and port.up and not port.carrier


def bridge_of(segment: SegmentIntent, bridges: Collection[str]) -> str:
    """Name of the device that ports of ``segment`` are put into. ``bridges``: those of somebody else's."""
    return segment.uplink.device if segment.uplink is not None and _is_foreign(segment, bridges) else segment.device


def _is_foreign(segment: SegmentIntent, bridges: Collection[str]) -> bool:
    uplink = segment.uplink
    if segment.foreign or uplink is None:
        return segment.foreign
    return uplink.vlan is None and uplink.device in bridges


@dataclass(frozen=True)
class Cabling:
    """What is wanted of links, beside what the host has.

    :ivar touched: nodes that are left to the action at work on them.
    """

    lab: Slice
    observed: Observed
    touched: frozenset[str] = frozenset()

    @cached_property
    def nodes(self) -> Mapping[str, NodeIntent]:
        return {} if self.lab.removed else {node.id: node for node in self.lab.nodes}

    @cached_property
    def wires(self) -> tuple[WireIntent, ...]:
        return () if self.lab.removed else self.lab.wires

    @cached_property
    def near_wires(self) -> tuple[WireIntent, ...]:
        """Those with both ends on this host."""
        return tuple(wire for wire in self.wires if wire.remote is None)

    @cached_property
    def remote_wires(self) -> tuple[WireIntent, ...]:
        """Those with an end on another host."""
        return tuple(wire for wire in self.wires if wire.remote is not None)

    @cached_property
    def plugs(self) -> tuple[PlugIntent, ...]:
        return () if self.lab.removed else self.lab.plugs

    @cached_property
    def segments(self) -> Mapping[str, SegmentIntent]:
        return {} if self.lab.removed else {segment.id: segment for segment in self.lab.segments}

    @cached_property
    def ports(self) -> Mapping[str, HostPort]:
        """Host ports of this lab, wanted or not, by device."""
        found = self.observed.network.ports
        return {device: port for device, port in found.items() if port.alias.lab_id == self.lab.lab_id}

    @cached_property
    def declared(self) -> Mapping[str, PortIntent]:
        """Ports of all nodes by device."""
        return {port.device: port for node in self.nodes.values() for port in node.ports}

    @cached_property
    def _by_ref(self) -> Mapping[tuple[str, int], PortIntent]:
        return {(node.id, port.index): port for node in self.nodes.values() for port in node.ports}

    def port(self, ref: PortRef) -> PortIntent | None:
        """``None`` for an end that is not in the slice."""
        return self._by_ref.get((ref.node_id, ref.index))

    def port_name(self, ref: PortRef) -> str:
        """``node:port`` for people; ``?`` for an end that is not in the slice."""
        node, port = self.nodes.get(ref.node_id), self.port(ref)
        return f"{node.name}:{port.name}" if node is not None and port is not None else "?"

    def device(self, ref: PortRef) -> str | None:
        """Name of the host device of ``ref``, whether it is there or not."""
        port = self.port(ref)
        return port.device if port else None

    def alive(self, ref: PortRef) -> bool | None:
        """Whether the node of ``ref`` runs with this port in place; ``None``: its engine does not say."""
        runtime = self.observed.runtimes.get(ref.node_id)
        if runtime is None or self.device(ref) not in self.ports:
            return False
        return None if runtime.phase is RuntimePhase.UNKNOWN else runtime.phase in ALIVE

    def works(self, wire: WireIntent) -> bool | None:
        """Whether the user and both nodes hold ``wire`` up; ``None``: nobody knows."""
        far = self.far(wire)
        there = () if wire.remote is None else (far.works if far is not None else None,)
        facts = (wire.up, *(self.alive(ref) for ref in wire.local_ends), *there)
        return False if False in facts else None if None in facts else True

    def far(self, wire: WireIntent) -> FarEnd | None:
        """What the other host said last of its end of ``wire``; ``None``: nothing yet."""
        return self.observed.far_ends.get((wire.remote.host, wire.id)) if wire.remote is not None else None

    def keeps_carrier(self, ref: PortRef) -> bool:
        """The device of this node takes offence at a carrier that falls: its links are cut instead."""
        node = self.nodes.get(ref.node_id)
        return node is not None and node.link_down == "cut"

    def bridge(self, segment: SegmentIntent) -> str:
        """Name of the device that ports of ``segment`` are put into."""
        return bridge_of(segment, self.observed.network.bridges)

    def is_foreign(self, segment: SegmentIntent) -> bool:
        """It is a bridge of somebody else's that ports are plugged into."""
        return _is_foreign(segment, self.observed.network.bridges)

    def has_segment(self, segment: SegmentIntent) -> bool:
        """It is there to plug into."""
        network, name = self.observed.network, self.bridge(segment)
        return name in (network.bridges if self.is_foreign(segment) else network.segments)
