"""Bytes on their way through: parts of a file, unpacked, counted and shown to whoever wants to see them.

Everything here is an iterator of chunks of at most ``CHUNK`` bytes, so memory stays flat whatever the sizes are.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Literal, Protocol

from wireloom.errors import Unavailable
from wireloom.library import confine
from wireloom.library.bounded import Bounds, start_bounded
from wireloom.library.values import ImageRefused, Limits

__all__ = ["CHUNK", "Chunks", "Compression", "Source", "Stream", "Window", "compression_of", "shown", "unpacked"]

CHUNK: Final = 1 << 20
Chunks = Iterator[bytes]
Compression = Literal["", "gzip", "zstd", "xz", "bzip2"]

_MAGIC: Final[tuple[tuple[bytes, Compression], ...]] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_GZIP: Final = zlib.MAX_WBITS | 16
#: What zstd may use for its window, which is also what it refuses beyond by itself; and all of its address space.
_ZSTD: Final = ("-dcq", "--memory=128MiB")
_ZSTD_MEMORY: Final = 1 << 30


def compression_of(head: bytes) -> Compression:
    """What the bytes at the beginning of something say of how it is packed; empty: not packed."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


class Source(Protocol):
    """Bytes read from their beginning to their end."""

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer only at the end."""
        ...

    def skip(self, count: int) -> int:
        """Pass over ``count`` bytes; says how many there were."""
        ...


class Window:
    """A part of an open file, whose bytes need not be read to be passed over.

    :param file: its descriptor, which stays the caller's; nothing moves its position.
    """

    def __init__(self, file: int, offset: int, size: int) -> None:
        self.file, self.offset, self.size = file, offset, size
        self._at = 0
        self._buffer = b""
        self._buffered_at = 0

    def take(self, count: int) -> bytes:
        count = min(count, self.size - self._at)
        begin = self._at - self._buffered_at
        if not 0 <= begin <= len(self._buffer) - count:
            self._buffer = os.pread(self.file, max(count, min(1 << 14, self.size - self._at)), self.offset + self._at)
            self._buffered_at, begin = self._at, 0
        taken = self._buffer[begin : begin + count]
        self._at += len(taken)
        return taken

    def skip(self, count: int) -> int:
        passed = min(count, self.size - self._at)
        self._at += passed
        return passed

    def chunks(self, seen: Callable[[int], object] = lambda _count: None) -> Chunks:
        """All of it, from its beginning. ``seen`` is told the size of each chunk. :raises ImageRefused: it is cut."""
        at = 0
        while at < self.size:
            chunk = os.pread(self.file, min(CHUNK, self.size - at), self.offset + at)
            if not chunk:
                raise ImageRefused("truncated", f"the file ends {self.size - at} bytes before one of its parts does")
            at += len(chunk)
            yield chunk
            seen(len(chunk))


class Stream:
    """Chunks as a source. What is passed over is read all the same, since somebody counts or hashes it."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def peek(self, count: int) -> bytes:
        """What :meth:`take` would give, which stays to be taken; for less than a chunk."""
        held = self._chunk[self._at :]
        while len(held) < count and (chunk := next(self._chunks, b"")):
            held += chunk
        self._chunk, self._at = held, 0
        return held[:count]

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end <= len(self._chunk):
            taken = self._chunk[self._at : end]
            self._at = end
            return taken
        parts = []
        while count > 0 and self._fill():
            part = self._chunk[self._at : self._at + count]
            self._at += len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def skip(self, count: int) -> int:
        left = count
        while left > 0 and self._fill():
            step = min(left, len(self._chunk) - self._at)
            self._at += step
            left -= step
        return count - left

    def _fill(self) -> bool:
        """Whether there are bytes in hand, reading on where needed."""
        while self._at >= len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._chunk, self._at = chunk, 0
        return True


