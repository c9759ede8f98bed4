"""Fetching of what is carried: blocking, in threads of its own, checking and writing while more comes."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from wireloom.agent.moving.cargo import FRAME, FRAME_HEAD, Cargo, CargoFile, Seal
from wireloom.errors import DeadlineExceeded, NotFound, Unavailable

__all__ = ["Fetch", "Line", "Source"]

_CONNECT_S: Final = 5.0
#: Silence for so long is a lost connection.
_SILENCE_S: Final = 60.0
_MANIFEST_MOST: Final = 64 << 20
#: Frames that are checked and written while the next ones come.
_AHEAD: Final = 3
#: Kernels are slow to find memory for more at once.
_PIECE: Final = 256 << 10
#: So much may have to be fetched again after the host lost its power.
_FLUSH_EVERY: Final = 128 << 20


@dataclass(frozen=True)
class Line:
    """One way to the other host: below ``url``, with the token; ``trust`` makes what certificates are judged by."""

    url: str
    token: str = field(repr=False)
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context

    @contextlib.contextmanager
    def get(self, path: str) -> Iterator[_Unbuffered]:
        """:raises Unavailable: nobody answers, or not now. :raises NotFound: the other side knows nothing of it."""
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(_SILENCE_S)
            parts = urlsplit(self.url)
            connection.request("GET", f"{parts.path}{path}", headers={"Authorization": f"Bearer {self.token}"})
            response = cast("_Unbuffered", connection.getresponse())
            if response.status == 404:
                raise NotFound("the other host has nothing to be fetched for this move (yet)")
            if response.status != 200:
                raise Unavailable(f"{self.url} answered {response.status}")
            _waiting_in_the_kernel(connection.sock)
            yield response
        except (OSError, HTTPException) as error:
            raise Unavailable(f"{self.url}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        if not parts.hostname:
            raise Unavailable(f"{self.url!r} is no address")
        if parts.scheme == "https":
            made: HTTPConnection = HTTPSConnection(parts.hostname, parts.port, timeout=_CONNECT_S, context=self.trust())
        else:
            made = HTTPConnection(parts.hostname, parts.port, timeout=_CONNECT_S)
        made.response_class = _Unbuffered
        return made


class _Unbuffered(HTTPResponse):
    """What is read goes to where it is wanted at once, and nothing is read ahead."""

    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.fp = sock.makefile("rb", buffering=0)  # type: ignore[assignment]
        self._wire = None if isinstance(sock, ssl.SSLSocket) else sock

    def whole(self, buffer: memoryview) -> int:
        """Fill ``buffer`` as far as the connection goes; what a plain one brings is put together in the kernel."""
        if self._wire is not None:
            return self._wire.recv_into(buffer, len(buffer), socket.MSG_WAITALL)
        return self.readinto(buffer)


def _waiting_in_the_kernel(wire: socket.socket) -> None:
    """One call for what comes, and not two: a third of the work of a fast connection."""
    if isinstance(wire, ssl.SSLSocket):
        return
    wire.settimeout(None)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(_SILENCE_S), 0))


@dataclass(frozen=True)
class Source:
    """Ways to the other host, the best one first; one that cannot be gone is left out from then on."""

    lines: list[Line]

    @contextlib.contextmanager
    def get(self, path: str) -> Iterator[_Unbuffered]:
        """:raises Unavailable: by no way."""
        if not self.lines:
            raise Unavailable("there is no way to the other host yet")
        while True:
            line = self.lines[0]
            opened = False
            try:
                with line.get(path) as response:
                    opened = True
                    yield response
                    return
            except (Unavailable, NotFound):
                if opened or len(self.lines) == 1:
                    raise
                self.lines.pop(0)

    def cargo(self) -> Cargo:
        """What is to be carried. :raises Unavailable: :raises NotFound:"""
        with self.get("/manifest") as response:
            return Cargo.model_validate_json(response.read(_MANIFEST_MOST))


class Fetch:
    """One transfer. :meth:`stop` ends it from another thread.

    :param progress: told of bytes that are there and verified, now and then, in the thread.
    :param offsets: by number of the file: from where on it is still to come; kept by who calls.
    """

    def __init__(self, source: Source, progress: Callable[[int], None], offsets: dict[int, int]) -> None:
        self._source = source
        self._progress = progress
        self.offsets = offsets
        self._stopped = threading.Event()
        self._seal = Seal(source.lines[0].token if source.lines else "")

    def stop(self) -> None:
        """Have it end soon, with an error."""
        self._stopped.set()

    def file(self, number: int, entry: CargoFile, target: Path, noted: Callable[[], None]) -> None:
        """Fetch what is missing of one file.

        :param noted: called when ``offsets`` changed, and what is before them is on the disk to stay.
        :raises Unavailable: the connection broke. :raises RuntimeFailed: what came is damaged. :raises OSError:
        """
        start = self.offsets.get(number, 0) if target.exists() else 0
        if start >= entry.size and target.exists() and number in self.offsets:
            return
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            with self._source.get(f"/files/{number}?from={start}") as response:
                self._take(response, descriptor, number, noted)
            os.ftruncate(descriptor, entry.size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.offsets[number] = max(entry.size, 1)
        noted()

    def _take(self, response: _Unbuffered, descriptor: int, number: int, noted: Callable[[], None]) -> None:
        buffers = [bytearray(FRAME) for _ in range(_AHEAD)]
        with (
            ThreadPoolExecutor(1, thread_name_prefix="carry") as pool,
            ThreadPoolExecutor(1, thread_name_prefix="flush") as flushes,
        ):
            waiting: deque[Future[int]] = deque()
            flush = _Flush(flushes, descriptor, self.offsets.get(number, 0))
            turn = 0
            while True:
                head = bytes(_exactly(response, memoryview(bytearray(FRAME_HEAD.size))))
                frame = self._seal.parse(head)
                if not frame.length:
                    self._seal.check(head, b"")
                    break
                written = 0
                while len(waiting) >= _AHEAD:
                    written = waiting.popleft().result()
                data = _exactly(response, memoryview(buffers[turn % _AHEAD])[: frame.length])
                turn += 1
                waiting.append(pool.submit(self._put, descriptor, head, frame.offset, data))
                self._progress(frame.length)
                if flush.due(written):
                    self.offsets[number] = flush.begin(written)
                    noted()
                if self._stopped.is_set():
                    raise DeadlineExceeded("the transfer was ended")
            while waiting:
                waiting.popleft().result()

    def _put(self, descriptor: int, head: bytes, offset: int, data: memoryview) -> int:
        """Check and write a frame; where it ends."""
        self._seal.check(head, data)
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written : written + _PIECE], offset + written)
        return offset + written


class _Flush:
    """Has what was written brought to the disk beside the transfer."""

    def __init__(self, pool: ThreadPoolExecutor, descriptor: int, start: int) -> None:
        self._pool = pool
        self._descriptor = descriptor
        self._going: Future[None] | None = None
        self._reached = self._safe = start

    def due(self, offset: int) -> bool:
        """Whether enough was written since the last time, and that is over."""
        return offset - self._reached >= _FLUSH_EVERY and (self._going is None or self._going.done())

    def begin(self, offset: int) -> int:
        """Everything before ``offset`` is written; returns before where it is on the disk to stay. :raises OSError:"""
        if self._going is not None:
            self._going.result()
            self._safe = self._reached
        self._going, self._reached = self._pool.submit(os.fdatasync, self._descriptor), offset
        return self._safe


def _exactly(response: _Unbuffered, buffer: memoryview) -> memoryview:
    got = 0
    while got < len(buffer):
        count = response.whole(buffer[got:])
        if not count:
            raise Unavailable("the connection ended too early")
        got += count
    return buffer
