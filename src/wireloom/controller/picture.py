"""Intent and observation of one lab side by side: what views and operations are computed from. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict

from wireloom.controller.far_links import is_settled, joined_status
from wireloom.controller.store.records import LabSnapshot, NodeRecord
from wireloom.model.slice import NodeIntent, PlugIntent, PortRef, SegmentIntent, Slice, WireIntent
from wireloom.model.state import NodeStatus, PlugStatus, SegmentStatus, SliceStatus, WireStatus

__all__ = ["LabPicture", "LinkPicture", "NodePicture", "SegmentPicture"]


class _AboutLink(TypedDict):
    """What is told of a link, by one host or by two."""

    host: str
    other_host: str
    alive: bool
    fresh: bool
    converged: bool
    status: WireStatus | None
    silent: tuple[str, ...]


class _About(TypedDict):
    """What pictures of one host have in common."""

    host: str
    alive: bool
    fresh: bool
    converged: bool


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
class LinkPicture:
    """One link. ``a`` and ``b`` are ``node:interface``, or ``b`` the name of a segment; ``ends`` are the nodes at it.

    ``plug`` and ``segment`` are those of a link to a segment; ``mtu`` is as wished. ``host`` has the first end, and
    ``other_host`` the second one where that is another: what is told of the link then holds for both. ``silent``:
    those of them that do not answer.
    """

    intent: WireIntent | PlugIntent
    a: str
    b: str
    ends: tuple[NodePicture, ...]
    plug: PlugIntent | None
    segment: SegmentIntent | None
    mtu: int
    host: str
    alive: bool
    fresh: bool
    converged: bool
    status: WireStatus | PlugStatus | None
    other_host: str = ""
    silent: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Who has an end of it."""
        return (self.host, self.other_host) if self.other_host else (self.host,)


@dataclass(frozen=True)
class SegmentPicture:
    """One segment on one host; ``links``: how many end at it."""

    intent: SegmentIntent
    host: str
    links: int
    alive: bool
    fresh: bool
    converged: bool
    status: SegmentStatus | None


@dataclass(frozen=True)
class LabPicture:
    """Everything known of one lab.

    :ivar slices: intent by host, of all nodes, also of those that preflight refused.
    :ivar statuses: the latest observation by host.
    :ivar alive: hosts with a heartbeat. :ivar clocks: seconds that clocks of hosts are ahead, where that is notable.
    """

    snapshot: LabSnapshot
    slices: Mapping[str, Slice] = field(default_factory=dict)
    statuses: Mapping[str, SliceStatus] = field(default_factory=dict)
    alive: frozenset[str] = frozenset()
    clocks: Mapping[str, float] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        return self.snapshot.lab.generation

    @cached_property
    def nodes(self) -> Mapping[str, NodePicture]:
        """Nodes by id, in the order of the topology."""
        return {node.intent.id: node for node in self._node_pictures()}

    @cached_property
    def links(self) -> Mapping[str, LinkPicture]:
        """Links by id: those to other nodes first, each kind in the order of the topology."""
        pictures = (*self._wire_pictures(), *self._plug_pictures())
        return {link.intent.id: link for link in pictures}

    @cached_property
    def segments(self) -> Mapping[str, SegmentPicture]:
        """Segments by id, in the order of the topology."""
        return {segment.intent.id: segment for segment in self._segment_pictures()}

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
        if status is None or not self.host_converged(host):
            return False
        held = (status.nodes, status.wires, status.plugs, status.segments, status.departures, status.arrivals)
        return not any(held)

    def _is_fresh(self, host: str) -> bool:
        status = self.statuses.get(host)
        return host in self.alive and status is not None and status.generation >= self.generation

    def _node_pictures(self) -> Iterator[NodePicture]:
        records = {record.id: record for record in self.snapshot.nodes}
        for host, document in self.slices.items():
            seen = {node.id: node for node in self._status(host).nodes}
            for intent in document.nodes:
                yield NodePicture(
                    intent=intent, record=records[intent.id], status=seen.get(intent.id), **self._about(host)
                )

    def _wire_pictures(self) -> Iterator[LinkPicture]:
        """A link between hosts once, as the host has it that has its first end."""
        seen = {host: {wire.id: wire for wire in self._status(host).wires} for host in self.slices}
        for host, document in self.slices.items():
            for intent in document.wires:
                if intent.remote is not None and intent.remote.end == "a":
                    continue
                if intent.a.node_id not in self.nodes or intent.b.node_id not in self.nodes:
                    continue  # the other host was removed, and the intent of this one is about to follow
                there = intent.remote.host if intent.remote is not None else ""
                yield LinkPicture(
                    intent=intent,
                    a=self._end_name(intent.a),
                    b=self._end_name(intent.b),
                    ends=(self.nodes[intent.a.node_id], self.nodes[intent.b.node_id]),
                    plug=None,
                    segment=None,
                    mtu=intent.mtu,
                    **self._on_both(host, there, intent.id, seen),
                )

    def _on_both(self, host: str, there: str, link_id: str, seen: Mapping[str, Mapping[str, WireStatus]]) -> _AboutLink:
        about = self._about(host)
        here = seen[host].get(link_id)
        if not there:
            return {**about, "status": here, "other_host": "", "silent": () if about["alive"] else (host,)}
        other, far = self._about(there), seen.get(there, {}).get(link_id)
        status = joined_status((host, here), (there, far))
        return {
            "host": host,
            "other_host": there,
            "alive": about["alive"] and other["alive"],
            "fresh": about["fresh"] and other["fresh"],
            "converged": about["converged"] and other["converged"] and status is not None and is_settled(here, far),
            "status": status,
            "silent": tuple(name for name in (host, there) if name not in self.alive),
        }

    def _plug_pictures(self) -> Iterator[LinkPicture]:
        for host, document in self.slices.items():
            seen = {plug.id: plug for plug in self._status(host).plugs}
            for intent in document.plugs:
                segment = document.segment(intent.segment)
                yield LinkPicture(
                    intent=intent,
                    a=self._end_name(intent.port),
                    b=segment.name if segment else "",
                    ends=(self.nodes[intent.port.node_id],),
                    plug=intent,
                    segment=segment,
                    mtu=segment.mtu if segment else 0,
                    status=seen.get(intent.id),
                    silent=() if host in self.alive else (host,),
                    **self._about(host),
                )

    def _segment_pictures(self) -> Iterator[SegmentPicture]:
        for host, document in self.slices.items():
            seen = {segment.id: segment for segment in self._status(host).segments}
            used = Counter(plug.segment for plug in document.plugs)
            for intent in document.segments:
                yield SegmentPicture(
                    intent=intent, links=used[intent.id], status=seen.get(intent.id), **self._about(host)
                )

    def _about(self, host: str) -> _About:
        return {
            "host": host,
            "alive": host in self.alive,
            "fresh": self._is_fresh(host),
            "converged": self.host_converged(host),
        }

    def _status(self, host: str) -> SliceStatus:
        """What ``host`` said last; nothing at all if it has not yet."""
        nothing = SliceStatus(host=host, lab_id="", lab="", generation=0, observed_at=0)
        return self.statuses.get(host, nothing)

    def _end_name(self, end: PortRef) -> str:
        node = self.nodes[end.node_id].intent
        port = node.port(end.index)
        return f"{node.name}:{port.name if port else end.index}"