def shown(chunks: Chunks, *viewers: Callable[[bytes], object]) -> Chunks:
    """The same chunks, after each of ``viewers`` has had them."""
    for chunk in chunks:
        for view in viewers:
            view(chunk)
        yield chunk


@contextlib.contextmanager
def unpacked(chunks: Chunks, compression: Compression, packed: int, limits: Limits, room: int) -> Iterator[Chunks]:
    """``chunks`` without their compression, within bounds.

    :param packed: bytes that all of ``chunks`` have, for the ratio. :param room: how many may come out at most.
    :raises ImageRefused: ``bomb``, ``size``, ``corrupt``, ``truncated``, or ``format`` for compressions that no
        container's image has.
    """
    with contextlib.ExitStack() as stack:
        if compression == "gzip":
            chunks = _gunzipped(chunks)
        elif compression == "zstd":
            chunks = stack.enter_context(_unzstd(chunks, limits))
        elif compression:
            raise ImageRefused("format", f"a layer is packed with {compression}", hint="layers are plain, gzip or zstd")
        allowance = limits.free + limits.ratio * packed if compression else room
        yield _bounded(chunks, allowance, room)


def _bounded(chunks: Chunks, allowance: int, room: int) -> Chunks:
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > room:
            raise ImageRefused("size", f"its layers have more than the {room} bytes that are left of what is allowed")
        if count > allowance:
            raise ImageRefused("bomb", "a layer becomes far larger when it is unpacked than images do")
        yield chunk


def _gunzipped(chunks: Chunks) -> Chunks:
    """As gzip files go: any number of members, one after the other, and nothing else."""
    engine = zlib.decompressobj(_GZIP)
    begun = False
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if engine.eof:
                    engine = zlib.decompressobj(_GZIP)
                begun = True
                if data := engine.decompress(rest, CHUNK):
                    yield data
                rest = engine.unused_data if engine.eof else engine.unconsumed_tail
        while begun and not engine.eof and (data := engine.decompress(b"", CHUNK)):
            yield data
    except zlib.error as error:
        raise ImageRefused("corrupt", f"a layer cannot be unpacked: {error}") from error
    if not engine.eof:
        raise ImageRefused("truncated", "a layer ends before its gzip stream does")


@contextlib.contextmanager
def _unzstd(chunks: Chunks, limits: Limits) -> Iterator[Chunks]:
    """By zstd(1) in a confined process: Python has no module for it before 3.14."""
    bounds = Bounds(memory=_ZSTD_MEMORY, cpu_s=limits.convert_s)
    process = start_bounded(("zstd", *_ZSTD), bounds=bounds, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    feeder = _Feeder(process, chunks)
    feeder.start()
    try:
        yield _output(process, feeder)
    finally:
        process.kill()
        feeder.join()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class _Feeder(threading.Thread):
    """Writes ``chunks`` to a process. What goes wrong with them is kept for the one who reads what comes out."""

    def __init__(self, process: subprocess.Popen[bytes], chunks: Chunks) -> None:
        super().__init__(name="zstd-feeder", daemon=True)
        self._process, self._chunks = process, chunks
        self.failure: BaseException | None = None

    def run(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - asked for when it was made
        try:
            with pipe:
                for chunk in self._chunks:
                    pipe.write(chunk)
        except BrokenPipeError:
            return  # the process ended first, and its exit code says why
        except BaseException as error:  # noqa: BLE001 - raised again by the reader
            self.failure = error
            self._process.kill()


def _output(process: subprocess.Popen[bytes], feeder: _Feeder) -> Chunks:
    assert process.stdout is not None  # noqa: S101 - asked for when it was made
    while chunk := process.stdout.read(CHUNK):
        yield chunk
    feeder.join()
    if feeder.failure is not None:
        raise feeder.failure
    code = process.wait()
    if code == confine.NOT_STARTED:
        raise Unavailable("zstd could not be started")
    if code != 0:
        raise ImageRefused("corrupt", "a layer cannot be unpacked: zstd found its stream damaged, cut or too large")
