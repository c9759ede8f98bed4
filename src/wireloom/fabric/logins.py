"""Logins that controllers sign: who may come in, who may no more, and how the servers hear of it.

The truth about keys is the controller's (a :class:`KeyRing` on its database). Servers only hold what they were told,
so :class:`SignedLogins` looks again and again whether they know every revoked key, and tells them anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from nats.aio.msg import Msg

from wireloom.errors import InvalidInput, Unavailable, WireloomError
from wireloom.fabric.claims import Claims, read_claims, user_claims
from wireloom.fabric.keys import FabricKeys
from wireloom.fabric.link import Endpoint, Link
from wireloom.fabric.subjects import agent_permissions, agent_user

__all__ = ["REVOKED_S", "FabricLogins", "KeyRing", "Place", "SignedLogins", "agent_claims", "next_claims"]

log = structlog.get_logger(__name__)

#: How far ahead of now a revocation counts. Longer than any login is good for (``fabric_login_days``), so that a key
#: that is revoked stays so whatever the clocks say; after that time its claims have expired anyway.
REVOKED_S: Final = 400 * 86400
_KEEP_S: Final = 2 * 86400
_LOOK_EVERY_S: Final = 5.0
_RETRY_S: Final = 1.0
_ANSWER_S: Final = 3.0
_ENFORCE_S: Final = 5.0
_ENFORCE_PAUSE_S: Final = 0.1
_FURTHER_ANSWERS_S: Final = 0.3
_CONNECT_S: Final = 10.0


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


def agent_claims(keys: FabricKeys, host: str, public_key: str, *, days: float, now: float) -> str:
    """Claims of the agent of ``host`` for ``days`` from ``now`` on. :raises InvalidInput: this is no key of a user."""
    return user_claims(
        keys.account,
        public_key,
        name=agent_user(host),
        issued=int(now),
        expires=int(now + days * 86400),
        permissions=agent_permissions(host),
    )


def next_claims(keys: FabricKeys, known: Sequence[Claims], revoked: Collection[str], *, now: float) -> str | None:
    """What servers that hold ``known`` have to be told; ``None``: they know of every revoked key.

    What another controller has revoked meanwhile stays. Of two versions servers keep the one that was issued later,
    whoever's clock it was: so this one is later than all of them.
    """
    wanted = set(revoked)
    if known and all(wanted <= set(claims.revoked) for claims in known):
        return None
    together: dict[str, int] = {}
    for claims in known:
        together |= {key: max(until, together.get(key, 0)) for key, until in claims.revoked.items()}
    together = {key: until for key, until in together.items() if until > now - _KEEP_S or key in wanted}
    together |= dict.fromkeys(wanted - set(together), int(now + REVOKED_S))
    return keys.account_claims(issued=max([int(now), *(claims.issued + 1 for claims in known)]), revoked=together)


async def _nowhere(seen_as: str) -> Place:
    del seen_as
    return Place(urls=())


class SignedLogins:
    """:class:`FabricLogins` with the keys of the fabric. :meth:`start` begins to look after the servers.

    :param urls: of the servers, as this process reaches them.
    :param ca: certificates (PEM) by which they are known; empty: no TLS.
    :param days: that a login is good for.
    :param place: where hosts reach the servers, given as what they have reached the controller.
    :param told: called with the account's claims that a server has taken. May block for some milliseconds.
    """

    def __init__(
        self,
        keys: FabricKeys,
        *,
        urls: Sequence[str],
        ca: str = "",
        days: float = 90,
        place: Callable[[str], Awaitable[Place]] = _nowhere,
        told: Callable[[str], None] = lambda claims: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._urls = tuple(urls)
        self._ca = ca
        self._days = days
        self._place = place
        self._told = told
        self._clock = clock
        self._ring: KeyRing | None = None
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._revoked: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()

    @property
    def revoked(self) -> frozenset[str]:
        """Public keys that were revoked when that was looked at last."""
        return self._revoked

    def now(self) -> float:
        """UNIX seconds by the clock that logins are signed with."""
        return self._clock()

    def sign(self, host: str, public_key: str) -> str:
        """See :class:`FabricLogins`."""
        return agent_claims(self._keys, host, public_key, days=self._days, now=self._clock())

    async def place(self, *, seen_as: str = "") -> Place:
        """See :class:`FabricLogins`."""
        return await self._place(seen_as)

    async def start(self, ring: KeyRing) -> None:
        """From now on until :meth:`stop`, servers are held to what ``ring`` says.

        :raises Unavailable: no server answers. :raises Unauthenticated: they do not know our keys.
        """
        self._ring = ring
        endpoint = Endpoint(urls=self._urls, name="controller: logins", login=self._keys.system_login, ca=self._ca)
        link = Link(endpoint)
        await link.open(_CONNECT_S)
        link.on_up.append(self._wake.set)
        self._link = link
        self._revoked = frozenset(await ring.revoked())
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Let go; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def enforce(self) -> None:
        """See :class:`FabricLogins`."""
        deadline = time.monotonic() + _ENFORCE_S
        while True:
            try:
                return await self._look()
            except Unavailable:  # a server of several went, say: the next one answers
                if time.monotonic() > deadline:
                    self._wake.set()
                    raise
                await asyncio.sleep(_ENFORCE_PAUSE_S)

    async def _keep(self) -> None:
        while True:
            pause = _LOOK_EVERY_S
            try:
                await self._look()
            except WireloomError as error:
                log.warning("fabric.logins-not-told", error=str(error))
                pause = _RETRY_S
            except Exception:
                log.exception("fabric.logins-failed")  # say the database: it is looked at again
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()

    async def _look(self) -> None:
        """Compare what the servers know with what they should, and tell them."""
        if self._ring is None or self._link is None:
            raise Unavailable("logins on the fabric are not looked after yet")
        async with self._looking:
            revoked = self._revoked = frozenset(await self._ring.revoked())
            account = self._keys.account_key
            answers = await self._ask_all(self._link, f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"")
            claims = next_claims(self._keys, _readable(answers, account), revoked, now=self._clock())
            if claims is None:
                return
            answers = await self._ask_all(self._link, "$SYS.REQ.CLAIMS.UPDATE", claims.encode())
            refused = [text for text in map(_problem, answers) if text]
            if not answers or refused:
                words = "; ".join(refused) or "no server answers"
                raise Unavailable(f"the fabric does not take the list of revoked logins: {words}")
            await asyncio.to_thread(self._told, claims)
            log.info("fabric.logins-told", revoked=len(revoked), servers=len(answers))

    async def _ask_all(self, link: Link, subject: str, payload: bytes) -> list[bytes]:
        """What the servers answer: waits for the first, and for a moment for the others."""
        answers: list[bytes] = []
        arrived = asyncio.Event()

        async def take(message: Msg) -> None:
            answers.append(message.data)
            arrived.set()

        inbox = f"{link.endpoint.inbox}.{secrets.token_hex(8)}"
        subscription = await link.subscribe(inbox, take)
        try:
            await link.wait_connected(_ANSWER_S)
            await link.publish(subject, payload, reply=inbox)
            await link.flush(_ANSWER_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    await arrived.wait()
            if len(answers) < len(self._urls):
                await asyncio.sleep(_FURTHER_ANSWERS_S)
        finally:
            await subscription.cancel()
        return answers


def _readable(answers: Sequence[bytes], account: str) -> list[Claims]:
    """Claims of ``account`` among ``answers``; a server that does not know it answers something else, or nothing."""
    found = []
    for answer in answers:
        with contextlib.suppress(InvalidInput, UnicodeDecodeError):
            claims = read_claims(answer.decode())
            if claims.subject == account:
                found.append(claims)
    return found


def _problem(answer: bytes) -> str:
    """Why a server did not take claims; empty: it did."""
    try:
        document: Mapping[str, Any] = json.loads(answer)
        error = document.get("error")
        return str(error.get("description", error)) if error else ""
    except (ValueError, AttributeError):
        return "an answer that is none"
