"""Interest in a subject that outlives connections."""

from __future__ import annotations

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

Handler = Callable[[Msg], Awaitable[None]]


class _Keeper(Protocol):
    def forget(self, subscription: Subscription) -> None: ...


class Subscription:
    """Survives reconnects, a client that had to be replaced, and a change of the login."""

    def __init__(self, keeper: _Keeper, subject: str, handler: Handler, queue: str = "") -> None:
        self._keeper = keeper
        self._handler = handler
        self._queue = queue
        self._inner: NatsSubscription | None = None
        self._client: Client | None = None
        self._cancelled = False
        self._seen: Counter[tuple[str, str, bytes]] | None = None
        self._held: list[Msg] = []
        self.subject = subject

    @property
    def attached(self) -> bool:
        """Whether some client has been told of it."""
        return self._inner is not None

    def is_on(self, client: Client) -> bool:
        """Whether ``client`` is the one that was told of it."""
        return self._client is client

    async def attach(self, client: Client) -> None:
        """Make the subscription on ``client``."""
        self._inner = await client.subscribe(self.subject, queue=self._queue, cb=self._deliver)
        self._client = client

    def leave(self) -> None:
        """Forget a client that is gone."""
        self._inner = self._client = None

    async def move(self, client: Client) -> None:
        """Go over to ``client`` without losing a message or handling one twice.

        For a moment both clients are subscribed. What the new one brings waits until the earlier one has brought its
        last message; of what both brought, one copy is handled. :raises Error: of NATS; then nothing has changed.
        """
        earlier = self._inner
        if earlier is None:
            return await self.attach(client)
        self._seen, self._held = Counter(), []
        try:
            later = await client.subscribe(self.subject, queue=self._queue, cb=self._hold)
            await client.flush()
            with contextlib.suppress(nats.errors.Error, OSError):  # it may have been lost meanwhile
                await earlier.drain()  # type: ignore[no-untyped-call]
            self._inner, self._client = later, client
            while self._held:
                message = self._held.pop(0)
                if self._seen[_mark(message)] > 0:
                    self._seen[_mark(message)] -= 1
                else:
                    await self._handle(message)
        finally:
            self._seen = None
        if self._cancelled:
            await self.cancel()
        return None

    async def cancel(self) -> None:
        """Drop interest; idempotent."""
        self._cancelled = True
        self._keeper.forget(self)
        inner, self._inner = self._inner, None
        if inner is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await inner.unsubscribe()

    async def _deliver(self, message: Msg) -> None:
        if self._seen is not None:
            self._seen[_mark(message)] += 1
        await self._handle(message)

    async def _hold(self, message: Msg) -> None:
        """From the client that takes over: handled at once when it has."""
        if self._seen is None:
            await self._handle(message)
        else:
            self._held.append(message)

    async def _handle(self, message: Msg) -> None:
        if _STREAM in (message.headers or {}) and not self.subject.startswith(LIVE):
            # A copy of a stored value: whoever may read it can have it sent to anybody, say as a question to a host.
            log.warning("fabric.copy-refused", subject=message.subject)
            return
        try:
            await self._handler(message)
        except Exception:
            log.exception("fabric.handler-failed", subject=message.subject)


def _mark(message: Msg) -> tuple[str, str, bytes]:
    return message.subject, message.reply, message.data
