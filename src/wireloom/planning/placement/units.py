"""Nodes that can only be placed together: those of one segment, which is on one host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from wireloom.planning.placement.types import NodeWish

__all__ = ["Unit", "connect", "units_of"]


@dataclass
class Unit:
    """Nodes that are placed as one.

    :ivar segments: that hold them together. :ivar key: units of the same key suit the same hosts.
    :ivar wires: number of links to other units, by their position.
    """

    members: tuple[NodeWish, ...]
    segments: tuple[str, ...]
    memory_mb: int
    cpus: float
    largest_mb: int
    key: Hashable
    apart: tuple[str, ...]
    apart_preferred: tuple[str, ...]
    images: frozenset[tuple[str, str]]
    wires: Counter[int] = field(default_factory=Counter)

    @property
    def clash(self) -> str:
        """A group of which it has two nodes, which nothing can keep apart; empty: none."""
        return next((group for group, count in Counter(self.apart).items() if count > 1), "")


def units_of(nodes: Sequence[NodeWish], segments: Mapping[str, Sequence[str]]) -> list[Unit]:
    """All nodes, in the order of each unit's first one."""
    parent = {node.name: node.name for node in nodes}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for members in segments.values():
        known = [name for name in members if name in parent]
        for name in known[1:]:
            parent[root(name)] = root(known[0])
    holding: dict[str, list[str]] = {}
    for segment, members in segments.items():
        first = next((name for name in members if name in parent), None)
        if first is not None:
            holding.setdefault(root(first), []).append(segment)
    grouped: dict[str, list[NodeWish]] = {}
    for node in nodes:
        grouped.setdefault(root(node.name), []).append(node)
    return [_unit(members, holding.get(name, ())) for name, members in grouped.items()]


def _unit(members: Sequence[NodeWish], segments: Iterable[str]) -> Unit:
    kinds = frozenset((node.kind, tuple(sorted(node.labels.items()))) for node in members)
    return Unit(
        members=tuple(members),
        segments=tuple(segments),
        memory_mb=sum(node.memory_mb for node in members),
        cpus=sum(node.cpus for node in members),
        largest_mb=max(node.memory_mb for node in members),
        key=kinds,
        apart=tuple(group for node in members for group in node.apart),
        apart_preferred=tuple(group for node in members for group in node.apart_preferred),
        images=frozenset(node.image for node in members if node.image[1]),
    )


def connect(units: Sequence[Unit], links: Iterable[tuple[str, str]]) -> None:
    """Count the links between units; those of one unit cost nothing anywhere."""
    index = {node.name: position for position, unit in enumerate(units) for node in unit.members}
    for a, b in links:
        first, second = index.get(a), index.get(b)
        if first is not None and second is not None and first != second:
            units[first].wires[second] += 1
            units[second].wires[first] += 1
