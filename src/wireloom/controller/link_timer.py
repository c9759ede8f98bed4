"""Impairments that end by themselves: their time is kept in the database, so that it outlives the controller.

Agents end them at that very moment by their own clocks. What follows here is that they are forgotten, and that a link
is again as its topology says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from wireloom.controller.store import Store
from wireloom.controller.tasks import Supervisor
from wireloom.errors import WireloomError

__all__ = ["LinkTimer"]

log = structlog.get_logger(__name__)

#: Another controller on the same database, or a clock that was set, may have brought the next end nearer.
LONGEST_SLEEP_S: Final = 30.0
RETRY_S: Final = 1.0


class LinkTimer:
    """Forgets what is over.

    :param reload: tells a lab's hosts what is stored of it now.
    :param clock: UNIX seconds. :param leads: whether this controller is the one that forgets.
    """

    def __init__(
        self,
        *,
        store: Store,
        reload: Callable[[str], Awaitable[None]],
        clock: Callable[[], float],
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._store = store
        self._reload = reload
        self._clock = clock
        self._awake = asyncio.Event()
        #: Labs of which something was forgotten, and whose hosts may not have been told yet.
        self._untold: set[str] = set()

    def start(self, supervisor: Supervisor) -> None:
        """Forget for ever."""
        supervisor.start("end impairments", self._run)

    def wake(self) -> None:
        """An impairment with an end was set."""
        self._awake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self.end_due()
                pause = await self._pause()
            except WireloomError as error:
                log.warning("impairments not ended", error=str(error))
                pause = RETRY_S
            try:
                async with asyncio.timeout(pause):
                    await self._awake.wait()
            except TimeoutError:
                pass
            self._awake.clear()

    async def end_due(self) -> None:
        """Forget impairments whose time is over. A lab whose hosts cannot be told is tried again with the next call."""
        if not self._leads():
            return
        self._untold.update(await self._store.end_impairments(self._clock()))
        for lab_id in sorted(self._untold):
            try:
                await self._reload(lab_id)
            except WireloomError as error:
                log.warning("impairments ended, and hosts not told", lab_id=lab_id, error=str(error))
            else:
                self._untold.discard(lab_id)

    async def _pause(self) -> float:
        if self._untold:
            return RETRY_S
        if not self._leads():
            return LONGEST_SLEEP_S
        following = await self._store.next_end()
        return LONGEST_SLEEP_S if following is None else min(max(following - self._clock(), 0.0), LONGEST_SLEEP_S)
