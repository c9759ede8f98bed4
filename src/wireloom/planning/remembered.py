"""What an expansion made before, so that the next one makes again only what has changed.

What is remembered is given back only for equal inputs: a result never depends on what was remembered. Values are
compared by identity first, so that parts of a topology that did not change cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from wireloom.model.slice import NodeIntent
from wireloom.model.topology import Topology

if TYPE_CHECKING:
    from wireloom.planning.expand_links import HostLinks

__all__ = ["Latest", "Remembered", "sharing_parts"]

T = TypeVar("T")


@dataclass
class Latest(Generic[T]):
    """The result of the last call, with what it was made of; two threads may use it, and then one's is kept."""

    _kept: tuple[tuple[object, ...], T] | None = None

    def get(self, inputs: tuple[object, ...], make: Callable[[], T]) -> T:
        """What ``make`` gives, which depends on nothing but ``inputs``. Nobody may change it."""
        kept = self._kept
        if kept is not None and kept[0] == inputs:
            return kept[1]
        made = make()
        self._kept = (inputs, made)
        return made


@dataclass
class Remembered:
    """Of one lab. ``nodes``: by name, what an intent was made of, and the intent. ``links``: of all hosts."""

    nodes: dict[str, tuple[tuple[object, ...], NodeIntent]] = field(default_factory=dict)
    links: Latest[Mapping[str, HostLinks]] = field(default_factory=Latest)
    ports: Latest[Mapping[str, frozenset[int]]] = field(default_factory=Latest)

    def node(self, name: str, inputs: tuple[object, ...], attention: int, make: Callable[[], NodeIntent]) -> NodeIntent:
        """The intent that ``make`` gives, which depends on ``inputs`` and ``attention`` alone."""
        kept = self.nodes.get(name)
        if kept is None or kept[0] != inputs:
            intent = make()
        elif kept[1].attention == attention:
            return kept[1]
        else:
            intent = kept[1].changed(attention=attention)
        self.nodes[name] = (inputs, intent)
        return intent


def sharing_parts(topology: Topology, other: Topology) -> Topology:
    """``topology`` with the very nodes and links of ``other`` where they are equal, so that comparing them is quick."""
    nodes = {spec.name: spec for spec in other.nodes}
    parts: dict[str, object] = {
        "nodes": tuple(known if (known := nodes.get(spec.name)) == spec else spec for spec in topology.nodes)
    }
    if topology.links == other.links:
        parts["links"] = other.links
    if topology.plugs == other.plugs:
        parts["plugs"] = other.plugs
    return topology.changed(**parts)
