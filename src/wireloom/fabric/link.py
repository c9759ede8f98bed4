"""One connection to NATS that never gives up: reconnects for ever, keeps subscriptions, maps errors to our tree."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from wireloom.errors import CapacityExceeded, DeadlineExceeded, Unauthenticated, Unavailable, WireloomError
from wireloom.fabric.login import Login
from wireloom.fabric.subjects import inbox_prefix

__all__ = ["Endpoint", "Handler", "Link", "NoResponders", "Subscription"]

log = structlog.get_logger(__name__)

T = TypeVar("T")
Handler = Callable[[Msg], Awaitable[None]]

_RECONNECT_WAIT_S = 0.1
_PING_INTERVAL_S = 5
_SETTLE_S = 3.0
_WAIT_S = 3.0
_REPLACE_S = 60.0


class NoResponders(Unavailable):
    """Nobody listens where the question was sent; callers turn it into an error that names who is missing."""


@dataclass(frozen=True)
class Endpoint:
    """Where NATS is and who we are there.

    :ivar urls: of one server or of several, of which any will do.
    :ivar ca: certificates (PEM) by which the servers are known; empty: those that the machine trusts.
    """

    urls: tuple[str, ...]
    name: str
    login: Login = field(default_factory=Login)
    ca: str = field(default="", repr=False)

    @property
    def inbox(self) -> str:
        return inbox_prefix(self.login.user or urlsplit(self.urls[0]).username or "")

    @property
    def address(self) -> str:
        """Hosts and ports without credentials, for messages."""
        return ", ".join(urlsplit(url).netloc.rpartition("@")[2] for url in self.urls)


class Subscription:
    """Interest in a subject; survives reconnects and a client that had to be replaced."""

    def __init__(self, link: Link, subject: str, handler: Handler) -> None:
        self._link = link
        self._handler = handler
        self._inner: NatsSubscription | None = None
        self.subject = subject

    async def attach(self, client: Client) -> None:
        """Make the subscription on ``client``."""
        self._inner = await client.subscribe(self.subject, cb=self._deliver)

    async def cancel(self) -> None:
        """Drop interest; idempotent."""
        self._link.forget(self)
        inner, self._inner = self._inner, None
        if inner is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await inner.unsubscribe()

    async def _deliver(self, message: Msg) -> None:
        try:
            await self._handler(message)
        except Exception:
            log.exception("fabric.handler-failed", subject=message.subject)


class Link:
    """The connection. ``on_up`` callbacks run after every reconnect (and when messages were dropped), ``on_down``
    callbacks after every loss.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[], None]] = []
        self._client = Client()
        self._subscriptions: list[Subscription] = []
        self._up = asyncio.Event()
        self._loss: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._since = 0.0
        self._closing = False
        self._replacing: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    @property
    def connected(self) -> bool:
        return self._up.is_set() and self._client.is_connected

    @property
    def settling(self) -> bool:
        """The connection is so young that others may not be back yet."""
        return time.monotonic() - self._since < _SETTLE_S

    @property
    def max_payload(self) -> int:
        return int(self._client.max_payload)

    async def open(self, timeout_s: float) -> None:
        """Connect.

        :raises Unavailable: nobody answers there within ``timeout_s``.
        :raises Unauthenticated: the login is refused.
        """
        connecting = asyncio.ensure_future(self._connect())
        waiting: set[asyncio.Future[None]] = {connecting, self._refused}
        try:
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self._refused.done():
                raise Unauthenticated(f"the fabric at {self.endpoint.address} refuses the login")
            if not connecting.done():
                raise Unavailable(
                    f"the fabric at {self.endpoint.address} does not answer",
                    hint="is the controller running, and is the address right?",
                )
            await connecting
        except BaseException:
            self._closing = True
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await self._dispose(self._client)
            raise
        self._went_up()

    async def close(self) -> None:
        """Let go of everything; idempotent."""
        self._closing = True
        self._up.clear()
        self._stop_waiting()
        if self._replacing is not None:
            self._replacing.cancel()
        for subscription in list(self._subscriptions):
            await subscription.cancel()
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(2):
                if self._client.is_connected:
                    await self._client.flush(timeout=1)
        await self._dispose(self._client)

    async def wait_connected(self, timeout_s: float) -> None:
        """:raises Unavailable: the connection is not back within ``timeout_s``."""
        if self.connected:
            return
        try:
            async with asyncio.timeout(timeout_s):
                while not self.connected:
                    await self._up.wait()
                    if not self._client.is_connected:
                        await asyncio.sleep(_RECONNECT_WAIT_S)
        except TimeoutError as error:
            raise self._lost() from error

    async def subscribe(self, subject: str, handler: Handler) -> Subscription:
        """Deliver messages of ``subject`` to ``handler``, one after the other, until cancelled."""
        subscription = Subscription(self, subject, handler)
        self._subscriptions.append(subscription)
        if self.connected:
            await self._attach(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        with contextlib.suppress(ValueError):
            self._subscriptions.remove(subscription)

    async def flush(self, timeout_s: float = 5) -> None:
        """Return when the server has processed everything sent so far. :raises Unavailable: it is or gets lost."""
        await self.wait_connected(min(timeout_s, _WAIT_S))
        try:
            await self._unless_lost(self._client.flush(timeout=max(1, int(timeout_s))))
        except (nats.errors.Error, OSError) as error:
            raise self._lost() from error

    async def publish(
        self, subject: str, payload: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send without an answer. :raises Unavailable: not connected. :raises CapacityExceeded: too large."""
        if not self.connected:
            raise self._lost()
        try:
            await self._client.publish(subject, payload, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise self._too_large(payload) from error
        except (nats.errors.Error, OSError) as error:
            raise self._lost() from error

    async def ask_store(
        self, subject: str, payload: bytes = b"", *, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Like :meth:`request`, but gives up with ``Unavailable`` as soon as the connection is lost.

        For what the server itself answers: its answer dies with it, and asking again is harmless.
        """
        await self.wait_connected(min(timeout_s, _WAIT_S))
        return await self._unless_lost(self.request(subject, payload, timeout_s=timeout_s, headers=headers))

    async def request(
        self, subject: str, payload: bytes = b"", *, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Ask and wait for one answer.

        :raises NoResponders: nobody listens there.
        :raises DeadlineExceeded: no answer within ``timeout_s``.
        :raises Unavailable: the fabric is not connected, or was lost.
        :raises CapacityExceeded: the question is larger than the server takes.
        """
        # A question is never left in the client's buffer: it would be asked long after the caller gave up.
        await self.wait_connected(min(timeout_s, _WAIT_S))
        try:
            return await self._client.request(subject, payload, timeout=timeout_s, headers=headers)
        except nats.errors.NoRespondersError as error:
            raise NoResponders(f"nobody answers to {subject}") from error
        except nats.errors.TimeoutError as error:
            raise DeadlineExceeded(f"no answer to {subject} within {timeout_s:g} s") from error
        except nats.errors.MaxPayloadError as error:
            raise self._too_large(payload) from error
        except (nats.errors.Error, OSError) as error:
            raise self._lost() from error

    async def _unless_lost(self, doing: Coroutine[Any, Any, T]) -> T:
        """What ``doing`` returns, or ``Unavailable`` as soon as the connection is lost: no answer will come then."""
        loss: asyncio.Future[Any] = self._loss
        task: asyncio.Future[Any] = asyncio.ensure_future(doing)
        try:
            await asyncio.wait({task, loss}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._lost()
            result: T = await task
            return result
        finally:
            task.cancel()

    def _lost(self) -> WireloomError:
        return Unavailable(f"the fabric at {self.endpoint.address} is not connected", hint="it is tried again for ever")

    def _too_large(self, payload: bytes) -> WireloomError:
        return CapacityExceeded(f"a message of {len(payload)} bytes is over the fabric's limit of {self.max_payload}")

    async def _connect(self) -> None:
        await self._client.connect(
            servers=list(self.endpoint.urls),
            name=self.endpoint.name,
            user=self.endpoint.login.user or None,
            password=self.endpoint.login.password or None,
            inbox_prefix=self.endpoint.inbox,
            connect_timeout=2,
            reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]  # seconds; fractions work
            max_reconnect_attempts=-1,
            ping_interval=_PING_INTERVAL_S,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
        )

    async def _on_error(self, error: Exception) -> None:
        log.debug("fabric.error", endpoint=self.endpoint.name, error=repr(error))
        if isinstance(error, nats.errors.SlowConsumerError):
            log.warning("fabric.fell-behind", endpoint=self.endpoint.name, subject=error.subject)
            for callback in self.on_up:  # messages were dropped: read again, as after an outage
                callback()
        # The text is the protocol's own constant: its errors have no other code.
        if "Authorization Violation" in str(error) and not self._refused.done():
            self._refused.set_result(None)

    async def _on_disconnected(self) -> None:
        if self._closing or not self._up.is_set():
            return
        self._up.clear()
        log.warning("fabric.lost", endpoint=self.endpoint.name, server=self.endpoint.address)
        self._note_loss()
        self._patience = asyncio.get_running_loop().call_later(_REPLACE_S, self._start_replacing)
        for callback in self.on_down:
            callback()

    async def _on_reconnected(self) -> None:
        log.info("fabric.back", endpoint=self.endpoint.name, server=self.endpoint.address)
        for subscription in list(self._subscriptions):
            if subscription._inner is None:  # noqa: SLF001 - made while the connection was away
                await self._attach(subscription)
        self._went_up()

    async def _on_closed(self) -> None:
        """The client gave up (it does on a refused login)."""
        self._start_replacing()

    def _start_replacing(self) -> None:
        """A new client takes over the subscriptions of one that ended, or that did not get back for too long."""
        if self._closing or self.connected or (self._replacing is not None and not self._replacing.done()):
            return
        self._up.clear()
        self._note_loss()
        self._replacing = asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        while not self._closing:
            await asyncio.sleep(1)
            await self._dispose(self._client)
            self._client = Client()
            try:
                async with asyncio.timeout(10):
                    await self._connect()
            except (TimeoutError, nats.errors.Error, OSError) as error:
                log.warning("fabric.refused", endpoint=self.endpoint.name, error=repr(error))
                continue
            for subscription in list(self._subscriptions):
                await self._attach(subscription)
            self._went_up()
            return

    def _note_loss(self) -> None:
        self._loss.set_result(None)
        self._loss = asyncio.get_running_loop().create_future()

    async def _attach(self, subscription: Subscription) -> None:
        try:
            await subscription.attach(self._client)
        except (nats.errors.Error, OSError) as error:
            log.debug("fabric.subscribe-later", subject=subscription.subject, error=repr(error))

    def _went_up(self) -> None:
        self._since = time.monotonic()
        self._up.set()
        self._stop_waiting()
        for callback in self.on_up:
            callback()

    def _stop_waiting(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.cancel()

    @staticmethod
    async def _dispose(client: Client) -> None:
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError, asyncio.InvalidStateError):
            async with asyncio.timeout(2):
                await client.close()
