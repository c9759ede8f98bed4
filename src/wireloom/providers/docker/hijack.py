"""Raw two-way streams of the engine (``Upgrade: tcp``), with half-close and backpressure in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

from wireloom.errors import DeadlineExceeded, Unavailable
from wireloom.providers.docker.engine import translate

__all__ = ["STDERR", "STDOUT", "FrameDecoder", "Hijacked"]

STDOUT: Final = 1
STDERR: Final = 2

_CHUNK: Final = 64 * 1024
_HEADER: Final = struct.Struct(">BxxxL")  # stream, payload length: the engine's multiplexed format
_HEAD_LIMIT: Final = 64 * 1024
_STATUS_STREAM: Final = {101, 200}


class FrameDecoder:
    """Takes the engine's multiplexed stream apart: bytes in, ``(stream, payload)`` out; cut anywhere."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that ``data`` completes."""
        self._pending += data
        frames = []
        while len(self._pending) >= _HEADER.size:
            stream, length = _HEADER.unpack_from(self._pending)
            end = _HEADER.size + length
            if len(self._pending) < end:
                break
            frames.append((stream, bytes(self._pending[_HEADER.size : end])))
            del self._pending[:end]
        return frames


class Hijacked:
    """An open raw stream. ``read`` gives bytes as they come; framed streams are read with :meth:`frames`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, socket: str, path: str, body: dict[str, Any], *, what: str, timeout_s: float) -> Hijacked:
        """POST ``body`` to ``path`` and take the connection over.

        :raises WireloomError: what the engine answered instead of a stream.
        """
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(socket, limit=_HEAD_LIMIT)
                try:
                    await cls._handshake(reader, writer, path, body, what)
                except BaseException:
                    writer.close()
                    raise
        except TimeoutError:
            raise DeadlineExceeded(f"{what}: the Docker engine did not answer within {timeout_s:g} s") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable(f"{what}: lost the Docker engine: {error}", hint="is it running?") from error
        return cls(reader, writer)

    @staticmethod
    async def _handshake(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: dict[str, Any], what: str
    ) -> None:
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(answer.split(" ", 2)[1])
        if status in _STATUS_STREAM:
            return
        length = next(
            (int(line.split(":")[1]) for line in answer.split("\r\n") if line.lower().startswith("content-length:")),
            0,
        )
        text = (await reader.readexactly(length)).decode(errors="replace")
        raise translate(status, _message(text), what)

    async def read(self) -> bytes:
        """The next bytes; ``b""`` at the end. A connection that broke has ended."""
        try:
            return await self._reader.read(_CHUNK)
        except ConnectionError:
            return b""

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """``(stream, payload)`` until the end."""
        decoder = FrameDecoder()
        while data := await self.read():
            for frame in decoder.feed(data):
                yield frame

    async def write(self, data: bytes) -> None:
        """Write all of ``data``, as fast as the far end takes it; lost when the far end has gone."""
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def end_input(self) -> None:
        """Half-close: the far end reads the end of its input, its output still comes."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()
            await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text
