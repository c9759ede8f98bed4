"""The stores behind the fabric: what they look like, who makes them, and how their loss is noticed."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from nats.aio.msg import Msg

from wireloom.errors import Conflict, InternalError, Unavailable, WireloomError
from wireloom.fabric.kv import KeyValues
from wireloom.fabric.link import Link, NoResponders
from wireloom.fabric.subjects import (
    DESIRED,
    ENDS,
    EPOCH_KEY,
    EVENTS_LIVE,
    EVENTS_STREAM,
    HOSTS,
    LIBRARY,
    OBSERVED,
    PEERS,
    SHELVES,
    Bucket,
)

__all__ = ["StoreKeeper", "bucket_config", "events_config", "list_keys", "sweep"]

log = structlog.get_logger(__name__)

_API_TIMEOUT_S = 5.0
_SECOND_NS: Final = 1_000_000_000
_EVENTS_AGE_S: Final = 7 * 24 * 3600
_EVENTS_BYTES: Final = 256 * 1024 * 1024
_FIRST_SWEEP_S: Final = 600.0
_SWEEP_EVERY_S: Final = 6 * 3600.0
_MARKER_AGE_S: Final = 7 * 24 * 3600.0
_STREAM_NOT_FOUND: Final = 10059  # JSStreamNotFoundErr in the server's errors.json
_STREAM_IN_USE: Final = 10058  # JSStreamNameExistErr: there with another configuration


def bucket_config(bucket: Bucket, replicas: int = 1) -> dict[str, Any]:
    """The stream behind a key-value bucket, as the JetStream API takes it (times in nanoseconds)."""
    return {
        "name": bucket.stream,
        "subjects": [bucket.subject(">")],
        "max_msgs_per_subject": 1,
        "max_age": int((bucket.ttl_s or 0) * _SECOND_NS),
        "duplicate_window": int(min(bucket.ttl_s or 120, 120) * _SECOND_NS),
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": replicas,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "republish": {"src": bucket.subject(">"), "dest": bucket.live(">")},
    }


def events_config(replicas: int = 1) -> dict[str, Any]:
    """The stream of history: bounded by age and size, the oldest goes first."""
    return {
        "name": EVENTS_STREAM,
        "subjects": ["events.>"],
        "max_age": _EVENTS_AGE_S * _SECOND_NS,
        "max_bytes": _EVENTS_BYTES,
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "num_replicas": replicas,
        "allow_direct": True,
        "republish": {"src": "events.>", "dest": f"{EVENTS_LIVE}.>"},
    }


async def api(link: Link, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One JetStream API call; the answer as it is, errors included under ``error``."""
    payload = json.dumps(body).encode() if body is not None else b""
    try:
        message = await link.ask_store(f"$JS.API.{verb}", payload, timeout_s=_API_TIMEOUT_S)
    except NoResponders as error:
        raise Unavailable("the fabric has no JetStream", hint="start nats-server with JetStream on") from error
    answer: dict[str, Any] = json.loads(message.data)
    return answer


async def list_keys(link: Link, bucket: Bucket, pattern: str = ">") -> set[str]:
    """The keys of ``bucket`` that match ``pattern``; needs the controller's permissions."""
    found: set[str] = set()
    while True:
        body = {"subjects_filter": bucket.subject(pattern), "offset": len(found)}
        answer = await api(link, f"STREAM.INFO.{bucket.stream}", body)
        if "error" in answer:
            raise Unavailable(f"the fabric's bucket {bucket.name} does not exist yet")
        subjects = answer["state"].get("subjects") or {}
        found |= {bucket.key_of(subject) for subject in subjects}
        if not subjects or len(found) >= int(answer.get("total") or 0):
            return found


