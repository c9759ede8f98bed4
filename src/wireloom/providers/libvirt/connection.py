"""The provider's connections: one for quick calls and events, one for cables, a few for those that take seconds.

A power-on or power-off of a domain can take seconds; a read must not wait behind it. Nor must a cable that is pulled
wait behind a read, which libvirt holds for seconds while a dead emulator is reaped. Each connection has one thread
(see ``engine.py``). The quick one carries the events, and a keeper opens it again whenever libvirtd comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

import libvirt
import structlog

from wireloom.errors import DeadlineExceeded, Unavailable
from wireloom.providers.libvirt.engine import Engine, Undo

__all__ = ["Connections"]

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_POWER_THREADS: Final = 2
_QUICK_TIMEOUT_S: Final = 20.0
_POWER_TIMEOUT_S: Final = 90.0

_RETRY_FIRST_S: Final = 0.1
_RETRY_MOST_S: Final = 3.0

#: Takes a lifecycle event (uuid, event, detail), on the loop.
Lifecycle = Callable[[str, int, int], None]

#: Takes the uuid of a domain that began its boot anew without a new emulator, on the loop.
Rebooted = Callable[[str], None]


class Connections:
    """All connections to one libvirtd.

    :param lifecycle: gets every domain's lifecycle events, on the loop; ``rebooted`` resets from inside.
    :param lost: called when the stream of events ends because libvirtd went away.
    :param interrupted: called when it goes on after an interruption: some may be lost.
    """

    def __init__(
        self,
        uri: str,
        lifecycle: Lifecycle,
        rebooted: Rebooted,
        lost: Callable[[], None],
        interrupted: Callable[[], None],
    ) -> None:
        self._lifecycle = lifecycle
        self._rebooted = rebooted
        self._on_lost = lost
        self._interrupted = interrupted
        self._quick = Engine(uri, "libvirt-quick", self._connected)
        self._cables = Engine(uri, "libvirt-cables")
        self._power = [Engine(uri, f"libvirt-power-{number}") for number in range(_POWER_THREADS)]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = False
        self._opened_before = False
        self._closing = False

    async def quick(
        self,
        function: Callable[[libvirt.virConnect], T],
        *,
        timeout_s: float = _QUICK_TIMEOUT_S,
        undo: Undo[T] | None = None,
    ) -> T:
        """A call that takes milliseconds; see :meth:`Engine.call`."""
        self._loop = asyncio.get_running_loop()
        return await self._quick.call(function, timeout_s=timeout_s, undo=undo)

    async def cables(self, function: Callable[[libvirt.virConnect], T]) -> T:
        """A call that plugs or pulls a cable; nothing else goes before it. See :meth:`Engine.call`."""
        return await self._cables.call(function, timeout_s=_QUICK_TIMEOUT_S)

    async def power(
        self,
        function: Callable[[libvirt.virConnect], T],
        *,
        timeout_s: float = _POWER_TIMEOUT_S,
        undo: Undo[T] | None = None,
    ) -> T:
        """A call that may take seconds; see :meth:`Engine.call`."""
        engine = min(self._power, key=lambda engine: engine.waiting)
        return await engine.call(function, timeout_s=timeout_s, undo=undo)

    async def opened(self) -> None:
        """Wait, for ever if need be, until the connection with the events is open; it is kept open from then on."""
        await asyncio.shield(self._keep())

    def _keep(self) -> asyncio.Task[None]:
        self._loop = asyncio.get_running_loop()
        if self._keeper is None or self._keeper.done():
            self._keeper = self._loop.create_task(self._reconnect(), name="libvirt-keeper")
        return self._keeper

    async def close(self) -> None:
        self._closing = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        for engine in (self._quick, self._cables, *self._power):
            await engine.close()

    async def _reconnect(self) -> None:
        pause = _RETRY_FIRST_S
        while True:
            try:
                await self._quick.call(_is_there, timeout_s=_QUICK_TIMEOUT_S)
            except (Unavailable, DeadlineExceeded) as error:
                self._lost = True
                _log.warning("libvirt-away", error=error.message, retry_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_MOST_S)
            else:
                return

    def _connected(self, connection: libvirt.virConnect) -> Callable[[], None]:
        """In the engine's thread: subscribe on a new connection."""
        handles = [
            connection.domainEventRegisterAny(None, event, callback, None)
            for event, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._on_reboot),
            )
        ]
        connection.registerCloseCallback(self._on_closed, None)
        if self._opened_before or self._lost:
            self._post(self._interrupted)
        self._opened_before, self._lost = True, False

        def disconnect() -> None:
            # libvirt keeps a connection open for as long as callbacks are registered on it.
            with contextlib.suppress(libvirt.libvirtError):
                connection.unregisterCloseCallback()
            for handle in handles:
                with contextlib.suppress(libvirt.libvirtError):
                    connection.domainEventDeregisterAny(handle)
            if not self._closing:
                self._post(self._keep)

        return disconnect

    def _on_lifecycle(
        self, _connection: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, _opaque: Any
    ) -> None:
        """In libvirt's event thread."""
        self._post(self._lifecycle, domain.UUIDString(), event, detail)

    def _on_reboot(self, _connection: libvirt.virConnect, domain: libvirt.virDomain, _opaque: Any) -> None:
        """In libvirt's event thread."""
        self._post(self._rebooted, domain.UUIDString())

    def _on_closed(self, _connection: libvirt.virConnect, reason: int, _opaque: Any) -> None:
        """In libvirt's event thread: the connection is gone, unless we closed it ourselves."""
        if reason != libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT:
            self._post(self._on_lost)
            self._post(self._keep)

    def _post(self, callback: Callable[..., object], *arguments: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens any more
                self._loop.call_soon_threadsafe(callback, *arguments)


def _is_there(connection: libvirt.virConnect) -> None:
    connection.getLibVersion()
