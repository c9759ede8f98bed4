"""Interest in a subject that outlives connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from wireloom.fabric.subjects import LIVE

__all__ = ["Handler", "Subscription"]

log = structlog.get_logger(__name__)

_STREAM: Final = "Nats-Stream"  # in everything that the server sends out of a store, and in nothing else

_LATE_S: Final = 5.0

Handler = Callable[[Msg], Awaitable[None]]
_Mark = tuple[str, str, bytes, tuple[tuple[str, str], ...]]


class _Keeper(Protocol):
    def forget(self, subscription: Subscription) -> None: ...


class Subscription:
    """Survives reconnects, a client that had to be replaced, and a change of the login."""

    def __init__(self, keeper: _Keeper, subject: str, handler: Handler, queue: str = "") -> None:
        self._keeper = keeper
        self._handler = handler
        self._queue = queue
        self._source: _Source | None = None
        self._cancelled = False
        self.subject = subject

    @property
    def attached(self) -> bool:
        """Whether some client has been told of it."""
        return self._source is not None

    def is_on(self, client: Client) -> bool:
        """Whether ``client`` is the one that was told of it."""
        return self._source is not None and self._source.client is client

    async def attach(self, client: Client) -> None:
        """Make the subscription on ``client``."""
        self._source = await self._subscribed(_Source(client, self._handle))

    def leave(self) -> None:
        """Forget a client that is gone."""
        self._source = None

    async def move(self, client: Client) -> None:
        """Go over to ``client`` without losing a message or handling one twice.

        For a moment both clients are subscribed. What the new one brings waits until the earlier one has brought its
        last message; of what both brought, one copy is handled. :raises Error: of NATS; then nothing has changed.
        """
        earlier = self._source
        if earlier is None:
            return await self.attach(client)
        earlier.seen = Counter()
        later = _Source(client, self._handle, held=[])
        try:
            await self._subscribed(later)
            await client.flush()
        except BaseException:
            earlier.seen = None
            raise
        with contextlib.suppress(nats.errors.Error, OSError):  # either may be lost meanwhile
            if earlier.inner is not None:
                await earlier.inner.drain()  # type: ignore[no-untyped-call]
            await client.flush()
        self._source = later
        await later.release(earlier.seen)
        if self._cancelled:
            await self.cancel()
        return None

    async def cancel(self) -> None:
        """Drop interest; idempotent."""
        self._cancelled = True
        self._keeper.forget(self)
        source, self._source = self._source, None
        if source is not None and source.inner is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await source.inner.unsubscribe()

    async def _subscribed(self, source: _Source) -> _Source:
        source.inner = await source.client.subscribe(self.subject, queue=self._queue, cb=source.take)
        return source

    async def _handle(self, message: Msg) -> None:
        if _STREAM in (message.headers or {}) and not self.subject.startswith(LIVE):
            # A copy of a stored value: whoever may read it can have it sent to anybody, say as a question to a host.
            log.warning("fabric.copy-refused", subject=message.subject)
            return
        try:
            await self._handler(message)
        except Exception:
            log.exception("fabric.handler-failed", subject=message.subject)


class _Source:
    """What one client brings of a subject.

    :ivar seen: counts what came, while another client takes over.
    :ivar held: what waits until the earlier client has brought everything; ``None``: nothing has to wait.
    """

    def __init__(self, client: Client, handle: Handler, *, held: list[Msg] | None = None) -> None:
        self.client = client
        self.inner: NatsSubscription | None = None
        self.seen: Counter[_Mark] | None = None
        self.held = held
        self._handle = handle
        self._double: Counter[_Mark] = Counter()

    async def take(self, message: Msg) -> None:
        if self.held is not None:
            self.held.append(message)
            return
        if self._double[_mark(message)] > 0:
            self._double[_mark(message)] -= 1
            return
        if self.seen is not None:
            self.seen[_mark(message)] += 1
        await self._handle(message)

    async def release(self, seen: Counter[_Mark]) -> None:
        """Handle what waits, except for what was ``seen`` already; a late copy of that is dropped for some seconds."""
        self._double = seen
        while self.held:
            message = self.held.pop(0)
            if self._double[_mark(message)] > 0:
                self._double[_mark(message)] -= 1
            else:
                await self._handle(message)
        self.held = None
        asyncio.get_running_loop().call_later(_LATE_S, self._double.clear)


def _mark(message: Msg) -> _Mark:
    return message.subject, message.reply, message.data, tuple(sorted((message.headers or {}).items()))
