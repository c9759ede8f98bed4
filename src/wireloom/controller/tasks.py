"""Background loops that outlive their own failures, and locks by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from wireloom.errors import WireloomError

__all__ = ["KeyedLocks", "Supervisor"]

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0


class Supervisor:
    """Runs loops until it is closed; one that fails is logged and started again after a growing pause."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run ``loop()`` in the background, again whenever it ends."""
        task = asyncio.create_task(self._run(name, loop), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all loops and wait for them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        clock = asyncio.get_running_loop()
        pause = FIRST_PAUSE_S
        while True:
            started = clock.time()
            try:
                await loop()
            except WireloomError as error:
                log.warning("loop failed", loop=name, error=str(error))
            except Exception:
                log.exception("defect in a loop", loop=name)
            # A loop that ran well for a while starts again at once; one that fails at once is not hammered.
            pause = FIRST_PAUSE_S if clock.time() - started > LONGEST_PAUSE_S else min(pause * 2, LONGEST_PAUSE_S)
            await asyncio.sleep(pause)


class KeyedLocks:
    """One lock per key, kept only while somebody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    async def settled(self) -> None:
        """Wait until everybody who holds a lock now has let go of it."""
        for key in tuple(self._locks):
            async with self.hold(key):
                pass

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of ``key`` for the length of the block."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] = self._users.get(key, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
