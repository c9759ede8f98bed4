"""Choosing a host for each node. Pure.

A pin never moves. A node that is placed stays while its host lives. All others of a lab go together: to the host that
most of the lab is on already, else to the living host with the most memory left, so that wires stay on one host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HostRoom", "Wish", "place"]


@dataclass(frozen=True)
class HostRoom:
    """A host that lives; ``free_mb`` is its memory less what placed nodes reserve (it may be negative)."""

    name: str
    free_mb: int


@dataclass(frozen=True)
class Wish:
    """What is known of one node's place: the host that the user wrote, and the one it is on."""

    pin: str | None = None
    current: str | None = None


def place(wishes: Mapping[str, Wish], hosts: Mapping[str, HostRoom]) -> dict[str, str | None]:
    """The host of each node by its name; ``None`` for a node that no host can take.

    A pin to a host that does not live is ``None`` unless the node is there already: then it waits for its host.
    """
    home = _home(wishes, hosts)
    return {name: _host_of(wish, hosts, home) for name, wish in wishes.items()}


def _host_of(wish: Wish, hosts: Mapping[str, HostRoom], home: str | None) -> str | None:
    if wish.pin is not None:
        return wish.pin if wish.pin in hosts or wish.pin == wish.current else None
    return wish.current or home


def _home(wishes: Mapping[str, Wish], hosts: Mapping[str, HostRoom]) -> str | None:
    used = Counter(host for wish in wishes.values() if (host := wish.pin or wish.current) in hosts)
    best = max(hosts.values(), key=lambda host: (used[host.name], host.free_mb, host.name), default=None)
    return best.name if best else None
