"""What hosts are to have of labs, made anew from the database: at the start, and when a configuration was chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from wireloom.controller.board import Board
from wireloom.controller.intents import definitions_of, intents_by_id, keeping_definitions
from wireloom.controller.live import LiveState
from wireloom.controller.store import Definitions, Store
from wireloom.controller.tasks import KeyedLocks
from wireloom.controller.topologies import Topologies
from wireloom.errors import WireloomError

__all__ = ["Renderer"]

log = structlog.get_logger(__name__)


class Renderer:
    """One per controller.

    :param wake: told of a lab whose hosts are to be told anew.
    """

    def __init__(
        self,
        *,
        store: Store,
        topologies: Topologies,
        board: Board,
        live: LiveState,
        locks: KeyedLocks,
        wake: Callable[[str], None],
    ) -> None:
        self._store = store
        self._topologies = topologies
        self._board = board
        self._live = live
        self._locks = locks
        self._wake = wake

    async def load(self) -> None:
        """Put every lab on the board."""
        snapshots = await self._store.snapshots()
        deployed = await self._store.definitions()
        for snapshot in snapshots:
            try:
                rendered = await asyncio.to_thread(self._topologies.render, snapshot, self._live.subnets)
                slices = keeping_definitions(deployed.get(snapshot.lab.id, Definitions()), rendered)
            except WireloomError as error:
                # A device file is gone, say: that lab stays as it is on its hosts, and the others go on.
                log.error("lab cannot be expanded", lab=snapshot.lab.name, error=str(error))
                slices = None
            self._board.put(snapshot, slices)

    async def reload(self, lab_id: str) -> None:
        """Tell a lab's hosts of its active configurations as they are stored now.

        No new generation: nothing has to be done for it, and nobody waits for it.
        """
        known = self._board.snapshot(lab_id)
        if known is None:
            return
        async with self._locks.hold(known.lab.name):
            snapshot = await self._store.snapshot_by_id(lab_id)
            if snapshot is None or snapshot.lab.removing:
                return
            slices = await asyncio.to_thread(self._topologies.render, snapshot, self._live.subnets)
            deployed = definitions_of(self._board.picture(lab_id).slices)
            self._board.put(snapshot, keeping_definitions(deployed, slices))
        self._wake(lab_id)

    def secret_changed(self, name: str) -> None:
        """A secret was given or taken away: labs with nodes that want it are told."""
        for lab_id in self._board.lab_ids:
            nodes = intents_by_id(self._board.picture(lab_id).slices).values()
            if any(secret.name == name for node in nodes for secret in node.secrets):
                self._wake(lab_id)
