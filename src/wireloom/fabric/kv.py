"""Key-value documents: put, get, and watchers that never end and never lose the latest value.

Reading needs no consumer: a watcher subscribes to the subject on which the server repeats each stored change (with its
sequence number), then reads the current values key by key, and orders both by sequence. Both subjects name the key,
so that permissions can restrict an agent to its own. A value missing from the store is *not* a deletion: only a
deletion marker is, so that losing the store takes no lab away.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import structlog
from nats.aio.msg import Msg

from wireloom.errors import Conflict, DeadlineExceeded, InternalError, Unavailable, WireloomError
from wireloom.fabric.link import Link, NoResponders
from wireloom.fabric.subjects import DESIRED, EPOCH_KEY, Bucket

__all__ = ["Entry", "KeyLister", "KeyValues", "Watcher"]

log = structlog.get_logger(__name__)

_TRY_S = 1.0
_DEADLINE_S = 10.0
_RESYNC_S = 300.0
_SECOND_LOOK_S = 2.0
_RETRY_S = 0.25
_PARALLEL_READS = 32

_OPERATION = "KV-Operation"
_SEQUENCE = "Nats-Sequence"
_TIME = "Nats-Time-Stamp"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_STREAM = "Nats-Stream"
_SUBJECT = "Nats-Subject"
_KEY = "Wireloom-Key"
_WRONG_SEQUENCE = frozenset({10071, 10164})  # JSStreamWrongLastSequence… in the server's errors.json

T = TypeVar("T")
KeyLister = Callable[[], Awaitable[set[str]]]


@dataclass(frozen=True)
class Entry:
    """A stored value; ``value`` is ``None`` for a deletion marker. ``sequence`` orders entries of one store.

    ``stored`` is the server's UNIX time of writing; 0 where it was not told (changes as they happen).
    """

    key: str
    value: bytes | None
    sequence: int
    stored: float = 0


class KeyValues:
    """Reads and writes of single keys over a link; ``on_epoch`` hears each reading of the store's life."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._writing: dict[str, asyncio.Lock] = {}
        self.on_epoch: Callable[[str], None] = lambda _: None

    async def put(self, bucket: Bucket, key: str, value: bytes, *, expected: int | None = None) -> int:
        """Store ``value``; with ``expected`` only if the key's last sequence is that (0: it has none).

        :return: the new sequence.
        :raises Conflict: the key's last sequence is another.
        :raises Unavailable: the store did not come back in time; the value may still arrive.
        """
        headers = {_KEY: key} if expected is None else {_KEY: key, _EXPECTED: str(expected)}
        return await self.publish(bucket.subject(key), value, headers)

    async def delete(self, bucket: Bucket, key: str) -> None:
        """Leave a deletion marker; idempotent."""
        await self.publish(bucket.subject(key), b"", {_KEY: key, _OPERATION: "DEL"})

    async def publish(self, subject: str, value: bytes, headers: dict[str, str]) -> int:
        """Store one message, trying again while the store is away; writes of one subject keep their order."""
        lock = self._writing.setdefault(subject, asyncio.Lock())
        try:
            async with lock:
                return await self._publish(subject, value, headers)
        finally:
            if not lock.locked():
                self._writing.pop(subject, None)

    async def get(self, bucket: Bucket, key: str) -> Entry | None:
        """The last entry of ``key`` (possibly a deletion marker), or ``None`` if the store holds nothing of it.

        :raises Unavailable: the bucket does not exist (yet) or the fabric is away.
        """
        try:
            message = await self._link.ask_store(bucket.direct_get(key), timeout_s=_TRY_S)
        except NoResponders as error:
            raise Unavailable(f"the fabric's bucket {bucket.name} does not exist yet") from error
        headers = message.headers or {}
        if headers.get("Status"):  # only refusals carry one: 404 no message, 408 bad request
            return None
        return entry_of(bucket, key, message)

    async def epoch(self) -> str:
        """The name of this life of the store. :raises Unavailable: it is not ready."""
        entry = await self.get(DESIRED, EPOCH_KEY)
        if entry is None or entry.value is None:
            raise Unavailable("the fabric's store is not ready")
        epoch = entry.value.decode()
        self.on_epoch(epoch)
        return epoch

    async def get_soon(self, bucket: Bucket, key: str) -> Entry | None:
        """Like :meth:`get`, but waits some seconds for a store that is away."""
        return await _patiently(lambda: self.get(bucket, key))

    async def _publish(self, subject: str, value: bytes, headers: dict[str, str]) -> int:
        async def once() -> int:
            return _acknowledged(await self._link.ask_store(subject, value, timeout_s=_TRY_S, headers=headers))

        return await _patiently(once)


async def _patiently(once: Callable[[], Awaitable[T]]) -> T:
    """What ``once`` returns, tried again while the store is away.

    :raises Unavailable: it was away for the whole time.
    """
    deadline = time.monotonic() + _DEADLINE_S
    pause = 0.05
    while True:
        try:
            return await once()
        except (DeadlineExceeded, Unavailable) as error:
            if time.monotonic() + pause > deadline:
                raise Unavailable("the fabric's store does not answer", hint=str(error)) from error
        await asyncio.sleep(pause)
        pause = min(pause * 2, 1.0)


def _acknowledged(message: Msg) -> int:
    """The sequence in the store's acknowledgement."""
    answer = json.loads(message.data)
    error = answer.get("error")
    if error is None:
        return int(answer["seq"])
    if error.get("err_code") in _WRONG_SEQUENCE:
        raise Conflict("the key was written by somebody else meanwhile")
    if int(error.get("code", 500)) >= 500:
        raise Unavailable(f"the fabric's store refused a write: {error.get('description')}")
    raise InternalError(f"the fabric's store refused a write: {error.get('description')}")


