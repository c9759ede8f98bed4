"""The latest observation of every host and lab, in memory: agents own it, and write it again when it is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from wireloom.controller.clocks import HostClock
from wireloom.controller.skew import skew_problem
from wireloom.fabric.documents import HostFacts
from wireloom.fabric.image_documents import HostShelf
from wireloom.model.images import PresenceState
from wireloom.model.state import SliceStatus
from wireloom.model.views import HostView

__all__ = ["LiveState", "SeenHost"]


@dataclass(frozen=True)
class SeenHost:
    """A host as last heard; ``last_seen`` in UNIX seconds by the controller's clock.

    :ivar shelf: what it has of the image library; ``None``: not told yet.
    :ivar ahead_s: seconds that its clock is ahead of the controller's, where that is notable.
    """

    facts: HostFacts
    alive: bool
    last_seen: float
    shelf: HostShelf | None = None
    ahead_s: float = 0.0

    def view(self) -> HostView:
        entries = None if self.shelf is None else self.shelf.entries
        problems = (*self.facts.problems, *filter(None, [skew_problem(self.facts.version)]))
        return HostView(
            host=self.facts.host,
            alive=self.alive,
            facts=self.facts.model_copy(update={"problems": problems}).model_dump(mode="json"),
            last_seen=self.last_seen,
            clock_ahead_s=self.ahead_s,
            images=None if entries is None else sum(entry.state is PresenceState.PRESENT for entry in entries),
            image_room=None if self.shelf is None else self.shelf.free,
        )


class LiveState:
    """What the fabric last told. Setters answer whether something that matters changed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hosts: dict[str, SeenHost] = {}
        self._shelves: dict[str, HostShelf] = {}
        self._statuses: dict[str, dict[str, SliceStatus]] = {}  # lab id → host → status
        self._clocks: dict[str, HostClock] = {}
        #: Management subnet by host, also of hosts that are away; as stored in the database.
        self.subnets: dict[str, str] = {}
        #: Adds to a host's view what users say of it; set by the registry of hosts.
        self.complete: Callable[[HostView], HostView] = lambda view: view

    @property
    def hosts(self) -> Mapping[str, SeenHost]:
        """Every host heard since the controller started, by name."""
        return self._hosts

    @property
    def alive(self) -> frozenset[str]:
        """Hosts whose heartbeat has not run out."""
        return frozenset(name for name, host in self._hosts.items() if host.alive)

    def view(self, host: str) -> HostView:
        """``host`` as users see it, also one whose agent was never heard."""
        seen = self._hosts.get(host)
        if seen is None:
            return self.complete(HostView(host=host, alive=False))
        silent = max(self._clock() - seen.last_seen, 0.0)
        return self.complete(seen.view().model_copy(update={"silent_s": round(silent, 1)}))

    def facts(self, host: str) -> HostFacts | None:
        """Facts of a host that is alive."""
        seen = self._hosts.get(host)
        return seen.facts if seen is not None and seen.alive else None

    def statuses(self, lab_id: str) -> Mapping[str, SliceStatus]:
        """Observations of a lab by host."""
        return dict(self._statuses.get(lab_id, {}))

    def labs_seen_on(self, host: str) -> list[str]:
        """Ids of the labs that ``host`` has reported on."""
        return [lab_id for lab_id, by_host in self._statuses.items() if host in by_host]

    def now(self) -> float:
        """The controller's clock, UNIX seconds."""
        return self._clock()

    def set_host(self, host: str, facts: HostFacts | None, heard_at: float | None = None) -> bool:
        """A heartbeat that came at ``heard_at`` (by default now), or ``None``: it ran out."""
        before = self._hosts.get(host)
        if facts is None:
            if before is None or not before.alive:
                return False
            self._hosts[host] = replace(before, alive=False)
            return True
        now = self._clock() if heard_at is None else heard_at
        clock = self._clocks.setdefault(host, HostClock())
        set_anew = clock.heard(facts.time, now)
        self._hosts[host] = SeenHost(
            facts, alive=True, last_seen=now, shelf=self._shelves.get(host), ahead_s=clock.ahead_s
        )
        return set_anew or before is None or not before.alive or _calm(before.facts) != _calm(facts)

    def ahead_s(self, host: str) -> float:
        """Seconds that the clock of ``host`` is ahead of this controller's; 0 where that is not notable."""
        clock = self._clocks.get(host)
        return 0.0 if clock is None else clock.ahead_s

    def set_shelf(self, host: str, shelf: HostShelf | None) -> None:
        """What a host has of the image library, or ``None``: its word was deleted."""
        self._shelves.pop(host, None)
        if shelf is not None:
            self._shelves[host] = shelf
        if host in self._hosts:
            self._hosts[host] = replace(self._hosts[host], shelf=shelf)

    def forget_host(self, host: str) -> None:
        """``host`` is of the installation no more."""
        self._hosts.pop(host, None)
        self._clocks.pop(host, None)
        self._shelves.pop(host, None)
        self.subnets.pop(host, None)

    def set_status(self, host: str, lab_id: str, status: SliceStatus | None) -> bool:
        """An observation, or ``None``: it was deleted."""
        by_host = self._statuses.setdefault(lab_id, {})
        before = by_host.get(host)
        if status is None:
            by_host.pop(host, None)
            if not by_host:
                del self._statuses[lab_id]
            return before is not None
        by_host[host] = status
        return before is None or _without_time(before) != _without_time(status)


def _calm(facts: HostFacts) -> HostFacts:
    """``facts`` without what changes with every heartbeat, which would wake everybody all the time."""
    return facts.model_copy(
        update={"time": 0.0, "beat": "", "loops": (), "load": (), "memory_free_mb": None, "disks": ()}
    )


def _without_time(status: SliceStatus) -> SliceStatus:
    return status.model_copy(update={"observed_at": 0.0})
