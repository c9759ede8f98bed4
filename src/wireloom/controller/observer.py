"""Listens to the fabric: hosts and observations go to the live state, and what changed wakes the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, cast

import structlog

from wireloom.controller.board import Board
from wireloom.controller.hub import Hub
from wireloom.controller.journal import Journal
from wireloom.controller.labs import LabService
from wireloom.controller.live import LiveState
from wireloom.controller.ports import Change, ControllerFabric
from wireloom.controller.publisher import Publisher
from wireloom.controller.store import Store
from wireloom.controller.tasks import Supervisor
from wireloom.fabric.documents import EventLevel, HostFacts
from wireloom.fabric.subjects import split_key
from wireloom.model.state import SliceStatus
from wireloom.model.views import StreamMessage

__all__ = ["Observer"]

log = structlog.get_logger(__name__)

REFRESH_PAUSE_S: Final = 0.1


async def _unheard(host: str, facts: HostFacts) -> None:
    """Nobody wants to hear of heartbeats."""


class Observer:
    """The controller's ears. One per controller.

    :param on_observed: is told of labs that agents reported on; ``on_host``: of hosts that came, went or changed.
    :param on_beat: is told of every heartbeat, before anything else is done about it.
    :param leads: whether this controller is the one that acts for what is no lab's, and tells of it.
    :param is_removed: whether a host is of the installation no more, so that what it said last is not listened to.
    """

    def __init__(
        self,
        *,
        fabric: ControllerFabric,
        store: Store,
        live: LiveState,
        board: Board,
        publisher: Publisher,
        hub: Hub,
        labs: LabService,
        on_observed: Callable[[str], None] = lambda _: None,
        on_host: Callable[[str], None] = lambda _: None,
        is_removed: Callable[[str], bool] = lambda _: False,
        on_beat: Callable[[str, HostFacts], Awaitable[None]] = _unheard,
        journal: Journal | None = None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._fabric = fabric
        self._store = store
        self._live = live
        self._board = board
        self._publisher = publisher
        self._hub = hub
        self._labs = labs
        self._on_observed = on_observed
        self._on_host = on_host
        self._is_removed = is_removed
        self._on_beat = on_beat
        self._journal = journal
        self._heard: asyncio.Queue[tuple[str, HostFacts | None, float]] = asyncio.Queue()
        self._touched: set[str] = set()
        self._awake = asyncio.Event()

    def start(self, supervisor: Supervisor) -> None:
        """Listen for ever."""
        supervisor.start("watch hosts", self._watch_hosts)
        supervisor.start("settle hosts", self._settle_hosts)
        supervisor.start("watch observations", self._watch_observations)
        supervisor.start("refresh labs", self._refresh)

    async def _watch_hosts(self) -> None:
        # The fabric's watchers are asynchronous generators; closing them ends their subscription.
        watcher = cast(AsyncGenerator[Change[HostFacts], None], self._fabric.watch_hosts())
        async with aclosing(watcher) as changes:
            async for change in changes:
                (host,) = split_key(change.key)
                if change.value is not None and not self._is_removed(host):
                    await self._on_beat(host, change.value)
                self._heard.put_nowait((host, change.value, self._live.now()))

    async def _settle_hosts(self) -> None:
        """What follows from heartbeats may take its time; they are answered meanwhile."""
        while True:
            await self._host_changed(*await self._heard.get())

    async def _host_changed(self, host: str, facts: HostFacts | None, heard_at: float) -> None:
        if facts is not None and self._is_removed(host):
            return
        came = facts is not None and host not in self._live.alive
        back = came and host in self._live.hosts
        if facts is not None and facts.management_subnet not in {"", self._live.subnets.get(host)}:
            await self._store.remember_subnet(host, facts.management_subnet)
            self._live.subnets[host] = facts.management_subnet
            if self._leads():
                await self._labs.readdress(host)
        known = self._offered(host)
        if not self._live.set_host(host, facts, heard_at):
            return
        self._hub.publish(StreamMessage(type="host", data=self._live.view(host).model_dump(mode="json")))
        for lab_id in self._board.refresh_host(host):
            self._publisher.wake(lab_id)
        self._on_host(host)
        if came:
            log.info("host is here", host=host)
            self._publisher.resync()
            if back:
                self._tell("host.back", f"host {host} is heard again", host, EventLevel.INFO)
        elif facts is None:
            log.warning("host does not answer", host=host)
            message = f"host {host} is not heard any more; what runs there is not known until it is back"
            self._tell("host.lost", message, host, EventLevel.WARNING)
        if self._offered(host) - known and self._leads():
            await self._labs.retry_refused()

    def _tell(self, kind: str, message: str, host: str, level: EventLevel) -> None:
        if self._journal is not None and self._leads():
            self._journal.tell(kind, message, host=host, level=level)

    def _offered(self, host: str) -> frozenset[str]:
        """Providers that can be used on ``host`` now."""
        facts = self._live.facts(host)
        return frozenset(item.name for item in facts.providers if item.available) if facts else frozenset()

    async def _watch_observations(self) -> None:
        watcher = cast(AsyncGenerator[Change[SliceStatus], None], self._fabric.watch_observations())
        async with aclosing(watcher) as changes:
            async for change in changes:
                host, lab_id = split_key(change.key)
                if self._live.set_status(host, lab_id, change.value):
                    self._touched.add(lab_id)
                    self._awake.set()

    async def _refresh(self) -> None:
        """Look at labs that agents reported on: the first time at once, then not more often than people can see."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            while self._touched:
                lab_id = self._touched.pop()
                self._board.refresh(lab_id)
                self._publisher.wake(lab_id)
                self._on_observed(lab_id)
                await asyncio.sleep(0)  # many labs at once must not starve the API
            await asyncio.sleep(REFRESH_PAUSE_S)
