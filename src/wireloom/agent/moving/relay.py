"""Sends what leaves this host by way of a controller, where the other host cannot come for it itself.

Agents dial out only. So this one asks the controller what the other host wants, and sends just that; the controller
keeps nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

import structlog

from wireloom.agent.moving.cargo import FRAME_HEAD, Frame, Seal
from wireloom.agent.moving.departures import Parcel
from wireloom.errors import NotFound
from wireloom.model.base import Value

__all__ = ["RelayWish", "Sender"]

log = structlog.get_logger(__name__)

_CONNECT_S: Final = 10.0
#: The controller answers a question for wishes earlier.
_SILENCE_S: Final = 60.0
_PAUSE_S: Final = 1.0


class RelayWish(Value):
    """What the other host wants to have: the manifest (``number`` below 0), or a file from an offset on."""

    ticket: str
    number: int = -1
    start: int = 0


class Sender:
    """One departure: asks for wishes and fulfils them, for as long as :meth:`run` goes on."""

    def __init__(self, parcel: Parcel, reach: Callable[[str], str], trust: Callable[[], ssl.SSLContext]) -> None:
        self._parcel = parcel
        self._url = urlsplit(reach(parcel.departure.relay))
        self._trust = trust
        self._headers = {"Authorization": f"Bearer {parcel.departure.token}"}
        self._connection: HTTPConnection | None = None

    async def run(self) -> None:
        """For ever; a controller that does not answer is asked again."""
        while True:
            work = asyncio.ensure_future(asyncio.to_thread(self._once))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                self._close()
                await asyncio.gather(work, return_exceptions=True)
                raise
            except (OSError, HTTPException, ValueError, NotFound) as error:
                log.debug("nothing relayed", move=self._parcel.departure.move, error=str(error))
                await asyncio.sleep(_PAUSE_S)

    def _once(self) -> None:
        """One wish, or none: the controller has none for a while. Blocking."""
        connection = self._connection = self._connect()
        try:
            connection.request("GET", f"{self._url.path}/wanted", headers=self._headers)
            response = connection.getresponse()
            body = response.read()
            if response.status == 204:
                return
            if response.status != 200:
                raise HTTPException(f"the controller answered {response.status}")
            wish = RelayWish.model_validate_json(body)
            self._send(connection, wish)
        finally:
            connection.close()

    def _send(self, connection: HTTPConnection, wish: RelayWish) -> None:
        if wish.number < 0:
            content = self._parcel.cargo.model_dump_json().encode()
            self._put(connection, wish.ticket, len(content), iter((content,)))
            return
        path, frames = self._parcel.frames(wish.number, wish.start)
        size = sum(FRAME_HEAD.size + frame.length for frame in frames)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            self._put(connection, wish.ticket, size, _pieces(descriptor, frames, Seal(self._parcel.departure.token)))
        finally:
            os.close(descriptor)

    def _put(self, connection: HTTPConnection, ticket: str, size: int, pieces: Iterator[bytes]) -> None:
        connection.putrequest("PUT", f"{self._url.path}/data/{ticket}")
        for name, value in self._headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(size))
        connection.putheader("Content-Type", "application/octet-stream")
        connection.endheaders()
        for piece in pieces:
            connection.send(piece)
        response = connection.getresponse()
        response.read()
        if response.status not in {200, 204}:
            raise HTTPException(f"the controller answered {response.status}")

    def _connect(self) -> HTTPConnection:
        host = self._url.hostname or ""
        if self._url.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                host, self._url.port, timeout=_CONNECT_S, context=self._trust()
            )
        else:
            connection = HTTPConnection(host, self._url.port, timeout=_CONNECT_S)
        connection.connect()
        connection.sock.settimeout(_SILENCE_S)
        return connection

    def _close(self) -> None:
        """Have the thread come back."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(2)


def _pieces(descriptor: int, frames: list[Frame], seal: Seal) -> Iterator[bytes]:
    for frame in frames:
        data = os.pread(descriptor, frame.length, frame.offset) if frame.length else b""
        if len(data) < frame.length:
            raise OSError("the file became shorter while it was sent")
        yield seal.head(frame, data)
        if data:
            yield data
