"""Logins that controllers sign: who may come in, who may no more, and how the servers hear of it.

The truth about keys is the controller's (a :class:`KeyRing` on its database). Servers only hold what they were told,
so :class:`SignedLogins` looks again and again whether they know every revoked key, and tells them anew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from wireloom.fabric.keys import FabricKeys

__all__ = ["FabricLogins", "KeyRing", "Place"]


class KeyRing(Protocol):
    """Which public keys belong to which host; the controller's registry has it in its database."""

    async def revoked(self) -> Collection[str]:
        """Public keys that must not come in any more. Keys revoked more than 400 days ago may be left out."""
        ...

    async def admit(self, host: str, public_key: str) -> None:
        """Remember ``public_key`` as a further one of ``host``, which has the right to renew its login; idempotent.

        :raises NotPermitted: the host was removed, or the key is revoked or another host's.
        """
        ...

    async def settle(self, host: str, public_key: str) -> None:
        """``host`` uses ``public_key`` now: every other key of its is revoked from here on; idempotent."""
        ...


@dataclass(frozen=True)
class Place:
    """Where hosts find the fabric.

    :ivar urls: of its servers, without credentials; ``tls://…`` where they ask for TLS.
    :ivar ca: certificates (PEM) that the servers' own are signed by; empty: no TLS.
    """

    urls: tuple[str, ...]
    ca: str = ""


class FabricLogins(Protocol):
    """What controllers do about logins. With a fabric by password (``fabric_user``) there is none of this: ``None``.

    A host joins so::

        await ring.admit(host, public_key)          # in the database, after its token was found good
        claims = logins.sign(host, public_key)
        place = await logins.place(seen_as=…)        # answer: claims, place.urls, place.ca, installation

    and is removed so::

        … mark its keys revoked in the database …
        await logins.enforce()
    """

    def sign(self, host: str, public_key: str) -> str:
        """Claims with which the agent of ``host`` that has the seed of ``public_key`` logs in. Asks nobody.

        :raises InvalidInput: ``public_key`` is not one of a user (``U…``).
        """
        ...

    async def place(self, *, seen_as: str = "") -> Place:
        """Where hosts reach the servers.

        :param seen_as: name or address under which the asking host has reached this controller: where the settings
            do not say otherwise, the private server is told to be there too, and its certificate names it.
        """
        ...

    async def enforce(self) -> None:
        """Tell the servers of every revoked key now: their connections end before this returns.

        What cannot be told now is told later, again and again.

        :raises Unavailable: no server took it within some seconds.
        """
        ...


class SignedLogins:
    """:class:`FabricLogins` with the keys of the fabric. :meth:`start` begins to look after the servers.

    :param urls: of the servers, for the connection of the servers' own account.
    """

    def __init__(self, keys: FabricKeys, *, urls: Sequence[str], ca: str = "", days: float = 90) -> None:
        self._keys = keys
        self._urls = tuple(urls)
        self._ca = ca
        self._days = days

    async def start(self, ring: KeyRing) -> None:
        """From now on until :meth:`stop`, servers are held to what ``ring`` says."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Let go; idempotent."""
        raise NotImplementedError
