"""Gives the nodes of a lost host to other hosts, where their lab says so, and when that host has stopped them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from wireloom.controller.board import Board
from wireloom.controller.journal import Journal
from wireloom.controller.recovery.leases import LeaseKeeper, Silence
from wireloom.controller.tasks import Supervisor
from wireloom.errors import WireloomError
from wireloom.fabric.documents import EventLevel

__all__ = ["GiveAway", "Recovery"]

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
#: Between two tries for the same nodes: room for them may come.
_AGAIN_S: Final = 15.0
#: Labs that are recovered at the same time.
_AT_ONCE: Final = 4

#: Gives away what of a lab (by id) is on a host that is lost, and says in words what became of it. Nodes that no host
#: can take stay where they are. :raises WireloomError: nothing was changed.
GiveAway = Callable[[str, str], Awaitable[str]]


class Recovery:
    """One per controller; acts for the labs that it leads.

    :param clock: seconds; never jumps.
    """

    def __init__(
        self,
        *,
        keeper: LeaseKeeper,
        board: Board,
        journal: Journal,
        give_away: GiveAway,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper = keeper
        self._board = board
        self._journal = journal
        self._give_away = give_away
        self._clock = clock
        self._not_before: dict[tuple[str, str], float] = {}
        self._said: dict[tuple[str, str], str] = {}
        self._going: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def start(self, supervisor: Supervisor) -> None:
        """Look after lost hosts for ever."""
        supervisor.start("recover lost nodes", self._run)

    async def _run(self) -> None:
        try:
            while True:
                self._begin()
                await asyncio.sleep(_LOOK_S)
        finally:
            for task in self._going.values():
                task.cancel()
            await asyncio.gather(*self._going.values(), return_exceptions=True)

    async def look(self) -> None:
        """Give away what is due now, and return when that is done."""
        self._begin()
        await asyncio.gather(*self._going.values())

    def _begin(self) -> None:
        """Begin with what is due now. The time goes on being counted meanwhile."""
        silences = self._keeper.look()
        quiet = {(silence.host, silence.lab_id) for silence in silences}
        for key in self._said.keys() - quiet:
            self._said.pop(key)
            self._not_before.pop(key, None)
        for silence in silences:
            key = (silence.host, silence.lab_id)
            if silence.over and key not in self._going and self._clock() >= self._not_before.get(key, 0.0):
                # Nothing comes between this and what the look saw: no heartbeat is answered for the lab from here on.
                self._keeper.shut(*key)
                task = asyncio.create_task(self._recover(silence), name=f"recover {silence.lab_id} of {silence.host}")
                self._going[key] = task
                task.add_done_callback(lambda _, key=key: self._going.pop(key, None))  # type: ignore[misc]

    async def _recover(self, silence: Silence) -> None:
        key = (silence.host, silence.lab_id)
        try:
            async with self._turns:
                outcome, level = await self._give_away(silence.lab_id, silence.host), EventLevel.WARNING
        except WireloomError as error:
            outcome, level = f"its nodes stay where they are: {error}", EventLevel.ERROR
            log.warning("nodes not recovered", host=silence.host, lab_id=silence.lab_id, error=error.to_wire())
        except Exception:  # the supervisor's edge of one recovery
            outcome, level = "its nodes stay where they are, by a defect; see the controller's log", EventLevel.ERROR
            log.exception("defect in a recovery", host=silence.host, lab_id=silence.lab_id)
        finally:
            self._keeper.open(*key)
        self._not_before[key] = self._clock() + _AGAIN_S
        if outcome and self._said.get(key) != outcome:
            self._said[key] = outcome
            snapshot = self._board.snapshot(silence.lab_id)
            message = f"host {silence.host} is lost for {silence.seconds:.0f} s: {outcome}"
            self._journal.tell(
                "host.given-up", message, lab=snapshot.lab.name if snapshot else "", host=silence.host, level=level
            )
