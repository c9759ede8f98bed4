"""How many images the engines of a host have, counted now and then: asking costs an engine more than a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from wireloom.errors import WireloomError
from wireloom.providers.contract import Provider

__all__ = ["ImageCount"]

log = structlog.get_logger(__name__)

_EVERY_S: Final = 300.0
_AGAIN_S: Final = 15.0
_DEADLINE_S: Final = 30.0


class ImageCount:
    """:ivar count: of all providers that answered last; ``None``: none has yet."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self.count: int | None = None

    async def run(self) -> None:
        """Count for ever."""
        while True:
            counts = [await self._count(name) for name in self._providers]
            known = [count for count in counts if count is not None]
            self.count = sum(known) if known else None
            await asyncio.sleep(_EVERY_S if len(known) == len(counts) else _AGAIN_S)

    async def _count(self, name: str) -> int | None:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return len(await self._providers[name].images.list())
        except (WireloomError, TimeoutError) as error:
            log.debug("images not counted", provider=name, error=str(error))
            return None
