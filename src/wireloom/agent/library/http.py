"""Reading files by HTTP, in threads: the loop has a host to serve meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http.client import (
    HTTP_PORT,
    HTTPS_PORT,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    InvalidURL,
)
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx

from wireloom.errors import InvalidInput

__all__ = ["Answer", "Http", "LostError", "ThreadedHttp"]

T = TypeVar("T")

#: Silence for so long is a lost connection; a slow one is not.
_SILENCE_S: Final = 30.0
_CONNECT_S: Final = 10.0
#: Nothing that is asked of a thread takes longer, whatever the other side does: names may be slow to be found, and what
#: comes byte by byte is no silence.
_PATIENCE_S: Final = 60.0
#: How bytes of headers are read; every byte has a meaning in it.
_HEADERS: Final = "iso-8859-1"
#: What can be asked for in the first line of a request.
_TARGET: Final = re.compile(r"[!-~]+")
#: What came in that time is given, be it little.
_GATHER_S: Final = 0.25
#: Threads beside those for fetches: one that was cancelled while it connects has its own for some seconds more.
_LEAVING: Final = 16


class LostError(Exception):
    """There was no connection, or it was lost; trying again may help."""


class Answer(Protocol):
    """What a server answered; names of headers in any case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self, buffer: memoryview) -> int:
        """Put what comes of the body into ``buffer``, and return how many bytes that is; none: it is over.

        After a read that was cancelled, or lost, nothing else may be done with ``buffer``: a thread may still write to
        it. :raises LostError: it ended too early, or nothing came for a while.
        """
        ...


class Http(Protocol):
    """Asks servers."""

    def get(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Answer]:
        """:raises LostError: nobody answers. :raises InvalidInput: that is no address."""
        ...


