"""What other controllers changed: heard by a notice on the fabric, found by a slow comparison, read before leading.

A notice says only where to look; what is true is read from the database. So one that is lost costs seconds, no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from wireloom.controller.board import Board
from wireloom.controller.hosts import HostRegistry
from wireloom.controller.intents import keeping_definitions
from wireloom.controller.leadership import INSTALLATION, Leadership
from wireloom.controller.live import LiveState
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.store import Definitions, Store
from wireloom.controller.tasks import KeyedLocks, Supervisor
from wireloom.controller.topologies import Topologies
from wireloom.errors import Unavailable, WireloomError
from wireloom.fabric.documents import Notice

__all__ = ["Replicas"]

log = structlog.get_logger(__name__)

COMPARE_S: Final = 10.0
RETRY_S: Final = 1.0


class Replicas:
    """One per controller. Without effect where there is one controller alone.

    :param told: called with each lab that was read anew. :param is_ours: whether this controller itself carries on
        an operation of which the board alone does not know the end, by its id.
    """

    def __init__(
        self,
        *,
        leadership: Leadership,
        store: Store,
        fabric: ControllerFabric,
        board: Board,
        live: LiveState,
        registry: HostRegistry,
        topologies: Topologies,
        locks: KeyedLocks,
        clock: Callable[[], float],
        told: Callable[[str], None],
        is_ours: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._leadership = leadership
        self._store = store
        self._fabric = fabric
        self._board = board
        self._live = live
        self._registry = registry
        self._topologies = topologies
        self._locks = locks
        self._clock = clock
        self._told = told
        self._is_ours = is_ours
        self._reading = False
        self._heard: set[str] = set()
        self._to_tell: set[str] = set()
        self._awake = asyncio.Event()
        self._tell_awake = asyncio.Event()
        if not leadership.alone:
            board.on_put = self._changed
            registry.on_edit(lambda _: self._changed(INSTALLATION))
            leadership.on_gained(self._gained)

    async def start(self, supervisor: Supervisor) -> None:
        """Listen and compare for ever."""
        if self._leadership.alone:
            return
        await self._fabric.on_notice(self._on_notice)
        supervisor.start("tell other controllers", self._tell_for_ever)
        supervisor.start("hear of other controllers", self._hear_for_ever)
        supervisor.start("compare with the database", self._compare_for_ever)

    # ---------------------------------------------------------------- telling

    def _changed(self, lab_id: str) -> None:
        if not self._reading:
            self._to_tell.add(lab_id)
            self._tell_awake.set()

    async def _tell_for_ever(self) -> None:
        while True:
            await self._tell_awake.wait()
            self._tell_awake.clear()
            while self._to_tell:
                await self._fabric.tell_controllers(Notice(sender=self._leadership.id, lab_id=self._to_tell.pop()))

    # ---------------------------------------------------------------- hearing

    def _on_notice(self, notice: Notice) -> None:
        if notice.sender != self._leadership.id:
            self._heard.add(notice.lab_id)
            self._awake.set()

    async def _hear_for_ever(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            while self._heard:
                lab_id = self._heard.pop()
                try:
                    await self.read(lab_id)
                except WireloomError as error:
                    log.warning("change of another controller not read", lab_id=lab_id, error=str(error))
                    asyncio.get_running_loop().call_later(RETRY_S, self._on_notice, Notice(sender="", lab_id=lab_id))

    async def _compare_for_ever(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_S)
            await self.compare()

    async def compare(self) -> None:
        """Read what is another than we know."""
        await self._registry.load()
        self._live.subnets |= await self._store.subnets()
        stored = await self._store.generations()
        known = {lab_id: lab.lab.generation for lab_id in self._board.lab_ids if (lab := self._board.snapshot(lab_id))}
        for lab_id in sorted(known.keys() | stored.keys()):
            if known.get(lab_id) != stored.get(lab_id):
                await self.read(lab_id)
        for view in self._board.operations():
            record = await self._store.operation(view.id) if view.finished_at is None else None
            if record is not None and record.finished_at is not None:
                self._board.report(record)

    async def read(self, lab_id: str) -> None:
        """Have on the board what is stored of a lab. :raises WireloomError: it was not read."""
        if lab_id == INSTALLATION:
            await self._registry.load()
            return
        known = self._board.snapshot(lab_id) or await self._store.snapshot_by_id(lab_id)
        if known is None:
            return
        async with self._locks.hold(known.lab.name):
            await self._read(lab_id)
        self._told(lab_id)

    async def _read(self, lab_id: str) -> None:
        # Operations first: a lab that is read later is at least as far as they want it.
        running = [record for record in await self._store.running_operations() if record.lab_id == lab_id]
        snapshot = await self._store.snapshot_by_id(lab_id)
        if snapshot is None:
            self._quietly(lambda: self._board.forget(lab_id))
            return
        self._live.subnets |= await self._store.subnets()
        deployed = (await self._store.definitions(lab_id)).get(lab_id, Definitions())
        try:
            rendered = await asyncio.to_thread(self._topologies.render, snapshot, self._live.subnets)
            slices = keeping_definitions(deployed, rendered)
        except WireloomError as error:
            log.error("lab cannot be expanded", lab=snapshot.lab.name, error=str(error))
            slices = None
        self._quietly(lambda: self._board.put(snapshot, slices))
        for record in running:
            if self._board.operation(record.id) is None:
                self._board.track(record)
        self._board.refresh(lab_id)

    def _quietly(self, change: Callable[[], None]) -> None:
        """Nobody is told of what others have written."""
        self._reading = True
        try:
            change()
        finally:
            self._reading = False

    # ---------------------------------------------------------------- leading

    async def _gained(self, lab_id: str) -> None:
        """Before a lab is led: know it as it is stored, and end what the one before had begun and nobody carries on."""
        await self.read(lab_id)
        for record in await self._store.running_operations():
            mine = record.lab_id == lab_id or (lab_id == INSTALLATION and self._board.snapshot(record.lab_id) is None)
            if mine and record.goal != "configured" and self._board.operation(record.id) is None:
                self._board.track(record)
                self._board.refresh(record.lab_id)
            if mine and record.goal == "configured" and not self._is_ours(record.id):
                cut = Unavailable("its controller has gone meanwhile", hint="ask for it again")
                ended = record.failed(cut, self._clock())
                await self._store.save_operation(ended)
                self._board.report(ended)
