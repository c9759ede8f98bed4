"""One connection to libvirt, owned by one thread: a queue of calls in, results out, each with a deadline.

The bindings block, so no call runs on the event loop; a connection is used by one thread only. A call that overruns
its deadline fails for its caller at once; the thread that is stuck in it is abandoned with its connection and
another takes over the queue. A caller that went away (deadline, cancellation) while its call was running has the
call's ``undo`` run after it, so that nothing half-done stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

import libvirt
import structlog

from wireloom.errors import DeadlineExceeded, InternalError, WireloomError
from wireloom.providers.libvirt.eventloop import ensure_event_loop
from wireloom.providers.libvirt.failures import engine_away, translate

__all__ = ["Connected", "Engine", "Undo"]

_log = structlog.get_logger(__name__)

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Undo(Protocol[T_contra]):
    """Takes back the effect of a call, in the engine's thread."""

    def __call__(self, connection: libvirt.virConnect, result: T_contra) -> None: ...


#: Called in the engine's thread with each new connection: registers callbacks on it and returns what removes them,
#: which is called when that connection is given up.
Connected = Callable[[libvirt.virConnect], Callable[[], None]]

#: A dead peer is noticed after interval * (count + 1) seconds at the latest; a closed socket at once.
_KEEPALIVE_INTERVAL_S: Final = 5
_KEEPALIVE_COUNT: Final = 3


@dataclass
class _Call(Generic[T]):
    """One queued call. ``lock`` orders the hand-over of its result against its caller's going away."""

    function: Callable[[libvirt.virConnect], T]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[T]
    undo: Undo[T] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    started: bool = False
    finished: bool = False
    abandoned: bool = False

    def claim(self) -> bool:
        """Begin, unless the caller has gone."""
        with self.lock:
            self.started = not self.abandoned
            return self.started

    def abandon(self) -> bool:
        """The caller goes away; whether the call is being executed now."""
        with self.lock:
            self.abandoned = True
            return self.started and not self.finished

    def finish(self) -> bool:
        """The function has ended; whether its caller still waits."""
        with self.lock:
            self.finished = True
            return not self.abandoned


@dataclass(frozen=True)
class _Undo:
    """Takes back the effect of a call whose result nobody took."""

    function: Callable[[libvirt.virConnect], None]


class Engine:
    """A connection to the libvirt daemon at ``uri``.

    :param name: of its thread, for people.
    :param connected: called with each new connection (the first, and after libvirtd went and came back).
    """

    def __init__(self, uri: str, name: str, connected: Connected | None = None) -> None:
        self._uri = uri
        self._name = name
        self._connected = connected
        self._worker: _Worker | None = None
        self._waiting = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Calls that are queued or running."""
        return self._waiting

    async def call(
        self,
        function: Callable[[libvirt.virConnect], T],
        *,
        timeout_s: float,
        undo: Undo[T] | None = None,
    ) -> T:
        """Run ``function`` with the connection in the engine's thread.

        :param undo: run in that thread with the function's result when the caller has gone meanwhile.
        :raises Unavailable: libvirtd does not answer.
        :raises DeadlineExceeded: no result within ``timeout_s`` seconds, waiting in the queue included.
        """
        loop = asyncio.get_running_loop()
        call: _Call[T] = _Call(function=function, loop=loop, future=loop.create_future(), undo=undo)
        worker = self._ensure_worker()
        worker.calls.put(call)
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await call.future
        except TimeoutError:
            if worker.leave(call):
                self._replace(worker)
            raise DeadlineExceeded(f"libvirt took longer than {timeout_s:g} s to answer") from None
        except asyncio.CancelledError:
            worker.leave(call)
            raise
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Let go of the connection. Calls that are running end by themselves."""
        self._closed = True
        if self._worker is not None:
            self._worker.calls.put(None)
            self._worker = None

    def _ensure_worker(self) -> _Worker:
        if self._closed:
            raise engine_away("the connection has been closed")
        if self._worker is None:
            ensure_event_loop()
            self._worker = _Worker(self._uri, self._name, self._connected)
            self._worker.start()
        return self._worker

    def _replace(self, stuck: _Worker) -> None:
        """Abandon a thread whose call does not return; those queued behind it move to its successor."""
        if self._worker is not stuck:
            return
        _log.warning("libvirt-call-stuck", thread=self._name)
        self._worker = None
        successor = self._ensure_worker()
        with contextlib.suppress(queue.Empty):
            while True:
                successor.calls.put(stuck.calls.get_nowait())
        stuck.calls.put(None)