class ThreadedHttp:
    """A connection for each request; no redirection is followed, and no proxy asked: the token is for who was named.

    :param most: requests at the same time. :param trust: by what certificates are judged; called in threads.
    """

    def __init__(self, most: int = 2, trust: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> None:
        self._trust = trust
        self._pool = ThreadPoolExecutor(most + _LEAVING, thread_name_prefix="fetch")
        self._open: set[_Exchange] = set()
        self._closed = False

    @contextlib.asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncGenerator[Answer, None]:
        """:raises LostError: nobody answers. :raises InvalidInput: that is no address."""
        if self._closed:
            raise LostError("nothing is fetched any more")
        exchange = _Exchange(self._pool, _parse(url), self._trust)
        self._open.add(exchange)
        try:
            await exchange.begin(headers)
            yield exchange
        finally:
            self._open.discard(exchange)
            exchange.end()

    async def close(self) -> None:
        """Let go of all connections; who reads is told that they are lost. Idempotent."""
        self._closed = True
        for exchange in self._open:
            exchange.end()
        self._pool.shutdown(wait=False)


@dataclass(frozen=True)
class _Address:
    url: str
    secure: bool
    host: str
    port: int
    target: str

    def connection(self, trust: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> HTTPConnection:
        """One that is not made yet. Blocking: it reads whom the host trusts."""
        if self.secure:
            return HTTPSConnection(self.host, self.port, timeout=_CONNECT_S, context=trust())
        return HTTPConnection(self.host, self.port, timeout=_CONNECT_S)


def _parse(url: str) -> _Address:
    """:raises InvalidInput: that is no address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in {"http", "https"}:
        raise _no_address(url)
    secure = parts.scheme == "https"
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    if not _TARGET.fullmatch(target):
        raise _no_address(url)
    return _Address(url, secure, host, port or (HTTPS_PORT if secure else HTTP_PORT), target)


def _no_address(url: str) -> InvalidInput:
    return InvalidInput(f"{url} is no address to fetch from")


class _Exchange:
    """A request and its answer. One thread at a time works on it."""

    def __init__(self, pool: ThreadPoolExecutor, address: _Address, trust: Callable[[], ssl.SSLContext]) -> None:
        self._pool = pool
        self._trust = trust
        self._address = address
        self._connection: HTTPConnection | None = None
        self._wire: socket.socket | None = None  # the connection forgets it when it is the last request on it
        self._response: HTTPResponse | None = None
        self._left: int | None = None
        self._lost: LostError | None = None
        self._work: asyncio.Future[object] | None = None
        self._over = False
        self.status = 0
        self.headers: Mapping[str, str] = {}

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Ask, and wait for the head of the answer."""
        response = await self._in_thread(lambda: self._ask(headers))
        self.status, self._left = response.status, response.length
        self.headers = httpx.Headers(response.getheaders(), encoding=_HEADERS)

    async def read(self, buffer: memoryview) -> int:
        """As of :class:`Answer`."""
        return await self._in_thread(lambda: self._fill(buffer))

    def end(self) -> None:
        """Have a thread that still waits for the other side come back; then close. Idempotent."""
        self._over = True
        if self._work is None or self._work.done():
            self._close()
            return
        if self._wire is not None:
            with contextlib.suppress(OSError):
                # TLS has a shutdown of its own, which changes what the thread works with
                socket.socket.shutdown(self._wire, socket.SHUT_RDWR)
        self._work.add_done_callback(lambda _: self._close())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """What ``work`` gives. Who is cancelled does not wait for the thread; :meth:`end` sees to it."""
        self._check_open()
        doing = asyncio.get_running_loop().run_in_executor(self._pool, work)
        doing.add_done_callback(_heeded)
        self._work = doing  # type: ignore[assignment]  # futures are invariant
        await asyncio.wait({doing}, timeout=_PATIENCE_S)
        if not doing.done():
            raise LostError(f"it took longer than {_PATIENCE_S:g} s")
        return doing.result()

    def _check_open(self) -> None:
        if self._over:
            raise LostError("the connection was ended here")

    def _ask(self, headers: Mapping[str, str]) -> HTTPResponse:
        try:
            self._check_open()
            connection = self._connection = self._address.connection(self._trust)
            connection.connect()
            wire = self._wire = connection.sock
            self._check_open()  # from here on `end` reaches the thread through the wire
            wire.settimeout(_SILENCE_S)
            connection.request("GET", self._address.target, headers=dict(headers))
            response = self._response = connection.getresponse()
        except InvalidURL as error:
            raise _no_address(self._address.url) from error
        except (OSError, HTTPException) as error:
            raise _lost(error) from error
        except ValueError as error:  # there are signs in it that no name of a host, or header, may have
            raise _no_address(self._address.url) from error
        return response

    def _fill(self, buffer: memoryview) -> int:
        """What came before it was lost is given all the same."""
        done, until = 0, time.monotonic() + _GATHER_S
        try:
            while done < len(buffer) and time.monotonic() < until and (count := self._receive(buffer[done:])):
                done += count
        except (OSError, HTTPException, ValueError) as error:  # the last: of lengths that are none
            self._lost = _lost(error)
        if self._lost is not None and not done:
            raise self._lost
        return done

    def _receive(self, buffer: memoryview) -> int:
        """What one look at the connection gives."""
        response = self._response
        if response is None or self._lost is not None or self._left == 0:
            return 0
        if self._left is None:  # nobody said how much it is
            piece = response.read1(len(buffer))
            buffer[: len(piece)] = piece
            return len(piece)
        count = response.fp.readinto1(buffer[: self._left])
        if not count:
            raise ConnectionResetError("the answer ended too early")
        self._left -= count
        return count

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
        if self._connection is not None:
            self._connection.close()


def _lost(error: Exception) -> LostError:
    return LostError(str(error) or type(error).__name__)


def _heeded(future: asyncio.Future[T]) -> None:
    """Nobody may wait any more for what a thread says."""
    if not future.cancelled():
        future.exception()
