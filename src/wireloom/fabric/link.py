"""One connection to NATS that never gives up: reconnects for ever, keeps subscriptions, maps errors to our tree."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from wireloom.errors import CapacityExceeded, DeadlineExceeded, Unauthenticated, Unavailable, WireloomError
from wireloom.fabric.login import Login
from wireloom.fabric.session import RECONNECT_WAIT_S, Endpoint, LoginRefused, Session, refusal
from wireloom.fabric.subscription import Handler, Subscription

__all__ = ["Endpoint", "Handler", "Link", "NoResponders", "Subscription"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

_SETTLE_S = 3.0
_WAIT_S = 3.0
_REPLACE_S = 60.0
_REPLACE_PAUSE_S = 1.0
_RETIRE_S = 30.0
_REFUSED_HINT = "was this host removed? let it join again with a new token"
#: Between attempts with a login that is refused; the first one is soon, because claims may just be on their way.
_REFUSED_PAUSE_S = (0.5, 15.0)


class NoResponders(Unavailable):
    """Nobody listens where the question was sent; callers turn it into an error that names who is missing."""


class Link:
    """The connection. ``on_up`` callbacks run after every reconnect (and when messages were dropped), ``on_down``
    callbacks after every loss.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[], None]] = []
        self._session = Session(endpoint, self)
        self._others: list[Session] = []
        self._subscriptions: list[Subscription] = []
        self._up = asyncio.Event()
        self._loss: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._why_refused = ""
        self._exchanged = asyncio.Event()
        self._exchanging = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._since = 0.0
        self._closing = False
        self._replacing: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    @property
    def connected(self) -> bool:
        return self._up.is_set() and self._session.connected

    @property
    def refused(self) -> str:
        """Why the servers do not let us in (or we do not trust them); empty: they do, or cannot be reached."""
        return self._why_refused

    @property
    def settling(self) -> bool:
        """The connection is so young that others may not be back yet."""
        return time.monotonic() - self._since < _SETTLE_S

    @property
    def clustered(self) -> bool:
        """Whether the server is one of several, of which another may answer what it was told a moment later."""
        return bool(self._client._server_info.get("cluster"))  # noqa: SLF001

    @property
    def max_payload(self) -> int:
        return int(self._client.max_payload)

    @property
    def _client(self) -> Client:
        return self._session.client

    async def open(self, timeout_s: float) -> None:
        """Connect.

        :raises Unavailable: nobody answers there within ``timeout_s``.
        :raises Unauthenticated: the login is refused, or the server is none of ours.
        """
        try:
            await self._first_connect(self._session, timeout_s)
        except BaseException:
            self._closing = True
            raise
        self._went_up()

    async def close(self) -> None:
        """Let go of everything; idempotent."""
        self._closing = True
        self._up.clear()
        self._exchanged.set()
        self._stop_waiting()
        if self._replacing is not None:
            self._replacing.cancel()
        for subscription in list(self._subscriptions):
            await subscription.cancel()
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(2):
                if self._session.connected:
                    await self._client.flush(timeout=1)
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for session in (self._session, *self._others):
            await session.dispose()

    async def exchange(
        self, login: Login, *, urls: tuple[str, ...] = (), ca: str = "", timeout_s: float = 10
    ) -> asyncio.Task[None]:
        """Go on as ``login``, which has the same user's name; no message is lost on the way.

        Where we are not connected now, the next attempt is with the new login.

        :param urls: of the servers from now on; empty: as before. ``ca``: the same.
        :returns: ends when nothing needs the connection with the earlier login any more, or after a while.
        :raises Unauthenticated: the server refuses the new login; the earlier one stays in use.
        :raises Unavailable: the server does not answer; the earlier one stays in use.
        """
        async with self._exchanging:
            endpoint = replace(self.endpoint, login=login, urls=urls or self.endpoint.urls, ca=ca or self.endpoint.ca)
            if not self.connected:
                return self._begin_anew(endpoint)
            session = Session(endpoint, self)
            await self._first_connect(session, timeout_s)
            earlier = self._session
            self._others.append(session)  # it brings questions already, which are answered over it
            try:
                await self._hand_over(session)
                self.endpoint, self._session = endpoint, session
                self._others.append(earlier)
            finally:
                self._others.remove(session)
            if not self._up.is_set():  # the earlier connection was lost meanwhile
                self._went_up()
            log.info("fabric.login-exchanged", endpoint=endpoint.name)
            return self._in_background(self._retire(earlier))

    def _begin_anew(self, endpoint: Endpoint) -> asyncio.Task[None]:
        """Give up what is tried now, and try with ``endpoint``."""
        self.endpoint = endpoint
        self._exchanged.set()
        earlier, self._session = self._session, Session(endpoint, self)
        if self._replacing is not None:
            self._replacing.cancel()
            self._replacing = None
        self._start_replacing()
        return self._in_background(earlier.dispose())

    def _in_background(self, doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(doing)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def wait_connected(self, timeout_s: float) -> None:
        """:raises Unavailable: the connection is not back within ``timeout_s``."""
        if self.connected:
            return
        try:
            async with asyncio.timeout(timeout_s):
                while not self.connected:
                    await self._up.wait()
                    if not self._session.connected:
                        await asyncio.sleep(RECONNECT_WAIT_S)
        except TimeoutError as error:
            raise self._lost() from error

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Deliver messages of ``subject`` to ``handler``, one after the other, until cancelled.

        :param queue: of all subscriptions with this name each message goes to one.
        """
        subscription = Subscription(self, subject, handler, queue)
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
        await self._publish(self._session, subject, payload, reply, headers)

    async def respond(self, message: Msg, payload: bytes) -> None:
        """Answer a question, over the connection that brought it: only there its answer is permitted.

        :raises Unavailable: not connected. :raises CapacityExceeded: too large.
        """
        await self._publish(self._session_of(message) or self._session, message.reply, payload, "", None)

    def hold(self, message: Msg, task: asyncio.Future[Any]) -> None:
        """``message`` will be answered by ``task``: its connection is needed until then."""
        session = self._session_of(message)
        if session is not None:
            session.hold(task)

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
        session = self._session
        try:
            with session.in_use():
                return await session.client.request(subject, payload, timeout=timeout_s, headers=headers)
        except nats.errors.NoRespondersError as error:
            raise NoResponders(f"nobody answers to {subject}") from error
        except nats.errors.TimeoutError as error:
            raise DeadlineExceeded(f"no answer to {subject} within {timeout_s:g} s") from error
        except nats.errors.MaxPayloadError as error:
            raise self._too_large(payload) from error
        except (nats.errors.Error, OSError) as error:
            raise self._lost() from error

    # -- what a session tells ------------------------------------------------------------------------------------

    async def session_error(self, session: Session, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            log.warning("fabric.fell-behind", endpoint=self.endpoint.name, subject=error.subject)
            for callback in self.on_up:  # messages were dropped: read again, as after an outage
                callback()
        why = refusal(error)
        if not why:
            return
        if session.count_refusal(why) < len(self.endpoint.urls):
            return  # another server may take us
        if session is self._session:
            self._note_refusal(why)
            await self._pause(session.refusals)  # the client waits for us before it tries again

    async def session_lost(self, session: Session) -> None:
        if session is not self._session or self._closing or not self._up.is_set():
            return
        self._up.clear()
        log.warning("fabric.lost", endpoint=self.endpoint.name, server=self.endpoint.address)
        self._note_loss()
        self._patience = asyncio.get_running_loop().call_later(_REPLACE_S, self._start_replacing)
        for callback in self.on_down:
            callback()

    async def session_back(self, session: Session) -> None:
        if session is not self._session:
            return
        log.info("fabric.back", endpoint=self.endpoint.name, server=self.endpoint.address)
        for subscription in list(self._subscriptions):
            if not subscription.attached:  # made while the connection was away
                await self._attach(subscription)
        self._went_up()

    async def session_ended(self, session: Session) -> None:
        """The client gave up: it does when the server throws it out."""
        if session is not self._session:
            return
        why = refusal(session.end)
        if why and not self._closing:
            self._note_refusal(why)
        self._start_replacing()

    # -- inside --------------------------------------------------------------------------------------------------

    async def _first_connect(self, session: Session, timeout_s: float) -> None:
        """Connect ``session``, or let go of it. :raises Unavailable: no answer. :raises Unauthenticated: refused."""
        connecting = asyncio.ensure_future(session.connect())
        waiting: set[asyncio.Future[Any]] = {connecting, session.refused}
        try:
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if session.refused.done():
                raise Unauthenticated(
                    f"no login on the fabric at {session.address}: {session.refused.result()}", hint=_REFUSED_HINT
                )
            if not connecting.done():
                raise Unavailable(
                    f"the fabric at {self.endpoint.address} does not answer",
                    hint="is the controller running, and is the address right?",
                )
            await connecting
        except BaseException:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await session.dispose()
            raise

    async def _hand_over(self, session: Session) -> None:
        """Every subscription goes over to ``session``, or none does. :raises Unavailable: it was lost."""
        moved: list[Subscription] = []
        try:
            while waiting := [entry for entry in self._subscriptions if not entry.is_on(session.client)]:
                for subscription in waiting:
                    await subscription.move(session.client)
                    moved.append(subscription)
        except BaseException as error:
            for subscription in moved:
                subscription.leave()
                await self._attach(subscription)
            await session.dispose()
            if isinstance(error, nats.errors.Error | OSError):
                raise self._lost() from error
            raise

    async def _retire(self, session: Session) -> None:
        """Let go of ``session`` when nothing needs it any more, or after a while."""
        try:
            if session.busy:
                await asyncio.wait(set(session.busy), timeout=_RETIRE_S)
        finally:
            await session.dispose()
            self._others.remove(session)

    async def _publish(
        self, session: Session, subject: str, payload: bytes, reply: str, headers: dict[str, str] | None
    ) -> None:
        if not (self.connected if session is self._session else session.connected):
            raise self._lost()
        try:
            await session.client.publish(subject, payload, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise self._too_large(payload) from error
        except (nats.errors.Error, OSError) as error:
            raise self._lost() from error

    def _session_of(self, message: Msg) -> Session | None:
        """Which connection brought a message; ``None``: one that is gone."""
        sessions = (self._session, *self._others)
        return next((session for session in sessions if session.client is message._client), None)  # noqa: SLF001

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
        if self._why_refused:
            return LoginRefused(
                f"no login on the fabric at {self.endpoint.address}: {self._why_refused}",
                hint=_REFUSED_HINT,
            )
        return Unavailable(f"the fabric at {self.endpoint.address} is not connected", hint="it is tried again for ever")

    def _too_large(self, payload: bytes) -> WireloomError:
        return CapacityExceeded(f"a message of {len(payload)} bytes is over the fabric's limit of {self.max_payload}")

    def _note_refusal(self, why: str) -> None:
        if not self._why_refused:
            log.error("fabric.refused", endpoint=self.endpoint.name, server=self.endpoint.address, why=why)
        self._why_refused = why

    async def _pause(self, refusals: int) -> None:
        """Before the next attempt with a login that was refused; shorter when there is a new one."""
        first, longest = _REFUSED_PAUSE_S
        pause = min(first * 2 ** min(refusals - 1, 10), longest)
        self._exchanged.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._exchanged.wait()

    def _start_replacing(self) -> None:
        """A new client takes over the subscriptions of one that ended, or that did not get back for too long."""
        if self._closing or self.connected or (self._replacing is not None and not self._replacing.done()):
            return
        self._up.clear()
        self._note_loss()
        self._replacing = asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        while not self._closing:
            await self._session.dispose()
            self._session = Session(self.endpoint, self)
            try:
                async with asyncio.timeout(_REPLACE_S):
                    await self._session.connect()
            except (TimeoutError, nats.errors.Error, OSError) as error:
                log.warning("fabric.not-back", endpoint=self.endpoint.name, error=repr(error))
                await asyncio.sleep(_REPLACE_PAUSE_S)
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
        self._why_refused = self._session.forget_refusals()
        self._up.set()
        self._stop_waiting()
        for callback in self.on_up:
            callback()

    def _stop_waiting(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.cancel()
