"""Level-triggered publishing: what the fabric says of intent is made what the database says.

For each lab that was touched: put the slices that differ from what was put before; where a host has confirmed that
nothing is left, clear its keys; when the last host of a lab that is being removed has, forget the lab. At start, every
30 s, when a host appears and when the fabric lost its store, everything is compared with what the fabric really
holds. Any step may fail or be interrupted at any point: it is done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from wireloom.controller.board import Board
from wireloom.controller.clocks import slice_moved
from wireloom.controller.leadership import INSTALLATION
from wireloom.controller.live import LiveState
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.store import Store
from wireloom.controller.tasks import KeyedLocks, Supervisor
from wireloom.errors import WireloomError
from wireloom.model.slice import Slice

__all__ = ["Publisher"]

log = structlog.get_logger(__name__)

RESYNC_S: Final = 30.0
RETRY_S: Final = 1.0


class Publisher:
    """The only writer of intent on the fabric. :meth:`wake` and :meth:`resync` return at once.

    :param complete: adds what hosts are told with a slice beside its intent: exactly which images its nodes mean.
    :param leads: whether this controller is the one that publishes a lab, by its id.
    :param given: told of each change of what a host is to have.
    """

    def __init__(
        self,
        *,
        installation: str,
        fabric: ControllerFabric,
        store: Store,
        board: Board,
        live: LiveState,
        locks: KeyedLocks,
        complete: Callable[[Slice], Slice] = lambda document: document,
        given: Callable[[], None] = lambda: None,
        leads: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._leads = leads
        self._given = given
        self._installation = installation
        self._fabric = fabric
        self._store = store
        self._board = board
        self._live = live
        self._locks = locks
        self._complete = complete
        self._put: dict[tuple[str, str], Slice] = {}  # (host, lab id) → what the fabric was last given
        self._dirty: set[str] = set()
        self._resync_due = True
        self._awake = asyncio.Event()

    def start(self, supervisor: Supervisor) -> None:
        """Publish for ever."""
        self._fabric.on_rebuilt(self.resync)
        supervisor.start("publish intent", self._run)

    def wake(self, lab_id: str) -> None:
        """A lab's intent or observation changed."""
        self._dirty.add(lab_id)
        self._awake.set()

    def gained(self, lab_id: str) -> None:
        """A lab is led from now on: what its hosts were given by others is not known."""
        for key in [key for key in self._put if key[1] == lab_id]:
            del self._put[key]
        self.wake(lab_id)

    def resync(self) -> None:
        """What the fabric holds may be anything: compare it all."""
        self._resync_due = True
        self._awake.set()

    async def _run(self) -> None:
        self._resync_due = True  # also after a defect, which may have left anything undone
        while True:
            if self._resync_due:
                self._resync_due = False
                await self._guarded_resync()
            while self._dirty:
                await self._guarded_settle(self._dirty.pop())
            try:
                async with asyncio.timeout(RESYNC_S):
                    await self._awake.wait()
            except TimeoutError:
                self._resync_due = True
            self._awake.clear()

    async def _guarded_settle(self, lab_id: str) -> None:
        """One lab's failure is tried again and keeps no other lab waiting."""
        try:
            await self._settle(lab_id)
        except WireloomError as error:
            log.warning("intent not published", lab_id=lab_id, error=str(error))
            asyncio.get_running_loop().call_later(RETRY_S, self.wake, lab_id)

    async def _guarded_resync(self) -> None:
        try:
            await self._resync()
        except WireloomError as error:
            log.warning("fabric not compared", error=str(error))
            asyncio.get_running_loop().call_later(RETRY_S, self.resync)

    # ---------------------------------------------------------------- one lab

    async def _settle(self, lab_id: str) -> None:
        intents = self._board.intents(lab_id)
        if intents is None or not self._leads(lab_id):
            return
        for host, intent in intents.items():
            document = slice_moved(self._complete(intent), self._live.ahead_s(host))
            if self._put.get((host, lab_id)) != document:
                await self._give(host, document)
        await self._clear_empty_hosts(lab_id)
        await self._free_tunnels(lab_id)

    async def _give(self, host: str, document: Slice) -> None:
        if not self._leads(document.lab_id):  # no more, since a moment ago
            return
        await self._fabric.put_intent(host, document)
        self._put[host, document.lab_id] = document
        self._given()

    async def _clear_empty_hosts(self, lab_id: str) -> None:
        """Take back the keys of hosts that hold nothing of the lab any more."""
        snapshot = self._board.snapshot(lab_id)
        if snapshot is None:
            return
        hostless = snapshot.lab.removing and not snapshot.hosts  # all of its hosts were removed themselves
        if not (hostless or self._leavable(lab_id)):
            return
        async with self._locks.hold(snapshot.lab.name):
            for host in self._leavable(lab_id):  # again: a verb may have come first
                await self._fabric.delete_intent(host, lab_id)
                await self._fabric.delete_observation(host, lab_id)
                self._put.pop((host, lab_id), None)
                await self._store.host_is_empty(lab_id, host)
            await self._forget_if_gone(lab_id)

    async def _free_tunnels(self, lab_id: str) -> None:
        """Numbers of links between hosts that no host of the lab knows of any more are free for others."""
        if not self._tunnels_unused(lab_id):
            return
        async with self._locks.hold(self._board.picture(lab_id).snapshot.lab.name):
            if not self._tunnels_unused(lab_id):  # a verb came first
                return
            picture = self._board.picture(lab_id)
            snapshot = await self._store.free_tunnels(lab_id, picture.generation)
            if snapshot is not None and snapshot.lab.generation == picture.generation:
                self._board.put(snapshot, picture.slices)

    def _tunnels_unused(self, lab_id: str) -> bool:
        snapshot = self._board.snapshot(lab_id)
        return snapshot is not None and bool(snapshot.released) and self._board.picture(lab_id).converged

    def _leavable(self, lab_id: str) -> list[str]:
        """Hosts that are asked to remove the lab and have confirmed that they did."""
        intents = self._board.intents(lab_id) or {}
        if not intents:
            return []
        picture = self._board.picture(lab_id)
        return [host for host, document in intents.items() if document.removed and picture.host_is_empty(host)]

    async def _forget_if_gone(self, lab_id: str) -> None:
        if await self._store.delete_lab(lab_id):
            log.info("lab is gone", lab_id=lab_id)
            self._board.forget(lab_id)
            return
        snapshot = await self._store.snapshot_by_id(lab_id)
        if snapshot is not None:
            slices = self._board.picture(lab_id).slices
            self._board.put(snapshot, {host: slices[host] for host in slices if host in snapshot.hosts})

    # ---------------------------------------------------------------- everything

    async def _resync(self) -> None:
        for lab_id in self._board.lab_ids:
            self._dirty.add(lab_id)
        for host in sorted(self._hosts()):
            await self._compare_host(host)

    def _hosts(self) -> set[str]:
        stored = {host for lab_id in self._board.lab_ids if (lab := self._board.snapshot(lab_id)) for host in lab.hosts}
        return stored | set(self._live.hosts)

    async def _compare_host(self, host: str) -> None:
        """Remember what the fabric really holds for ``host``, and take back what no lab wants."""
        held = await self._fabric.intents(host)
        for key in [key for key in self._put if key[0] == host]:
            del self._put[key]
        for lab_id, document in held.items():
            self._put[host, lab_id] = document
            # Slices of another installation on a shared fabric are not ours to judge.
            if document.installation == self._installation and await self._is_unknown(lab_id):
                log.warning("taking back intent of an unknown lab", host=host, lab=document.lab)
                await self._fabric.delete_intent(host, lab_id)
                await self._fabric.delete_observation(host, lab_id)
                del self._put[host, lab_id]

    async def _is_unknown(self, lab_id: str) -> bool:
        """Whether no lab has this id, also none that another controller made a moment ago."""
        if self._board.snapshot(lab_id) is not None or not self._leads(INSTALLATION):
            return False
        return await self._store.snapshot_by_id(lab_id) is None