class _Worker(threading.Thread):
    """The thread; ``None`` in its queue ends it."""

    def __init__(self, uri: str, name: str, connected: Connected | None) -> None:
        super().__init__(name=name, daemon=True)
        self.calls: queue.SimpleQueue[_Call[Any] | _Undo | None] = queue.SimpleQueue()
        self._uri = uri
        self._on_connected = connected
        self._connection: libvirt.virConnect | None = None
        self._disconnect: Callable[[], None] | None = None

    def run(self) -> None:
        while (call := self.calls.get()) is not None:
            if isinstance(call, _Undo):
                self._undo(call)
            elif call.claim():
                self._execute(call)
        self._drop()

    def leave(self, call: _Call[Any]) -> bool:
        """The caller goes away; whether its call is being executed now. A result it did not take is undone."""
        running = call.abandon()
        future = call.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self._reject(call, future.result())
        return running

    def _execute(self, call: _Call[Any]) -> None:
        try:
            result = call.function(self._open())
        except libvirt.libvirtError as error:
            if self._alive():
                self._fail(call, translate(error))
            else:
                self._drop()
                self._fail(call, engine_away(error.get_error_message() or str(error)))
        except WireloomError as error:
            self._fail(call, error)
        except Exception as error:  # noqa: BLE001 (the thread's edge: a defect must reach its caller, not end the thread)
            _log.exception("libvirt-call-defect")
            self._fail(call, InternalError(f"defect in a libvirt call: {error!r}"))
        else:
            self._succeed(call, result)

    def _succeed(self, call: _Call[Any], result: Any) -> None:
        def settle() -> None:
            if call.future.done():
                self._reject(call, result)
            else:
                call.future.set_result(result)

        if not (call.finish() and _post(call.loop, settle)) and call.undo is not None:
            self._undo(_Undo(partial(call.undo, result=result)))

    def _fail(self, call: _Call[Any], error: WireloomError) -> None:
        def settle() -> None:
            if not call.future.done():
                call.future.set_exception(error)

        if call.finish():
            _post(call.loop, settle)

    def _reject(self, call: _Call[Any], result: Any) -> None:
        """Nobody took ``result``: queue the call's undo."""
        if call.undo is not None:
            self.calls.put(_Undo(partial(call.undo, result=result)))

    def _undo(self, undo: _Undo) -> None:
        try:
            undo.function(self._open())
        except (libvirt.libvirtError, WireloomError) as error:
            _log.warning("libvirt-undo-failed", error=str(error))

    def _alive(self) -> bool:
        if self._connection is None:
            return False
        try:
            return bool(self._connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _open(self) -> libvirt.virConnect:
        if self._connection is not None and self._alive():
            return self._connection
        self._drop()
        try:
            connection = libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            raise engine_away(error.get_error_message() or str(error)) from error
        with contextlib.suppress(libvirt.libvirtError):  # a driver inside this process has none, and needs none
            connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
        self._connection = connection
        if self._on_connected is not None:
            self._disconnect = self._on_connected(connection)
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        disconnect, self._disconnect = self._disconnect, None
        if disconnect is not None:
            disconnect()
        if connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()


def _post(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> bool:
    """Run ``callback`` in ``loop``; false when that loop has closed meanwhile."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True
