"""The controller's half of leases: answers heartbeats, and knows for how long it has answered none.

Everything here is by this process's own clock that never jumps. A controller that was started anew, took a lab over,
or was away from the fabric counts from then: it never waits less than the lease that another one may have given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from wireloom.controller.board import Board
from wireloom.controller.live import LiveState
from wireloom.controller.ports import ControllerFabric
from wireloom.errors import WireloomError
from wireloom.fabric.documents import HostFacts, Lease
from wireloom.planning.leases import given_up_after_s

__all__ = ["LeaseKeeper", "Silence"]

log = structlog.get_logger(__name__)

#: A look that comes so late says that this process was held up, and has heard nobody meanwhile.
_LATE_S: Final = 5.0


@dataclass(frozen=True)
class Silence:
    """A lab on a host that is not heard. ``seconds``: since when nothing was answered; ``given_up_after`` them."""

    lab_id: str
    host: str
    seconds: float
    given_up_after: float

    @property
    def over(self) -> bool:
        """Whether the host has stopped the lab's nodes by itself by now."""
        return self.seconds >= self.given_up_after


@dataclass
class _Count:
    """``since``: nothing was answered from then on; ``lease_s``: what the host reported that it goes by."""

    since: float
    lease_s: float


class LeaseKeeper:
    """One per controller.

    :ivar leads: whether this controller is the one that leads a lab. :param clock: seconds; never jumps.
    """

    def __init__(
        self,
        *,
        fabric: ControllerFabric,
        board: Board,
        live: LiveState,
        leads: Callable[[str], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fabric = fabric
        self._board = board
        self._live = live
        self.leads = leads
        self._clock = clock
        self._counts: dict[tuple[str, str], _Count] = {}  # (host, lab id)
        self._leased: dict[str, float] = {}  # lab id → the longest lease that its hosts are to go by
        self._shut: set[tuple[str, str]] = set()
        self._looked_at = clock()

    async def heard(self, host: str, facts: HostFacts) -> None:
        """A heartbeat of ``host`` came: let it go on with the labs that this controller leads."""
        if not facts.beat:
            return
        labs = self._labs_of(host)
        if not labs:
            return
        now = self._clock()
        for lab_id in labs:  # noted first: an answer that gets lost is as good as one that came
            if (count := self._counts.get((host, lab_id))) is not None:
                count.since = now
        try:
            await self._fabric.send_lease(Lease(host=host, beat=facts.beat, labs=labs))
        except WireloomError as error:
            log.debug("lease not sent", host=host, error=str(error))

    def _labs_of(self, host: str) -> dict[str, int]:
        """Labs with leases that may run on ``host``, with the generation that it must know."""
        found: dict[str, int] = {}
        for lab_id in self._leased:
            snapshot = self._board.snapshot(lab_id)
            if snapshot is None or host not in snapshot.hosts or (host, lab_id) in self._shut:
                continue
            if self.leads(lab_id):
                found[lab_id] = snapshot.lab.generation
        return found

    # ---------------------------------------------------------------- how long it is silent

    def look(self) -> list[Silence]:
        """To be called every second: labs on hosts that are not heard, and whose hosts go by leases."""
        now = self._clock()
        late = now - self._looked_at > _LATE_S
        self._looked_at = now
        self._find_leased()
        current = dict(self._bound())
        for key in self._counts.keys() - current.keys():
            del self._counts[key]
        silences = []
        for (host, lab_id), lease_s in current.items():
            count = self._counts.get((host, lab_id))
            if count is None or late or not self._fabric.connected or lease_s > count.lease_s:
                # Also where the lease got longer: the host may hold a long one since a moment ago.
                count = self._counts[host, lab_id] = _Count(now, lease_s)
            if host not in self._live.alive:
                silences.append(Silence(lab_id, host, now - count.since, given_up_after_s(lease_s)))
        return silences

    def _find_leased(self) -> None:
        self._leased = {}
        for lab_id in self._board.lab_ids:
            leases = [item.lease_s for item in (self._board.intents(lab_id) or {}).values() if item.lease_s is not None]
            if leases:
                self._leased[lab_id] = max(leases)

    def _bound(self) -> Iterator[tuple[tuple[str, str], float]]:
        """Labs of ours on hosts that have reported that they go by leases, with the longest that these may hold."""
        for lab_id, wanted_s in self._leased.items():
            if not self.leads(lab_id):
                continue
            intents = self._board.intents(lab_id) or {}
            for host, status in self._live.statuses(lab_id).items():
                if status.lease_s is not None and host in intents and intents[host].nodes:
                    yield (host, lab_id), max(status.lease_s, wanted_s)

    # ---------------------------------------------------------------- giving up

    def shut(self, host: str, lab_id: str) -> None:
        """Answer no heartbeat of ``host`` for that lab from now on: its nodes are being given away."""
        self._shut.add((host, lab_id))

    def open(self, host: str, lab_id: str) -> None:
        """What was being done about it is done, or given up: answer again, for what the intent says by now."""
        self._shut.discard((host, lab_id))
