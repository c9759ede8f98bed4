"""A thread that does blocking jobs one after another, with a tool of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, Protocol, TypeVar

from wireloom.errors import DeadlineExceeded, Unavailable

__all__ = ["Worker"]

#: The host answers in milliseconds; waiting longer means that its networking lock is stuck.
_DEADLINE_S: Final = 60.0


class _Tool(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Tool)
R = TypeVar("R")


class Worker(Generic[T]):
    """Jobs take turns; the event loop never waits for one. A cancelled job may still take effect.

    :param make: makes the tool, in the thread: its sockets belong to the network namespace of that thread.
    """

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._make = make
        self._tool: T | None = None
        self._closed = False

    async def do(self, job: Callable[[T], R]) -> R:
        """Run ``job`` in the thread.

        :raises DeadlineExceeded: the host did not answer; the job may still take effect.
        :raises Unavailable: the worker is closed.
        """
        if self._closed:
            raise Unavailable("the data plane is closed")
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, job)
        except TimeoutError:
            raise DeadlineExceeded(f"the host's networking did not answer in {_DEADLINE_S:g} s") from None

    def close(self) -> None:
        """Let go of the tool and the thread, behind the jobs that still run."""
        if not self._closed:
            self._closed = True
            self._thread.submit(self._drop)
            self._thread.shutdown(wait=False)

    def _run(self, job: Callable[[T], R]) -> R:
        if self._tool is None:
            self._tool = self._make()
        try:
            return job(self._tool)
        except Unavailable:
            # What was found out of somebody who is away now may be wrong of him when he is back.
            self._drop()
            raise

    def _drop(self) -> None:
        tool, self._tool = self._tool, None
        if tool is not None:
            tool.close()
