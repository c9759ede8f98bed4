"""Stops nodes whose lease ran out, by force, and keeps them from being started before there is a lease again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from wireloom.agent.fencing.leases import HeldLease, LeaseBook
from wireloom.agent.reporter import Tell
from wireloom.fabric.documents import EventLevel, Lease
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import Slice
from wireloom.planning.plan import LIVE_PHASES

__all__ = ["Fence", "NodeStops"]

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
#: While nodes of a lapsed lab are there, the engines are asked anew so often: an interrupted start may end late.
_OBSERVE_S: Final = 5.0


class NodeStops(Protocol):
    """What the fence needs of :class:`~wireloom.agent.actions.Actions`."""

    async def interrupt(self, lab_id: str) -> None: ...

    def cut_off(self, status: RuntimeStatus, provider: str) -> None: ...

    def is_busy(self, node_id: str) -> bool: ...


class Runtimes(Protocol):
    """What the fence needs of :class:`~wireloom.agent.world.World`."""

    runtimes: dict[str, RuntimeStatus]

    def provider_of(self, node_id: str) -> str | None: ...

    async def resync(self) -> None: ...


class Fence:
    """One per agent. :meth:`run` looks every second and whenever something changed.

    :param wake: the reconciler's. :param beat_soon: a lab waits for a lease: send a heartbeat now.
    """

    def __init__(
        self,
        book: LeaseBook,
        actions: NodeStops,
        world: Runtimes,
        *,
        wake: Callable[[], None],
        tell: Tell,
        beat_soon: Callable[[], None] = lambda: None,
    ) -> None:
        self.book = book
        self._actions = actions
        self._world = world
        self._wake = wake
        self._tell = tell
        self._beat_soon = beat_soon
        self._changed = asyncio.Event()
        self._shut: set[str] = set()
        self._observe_in_s = 0.0

    # -- what is told --------------------------------------------------------------------------------------

    def follow(self, lab_id: str, document: Slice | None) -> None:
        """The controller's intent for one lab; ``None``: it is no concern of this host any more."""
        if self.book.follow(lab_id, document):
            self._beat_soon()
        self._changed.set()

    def heard(self, lease: Lease) -> None:
        """A controller answered a heartbeat."""
        if self.book.heard(lease):
            self._changed.set()
            self._look()

    def reason(self, lab_id: str) -> str:
        """Why nodes of the lab may not run now; empty: they may."""
        if lab_id not in self.book.lapsed():
            return ""
        silence = self.book.silence_s(lab_id)
        if silence is None:
            return "waits for the controller's word that no other host runs it"
        return "no word of the controller for too long, so another host may run it: stopped until it is heard again"

    # -- the loop ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Enforce for ever."""
        while True:
            self._changed.clear()
            lapsed = self._look()
            if lapsed:
                await self._enforce(lapsed)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._changed.wait()

    def _pause_s(self) -> float:
        return min(_LOOK_S, self.book.next_lapse_s() or _LOOK_S)

    def _look(self) -> Mapping[str, HeldLease]:
        """Which labs are lapsed; the reconciler is woken where that changed."""
        lapsed = self.book.lapsed()
        if lapsed.keys() != self._shut:
            for lab_id in self._shut - lapsed.keys():
                log.info("lease is back", lab_id=lab_id)
            self._shut = set(lapsed)
            self._observe_in_s = 0.0
            self._wake()
        return lapsed

    async def _enforce(self, lapsed: Mapping[str, HeldLease]) -> None:
        for lab_id, held in lapsed.items():
            await self._stop_lab(lab_id, held)
        self._observe_in_s -= _LOOK_S
        if self._observe_in_s <= 0:
            self._observe_in_s = _OBSERVE_S
            await self._world.resync()

    async def _stop_lab(self, lab_id: str, held: HeldLease) -> None:
        await self._actions.interrupt(lab_id)
        for status in self._live(lab_id):
            node = status.identity
            provider = self._world.provider_of(node.node_id)
            if provider is None or self._actions.is_busy(node.node_id):
                continue
            message = f"stopped: no word of the controller for more than {held.lease_s:.0f} s, another host may run it"
            self._tell(held.lab, node.node, "node.fenced", message, EventLevel.WARNING)
            self._actions.cut_off(status, provider)

    def _live(self, lab_id: str) -> list[RuntimeStatus]:
        return [
            status
            for status in list(self._world.runtimes.values())
            if status.identity.lab_id == lab_id and status.phase in LIVE_PHASES
        ]
