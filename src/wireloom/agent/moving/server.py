"""Serves what leaves this host to the host that it goes to: beside the images, at the address that serves these."""

from __future__ import annotations

import asyncio
import mmap
import os
import re
from typing import Final

from aiohttp import web

from wireloom.agent.moving.cargo import FRAME_HEAD, Frame, Seal
from wireloom.agent.moving.departures import Departures
from wireloom.errors import NotFound

__all__ = ["DepartureServer"]

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
    """The kernel sends the data; the next frame is sealed meanwhile."""
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = sum(FRAME_HEAD.size + frame.length for frame in frames)
    loop = asyncio.get_running_loop()
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        with _mapped(file.fileno(), size) as view:
            await response.prepare(request)
            transport = request.transport
            coming = loop.run_in_executor(None, _head, seal, view, frames[0])
            try:
                for position, frame in enumerate(frames):
                    head = await asyncio.shield(coming)
                    if position + 1 < len(frames):
                        coming = loop.run_in_executor(None, _head, seal, view, frames[position + 1])
                    await response.write(head)
                    if frame.length:
                        if transport is None or transport.is_closing():
                            raise ConnectionResetError("the other host has gone")
                        await loop.sendfile(transport, file, frame.offset, frame.length)
            finally:
                await asyncio.wait({coming})  # it looks at the file in memory
            await response.write_eof()
    return response


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