async def sweep(link: Link, values: KeyValues, bucket: Bucket, *, older_than_s: float) -> int:
    """Remove deletion markers of ``bucket`` that everybody has seen long ago; how many there were."""
    swept = 0
    for key in await list_keys(link, bucket):
        entry = await values.get(bucket, key)
        if entry is None or entry.value is not None or time.time() - entry.stored < older_than_s:
            continue
        # Up to this marker only: the key may have been written again meanwhile.
        body = {"filter": bucket.subject(key), "seq": entry.sequence + 1}
        await api(link, f"STREAM.PURGE.{bucket.stream}", body)
        swept += 1
    return swept


class StoreKeeper:
    """Makes the stores where it may, and notices when they were lost and made anew.

    ``on_rebuilt`` callbacks run each time the store's life changed after the first one was seen: then every writer
    has to write its documents again.
    """

    def __init__(self, link: Link, values: KeyValues, *, creates: bool, replicas: int = 1) -> None:
        self._link = link
        self._values = values
        self._creates = creates
        self._replicas = replicas
        self._wake = asyncio.Event()
        self._sweep_at = time.monotonic() + _FIRST_SWEEP_S
        self.epoch = ""
        self.on_rebuilt: list[Callable[[], None]] = []
        values.on_epoch = self._seen

    async def run(self) -> None:
        """Keep the stores for ever: look after each reconnect, and now and then."""
        await self._link.subscribe(DESIRED.live(EPOCH_KEY), self._on_epoch)
        self._link.on_up.append(self._wake.set)
        while True:
            self._wake.clear()
            pause = 30.0
            try:
                await self.check()
                await self._sweep_if_due()
            except WireloomError as error:
                log.debug("fabric.store-not-ready", error=str(error))
                pause = 0.25
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def check(self) -> None:
        """Make what is missing (where we may) and compare the life of the store. :raises Unavailable: not ready."""
        if self._creates and await self._create_missing():
            await self._values.put(DESIRED, EPOCH_KEY, secrets.token_hex(8).encode())
        try:
            await self._values.epoch()
        except Unavailable:
            if not self._creates:
                raise
            await self._first_epoch()
            await self._values.epoch()

    async def _sweep_if_due(self) -> None:
        if not self._creates or time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + _SWEEP_EVERY_S
        for bucket in (DESIRED, OBSERVED):
            await sweep(self._link, self._values, bucket, older_than_s=_MARKER_AGE_S)

    async def _on_epoch(self, message: Msg) -> None:
        del message  # the value is read from the store, which is what counts
        self._wake.set()

    async def _first_epoch(self) -> None:
        """Name this life of the store, unless another controller just did."""
        try:
            await self._values.put(DESIRED, EPOCH_KEY, secrets.token_hex(8).encode(), expected=0)
        except Conflict:
            log.debug("fabric.epoch-exists")

    def _seen(self, epoch: str) -> None:
        before, self.epoch = self.epoch, epoch
        if before in ("", epoch):
            return
        log.warning("fabric.store-rebuilt")
        for callback in self.on_rebuilt:
            callback()

    async def _create_missing(self) -> bool:
        buckets = (DESIRED, OBSERVED, HOSTS, LIBRARY, SHELVES, PEERS, ENDS)
        configs = [bucket_config(bucket, self._replicas) for bucket in buckets] + [events_config(self._replicas)]
        created = [await self._ensure(config) for config in configs]
        return any(created)

    async def _ensure(self, config: dict[str, Any]) -> bool:
        """True if the stream had to be made."""
        name = config["name"]
        error = (await api(self._link, f"STREAM.INFO.{name}")).get("error")
        if error is None:
            return False
        if error.get("err_code") == _STREAM_NOT_FOUND:
            error = (await api(self._link, f"STREAM.CREATE.{name}", config)).get("error")
            if error is None:
                return True
        if error.get("err_code") == _STREAM_IN_USE:
            return False
        kind = Unavailable if int(error.get("code", 500)) >= 500 else InternalError
        raise kind(f"the fabric's store {name} cannot be made: {error.get('description')}")
