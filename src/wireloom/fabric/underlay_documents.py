"""What travels on the fabric about wires between hosts.

=====================  ======================  ==========================
what                   where                   written by
=====================  ======================  ==========================
whom a host has wires  KV ``peers``, ``<host>``  controller
ends of these wires    KV ``ends``,            the agent of ``<from>``,
                       ``<to>.<from>``         for the agent of ``<to>``
=====================  ======================  ==========================

Both are whole documents, written again whenever they differ and when the store was lost.
"""

from __future__ import annotations

from wireloom.model.base import Value
from wireloom.model.underlay import FarEnd, Peer

__all__ = ["HostEnds", "HostPeers"]


class HostPeers(Value):
    """The other hosts that ``host`` has wires to. One that is not named is not known (yet), and nothing is undone.

    :ivar inside: the host's own address inside WireGuard; empty: it has none.
    """

    schema_version: int = 1
    host: str
    inside: str = ""
    peers: tuple[Peer, ...] = ()


class HostEnds(Value):
    """Ends that ``source`` has of the wires between it and ``target``. A wire that is not named has no end there."""

    schema_version: int = 1
    source: str
    target: str
    ends: tuple[FarEnd, ...] = ()
