"""Reading configurations from nodes and loading them into nodes: operations that a worker of ours carries on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, Protocol

import structlog

from wireloom.controller.board import Board
from wireloom.controller.configs.library import ConfigLibrary
from wireloom.controller.configs.lookup import Lookup, node_key
from wireloom.controller.drafts import acted_on
from wireloom.controller.journal import Journal
from wireloom.controller.live import LiveState
from wireloom.controller.picture import LabPicture, NodePicture
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.store import OperationRecord, OperationTargets, Store
from wireloom.controller.store.config_records import Added, NewConfig
from wireloom.errors import Conflict, InternalError, Unavailable, WireloomError
from wireloom.fabric.config_documents import EXTRACT, LOAD, Extracted, ExtractQuestion, LoadQuestion
from wireloom.fabric.documents import EventLevel
from wireloom.model.config_views import ExtractRequest, RestoreConfig, RevisionOrigin
from wireloom.model.views import ActionRequest, OperationState, OperationView

__all__ = ["Act", "ConfigWorkers", "tell_of_no_room"]

log = structlog.get_logger(__name__)

#: Nodes whose configuration is read at the same time.
PARALLEL: Final = 8
#: A step that says nothing of its own time; seconds on native speed.
STEP_S: Final = 30.0
LOAD_S: Final = 120.0
#: What fabric and agent may take beyond the work itself.
MARGIN_S: Final = 10.0

_Job = Callable[[NodePicture], Awaitable[None]]


class Act(Protocol):
    """A verb on nodes; :meth:`wireloom.controller.labs.LabService.act`."""

    def __call__(self, lab: str, request: ActionRequest, *, told_as: str = "") -> Awaitable[OperationView]: ...


@dataclass(frozen=True)
class _Reading:
    """Why a configuration is read."""

    origin: RevisionOrigin
    who: str
    note: str = ""
    by_user: bool = False
    force: bool = False


class ConfigWorkers:
    """:param reload: a lab's active revisions changed: tell its hosts. ``act`` makes nodes anew."""

    def __init__(
        self,
        *,
        store: Store,
        fabric: ControllerFabric,
        board: Board,
        live: LiveState,
        lookup: Lookup,
        journal: Journal,
        act: Act,
        reload: Callable[[str], Awaitable[None]],
        clock: Callable[[], float],
        new_id: Callable[[], str] = lambda: token_hex(6),
    ) -> None:
        self._store = store
        self._fabric = fabric
        self._board = board
        self._live = live
        self._lookup = lookup
        self._journal = journal
        self._act = act
        self._reload = reload
        self._clock = clock
        self._new_id = new_id
        self._tasks: set[asyncio.Task[None]] = set()
        #: Ids of the operations that this very controller has begun.
        self.begun: set[str] = set()
        self._places = asyncio.Semaphore(PARALLEL)

    async def start(self) -> None:
        """Nobody carries on what an earlier controller began: end it."""
        for record in await self._store.running_operations():
            if record.goal == "configured":
                cut = Unavailable("the controller was restarted meanwhile", hint="ask for it again")
                await self._store.save_operation(self._ended(record, record.done, (cut.to_wire(),)))

    async def close(self) -> None:
        """Let go of what is in flight."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---------------------------------------------------------------- reading

    async def extract(self, lab: str, request: ExtractRequest) -> OperationView:
        """Read and store configurations; nodes without a way to read them are passed over unless they are named.

        :raises NotFound: :raises Conflict: no node of the lab can be read now.
        """
        picture = self._board.named(lab)
        names = acted_on(picture.snapshot, request.nodes)
        nodes = [node for node in picture.nodes.values() if node.intent.name in names]
        if not request.nodes:
            nodes = [node for node in nodes if node.intent.extract.steps and node.intent.power == "on"]
        if not nodes:
            raise Conflict(
                f"no node of lab {lab} is powered on and has a device whose configuration can be read",
                hint=f"look at `wireloom inspect {lab}`",
            )
        reading = _Reading("extract", "user", request.note, by_user=True, force=request.force)
        changed: list[bool] = []

        async def job(node: NodePicture) -> None:
            changed.append((await self._read_and_store(picture, node, reading)).activated)

        async def after() -> None:
            if any(changed):
                await self._reload(picture.snapshot.lab.id)

        return await self._begin(picture, "extract", nodes, job, after, named=tuple(dict.fromkeys(request.nodes)))

    async def extract_quietly(self, picture: LabPicture, node: NodePicture) -> Added:
        """A scheduled reading of one node, without an operation."""
        return await self._read_and_store(picture, node, _Reading("schedule", "schedule"))

    async def read_now(self, lab: str, node: str) -> Extracted:
        """The running configuration; nothing is stored. :raises NotFound: :raises Conflict: :raises GuestFailed:"""
        picture, place = self._lookup.reachable(lab, node)
        return await self._read(picture, place, force=True)

    async def _read_and_store(self, picture: LabPicture, node: NodePicture, reading: _Reading) -> Added:
        extracted = await self._read(picture, node, force=reading.force, adopt=reading.by_user)
        key = node_key(picture, node)
        config = NewConfig(
            **extracted.model_dump(include={"text", "channel", "tried", "taken_at", "choice"}),
            origin=reading.origin,
            who=reading.who,
            note=reading.note,
        )
        added = await self._store.configs.add(key, config, by_user=reading.by_user)
        if added.is_new:
            message = f"{key.node}: revision {added.revision.number} stored, read over {extracted.channel}"
            self._journal.tell("config.stored", message, lab=key.lab)
        if added.no_room:
            tell_of_no_room(self._journal, added)
        return added

    async def _read(self, picture: LabPicture, node: NodePicture, *, force: bool, adopt: bool = False) -> Extracted:
        if not node.alive:
            raise Unavailable(f"host {node.host} does not answer", hint="look at `wireloom status`")
        timeout_s = sum(step.timeout_s or STEP_S for step in node.intent.extract.steps) or STEP_S
        timeout_s *= self._slowness(node)
        question = ExtractQuestion(
            lab_id=picture.snapshot.lab.id, node_id=node.intent.id, timeout_s=timeout_s, force=force, adopt=adopt
        )
        async with self._places:
            return await self._fabric.call(node.host, EXTRACT, question, timeout_s=timeout_s + MARGIN_S)

    def _slowness(self, node: NodePicture) -> float:
        """How many times as long an emulated guest takes."""
        facts = self._live.facts(node.host)
        offered = {item.name: item for item in facts.providers} if facts else {}
        provider = offered.get(node.intent.provider)
        return node.intent.ready.slow_factor if provider is not None and provider.acceleration == "tcg" else 1.0

    # ---------------------------------------------------------------- loading

    async def restore(self, lab: str, node: str, request: RestoreConfig, library: ConfigLibrary) -> OperationView:
        """Give a node a stored configuration back: load it, or make the node anew with it.

        What runs in it is read and stored before, where it can be.

        :raises NotFound: no such node or revision. :raises Conflict: it must run to be loaded.
        """
        picture, place = self._lookup.reachable(lab, node)
        key = node_key(picture, place)
        stored = await self._lookup.stored(lab, node)
        number = await library.number(stored, request.revision)
        _, text = await self._store.configs.text(stored.node_id, number)
        if request.reboot:
            await self._save_first(picture, place, number)
            await self._store.configs.choose(key, number)
            self._journal.tell("config.restored", f"{key.node}: made anew with revision {number}", lab=lab)
            return await self._act(lab, ActionRequest(verb="wipe", nodes=(place.intent.name,)), told_as="restore")

        async def job(node: NodePicture) -> None:
            await self._save_first(picture, node, number)
            timeout_s = LOAD_S * self._slowness(node)
            question = LoadQuestion(lab_id=key.lab_id, node_id=key.node_id, text=text, timeout_s=timeout_s)
            answer = await self._fabric.call(node.host, LOAD, question, timeout_s=timeout_s + MARGIN_S)
            await self._store.configs.choose(key, number, used=True)
            message = f"{key.node}: revision {number} loaded over {answer.channel}"
            self._journal.tell("config.restored", message, lab=lab)

        async def after() -> None:
            await self._reload(key.lab_id)

        return await self._begin(picture, "restore", [place], job, after, named=(place.intent.name,))

    async def _save_first(self, picture: LabPicture, node: NodePicture, number: int) -> None:
        """Keep what runs now, if it can be read: a restore shall lose nothing."""
        reading = _Reading("extract", "user", f"before revision {number} was restored")
        try:
            await self._read_and_store(picture, node, reading)
        except WireloomError as error:
            message = f"{node.intent.name}: not saved before the restore: {error.message}"
            self._journal.tell("config.not-extracted", message, lab=picture.snapshot.lab.name, level=EventLevel.WARNING)

    # ---------------------------------------------------------------- operations

    async def _begin(
        self,
        picture: LabPicture,
        verb: str,
        nodes: Sequence[NodePicture],
        job: _Job,
        after: Callable[[], Awaitable[None]],
        *,
        named: tuple[str, ...],
    ) -> OperationView:
        lab = picture.snapshot.lab
        record = OperationRecord(
            id=self._new_id(),
            lab_id=lab.id,
            lab=lab.name,
            verb=verb,
            goal="configured",
            generation=lab.generation,
            targets=OperationTargets(nodes=tuple(node.intent.id for node in nodes), named=named),
            total=len(nodes),
            created_at=self._clock(),
        )
        self.begun.add(record.id)
        await self._store.add_operation(record)
        self._board.track(record)
        self._spawn(self._run(record, nodes, job, after))
        return record.view()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(
        self,
        record: OperationRecord,
        nodes: Sequence[NodePicture],
        job: _Job,
        after: Callable[[], Awaitable[None]],
    ) -> None:
        errors: dict[str, Mapping[str, Any]] = {}
        done = 0

        async def one(node: NodePicture) -> None:
            nonlocal done
            error = await _attempt(job, node)
            if error is None:
                done += 1
            else:
                errors[node.intent.name] = {**error.to_wire(), "node": node.intent.name}
            self._board.report(record.model_copy(update={"done": done, "errors": tuple(errors.values())}))

        await asyncio.gather(*(one(node) for node in nodes))
        try:
            await after()
        except WireloomError as error:
            errors[""] = error.to_wire()
        self._board.report(self._ended(record, done, tuple(dict(error) for error in errors.values())))

    def _ended(self, record: OperationRecord, done: int, errors: tuple[dict[str, Any], ...]) -> OperationRecord:
        state = OperationState.FAILED if errors else OperationState.DONE
        return record.model_copy(update={"done": done, "errors": errors, "state": state, "finished_at": self._clock()})


def tell_of_no_room(journal: Journal, added: Added) -> None:
    """Tell that a revision is stored and not active, because the lab's are too large together."""
    revision = added.revision
    message = f"{revision.node}: revision {revision.number} is not active: the lab's are too large together"
    journal.tell("config.not-activated", message, lab=revision.lab, level=EventLevel.WARNING)


async def _attempt(job: _Job, node: NodePicture) -> WireloomError | None:
    """Run ``job``; what went wrong, if anything."""
    try:
        await job(node)
    except WireloomError as error:
        return error
    except Exception as error:  # nobody awaits it: the edge of one node's work is here
        log.exception("defect in work on a configuration", node=node.intent.name)
        return InternalError(f"defect: {error!r}")
    return None
