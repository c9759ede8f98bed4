"""Asks every host what it has that no lab wants; one that does not answer hides nothing of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from wireloom.controller.board import Board
from wireloom.controller.hosts import HostRegistry
from wireloom.controller.journal import Journal
from wireloom.controller.live import LiveState
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.tasks import Supervisor
from wireloom.errors import NotFound, Unavailable, WireloomError
from wireloom.fabric.documents import EventLevel, PruneAnswer, PruneQuestion
from wireloom.fabric.methods import PRUNE
from wireloom.model.orphans import DiscoverView, HostFinds, Orphan, PruneRequest

__all__ = ["Orphans"]

log = structlog.get_logger(__name__)

_LONGEST_LOOK_S: Final = 600.0
#: The share of the grace time after which hosts are asked again.
_LOOKS: Final = 4


class Orphans:
    """One per controller.

    :param grace_s: seconds after which an orphan of an unknown lab is removed by itself, counted from when this
        controller saw it first; 0: never. :param clock: seconds; never jumps.
    """

    def __init__(
        self,
        *,
        fabric: ControllerFabric,
        board: Board,
        live: LiveState,
        registry: HostRegistry,
        journal: Journal,
        grace_s: float = 0,
        clock: Callable[[], float] = time.monotonic,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._fabric = fabric
        self._board = board
        self._live = live
        self._registry = registry
        self._journal = journal
        self._grace_s = grace_s
        self._clock = clock
        self._seen: dict[tuple[str, str], float] = {}  # (host, key) → since when

    def start(self, supervisor: Supervisor) -> None:
        """Remove what is over its grace time, for ever, where there is such a time."""
        if self._grace_s > 0:
            supervisor.start("remove orphans", self._run)

    async def discover(self) -> DiscoverView:
        """Everything, by host; also hosts that are known and do not answer, with the reason."""
        names = sorted({*self._registry.names(), *self._live.alive})
        question = PruneQuestion(labs=self._board.lab_ids, dry_run=True, all=True)
        return DiscoverView(hosts=tuple(await asyncio.gather(*(self._ask(host, question) for host in names))))

    async def prune(self, request: PruneRequest) -> list[Orphan]:
        """What was found, removed unless it is a dry run. A host that could not answer is listed with its error.

        :raises Unavailable: no host is there to be asked. :raises NotFound: a named host is not known.
        """
        hosts = self._named(request.hosts)
        question = PruneQuestion(labs=self._board.lab_ids, dry_run=request.dry_run, all=True, images=request.images)
        finds = await asyncio.gather(*(self._ask(host, question) for host in hosts))
        return [orphan for find in finds for orphan in _listed(find, images=request.images)]

    def _named(self, hosts: Iterable[str]) -> list[str]:
        unknown = sorted(set(hosts) - set(self._registry.names()) - self._live.alive)
        if unknown:
            raise NotFound(f"there is no host {', '.join(unknown)}", hint="`wireloom hosts` lists them")
        named = sorted(hosts) or sorted(self._live.alive)
        if not named:
            raise Unavailable("no host is connected", hint="look at `wireloom status`")
        return named

    async def _ask(self, host: str, question: PruneQuestion) -> HostFinds:
        try:
            if host not in self._live.alive:
                raise Unavailable(f"host {host} does not answer", hint="what is there is not known until it is back")
            answer: PruneAnswer = await self._fabric.call(host, PRUNE, question)
        except WireloomError as error:
            return HostFinds(host=host, error=error.to_wire())
        found = tuple(orphan.model_copy(update={"host": host}) for orphan in answer.orphans)
        return HostFinds(host=host, found=found, troubles=answer.troubles)

    # ---------------------------------------------------------------- the grace time

    async def _run(self) -> None:
        while True:
            if self._leads():
                await self.look()
            else:
                self._seen.clear()
            await asyncio.sleep(min(self._grace_s / _LOOKS, _LONGEST_LOOK_S))

    async def look(self) -> None:
        """Note what there is of unknown labs, tell what is new, and remove what is over its time."""
        now, view = self._clock(), await self.discover()
        lost = [(find.host, orphan) for find in view.hosts for orphan in find.found if orphan.why == "no-lab"]
        away = {find.host for find in view.hosts if find.error is not None}
        before = self._seen
        self._seen = {key: since for key, since in before.items() if key[0] in away}
        due: dict[str, list[str]] = {}
        for host, orphan in lost:
            key = (host, orphan.key)
            self._seen[key] = before.get(key, now)
            if key not in before:
                message = f"{orphan.kind} {orphan.name} on {host} is in no lab; it is removed in {self._grace_s:g} s"
                self._journal.tell("orphan.found", message, lab=orphan.lab, host=host, level=EventLevel.WARNING)
            elif now - before[key] >= self._grace_s:
                due.setdefault(host, []).append(orphan.key)
        for host, keys in due.items():
            question = PruneQuestion(labs=self._board.lab_ids, dry_run=False, only=tuple(keys))
            find = await self._ask(host, question)
            log.info("orphans over their time", host=host, removed=sum(item.removed for item in find.found))


def _listed(find: HostFinds, *, images: bool) -> list[Orphan]:
    """What a prune is about: nothing of other installations; what could be had again only where that is wanted."""
    if find.error is not None:
        return [Orphan(kind="host", id=find.host, name=find.host, host=find.host, error=find.error)]
    troubles = [
        Orphan(kind="trouble", id=item.source, name=item.source, host=find.host, error=item.error)
        for item in find.troubles
    ]
    left_out = {"other-installation"} if images else {"other-installation", "unused"}
    return [*(orphan for orphan in find.found if orphan.why not in left_out), *troubles]
