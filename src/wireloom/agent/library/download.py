"""One file from one source: HTTP with ranges, hashed and written while it comes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from io import FileIO
from types import TracebackType
from typing import Final

from wireloom.agent.library.http import Answer, Http, LostError
from wireloom.agent.library.waiting import in_thread, read_in_thread
from wireloom.errors import (
    CapacityExceeded,
    NotFound,
    Unauthenticated,
    Unavailable,
    WireloomError,
)
from wireloom.fabric.image_documents import BlobSource
from wireloom.library.blobs import Draft
from wireloom.library.durable import Hash, no_space_is_refused
from wireloom.library.values import Progress

__all__ = ["Blob", "Download", "WrongContentError"]

_BATCH: Final = 4 << 20
#: After so many bytes what was written is put on the disk, so that not all of it is left for the end.
_FLUSH: Final = 64 << 20
#: What gives less in that time gives nothing.
_SLOW: Final = 64 << 10
_SLOW_S: Final = 60.0
_TRIES: Final = 4
_FIRST_PAUSE_S: Final = 0.5
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class WrongContentError(Exception):
    """All of it came, and it is not what it should be.

    :ivar whole: every byte was from this source; else what was there before may be to blame.
    """

    def __init__(self, message: str, *, whole: bool) -> None:
        super().__init__(message)
        self.whole = whole


@dataclass(frozen=True)
class Blob:
    """A file to be had: its digest, and its ``size`` in bytes."""

    digest: str
    size: int


class _InterruptedError(Exception):
    """It may go on where it ended."""


class _NoRangesError(_InterruptedError):
    """The source begins at the beginning, whatever it is asked for."""


class Download:
    """A file on its way from one source into a draft. What has come stays in the draft, whatever happens."""

    def __init__(self, http: Http, source: BlobSource, blob: Blob, draft: Draft) -> None:
        self._http = http
        self._source = source
        self._blob = blob
        self._draft = draft
        self._digest: Hash = hashlib.sha256()
        self._hashed = -1  # nothing is known of what is there

    async def run(self, progress: Progress) -> None:
        """Fetch what the draft does not have yet, and make it the blob. Lost connections are taken up again for as
        long as something comes.

        :raises WrongContentError: the draft is thrown away. :raises Unavailable: it does not answer any more.
        :raises NotFound: the source has no such file. :raises Unauthenticated: it does not let us.
        :raises CapacityExceeded: the disk is full; the draft is thrown away.
        """
        tries, pause_s, reached = _TRIES, _FIRST_PAUSE_S, -1
        while True:
            try:
                await self._attempt(progress)
                return
            except _InterruptedError as error:
                length = await in_thread(self._draft.length)
                if length > reached >= 0:
                    tries, pause_s = _TRIES, _FIRST_PAUSE_S
                reached = max(reached, length)
                tries -= 1
                if not tries:
                    raise Unavailable(f"{_name(self._source)} cannot be fetched from: {error}") from error
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _attempt(self, progress: Progress) -> None:
        there = await self._take_stock()
        try:
            self._hashed = -1  # until it is known how much of this attempt is written
            async with _Sink(self._draft, self._digest, there, self._blob.size, progress) as sink:
                if there < self._blob.size:
                    async with self._answer(there) as answer:
                        await self._take_all(answer, sink)
                await sink.flush()
        except (CapacityExceeded, WrongContentError, _NoRangesError):
            await in_thread(self._draft.discard)
            raise
        except _InterruptedError:
            self._hashed = sink.written if sink.hashed == sink.written else -1
            raise
        self._hashed = sink.written
        if sink.written < self._blob.size:
            raise _InterruptedError("the connection ended too early")
        if f"sha256:{self._digest.hexdigest()}" != self._blob.digest:
            await in_thread(self._draft.discard)
            raise WrongContentError(f"{_name(self._source)} gave something else than it should", whole=there == 0)
        await in_thread(self._draft.commit, self._blob.digest)

    async def _take_all(self, answer: Answer, sink: _Sink) -> None:
        """:raises Unavailable: they come so slowly that another source is better, or another time."""
        since, came = time.monotonic(), 0
        while count := await answer.read(sink.room):
            await sink.take(count)
            came += count
            if time.monotonic() - since > _SLOW_S:
                if came < _SLOW:
                    raise Unavailable(f"{_name(self._source)} gives less than {_SLOW} bytes in {_SLOW_S:g} s")
                since, came = time.monotonic(), 0

    async def _take_stock(self) -> int:
        """How much is there; its hash is known then. After a crash the file is all there is to know it from."""
        there = await in_thread(self._draft.length)
        if there > self._blob.size:
            await in_thread(self._draft.discard)
            there = 0
        if there != self._hashed:
            self._digest = await read_in_thread(self._draft.digest_so_far)
        return there

    @contextlib.asynccontextmanager
    async def _answer(self, start: int) -> AsyncGenerator[Answer, None]:
        """The bytes of the file from ``start`` on."""
        headers = {"Authorization": f"Bearer {self._source.token}", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        url = f"{self._source.url.rstrip('/')}/blobs/{self._blob.digest}"
        try:
            async with self._http.get(url, headers) as answer:
                self._check(answer, start)
                yield answer
        except LostError as error:
            raise _InterruptedError(str(error)) from error

    def _check(self, answer: Answer, start: int) -> None:
        name, status = _name(self._source), answer.status
        if status == 200 and start:
            raise _NoRangesError(f"{name} cannot send a part of a file")
        if status in {200, 206}:
            if _begins_at(answer) == start and _size(answer, start) in {None, self._blob.size}:
                return
            raise Unavailable(f"{name} has {self._blob.digest} with another size")
        raise _refusal(status, name, self._blob.digest)


def _refusal(status: int, name: str, digest: str) -> Exception:
    if status in {401, 403}:
        return Unauthenticated(f"{name} does not let this host fetch")
    if status in {404, 410}:
        return NotFound(f"{name} has no file {digest}")
    if status >= 500 or status in {408, 429}:
        return _InterruptedError(f"it answered {status}")
    return Unavailable(f"{name} answered {status}")


def _begins_at(answer: Answer) -> int:
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(found[1]) if answer.status == 206 and found else 0


def _size(answer: Answer, start: int) -> int | None:
    """Of the whole file, as far as the answer says it."""
    length = answer.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _name(source: BlobSource) -> str:
    return f"host {source.host}" if source.host else "the controller"


class _Sink:
    """A draft that is being filled: a batch is written, and hashed beside that, while the next one comes.

    :ivar written: bytes that are in the file; exact once the block is left. :ivar hashed: bytes that are in ``digest``.
    """

    def __init__(self, draft: Draft, digest: Hash, there: int, most: int, progress: Progress) -> None:
        self.written = self.hashed = there
        self._taken = there
        self._draft = draft
        self._digest = digest
        self._most = most
        self._progress = progress
        self._file: FileIO | None = None
        # Memory that is used again and again is quicker than new memory: one batch comes while the other is put away.
        self._filling, self._other = memoryview(bytearray(_BATCH)), memoryview(bytearray(_BATCH))
        self._held = 0
        self._writing: asyncio.Future[None] | None = None
        self._flushing: asyncio.Future[None] | None = None
        self._flush_at = there + _FLUSH

    async def __aenter__(self) -> _Sink:
        self._progress(self.written, self._most)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:  # what has come is worth keeping
                with contextlib.suppress(WireloomError, WrongContentError):
                    await self.flush()
        finally:  # cancelled once more or not: nobody else may find the file while it is written to
            for doing in filter(None, (self._writing, self._flushing)):
                await asyncio.wait({doing})
            if self._file is not None:
                self._file.close()

    @property
    def room(self) -> memoryview:
        """Where what comes next is to be put."""
        return self._filling[self._held :]

    async def take(self, count: int) -> None:
        """So much was put there.

        :raises WrongContentError: there is more than there should be. :raises CapacityExceeded: the disk is full.
        """
        self._held += count
        if self._held == len(self._filling):
            await self._pass_on()

    async def flush(self) -> None:
        """Return when all that was taken is written."""
        await self._pass_on()
        await self._written()

    async def _pass_on(self) -> None:
        await self._written()
        batch = self._filling[: self._held]
        self._filling, self._other, self._held = self._other, self._filling, 0
        if not batch:
            return
        self._taken += len(batch)
        if self._taken > self._most:
            raise WrongContentError("more comes than there should be", whole=True)
        self._progress(self._taken, self._most)
        self._writing = asyncio.ensure_future(self._put(batch))
        if self._file is not None and self._taken >= self._flush_at and (not self._flushing or self._flushing.done()):
            self._flush_at = self._taken + _FLUSH
            self._flushing = asyncio.ensure_future(asyncio.to_thread(_flush, self._file))

    async def _written(self) -> None:
        writing = self._writing
        if writing is not None:
            await asyncio.shield(writing)
            self._writing = None

    async def _put(self, batch: memoryview) -> None:
        hashing = asyncio.ensure_future(asyncio.to_thread(self._hash, batch))
        try:
            await asyncio.to_thread(self._write, batch)
        finally:
            await asyncio.wait({hashing})

    def _hash(self, batch: memoryview) -> None:
        self._digest.update(batch)
        self.hashed += len(batch)

    def _write(self, batch: memoryview) -> None:
        if self._file is None:  # not before something comes: an empty file is nothing worth keeping
            self._file = self._draft.open_append()
        with no_space_is_refused(self._draft.path.parent):
            while batch:
                count = self._file.write(batch)
                self.written += count
                batch = batch[count:]


def _flush(file: FileIO) -> None:
    with contextlib.suppress(OSError):  # it is put there again at the end, where it counts
        os.fdatasync(file.fileno())
