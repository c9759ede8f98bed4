"""History: events published for good, and followed in order with nothing left out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime

import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from wireloom.errors import Unavailable, WireloomError
from wireloom.fabric.documents import Event
from wireloom.fabric.link import Link, NoResponders
from wireloom.fabric.stores import api
from wireloom.fabric.subjects import EVENTS_LIVE, EVENTS_STREAM

__all__ = ["EventFollower"]

log = structlog.get_logger(__name__)

_READ_S = 2.0
_RETRY_S = 0.25
_LOOK_S = 30.0


class EventFollower:
    """Reads the stream by sequence number; a live copy of each event only says that there is more to read.

    :param since: UNIX seconds of the first event wanted; ``None`` for only those to come.
    """

    def __init__(self, link: Link, since: float | None) -> None:
        self._link = link
        self._since = since
        self._next: int | None = None
        self._live: dict[int, bytes] = {}
        self._wake = asyncio.Event()

    async def events(self) -> AsyncIterator[Event]:
        """Events in the order of the stream, for ever."""
        subscription = await self._link.subscribe(f"{EVENTS_LIVE}.>", self._on_live)
        self._link.on_up.append(self._wake.set)
        try:
            while True:
                self._wake.clear()
                pause = _LOOK_S
                try:
                    async for event in self._available():
                        yield event
                except WireloomError as error:
                    log.debug("fabric.events-later", error=str(error))
                    pause = _RETRY_S
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._link.on_up.remove(self._wake.set)
            await subscription.cancel()

    async def _on_live(self, message: Msg) -> None:
        headers = message.headers or {}
        if headers.get("Nats-Stream") != EVENTS_STREAM:
            return  # a copy of something else that somebody sent here
        sequence = int(headers["Nats-Sequence"])
        if len(self._live) < 10_000:  # more than that is read from the stream
            self._live[sequence] = message.data
        self._wake.set()

    async def _available(self) -> AsyncIterator[Event]:
        first, last = await self._bounds() if self._must_look() else (self._next or 1, max(self._live))
        if self._next is None:
            self._next = last + 1 if self._since is None else await self._find(first, last)
        if last < self._next - 1:
            self._next = first  # another life of the stream
        self._next = max(self._next, first)
        while self._next <= last:
            data = self._live.pop(self._next, None)
            if data is None:
                data = (await self._read(self._next))[0]
            self._next += 1
            event = _parse(data)
            if event is not None:
                yield event
        self._live = {sequence: data for sequence, data in self._live.items() if sequence >= self._next}

    def _must_look(self) -> bool:
        """Whether the stream's bounds must be asked: not when the next event is at hand."""
        return self._next is None or self._next not in self._live

    async def _bounds(self) -> tuple[int, int]:
        """Sequence of the first and last event (last = first - 1 when there is none)."""
        await self._link.flush()
        answer = await api(self._link, f"STREAM.INFO.{EVENTS_STREAM}")
        if "error" in answer:
            raise Unavailable("the fabric's history does not exist yet")
        return max(1, int(answer["state"]["first_seq"])), int(answer["state"]["last_seq"])

    async def _read(self, sequence: int) -> tuple[bytes | None, float]:
        """The event at ``sequence`` and the UNIX time when it was stored; ``None`` if it is gone."""
        subject = f"$JS.API.DIRECT.GET.{EVENTS_STREAM}"
        try:
            message = await self._link.ask_store(subject, json.dumps({"seq": sequence}).encode(), timeout_s=_READ_S)
        except NoResponders as error:
            raise Unavailable("the fabric's history does not exist yet") from error
        headers = message.headers or {}
        if headers.get("Status"):
            return None, 0.0
        stamp = headers["Nats-Time-Stamp"]
        return message.data, datetime.fromisoformat(stamp).timestamp()

    async def _find(self, first: int, last: int) -> int:
        """The first sequence stored at or after ``since`` (times in the stream only grow)."""
        low, high = first, last + 1
        while low < high:
            middle = (low + high) // 2
            _, stored = await self._read(middle)
            if stored < (self._since or 0):
                low = middle + 1
            else:
                high = middle
        return low


def _parse(data: bytes | None) -> Event | None:
    if data is None:
        return None
    try:
        return Event.model_validate_json(data)
    except ValidationError:
        log.warning("fabric.bad-event")
        return None
