"""Looks now and then after what others on the host may undo without a word, and mends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from wireloom.errors import WireloomError

__all__ = ["GUARD_S", "Guard"]

log = structlog.get_logger(__name__)

#: How often a guard looks, unless told otherwise.
GUARD_S: Final = 30.0
_CLOSE_S: Final = 10.0


class Guard:
    """Rules go when a firewall is reloaded, and daemons die: a guard has them ensured again.

    :param what: what is mended, for the log and the host's problems.
    :param mend: ensures all of it. It has the ``turn`` meanwhile, and so has whoever changes what is to be ensured.
    :ivar problem: why it could not be mended the last time; empty: it could.
    """

    def __init__(self, what: str, mend: Callable[[], Awaitable[None]], period_s: float = GUARD_S) -> None:
        self.turn: Final = asyncio.Lock()
        self.problem = ""
        self._what = what
        self._mend = mend
        self._period_s = period_s
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Mend from now on, for the first time after one period; idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"guard of {self._what}")

    async def close(self) -> None:
        """Mend no more. What is being mended comes to its end, for nobody else knows how far it came."""
        self._ending.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSE_S)
            self._task.cancel()

    async def _keep(self) -> None:
        while not await self._ends():
            async with self.turn:
                self.problem = await self._mended()

    async def _mended(self) -> str:
        """What kept it from being mended, at the supervisor's edge of the guard; empty: nothing."""
        try:
            await self._mend()
        except WireloomError as error:
            log.warning("guard.not-mended", what=self._what, error=error.to_wire())
            return f"{self._what}: {error}"
        except Exception as error:  # a defect must not end the guard
            log.exception("defect in a guard", what=self._what)
            return f"{self._what}: defect: {error!r}"
        return ""

    async def _ends(self) -> bool:
        """Whether the guard is to end; told after a period, or as soon as it is."""
        try:
            async with asyncio.timeout(self._period_s):
                return await self._ending.wait()
        except TimeoutError:
            return False
