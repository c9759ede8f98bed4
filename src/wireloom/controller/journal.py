"""History: what the controller adds to it, and the recent part of it in memory for readers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, cast

import structlog

from wireloom.controller.hub import Hub
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.tasks import Supervisor
from wireloom.errors import WireloomError
from wireloom.fabric.documents import Event, EventLevel
from wireloom.model.views import StreamMessage

__all__ = ["Journal"]

log = structlog.get_logger(__name__)

REMEMBERED_EVENTS: Final = 10_000
REMEMBERED_S: Final = 24 * 3600.0
OUTBOX_LIMIT: Final = 1000
#: What a controller tells of hosts, by its own clock.
OWN_KINDS: Final = frozenset({"host.lost", "host.back", "host.given-up", "orphan.found"})


class Journal:
    """Events of all hosts and of the controller itself. Times are UNIX seconds by the controller's clock.

    :param ahead_s: seconds that the clock of a host is ahead of it.
    """

    def __init__(
        self,
        *,
        fabric: ControllerFabric,
        hub: Hub,
        clock: Callable[[], float],
        ahead_s: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        self._ahead_s = ahead_s
        self._fabric = fabric
        self._hub = hub
        self._clock = clock
        self._recent: deque[Event] = deque(maxlen=REMEMBERED_EVENTS)
        self._outbox: asyncio.Queue[Event] = asyncio.Queue(OUTBOX_LIMIT)
        self._read_until: float | None = None

    def start(self, supervisor: Supervisor) -> None:
        """Read and write history for ever."""
        supervisor.start("read history", self._read)
        supervisor.start("write history", self._write)

    def tell(
        self,
        kind: str,
        message: str,
        *,
        lab: str = "",
        host: str = "",
        node: str = "",
        level: EventLevel = EventLevel.INFO,
    ) -> None:
        """Add an event of the controller's own; returns at once, and never fails the verb that it tells of."""
        event = Event(time=self._clock(), host=host, lab=lab, node=node, kind=kind, level=level, message=message)
        try:
            self._outbox.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("history is full, event dropped", kind=kind, message=message)

    def recent(self, lab: str | None = None) -> list[Event]:
        """Remembered events, oldest first, of one lab or of all."""
        return [event for event in self._recent if lab in {None, event.lab}]

    async def _read(self) -> None:
        since = self._read_until if self._read_until is not None else self._clock() - REMEMBERED_S
        reader = cast(AsyncGenerator[Event, None], self._fabric.events(since=since))
        async with aclosing(reader) as events:
            async for told in events:
                self._read_until = self._clock()
                event = self._by_own_clock(told)
                self._recent.append(event)
                self._hub.publish(StreamMessage(type="event", data=event.model_dump(mode="json")))

    def _by_own_clock(self, event: Event) -> Event:
        ahead = self._ahead_s(event.host) if event.host else 0.0
        if not ahead or event.kind in OWN_KINDS:
            return event
        return event.model_copy(update={"time": event.time - ahead})

    async def _write(self) -> None:
        while True:
            event = await self._outbox.get()
            try:
                await self._fabric.publish_event(event)
            except WireloomError as error:
                log.warning("event not stored", kind=event.kind, message=event.message, error=str(error))
