"""The image must be on the host before a runtime is made of it."""

from __future__ import annotations

import asyncio

from wireloom.agent.context import NodeContext
from wireloom.agent.hooks.base import Hook
from wireloom.model.state import NodeStep

__all__ = ["ImageHook"]


class ImageHook(Hook):
    """Fetches a missing image once, however many nodes ask for it at the same time."""

    name = "image"

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._present: set[tuple[str, str]] = set()

    async def before_create(self, context: NodeContext) -> None:
        key = (context.provider.name, context.node.image)
        if key in self._present:
            return
        context.progress(NodeStep.IMAGE)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if not await context.provider.images.has(context.node.image):
                await context.provider.images.load(context.node.image)
            self._present.add(key)

    def forget(self) -> None:
        """Images may have been removed behind our back: look again the next time."""
        self._present.clear()