def entry_of(bucket: Bucket, key: str, message: Msg) -> Entry | None:
    """The entry in a stored message; ``None`` if it was not stored as ``key`` of ``bucket``.

    Whoever may read a key can have the server send a copy to any subject. Where a copy comes from says the server, in
    headers that it adds behind those of the writer, and the last of a name counts.
    """
    headers = message.headers or {}
    place = (headers.get(_KEY), headers.get(_STREAM), headers.get(_SUBJECT))
    if place != (key, bucket.stream, bucket.subject(key)):
        log.warning("fabric.foreign-value", bucket=bucket.name, key=key)
        return None
    deleted = _OPERATION in headers
    stamp = headers.get(_TIME)
    stored = datetime.fromisoformat(stamp).timestamp() if stamp else 0
    return Entry(key, None if deleted else message.data, int(headers[_SEQUENCE]), stored)


@dataclass
class _Known:
    sequence: int
    deadline: float = float("inf")


class Watcher:
    """Follows the keys of a bucket that match ``pattern``; see the module's text.

    :param list_keys: the keys that exist now, for the current values.
    """

    def __init__(self, link: Link, values: KeyValues, bucket: Bucket, pattern: str, list_keys: KeyLister) -> None:
        self._link = link
        self._values = values
        self._bucket = bucket
        self._pattern = pattern
        self._list_keys = list_keys
        self._known: dict[str, _Known] = {}
        self._pending: dict[str, Entry] = {}
        self._wake = asyncio.Event()
        self._epoch = ""
        self._resync_at = 0.0
        self._grace_due = self._again = True

    def resync(self) -> None:
        """Read everything again soon."""
        self._grace_due = self._again = True
        self._resync_at = 0.0
        self._wake.set()

    async def changes(self) -> AsyncGenerator[Entry, None]:
        """Current values, then changes, for ever. In a bucket with a TTL an expired key comes as a deletion."""
        subscription = await self._link.subscribe(self._bucket.live(self._pattern), self._on_message)
        self._link.on_up.append(self.resync)
        try:
            while True:
                self._wake.clear()
                await self._resync_if_due()
                for entry in self._drain():
                    yield entry
                await self._sleep()
        finally:
            self._link.on_up.remove(self.resync)
            await subscription.cancel()

    async def _on_message(self, message: Msg) -> None:
        key = self._bucket.key_of(message.subject)
        entry = entry_of(self._bucket, key, message)
        if entry is not None:
            self._offer(entry)

    def _offer(self, entry: Entry) -> None:
        waiting = self._pending.get(entry.key)
        if waiting is None or entry.sequence > waiting.sequence:
            self._pending[entry.key] = entry
            self._wake.set()

    def _drain(self) -> list[Entry]:
        if not self._epoch:
            return []  # sequences mean nothing before it is known which life of the store they count
        now = time.monotonic()
        pending, self._pending = self._pending, {}
        fresh = []
        for entry in pending.values():
            known = self._known.get(entry.key)
            if known is not None and entry.sequence <= known.sequence:
                continue
            self._known[entry.key] = _Known(entry.sequence, self._expiry(now, entry))
            if entry.value is not None or known is not None:  # nobody misses what was never shown
                fresh.append(entry)
        return fresh + self._expired(now)

    def _expiry(self, now: float, entry: Entry) -> float:
        ttl = self._bucket.ttl_s
        return float("inf") if ttl is None or entry.value is None else now + ttl

    def _expired(self, now: float) -> list[Entry]:
        if self._bucket.ttl_s is None or not self._link.connected:
            return []  # without a connection nobody's heartbeat can be heard; that says nothing about them
        gone = [(key, known) for key, known in self._known.items() if known.deadline <= now]
        for _, known in gone:
            known.deadline = float("inf")
        return [Entry(key, None, known.sequence) for key, known in gone]

    async def _sleep(self) -> None:
        due = self._resync_at
        if self._bucket.ttl_s is not None:
            due = min([due, *(known.deadline for known in self._known.values())])
        try:
            async with asyncio.timeout(max(0.05, due - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _resync_if_due(self) -> None:
        if time.monotonic() < self._resync_at:
            return
        self._resync_at = time.monotonic() + _RETRY_S
        if not self._link.connected:
            return
        try:
            await self._resync()
        except WireloomError as error:
            log.debug("fabric.resync-later", bucket=self._bucket.name, error=str(error))
        else:
            # A server of a cluster may have been behind with what it was asked: look once more, soon.
            again, self._again = self._again, False
            self._resync_at = time.monotonic() + (_SECOND_LOOK_S if again and self._link.clustered else _RESYNC_S)

    async def _resync(self) -> None:
        await self._link.flush()  # the subscription is in place before the first value is read
        epoch = await self._values.epoch()
        heard = set(self._pending)
        if epoch != self._epoch:
            # Another life of the store counts its sequences anew.
            self._epoch = epoch
            self._pending.clear()
            for known in self._known.values():
                known.sequence = 0
        keys = await self._list_keys() | set(self._known) | heard
        gate = asyncio.Semaphore(_PARALLEL_READS)

        async def read(key: str) -> None:
            async with gate:
                entry = await self._values.get(self._bucket, key)
            if entry is not None:
                self._offer(entry)

        await asyncio.gather(*(read(key) for key in keys))
        if self._grace_due:
            self._grace_due = False
            self._extend_deadlines()

    def _extend_deadlines(self) -> None:
        """After an outage of the fabric everybody gets a whole TTL to be heard again."""
        grace = time.monotonic() + (self._bucket.ttl_s or 0)
        for known in self._known.values():
            if known.deadline != float("inf"):
                known.deadline = max(known.deadline, grace)
