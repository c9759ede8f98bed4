"""Work beside the loop: one job of a name at a time, with a pause after each failure that grows with their number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from wireloom.errors import WireloomError
from wireloom.planning.failures import backoff_s

__all__ = ["Background"]

log = structlog.get_logger(__name__)


class Background:
    """Runs jobs; ``wake`` is told when the way is free for the next of that name."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, int] = {}

    def start(self, name: str, job: Coroutine[object, object, None]) -> None:
        """Run ``job``, unless one of that name is at work, or pauses after a failure."""
        if name in self._jobs:
            job.close()
            return
        self._jobs[name] = asyncio.create_task(self._run(name, job), name=name)

    async def _run(self, name: str, job: Coroutine[object, object, None]) -> None:
        try:
            if await self._succeeds(name, job):
                self._failures.pop(name, None)
            else:
                self._failures[name] = self._failures.get(name, 0) + 1
                await asyncio.sleep(backoff_s(self._failures[name]))
        finally:
            self._jobs.pop(name, None)
            self._wake()

    @staticmethod
    async def _succeeds(name: str, job: Coroutine[object, object, None]) -> bool:
        try:
            await job
        except WireloomError as error:
            log.warning("background work failed", job=name, error=error.to_wire())
            return False
        except Exception:  # nobody awaits these tasks: their edge is here
            log.exception("defect in background work", job=name)
            return False
        return True

    def forget(self, node_id: str) -> None:
        """The node is gone: so is what failed on it."""
        for name in [name for name in self._failures if name.endswith(node_id)]:
            del self._failures[name]

    async def close(self) -> None:
        """Let go of what is at work."""
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
