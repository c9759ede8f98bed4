"""What happens to configurations by itself: agents' readings are collected, schedules kept, old revisions taken away.

Level-triggered: an agent's status says which configuration waits, and the last good extract says when the next is due.
A failure is tried again; nothing is lost by a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import structlog

from wireloom.configs.policy import Kept, expendable, next_due
from wireloom.controller.board import Board
from wireloom.controller.configs.lookup import node_key
from wireloom.controller.configs.workers import ConfigWorkers, tell_of_no_room
from wireloom.controller.journal import Journal
from wireloom.controller.leadership import INSTALLATION
from wireloom.controller.picture import LabPicture, NodePicture
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.store.config_records import Added, ConfigNode, NewConfig
from wireloom.controller.store.configs import ConfigStore
from wireloom.controller.tasks import Supervisor
from wireloom.errors import NotFound, WireloomError
from wireloom.fabric.config_documents import HELD_CONFIG, RELEASE_CONFIG, HeldQuestion, ReleaseQuestion
from wireloom.fabric.documents import EventLevel
from wireloom.model.config_views import ConfigPolicy
from wireloom.model.state import Readiness

__all__ = ["ConfigKeeper"]

log = structlog.get_logger(__name__)

RETRY_S: Final = 5.0
#: How often schedules are looked at; the shortest interval is a minute.
LOOK_S: Final = 10.0
RETENTION_S: Final = 600.0
#: After a scheduled reading that failed.
PAUSE_S: Final = 300.0


class ConfigKeeper:
    """:param reload: a lab's active revisions changed: tell its hosts.

    :param keep: revisions of a node that stay whatever their age; 0: all.
    :param keep_days: days after which others go. :param leads: whether this controller acts for a lab, by its id.
    """

    def __init__(
        self,
        *,
        store: ConfigStore,
        fabric: ControllerFabric,
        board: Board,
        workers: ConfigWorkers,
        journal: Journal,
        reload: Callable[[str], Awaitable[None]],
        clock: Callable[[], float],
        keep: int,
        keep_days: float,
        leads: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._leads = leads
        self._store = store
        self._fabric = fabric
        self._board = board
        self._workers = workers
        self._journal = journal
        self._reload = reload
        self._clock = clock
        self._keep = keep
        self._keep_days = keep_days
        self._observed: set[str] = set()
        self._awake = asyncio.Event()
        self._tried: dict[str, float] = {}

    def start(self, supervisor: Supervisor) -> None:
        """Work for ever."""
        supervisor.start("collect configurations", self._collect_for_ever)
        supervisor.start("extract on schedule", self._schedule_for_ever)
        supervisor.start("take old revisions away", self._retain_for_ever)

    def observed(self, lab_id: str) -> None:
        """An agent reported on a lab; returns at once."""
        self._observed.add(lab_id)
        self._awake.set()

    # ---------------------------------------------------------------- what agents hold

    async def _collect_for_ever(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            while self._observed:
                lab_id = self._observed.pop()
                if not await self.collect(lab_id):
                    asyncio.get_running_loop().call_later(RETRY_S, self.observed, lab_id)

    async def collect(self, lab_id: str) -> bool:
        """Store what agents hold of a lab, then let them know; false when some of it has to be tried again."""
        if self._board.snapshot(lab_id) is None or not self._leads(lab_id):
            return True
        picture = self._board.picture(lab_id)
        waiting = [node for node in picture.nodes.values() if node.alive and node.status and node.status.held_config]
        stored: list[tuple[NodePicture, Added]] = []
        for node in waiting:
            added = await self._store_held(picture, node)
            if added is not None:
                stored.append((node, added))
        if any(added.activated for _, added in stored):
            await self._reload(lab_id)
        released = [await self._release(lab_id, node, added) for node, added in stored]
        return len(stored) == len(waiting) and all(released)

    async def _store_held(self, picture: LabPicture, node: NodePicture) -> Added | None:
        key = node_key(picture, node)
        try:
            held = await self._fabric.call(node.host, HELD_CONFIG, HeldQuestion(lab_id=key.lab_id, node_id=key.node_id))
            config = NewConfig(
                **held.model_dump(include={"text", "channel", "tried", "taken_at", "choice"}),
                origin="stop",
                who=f"host {node.host}",
            )
            added = await self._store.add(key, config, by_user=False)
        except WireloomError as error:
            if not isinstance(error, NotFound):  # collected meanwhile
                log.warning("held configuration not collected", lab=key.lab, node=key.node, error=str(error))
            return None
        if added.is_new:
            message = f"{key.node}: revision {added.revision.number} stored, read over {held.channel} before its stop"
            self._journal.tell("config.stored", message, lab=key.lab)
        if added.no_room:
            tell_of_no_room(self._journal, added)
        return added

    async def _release(self, lab_id: str, node: NodePicture, added: Added) -> bool:
        question = ReleaseQuestion(
            lab_id=lab_id,
            node_id=node.intent.id,
            sha256=added.revision.sha256,
            revision=added.revision.number,
        )
        try:
            await self._fabric.call(node.host, RELEASE_CONFIG, question)
        except WireloomError as error:
            log.warning("held configuration not released", node=node.intent.name, error=str(error))
            return False
        return True

    # ---------------------------------------------------------------- schedules

    async def _schedule_for_ever(self) -> None:
        while True:
            await self.extract_due()
            await asyncio.sleep(LOOK_S)

    async def extract_due(self) -> None:
        """Read every node whose lab has a schedule and whose time has come."""
        policies = {
            lab_id: policy.extract_every_s
            for lab_id, policy in (await self._store.policies()).items()
            if policy.extract_every_s and self._leads(lab_id)
        }
        if not policies:
            return
        known = {node.node_id: node for node in await self._store.nodes()}
        due = [
            (self._board.picture(lab_id), node)
            for lab_id, every_s in policies.items()
            if self._board.snapshot(lab_id) is not None
            for node in self._due(self._board.picture(lab_id), every_s, known)
        ]
        results = await asyncio.gather(*(self._extract(picture, node) for picture, node in due))
        for lab_id in {
            picture.snapshot.lab.id for (picture, _), activated in zip(due, results, strict=True) if activated
        }:
            await self._reload(lab_id)

    def _due(self, picture: LabPicture, every_s: float, known: dict[str, ConfigNode]) -> Iterator[NodePicture]:
        for node in picture.nodes.values():
            node_id = node.intent.id
            stored = known.get(node_id)
            when = next_due(
                every_s=every_s,
                extracted_at=stored.extracted_at if stored else None,
                tried_at=self._tried.get(node_id),
                pause_s=PAUSE_S,
            )
            ready = node.alive and node.status is not None and node.status.ready is Readiness.YES
            if ready and node.intent.extract.steps and when <= self._clock():
                yield node

    async def _extract(self, picture: LabPicture, node: NodePicture) -> bool:
        """Whether the active revision changed."""
        self._tried[node.intent.id] = self._clock()
        try:
            return (await self._workers.extract_quietly(picture, node)).activated
        except WireloomError as error:
            self._journal.tell(
                "config.not-extracted",
                f"{node.intent.name}: not read on schedule: {error.message}",
                lab=picture.snapshot.lab.name,
                level=EventLevel.WARNING,
            )
            return False

    # ---------------------------------------------------------------- retention

    async def _retain_for_ever(self) -> None:
        while True:
            if self._leads(INSTALLATION):
                await self.retain()
            await asyncio.sleep(RETENTION_S)

    async def retain(self) -> None:
        """Take away the revisions that nobody has to keep."""
        policies = await self._store.policies()
        for node in await self._store.nodes():
            policy = policies.get(node.lab_id, ConfigPolicy())
            keep = self._keep if policy.keep is None else policy.keep
            keep_days = self._keep_days if policy.keep_days is None else policy.keep_days
            if node.last_number <= keep or (keep == 0 and keep_days == 0):
                continue
            revisions = [Kept(item.number, item.created_at) for item in await self._store.revisions(node.node_id)]
            gone = expendable(revisions, active=node.active, keep=keep, keep_days=keep_days, now=self._clock())
            if gone:
                await self._take_away(node, gone)

    async def _take_away(self, node: ConfigNode, numbers: tuple[int, ...]) -> None:
        try:
            await self._store.delete(node.node_id, numbers)
        except WireloomError as error:  # one of them became active or went meanwhile
            log.info("old revisions not taken away yet", lab=node.lab, node=node.node, reason=str(error))
            return
        log.info("old revisions taken away", lab=node.lab, node=node.node, revisions=len(numbers))
