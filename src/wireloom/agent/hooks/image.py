"""The image must be on the host before a runtime is made of it."""

from __future__ import annotations

import asyncio
import time

from wireloom.agent.context import NodeContext
from wireloom.agent.hooks.base import Hook
from wireloom.model.state import NodeStep

__all__ = ["ImageHook"]


#: An image that was seen is not looked for again while a lab comes up; later it may have been removed.
_REMEMBERED_S = 10.0


class ImageHook(Hook):
    """Fetches a missing image once, however many nodes ask for it at the same time."""

    name = "image"

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._seen: dict[tuple[str, str], float] = {}

    async def before_create(self, context: NodeContext) -> None:
        key = (context.provider.name, context.node.image)
        if time.monotonic() - self._seen.get(key, -_REMEMBERED_S) < _REMEMBERED_S:
            return
        context.progress(NodeStep.IMAGE)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if not await context.provider.images.has(context.node.image):
                await context.provider.images.load(context.node.image)
            self._seen[key] = time.monotonic()
