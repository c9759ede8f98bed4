"""Waiting for threads and for engines: never for ever, and not for longer than somebody wants what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import ParamSpec, TypeVar

from wireloom.errors import DeadlineExceeded
from wireloom.library.values import Progress

__all__ = ["deadline", "in_thread", "read_in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What ``work`` gives. Cancelled, it is still waited for: nobody else may find it half done."""
    doing = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        raise


class _StoppedError(Exception):
    """Nobody waits any more."""


async def read_in_thread(work: Callable[[Progress], T]) -> T:
    """What ``work`` gives; it reads much, and tells its progress so often that it ends soon after a cancel."""
    stopped = threading.Event()

    def progress(_done: int, _total: int) -> None:
        if stopped.is_set():
            raise _StoppedError

    doing = asyncio.ensure_future(asyncio.to_thread(work, progress))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait({doing})
        raise


@contextlib.asynccontextmanager
async def deadline(what: str, seconds: float) -> AsyncIterator[None]:
    """:raises DeadlineExceeded: the block took longer; ``what`` says what it does."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"{what} took more than {seconds:g} s") from None
