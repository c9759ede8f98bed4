"""What placement is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

from wireloom.errors import WireloomError

__all__ = ["USUAL", "Choice", "HostOffer", "NodeWish", "Placement", "PlacementOptions", "Suits"]

#: Why a node cannot run on a host whatever else is there, both by name; ``None``: it can.
Suits = Callable[[str, str], WireloomError | None]


@dataclass(frozen=True)
class HostOffer:
    """A host that lives.

    :ivar memory_mb: that it has; 0: not known, so nothing is refused for it. :ivar cpus: cores; 0 likewise.
    :ivar used_mb: what nodes of other labs reserve there; ``used_cpus`` likewise.
    :ivar closed: why it takes nothing new, in words; empty: it does.
    :ivar labels: what users say of it.
    :ivar images: provider and name of images that it has, as far as known.
    """

    name: str
    memory_mb: int = 0
    cpus: float = 0
    used_mb: int = 0
    used_cpus: float = 0
    closed: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    images: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class NodeWish:
    """What is known of one node.

    :ivar memory_mb: the most that it may use; ``cpus`` likewise, in cores. Both 0 for one that is to be off.
    :ivar kind: nodes of the same kind suit the same hosts.
    :ivar pin: the host that the user wrote. :ivar current: the one that it exists on.
    :ivar labels: that its host must have.
    :ivar apart: groups of which no two nodes may be on one host; ``apart_preferred``: rather not.
    :ivar image: provider and name.
    """

    name: str
    memory_mb: int = 0
    cpus: float = 0
    kind: Hashable = ""
    pin: str | None = None
    current: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    apart: tuple[str, ...] = ()
    apart_preferred: tuple[str, ...] = ()
    image: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class PlacementOptions:
    """:ivar overcommit_memory: reserved memory may exceed the host's by this factor; ``overcommit_cpu``: cores
    likewise, 0: without limit."""

    overcommit_memory: float = 2.0
    overcommit_cpu: float = 0


#: As installations are that say nothing.
USUAL: Final = PlacementOptions()


@dataclass(frozen=True)
class Choice:
    """Where a node goes, and why.

    :ivar host: ``None``: no host can take it, for ``error``. With an ``error``: it stays there, against its pin.
    :ivar rejected: hosts that cannot take it, with the reason of each in words.
    """

    host: str | None
    reasons: tuple[str, ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)
    error: WireloomError | None = None


@dataclass(frozen=True)
class Placement:
    """A choice for every node, by its name."""

    choices: Mapping[str, Choice]

    def host(self, node: str) -> str | None:
        """The host chosen for ``node``."""
        return self.choices[node].host
