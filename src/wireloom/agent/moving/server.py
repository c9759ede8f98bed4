"""Serves what leaves this host to the host that it goes to: beside the images, at the address that serves these."""

from __future__ import annotations

import asyncio
import mmap
import os
import re
import select
from typing import Final

from aiohttp import web

from wireloom.agent.library.waiting import in_thread
from wireloom.agent.moving.cargo import FRAME_HEAD, Frame, Seal
from wireloom.agent.moving.departures import Departures
from wireloom.errors import NotFound

__all__ = ["DepartureServer"]

_STALLED_S: Final = 60.0
_POLL_S: Final = 0.005
_PATH: Final = re.compile(r"/moves/([0-9a-z]{1,32})/(manifest|files/([0-9]{1,9}))")


class DepartureServer:
    """Answers ``GET /moves/{move}/manifest`` and ``GET /moves/{move}/files/{number}?from={offset}``."""

    def __init__(self, departures: Departures) -> None:
        self._departures = departures

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """``None``: the request is about something else. Whoever does not show the move's token finds nothing."""
        found = _PATH.fullmatch(request.path)
        if found is None:
            return None
        try:
            parcel = self._departures.parcel(found[1], _token(request))
            if found[3] is None:
                return web.Response(text=parcel.cargo.model_dump_json(), content_type="application/json")
            start = int(request.query.get("from", "0"))
            path, frames = await asyncio.to_thread(parcel.frames, int(found[3]), start)
        except (NotFound, ValueError):
            return web.Response(status=404)
        except OSError as error:
            return web.Response(status=503, text=str(error))
        seal = Seal(parcel.departure.token)
        return await _send(request, os.open(path, os.O_RDONLY | os.O_NOFOLLOW), frames, seal)


async def _send(request: web.BaseRequest, descriptor: int, frames: list[Frame], seal: Seal) -> web.StreamResponse:
    """The kernel sends the data, asked by a thread: the loop has a host to serve meanwhile."""
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = sum(FRAME_HEAD.size + frame.length for frame in frames)
    with (
        os.fdopen(descriptor, "rb", buffering=0) as file,
        _mapped(file.fileno(), os.fstat(file.fileno()).st_size) as view,
    ):
        await response.prepare(request)
        await response.write(await in_thread(_head, seal, view, frames[0]))
        transport = request.transport
        wire = transport.get_extra_info("socket") if transport is not None else None
        if transport is None or wire is None:
            raise ConnectionResetError("the other host has gone")
        await _flushed(transport)
        sending = _Sending(os.dup(wire.fileno()), file.fileno())
        try:
            await in_thread(sending.send, seal, view, frames)
        except asyncio.CancelledError:
            transport.abort()
            raise
        finally:
            sending.close()
        await response.write_eof()
    return response


async def _flushed(transport: asyncio.WriteTransport) -> None:
    """What the loop was given to send is with the kernel."""
    async with asyncio.timeout(_STALLED_S):
        while transport.get_write_buffer_size():
            if transport.is_closing():
                raise ConnectionResetError("the other host has gone")
            await asyncio.sleep(_POLL_S)


class _Sending:
    """Sends on a connection of the loop's, which sends nothing itself meanwhile. Blocking.

    :param wire: a descriptor of its own, so that nobody else gets its number while we send. :param source: the file.
    """

    def __init__(self, wire: int, source: int) -> None:
        self._wire = wire
        self._source = source
        self._ready = select.poll()
        self._ready.register(wire, select.POLLOUT)

    def send(self, seal: Seal, view: mmap.mmap | None, frames: list[Frame]) -> None:
        """Everything but the first head, which is sent. :raises OSError: the other host has gone, or takes nothing."""
        for position, frame in enumerate(frames):
            if position:
                self._write(_head(seal, view, frame))
            offset, left = frame.offset, frame.length
            while left:
                try:
                    sent = os.sendfile(self._wire, self._source, offset, left)
                except BlockingIOError:
                    self._wait()
                    continue
                if not sent:
                    raise ConnectionResetError("the file became shorter while it was sent")
                offset, left = offset + sent, left - sent

    def close(self) -> None:
        """Let go of the descriptor; the connection stays."""
        os.close(self._wire)

    def _write(self, head: bytes) -> None:
        while head:
            try:
                head = head[os.write(self._wire, head) :]
            except BlockingIOError:
                self._wait()

    def _wait(self) -> None:
        if not self._ready.poll(_STALLED_S * 1000):
            raise ConnectionResetError("the other host takes nothing any more")


class _mapped:
    """A file in memory; an empty one cannot be mapped, and has no data to be hashed."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._map = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else None

    def __enter__(self) -> mmap.mmap | None:
        return self._map

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.close()


def _head(seal: Seal, view: mmap.mmap | None, frame: Frame) -> bytes:
    if view is None or not frame.length:
        return seal.head(frame, b"")
    with memoryview(view) as whole, whole[frame.offset : frame.offset + frame.length] as data:
        return seal.head(frame, data)


def _token(request: web.BaseRequest) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")
