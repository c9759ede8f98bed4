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

    def start(self, supervisor: Supervisor) -> None:
        """Look after lost hosts for ever."""
        supervisor.start("recover lost nodes", self._run)

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Give away what is due now."""
        silences = self._keeper.look()
        quiet = {(silence.host, silence.lab_id) for silence in silences}
        for key in self._said.keys() - quiet:
            self._said.pop(key)
            self._not_before.pop(key, None)
        for silence in silences:
            if silence.over and self._clock() >= self._not_before.get((silence.host, silence.lab_id), 0.0):
                await self._recover(silence)

    async def _recover(self, silence: Silence) -> None:
        key = (silence.host, silence.lab_id)
        # Nothing may come between this and what the look saw: no heartbeat is answered for the lab from here on.
        self._keeper.shut(*key)
        try:
            outcome, level = await self._give_away(silence.lab_id, silence.host), EventLevel.WARNING
        except WireloomError as error:
            outcome, level = f"its nodes stay where they are: {error}", EventLevel.ERROR
            log.warning("nodes not recovered", host=silence.host, lab_id=silence.lab_id, error=error.to_wire())
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
