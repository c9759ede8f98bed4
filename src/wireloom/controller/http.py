"""Serving an ASGI application on a TCP port of our choice, inside a running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from wireloom.errors import Unavailable
from wireloom.fabric.authority import Certificate

__all__ = ["HttpServer"]

STOP_TIMEOUT_S = 3
START_TIMEOUT_S = 10.0
LARGEST_MESSAGE_BYTES = 1024 * 1024


class _Server(uvicorn.Server):
    """Leaves signals to the process that runs us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves ``app`` from :meth:`start` to :meth:`stop`; by TLS with a ``certificate``."""

    def __init__(self, app: ASGIApp, certificate: Certificate | None = None) -> None:
        self._scheme = "http" if certificate is None else "https"
        self._server = _Server(
            uvicorn.Config(
                app,
                ssl_certfile=certificate.chain if certificate is not None else None,
                ssl_keyfile=certificate.key if certificate is not None else None,
                log_config=None,
                access_log=False,
                log_level="warning",
                lifespan="off",
                server_header=False,
                ws_max_size=LARGEST_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # it costs every keystroke more than it saves
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen, and return the URL that answers; port 0 takes any free one. :raises Unavailable: port taken."""
        listener = _listen(host, port)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")
        async with asyncio.timeout(START_TIMEOUT_S):
            while not self._server.started:
                if self._serving.done():
                    self._serving.result()
                await asyncio.sleep(0.01)
        return _url(self._scheme, host, listener.getsockname()[1])

    async def wait(self) -> None:
        """Return when serving ends; it does so by :meth:`stop` only, else with its error."""
        if self._serving is not None:
            await asyncio.shield(self._serving)

    async def stop(self) -> None:
        """Stop listening, end connections, wait; idempotent."""
        serving, self._serving = self._serving, None
        if serving is not None:
            self._server.should_exit = True
            await serving


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="does another controller run? `wireloom status`; else set `listen_port`",
        ) from error


def _url(scheme: str, host: str, port: int) -> str:
    """An address for clients on this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"
