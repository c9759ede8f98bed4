"""Places that jobs take: so many at once of each kind of work, so that what is slow in one way holds up no other.

===========  =====================================================================================
lane         what is done there
===========  =====================================================================================
network      waiting for others: downloads, pulls, what hosts send, what hosts are asked
disk         reading and writing whole files: digests, unpacking, conversion, building, storing
===========  =====================================================================================

A job that has fetched its file leaves the first lane for the second, and goes before jobs that have not begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Literal

__all__ = ["AT_ONCE", "Lane", "Places"]

Lane = Literal["network", "disk"]

#: Jobs at work in each lane.
AT_ONCE: Final[Mapping[Lane, int]] = {"network": 4, "disk": 2}


class Places:
    """Of one loop. A job has one place at most.

    :param freed: called when a place was given up that no job at work waits for.
    """

    def __init__(self, at_once: Mapping[Lane, int], freed: Callable[[], None]) -> None:
        self._at_once = dict(at_once)
        self._freed = freed
        self._held: dict[str, Lane] = {}
        self._waiting: dict[Lane, dict[str, asyncio.Future[None]]] = {lane: {} for lane in self._at_once}

    def take(self, job_id: str, lane: Lane) -> bool:
        """Whether the job has a place there now. One that it had elsewhere it keeps where there is none for it."""
        if self._held.get(job_id) == lane:
            return True
        if not self._has_room(lane) or any(not place.done() for place in self._waiting[lane].values()):
            return False
        before = self._held.get(job_id)
        self._held[job_id] = lane
        if before is not None:
            self._give_on(before)
        return True

    async def wait(self, job_id: str, lane: Lane) -> None:
        """Give up the place that the job has, and return when it has one in ``lane``; in the order of asking."""
        if self.take(job_id, lane):
            return
        self.leave(job_id)
        place = asyncio.get_running_loop().create_future()
        self._waiting[lane][job_id] = place
        try:
            await place
        finally:
            self._waiting[lane].pop(job_id, None)

    def leave(self, job_id: str) -> None:
        """The job has no place any more; idempotent."""
        lane = self._held.pop(job_id, None)
        if lane is not None:
            self._give_on(lane)

    def _give_on(self, lane: Lane) -> None:
        """There is a place more than before."""
        for waiting, place in self._waiting[lane].items():
            if not place.done() and self._has_room(lane):
                self._held[waiting] = lane
                place.set_result(None)
                return
        self._freed()

    def _has_room(self, lane: Lane) -> bool:
        return sum(held == lane for held in self._held.values()) < self._at_once[lane]
