"""Intent and observation of one lab side by side: what views and operations are computed from. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from wireloom.controller.store.records import LabSnapshot, NodeRecord
from wireloom.model.slice import NodeIntent, PortRef, Slice, WireIntent
from wireloom.model.state import NodeStatus, SliceStatus, WireStatus

__all__ = ["LabPicture", "NodePicture", "WirePicture"]


@dataclass(frozen=True)
class NodePicture:
    """One node. ``fresh``: the host lives and has compared the current generation with what it has."""

    intent: NodeIntent
    record: NodeRecord
    host: str
    alive: bool
    fresh: bool
    converged: bool
    status: NodeStatus | None


@dataclass(frozen=True)
class WirePicture:
    """One wire. ``a`` and ``b`` are ``node:interface``; ``ends`` are the nodes at them."""

    intent: WireIntent
    a: str
    b: str
    ends: tuple[NodePicture, NodePicture]
    alive: bool
    fresh: bool
    converged: bool
    status: WireStatus | None


@dataclass(frozen=True)
class LabPicture:
    """Everything known of one lab.

    :ivar slices: intent by host, of all nodes, also of those that preflight refused.
    :ivar statuses: the latest observation by host.
    :ivar alive: hosts with a heartbeat.
    """

    snapshot: LabSnapshot
    slices: Mapping[str, Slice] = field(default_factory=dict)
    statuses: Mapping[str, SliceStatus] = field(default_factory=dict)
    alive: frozenset[str] = frozenset()

    @property
    def generation(self) -> int:
        return self.snapshot.lab.generation

    @cached_property
    def nodes(self) -> Mapping[str, NodePicture]:
        """Nodes by id, in the order of the topology."""
        return {node.intent.id: node for node in self._node_pictures()}

    @cached_property
    def wires(self) -> Mapping[str, WirePicture]:
        """Wires by id, in the order of the topology."""
        return {wire.intent.id: wire for wire in self._wire_pictures()}

    @property
    def converged(self) -> bool:
        """Every host that may hold something of the lab has reached the current generation."""
        return all(self.host_converged(host) for host in self.snapshot.hosts)

    def host_converged(self, host: str) -> bool:
        """Whether ``host`` lives and has nothing left to do for the current generation."""
        status = self.statuses.get(host)
        return self._is_fresh(host) and status is not None and status.converged

    def host_is_empty(self, host: str) -> bool:
        """Whether ``host`` has confirmed, for the current generation, that nothing of the lab is left on it."""
        status = self.statuses.get(host)
        return self.host_converged(host) and status is not None and not status.nodes and not status.wires

    def _is_fresh(self, host: str) -> bool:
        status = self.statuses.get(host)
        return host in self.alive and status is not None and status.generation >= self.generation

    def _node_pictures(self) -> Iterator[NodePicture]:
        records = {record.id: record for record in self.snapshot.nodes}
        for host, document in self.slices.items():
            status = self.statuses.get(host)
            seen = {node.id: node for node in status.nodes} if status else {}
            for intent in document.nodes:
                yield NodePicture(
                    intent=intent,
                    record=records[intent.id],
                    host=host,
                    alive=host in self.alive,
                    fresh=self._is_fresh(host),
                    converged=self.host_converged(host),
                    status=seen.get(intent.id),
                )

    def _wire_pictures(self) -> Iterator[WirePicture]:
        for host, document in self.slices.items():
            status = self.statuses.get(host)
            seen = {wire.id: wire for wire in status.wires} if status else {}
            for intent in document.wires:
                yield WirePicture(
                    intent=intent,
                    a=self._end_name(intent.a),
                    b=self._end_name(intent.b),
                    ends=(self.nodes[intent.a.node_id], self.nodes[intent.b.node_id]),
                    alive=host in self.alive,
                    fresh=self._is_fresh(host),
                    converged=self.host_converged(host),
                    status=seen.get(intent.id),
                )

    def _end_name(self, end: PortRef) -> str:
        node = self.nodes[end.node_id].intent
        port = node.port(end.index)
        return f"{node.name}:{port.name if port else end.index}"
