"""Where the host gets files of images from, in the order in which it tries them."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import Final

from wireloom.fabric.image_documents import BlobSource

__all__ = ["Sources"]

#: A source that gave something wrong, or did not answer, is tried last for so long.
PUT_LAST_S: Final = 600.0


class Sources:
    """What the controller said last, and what came of it.

    :param host: this one, which is no source of its own.
    """

    def __init__(self, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._sources: tuple[BlobSource, ...] = ()
        self._told = asyncio.Event()
        self._last_until: dict[str, float] = {}

    def update(self, sources: tuple[BlobSource, ...]) -> None:
        """The controller said where files are."""
        self._sources = tuple(source for source in sources if source.host != self._host)
        self._told.set()

    async def told(self, within_s: float) -> None:
        """Wait until the controller has said something, but not for long: it may be away."""
        try:
            async with asyncio.timeout(within_s):
                await self._told.wait()
        except TimeoutError:
            return

    def order(self, digest: str) -> list[BlobSource]:
        """Who has ``digest``: hosts that say so, then the rest, then whom :meth:`put_last` is about.

        Each host has an order of its own for the other hosts, so that they share the work.
        """
        having = [source for source in self._sources if source.digests is None or digest in source.digests]
        return sorted(having, key=lambda source: (self._is_last(source), not source.host, self._place(source)))

    def put_last(self, source: BlobSource) -> None:
        """It gave something wrong, or nothing."""
        self._last_until[source.url] = self._clock() + PUT_LAST_S

    def _place(self, source: BlobSource) -> int:
        return zlib.crc32(f"{self._host} {source.host}".encode()) if source.host else 0

    def _is_last(self, source: BlobSource) -> bool:
        return self._last_until.get(source.url, 0) > self._clock()
