"""Files that come in over a network: they grow at their end, are digested meanwhile, and leave room on the disk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wireloom.controller.library.threads import Threads
from wireloom.errors import CapacityExceeded, DeadlineExceeded, InvalidInput, NotFound
from wireloom.library.durable import flush_file, no_space_is_refused
from wireloom.library.values import GIB, Progress, no_progress

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["RESERVE", "Incoming", "Mark", "leaving_room", "need_room", "plain_name"]

#: Bytes of the disk that nothing coming in may take: databases and running machines write there too.
RESERVE: Final = GIB
#: What is written and digested at once; one such piece is on its way to the disk while the next one comes.
_BATCH: Final = 4 << 20
#: After so many bytes what was written is put on the disk, so that not all of it is left for the end.
_FLUSH: Final = 64 << 20
#: Chunks of a batch: small ones cost more memory than they hold.
_MOST_CHUNKS: Final = 4096
_LONGEST_NAME: Final = 200
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def plain_name(text: str) -> str:
    """The last part of a path or URL as a file name without surprises; never empty."""
    last = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
    last = last[-_LONGEST_NAME:]
    kept = "".join(sign if sign.isprintable() and sign != "/" else "_" for sign in last).strip().lstrip(".")
    while len(kept.encode()) > _LONGEST_NAME:
        kept = kept[1:]  # the ending says more than the beginning
    return kept or "image"


def need_room(folder: Path, size: int, *, reserve: int = RESERVE, promised: int = 0) -> None:
    """See to it that ``size`` bytes more have room in ``folder``, beside what is promised to others. Blocking, quick.

    :raises CapacityExceeded: they have not.
    """
    room = free_bytes(folder) - promised - reserve
    if size > room:
        raise CapacityExceeded(
            f"the disk of the image library has no room: {size} bytes are needed, {max(room, 0)} are free",
            hint="delete images that are not needed, or `wireloom images collect`",
            details={"needed": size, "free": max(room, 0)},
        )


def leaving_room(told: Progress, folder: Path, *, reserve: int = RESERVE) -> Progress:
    """``told``, which also ends the work that it is told of before that takes the last room of the disk of ``folder``.

    How large a file becomes that is unpacked or converted is known only when it is done.
    """

    def watched(done: int, total: int) -> None:
        """:raises CapacityExceeded: what was written has taken the room that stays free."""
        if (free := free_bytes(folder)) < reserve:
            raise CapacityExceeded(
                f"the disk of the image library is full but for {free} bytes, which are not for images",
                hint="delete images that are not needed, or `wireloom images collect`",
                details={"free": free},
            )
        told(done, total)

    return watched


def free_bytes(folder: Path) -> int:
    """Bytes that are free where ``folder`` is."""
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize


@dataclass(frozen=True)
class Mark:
    """A place in an :class:`Incoming` that one can go back to."""

    length: int
    digested: int
    digest: _Hash


class Incoming:
    """A file whose length is the truth of how much of it is there. One writer at a time; its owner sees to that.

    The digest follows what is written. After a restart of the process it catches up by reading what is there, when it
    is asked for.

    :param path: must exist to be written to, so that a file that was deleted is not made anew by a late writer.
    """

    def __init__(self, path: Path, threads: Threads, *, reserve: int = RESERVE) -> None:
        self.path = path
        self._threads = threads
        self._reserve = reserve
        self._digested = 0
        self._digest = hashlib.sha256()

    def length(self) -> int:
        """:raises NotFound: there is no such file."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            raise _gone() from None

    async def append(
        self,
        chunks: AsyncIterator[bytes],
        *,
        most: int,
        idle_s: float,
        told: Callable[[int], None] | None = None,
    ) -> int:
        """Write what ``chunks`` give until they end, and return the length then. Memory stays flat.

        What came is kept whatever ends it, so that a sender can go on from there.

        :param most: length that the file may have. :param told: called with its length now and then.
        :raises InvalidInput: more bytes came. :raises DeadlineExceeded: none came for ``idle_s``.
        :raises CapacityExceeded: the disk is full. :raises NotFound: the file was deleted meanwhile.
        """
        writer = _Writer(self, most, told)
        try:
            async with aclosing(_unless_idle(chunks, idle_s)) as given:
                async for chunk in given:
                    await writer.take(chunk)
        finally:
            await writer.flush()
        return self.length()

    def digest(self, progress: Progress = no_progress) -> str:
        """``sha256:…`` of all that is there. Blocking; reads what was not digested while it came."""
        total = self.length()
        block = memoryview(bytearray(_BATCH))
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._digested)
            while count := file.readinto(block):
                self._digest.update(block[:count])
                self._digested += count
                progress(self._digested, total)
        return f"sha256:{self._digest.hexdigest()}"

    def mark(self) -> Mark:
        """The place where it ends now."""
        return Mark(self.length(), self._digested, self._digest.copy())

    def back_to(self, mark: Mark) -> None:
        """Drop what came since. Blocking, quick."""
        os.truncate(self.path, mark.length)
        self._digested, self._digest = mark.digested, mark.digest.copy()

    def empty(self) -> None:
        """Begin anew: the file is there, and has nothing in it. Blocking, quick."""
        os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        self._digested, self._digest = 0, hashlib.sha256()

    def _write(self, batch: Sequence[bytes], most: int) -> int:
        """Add ``batch``; the length then. In a thread."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _gone() from None
        try:
            before, size = os.fstat(descriptor).st_size, sum(map(len, batch))
            if before + size > most:
                raise InvalidInput(f"more came than the {most} bytes that were announced, or are allowed")
            need_room(self.path.parent, size, reserve=self._reserve)
            digested = self._digested == before
            for chunk in batch:
                _write_all(descriptor, chunk)
                if digested:
                    self._digest.update(chunk)
                    self._digested += len(chunk)
            return before + size
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise CapacityExceeded(
                "the disk of the image library is full", hint="make room, then go on where it stopped"
            ) from error
        finally:
            os.close(descriptor)

    async def write(self, batch: Sequence[bytes], most: int) -> int:
        """Add ``batch``, and return the length then. Errors as of :meth:`append`."""
        return await self._threads.run(self._write, batch, most)

    async def flush(self) -> None:
        """Return when what is written by now is on the disk. Errors as of :meth:`append`."""
        await self._threads.run(self._flush)

    def _flush(self) -> None:
        try:
            with no_space_is_refused(self.path.parent):
                flush_file(self.path)
        except FileNotFoundError:
            raise _gone() from None


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


class _Writer:
    """Gathers a batch while the one before it, at most one, is on its way to the disk."""

    def __init__(self, file: Incoming, most: int, told: Callable[[int], None] | None) -> None:
        self._file = file
        self._most = most
        self._told = told
        self._batch: list[bytes] = []
        self._held = 0
        self._flight: asyncio.Task[int] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._sent = 0
        self._flush_at = _FLUSH

    async def take(self, chunk: bytes) -> None:
        self._batch.append(chunk)
        self._held += len(chunk)
        if self._held >= _BATCH or len(self._batch) >= _MOST_CHUNKS:
            await self._send_off()

    async def flush(self) -> None:
        """Return when all that was taken is written."""
        try:
            if self._held:
                await self._send_off()
            await self.settle()
        finally:
            await self._flushed()

    async def _send_off(self) -> None:
        batch, self._batch, self._held = self._batch, [], 0
        await self.settle()
        self._flight = asyncio.create_task(self._file.write(batch, self._most))
        self._sent += sum(map(len, batch))
        if self._sent >= self._flush_at and (self._flushing is None or self._flushing.done()):
            await self._flushed()
            self._flush_at = self._sent + _FLUSH
            self._flushing = asyncio.create_task(self._file.flush())

    async def _flushed(self) -> None:
        """Wait for what is being put on the disk. A disk says but once that it could not."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            await flushing

    async def settle(self) -> None:
        """Wait for what is on its way."""
        flight, self._flight = self._flight, None
        if flight is not None:
            length = await flight
            if self._told is not None:
                self._told(length)


async def _unless_idle(chunks: AsyncIterator[bytes], idle_s: float) -> AsyncGenerator[bytes, None]:
    """``chunks``, unless none comes for so long: a connection that died without a word must not hold a file."""
    iterator = aiter(chunks)
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise DeadlineExceeded(f"nothing came for {idle_s:g} s", hint="go on where it stopped") from None
        yield chunk


def _gone() -> NotFound:
    return NotFound("the file was deleted meanwhile", hint="begin anew")
