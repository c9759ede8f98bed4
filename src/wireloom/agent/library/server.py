"""Serves this host's files of images to other hosts: with a token, in parts where asked, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from wireloom.agent.library.shelf import Served
from wireloom.agent.library.waiting import in_thread
from wireloom.errors import InvalidInput
from wireloom.library.blobs import BlobStore

__all__ = ["BlobServer", "parse_address"]

log = structlog.get_logger(__name__)

_PATH: Final = re.compile(r"/blobs/(sha256:[0-9a-f]{64})")
#: Others are refused at once, and try elsewhere or again.
_CONNECTIONS: Final = 64
_TRANSFERS: Final = 8
#: A connection that asks for nothing, and one that takes nothing of what it asked for, is ended.
_SILENT_S: Final = 10.0
_STALLED_MS: Final = 60_000
_RETRY_S: Final = 10.0
_REFUSED: Final = {"Connection": "close"}


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of the setting ``image_serve``. :raises InvalidInput: it is no address that others can reach."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"image_serve: {text!r} is not an address and a port", hint="it is like 192.0.2.7:9090")
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            raise InvalidInput(
                f"image_serve: other hosts cannot reach {host}", hint="give the address of this host that they reach"
            )
    return host, int(port)


#: Answers requests about something else than images; ``None``: it is about nothing that it knows.
Others = Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]]


async def _nobody_else(_: web.BaseRequest) -> web.StreamResponse | None:
    return None


class BlobServer:
    """GET ``/blobs/{digest}``, for whoever shows the token.

    :param address: see :func:`parse_address`. :param token: what others have to show; empty: nobody may.
    :param others: answers what is about something else, and knows itself who may ask for it.
    :ivar problem: why nothing is served; empty: it is.
    """

    def __init__(self, address: str, blobs: BlobStore, token: Callable[[], str], others: Others = _nobody_else) -> None:
        self._others = others
        self._address = address
        self._blobs = blobs
        self._token = token
        self._transfers = 0
        self._url = ""
        self._ready = asyncio.Event()
        self.problem = ""

    def served(self) -> Served:
        """What others find here now. Blocking."""
        if not self._url:
            return Served()
        return Served(self._url, frozenset(digest for digest, _, _ in self._blobs.all()))

    async def ready(self) -> None:
        """Return when it serves."""
        await self._ready.wait()

    async def run(self) -> None:
        """Serve until cancelled; an address that cannot be had is a problem, and is tried again and again."""
        while True:
            try:
                await self._serve(*parse_address(self._address))
            except InvalidInput as error:
                self.problem = str(error)
            except OSError as error:
                self.problem = f"images cannot be served on {self._address}: {error.strerror or error}"
            log.warning("image.not-served", problem=self.problem)
            await asyncio.sleep(_RETRY_S)

    async def _serve(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        web_server = web.Server(self._answer, access_log=None, keepalive_timeout=_SILENT_S, handler_cancellation=True)

        def connection() -> asyncio.Protocol:
            return web_server() if len(web_server.connections) < _CONNECTIONS else _Refused()

        listener = await loop.create_server(connection, host, port, reuse_address=True)
        try:
            port = listener.sockets[0].getsockname()[1]
            self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            self.problem = ""
            self._ready.set()
            log.info("image.served", url=self._url)
            await listener.serve_forever()
        finally:
            self._url = ""
            self._ready.clear()
            listener.close()
            await web_server.shutdown(1.0)

    @property
    def url(self) -> str:
        """Where it serves; empty: nowhere now."""
        return self._url

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        other = await self._others(request)
        if other is not None:
            return other
        if not self._may(request.headers.get("Authorization", "")):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer", **_REFUSED})
        found = _PATH.fullmatch(request.path)
        if found is None or not await in_thread(self._blobs.has, found[1]):
            return web.Response(status=404)
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers={"Allow": "GET, HEAD", **_REFUSED})
        if self._transfers >= _TRANSFERS:
            return web.Response(status=503, headers={"Retry-After": "5", **_REFUSED})
        _give_up_when_stalled(request)
        return _Transfer(self._blobs.path(found[1]), self._count)

    @contextlib.contextmanager
    def _count(self) -> Iterator[None]:
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1

    def _may(self, shown: str) -> bool:
        token = self._token()
        return hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()) and bool(token)


class _Transfer(web.FileResponse):
    """A file on its way, counted for as long as it is."""

    def __init__(self, path: Path, counted: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(path, headers={"Content-Type": "application/octet-stream"})
        self._counted = counted

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        with self._counted():
            return await super().prepare(request)


class _Refused(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _give_up_when_stalled(request: web.BaseRequest) -> None:
    """Have the kernel end the connection when what is sent is not taken."""
    wire = request.transport.get_extra_info("socket") if request.transport is not None else None
    if wire is not None:
        with contextlib.suppress(OSError):
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)
