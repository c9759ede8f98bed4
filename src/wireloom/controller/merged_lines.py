"""Lines of several hosts as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from wireloom.errors import Unsupported, WireloomError
from wireloom.providers.contract import ByteStream

__all__ = ["MergedLines"]

log = structlog.get_logger(__name__)

#: Pieces that wait for the reader; then sources wait.
_ROOM: Final = 8


class MergedLines:
    """A ``ByteStream`` of whole lines as they come; it ends when all its sources have. Nothing can be written to it.

    A source that fails is left out from then on.
    """

    def __init__(self, sources: Sequence[ByteStream]) -> None:
        self._sources = sources
        self._lines: asyncio.Queue[bytes] = asyncio.Queue(_ROOM)
        self._readers = [asyncio.ensure_future(self._pump(source)) for source in sources]
        self._open = len(sources)

    async def read(self) -> bytes:
        """The next lines; ``b""`` at the end."""
        while self._open or not self._lines.empty():
            if lines := await self._lines.get():
                return lines
            self._open -= 1
        return b""

    async def write(self, data: bytes) -> None:
        raise Unsupported(f"nothing can be written to counters: {len(data)} bytes")

    async def resize(self, columns: int, rows: int) -> None:
        """Without effect: there is no terminal."""

    async def close(self) -> None:
        """Close all sources; idempotent."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await asyncio.gather(*(source.close() for source in self._sources))

    async def _pump(self, source: ByteStream) -> None:
        rest = b""
        try:
            while data := await source.read():
                lines, newline, rest = (rest + data).rpartition(b"\n")
                if newline:
                    await self._lines.put(lines + newline)
        except WireloomError as error:
            log.warning("lines of a host have ended", error=str(error))
        await self._lines.put(b"")
