"""WireGuard between hosts, as an option."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from wireloom.model.underlay import Peer, Way, WireGuardPeer

__all__ = ["SecureLinks"]


class SecureLinks(Protocol):
    """What the underlay needs of WireGuard.

    :ivar facts: how others reach this host through it; ``None``: not, for ``problem``.
    """

    @property
    def facts(self) -> WireGuardPeer | None: ...

    @property
    def problem(self) -> str: ...

    def way(self, peer: Peer) -> Way | None:
        """How tunnels to ``peer`` are made; ``None``: it is not known through WireGuard."""
        ...

    async def probe(self) -> None:
        """Find out whether the host has it."""
        ...

    async def ensure(self, inside: str, peers: Collection[Peer], path_mtu: int) -> bool:
        """Have the device know exactly ``peers``; whether anything is other than before.

        :param inside: this host's own address within. :param path_mtu: of the narrowest way to them; 0: not known.
        """
        ...
