"""The image must be on the host before a runtime is made of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Final, Protocol

from wireloom.agent.context import NodeContext
from wireloom.agent.hooks.base import Hook, WithdrawnError
from wireloom.errors import DeadlineExceeded
from wireloom.library.values import Progress
from wireloom.model.images import ImagePin
from wireloom.model.state import NodeStep

__all__ = ["Bringer", "ImageHook"]

#: An image that was seen is not looked for again while a lab comes up; later it may have been removed.
_REMEMBERED_S: Final = 10.0
#: An engine that fetches an image says nothing of how far it is.
_PULL_S: Final = 1800.0
#: How soon a node that is not wanted any more is let go of.
_LOOK_S: Final = 1.0


class Bringer(Protocol):
    """Has exactly what a pin says brought; see :class:`~wireloom.agent.library.stock.Stock`."""

    async def bring(
        self, pin: ImagePin, *, progress: Progress, urgent: Callable[[], bool], lab: str, node: str
    ) -> None: ...


def _always(_: NodeContext) -> bool:
    return True


class ImageHook(Hook):
    """Has a missing image brought once, however many nodes ask for it at the same time.

    What is of the library comes from there, exactly; what is not is whatever the engine has of that name, or finds. No
    node has a turn to start while it waits for that, and none goes on waiting when it is not wanted any more.

    :param library: brings images of the library; ``None``: there is none.
    :param is_wanted: whether the node is still to be brought up, of that image.
    """

    name = "image"

    def __init__(self, library: Bringer | None = None, is_wanted: Callable[[NodeContext], bool] = _always) -> None:
        self._library = library
        self._is_wanted = is_wanted
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._seen: dict[tuple[str, str, str], float] = {}

    async def prepare(self, context: NodeContext) -> None:
        await self._ensure(context)

    async def before_create(self, context: NodeContext) -> None:
        await self._ensure(context)  # it may have gone while the node waited for its turn

    async def _ensure(self, context: NodeContext) -> None:
        pin = context.lab.pin(context.node) if self._library is not None else None
        key = (context.provider.name, context.node.image, pin.content if pin else "")
        if time.monotonic() - self._seen.get(key, -_REMEMBERED_S) < _REMEMBERED_S:
            return
        context.progress(NodeStep.IMAGE)
        if pin is not None and self._library is not None:
            await self._while_wanted(context, self._bring(self._library, pin, context))
        else:
            await self._while_wanted(context, self._pull(context))
        self._seen[key] = time.monotonic()

    @staticmethod
    async def _bring(library: Bringer, pin: ImagePin, context: NodeContext) -> None:
        await library.bring(
            pin, progress=context.transfer, urgent=lambda: True, lab=context.lab.lab, node=context.node.name
        )

    async def _pull(self, context: NodeContext) -> None:
        image, images = context.node.image, context.provider.images
        async with self._locks.setdefault((context.provider.name, image), asyncio.Lock()):
            if await images.has(image):
                return
            try:
                async with asyncio.timeout(_PULL_S):
                    await images.load(image)
            except TimeoutError:
                raise DeadlineExceeded(f"fetching image {image} took more than {_PULL_S:g} s") from None

    async def _while_wanted(self, context: NodeContext, work: Coroutine[None, None, None]) -> None:
        """:raises WithdrawnError: the node is not wanted any more; the work is ended, unless others wait for it."""
        task = asyncio.get_running_loop().create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
                if not self._is_wanted(context):
                    raise WithdrawnError
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        await task
        if not self._is_wanted(context):
            raise WithdrawnError
