"""Placement of a lab's nodes as the controller knows hosts: live facts, words of users, what other labs take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from wireloom.controller.board import Board
from wireloom.controller.hosts.registry import HostRegistry
from wireloom.controller.live import LiveState
from wireloom.controller.store.records import NodeRecord
from wireloom.errors import WireloomError
from wireloom.fabric.documents import HostFacts
from wireloom.model.images import PresenceState
from wireloom.model.topology import NodeSpec, Topology
from wireloom.model.views import PlacementView
from wireloom.planning.placement import USUAL, Choice, HostOffer, NodeWish, Placement, PlacementOptions, place

__all__ = ["Ground", "Grounds", "is_made", "placed_nodes", "placement_views"]


@dataclass(frozen=True)
class Ground:
    """Hosts that live, at one moment. ``facts`` and ``offers`` have the same names."""

    facts: Mapping[str, HostFacts] = field(default_factory=dict)
    offers: Mapping[str, HostOffer] = field(default_factory=dict)
    options: PlacementOptions = USUAL

    @property
    def reserved_mb(self) -> dict[str, int]:
        """Memory that other labs reserve, in MiB by host."""
        return {name: offer.used_mb for name, offer in self.offers.items()}


class Grounds:
    """Tells what placement has to choose from. In memory."""

    def __init__(self, *, live: LiveState, board: Board, registry: HostRegistry, options: PlacementOptions) -> None:
        self._live = live
        self._board = board
        self._registry = registry
        self._options = options

    def facts(self) -> dict[str, HostFacts]:
        """Facts of hosts that live."""
        return {name: facts for name in self._live.alive if (facts := self._live.facts(name)) is not None}

    def now(self, but_lab: str) -> Ground:
        """What there is for the lab with this id."""
        facts = self.facts()
        memory, cpus = self._reserved(but_lab)
        offers = {name: self._offer(host, memory.get(name, 0), cpus.get(name, 0)) for name, host in facts.items()}
        return Ground(facts=facts, offers=offers, options=self._options)

    def _offer(self, host: HostFacts, used_mb: int, used_cpus: float) -> HostOffer:
        shelf = self._live.hosts[host.host].shelf
        entries = shelf.entries if shelf is not None else ()
        return HostOffer(
            name=host.host,
            memory_mb=host.memory_mb,
            cpus=host.cpus,
            used_mb=used_mb,
            used_cpus=used_cpus,
            closed=self._registry.closed(host.host),
            labels=self._registry.labels(host.host),
            images=frozenset((item.provider, item.name) for item in entries if item.state is PresenceState.PRESENT),
        )

    def _reserved(self, but_lab: str) -> tuple[dict[str, int], dict[str, float]]:
        """Memory and cores of powered-on nodes of all other labs, by host."""
        memory: dict[str, int] = {}
        cpus: dict[str, float] = {}
        for lab_id in self._board.lab_ids:
            for host, document in (self._board.intents(lab_id) or {}).items() if lab_id != but_lab else ():
                running = [node for node in document.nodes if node.power == "on"]
                memory[host] = memory.get(host, 0) + sum(node.memory_mb for node in running)
                cpus[host] = cpus.get(host, 0) + sum(node.cpu for node in running)
        return memory, cpus


def is_made(record: NodeRecord) -> bool:
    """Whether the node exists on its host, as far as intent goes."""
    return bool(record.host) and record.problem is None


def placed_nodes(
    records: Mapping[str, NodeRecord],
    topology: Topology,
    ground: Ground,
    unsuited: Callable[[NodeSpec, str], WireloomError | None],
) -> Placement:
    """A choice for every node of ``topology`` that has a record. Pure.

    :param unsuited: what a node needs and a host has not, whatever else is on it.
    """
    segments: dict[str, list[str]] = {segment.name: [] for segment in topology.segments}
    for plug in topology.plugs:
        segments.setdefault(plug.segment, []).append(plug.end.node)
    specs = {spec.name: spec for spec in topology.nodes if spec.name in records}
    hosts = {segment.name: segment.host for segment in topology.segments if segment.host}
    pins = {name: host for segment, host in hosts.items() for name in segments[segment]}
    return place(
        [_wish(spec, records[name], pins.get(name)) for name, spec in specs.items()],
        ((link.a.node, link.b.node) for link in topology.links),
        segments,
        ground.offers,
        options=ground.options,
        suits=lambda name, host: unsuited(specs[name], host),
    )


def placement_views(choices: Mapping[str, Choice]) -> dict[str, PlacementView]:
    """Choices as users see them, by node."""
    return {
        name: PlacementView(host=choice.host or "", reasons=choice.reasons, rejected=dict(choice.rejected))
        for name, choice in choices.items()
    }


def _wish(spec: NodeSpec, record: NodeRecord, of_segment: str | None) -> NodeWish:
    """``of_segment``: the host that a segment of a node without a pin is on."""
    current, on = record.host if is_made(record) else None, record.power == "on"
    return NodeWish(
        name=spec.name,
        memory_mb=spec.memory_mb if on else 0,
        cpus=spec.cpu if on else 0,
        kind=_kind(spec, record),
        pin=spec.host or (of_segment if current is None else None),
        current=current,
        labels=spec.host_labels,
        apart=spec.apart,
        apart_preferred=spec.apart_preferred,
        image=(spec.provider, spec.image),
    )


def _kind(spec: NodeSpec, record: NodeRecord) -> tuple[object, ...]:
    """What :mod:`wireloom.controller.preflight` looks at when it compares a node with a host."""
    disk = spec.origins.get("disk")
    return (
        spec.device,
        spec.provider,
        spec.image,
        record.power,
        spec.cpu,
        bool(spec.disk_gb) and disk is not None and disk.layer == "node" and spec.disk_gb,
        bool(spec.binds),
        spec.settings.get("privileged") is True,
        *chain(spec.needs, ("/",), spec.image_needs, ("/",), spec.machines),
    )
