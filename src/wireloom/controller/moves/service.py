"""Moves of nodes: the verbs, and the loop that carries each move on from what both hosts say.

A move is a row; every step of it is an edit of the lab's intent like any verb's, under the lab's lock and the
database's check of generations. So whoever dies, the next controller goes on from the row.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from wireloom.controller.board import Board
from wireloom.controller.drafts import acted_on
from wireloom.controller.edits import Edits
from wireloom.controller.intents import links_at
from wireloom.controller.journal import Journal
from wireloom.controller.live import LiveState
from wireloom.controller.moves.begin import started_again, with_move, without_moves
from wireloom.controller.moves.choose import Choice, Chooser
from wireloom.controller.moves.phases import Step, next_step, seen_of, startable
from wireloom.controller.moves.relay import Relay
from wireloom.controller.moves.views import move_view
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.store import LabSnapshot, NodeRecord, OperationTargets, Store
from wireloom.controller.store.records import MoveRecord
from wireloom.controller.tasks import Supervisor
from wireloom.errors import Conflict, NotFound, WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.fabric.methods import CARGO
from wireloom.fabric.move_documents import CargoQuestion
from wireloom.model.moves import MovePhase, MoveReason, MoveRequest, MovesView, MoveView

__all__ = ["MoveService"]

log = structlog.get_logger(__name__)

#: A host takes part in so many moves at a time.
AT_ONCE: Final = 2
_LOOK_S: Final = 1.0
#: A drain looks for room for nodes that found none, and tries again what was undone, this often.
_AGAIN_S: Final = 30.0


class MoveService:
    """One per controller; acts for the labs that it leads.

    :param leads: whether this controller leads a lab, by its id. :param draining: hosts that are to be emptied.
    :ivar relay: passes on what hosts cannot carry themselves.
    """

    def __init__(
        self,
        *,
        store: Store,
        fabric: ControllerFabric,
        edits: Edits,
        board: Board,
        live: LiveState,
        journal: Journal,
        chooser: Chooser,
        draining: Callable[[], Iterable[str]],
        leads: Callable[[str], bool] = lambda _: True,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._fabric = fabric
        self._edits = edits
        self._board = board
        self._live = live
        self._journal = journal
        self._chooser = chooser
        self._draining = draining
        self._leads = leads
        self._clock = clock
        self._monotonic = monotonic
        self.relay = Relay(self.token_of)
        self._away: dict[str, float] = {}
        self._said: dict[tuple[str, str], str] = {}
        self._drained_at: dict[tuple[str, str], float] = {}
        self._awake = asyncio.Event()

    def start(self, supervisor: Supervisor) -> None:
        """Look after moves for ever."""
        supervisor.start("move nodes", self._run)

    def wake(self, _: str = "") -> None:
        """Something of a lab or a host changed; returns at once."""
        self._awake.set()

    def token_of(self, move_id: str) -> str:
        """What the hosts of a move show; empty: there is no such move."""
        found = (move for _, move in self._moves() if move.id == move_id and move.phase is not MovePhase.UNDONE)
        return next((move.token for move in found), "")

    # ---------------------------------------------------------------- verbs

    async def move(self, lab: str, request: MoveRequest) -> MovesView:
        """Have nodes move, or say what would happen.

        :raises NotFound: no such lab, node or host. :raises Conflict: the topology names another place for a node.
        :raises CapacityExceeded: no other host can take one. :raises WireloomError: preflight refuses the place.
        """
        async with self._edits.hold(lab):
            before = await self._edits.existing(lab)
            names = acted_on(before, request.nodes)
            choices = await self._chooser.choose(before, names, request.host)
            refused = [choice.error for choice in choices.values() if choice.error is not None]
            if refused and not request.dry_run:
                raise refused[0]
            going = {name: choice for name, choice in choices.items() if choice.host and choice.error is None}
            if request.dry_run:
                sizes = await self._sizes(before, choices)
                shown = (self._preview(before, name, choices[name], sizes) for name in sorted(choices))
                return MovesView(moves=tuple(shown))
            return await self._begin(before, going, "user")

    async def abort(self, lab: str, node: str) -> None:
        """Have a node stay where it was. :raises NotFound: it does not move. :raises Conflict: it has left for good."""
        async with self._edits.hold(lab):
            before = await self._edits.existing(lab)
            (name,) = acted_on(before, (node,))
            record = before.node(name)
            moves = [move for move in before.moves if record is not None and move.node_id == record.id]
            if not moves:
                raise NotFound(f"{node} does not move", hint="`wireloom moves` lists nodes that do")
            kept = without_moves(before.moves, moves[0].node_id)
            if len(kept) == len(before.moves):
                raise Conflict(
                    f"{node} has arrived on {moves[0].target} already", hint="move it back with `wireloom move`"
                )
            nodes = [started_again(node) if node.name == name else node for node in before.nodes]
            await self._edits.write(before, self._edits.next(before, nodes).model_copy(update={"moves": kept}))
            self._journal.tell("node.move-aborted", "it stays where it was", lab=lab, node=node)

    def views(self, lab: str) -> list[MoveView]:
        """The lab's moves. :raises NotFound: no such lab."""
        snapshot = self._board.named(lab).snapshot
        statuses = self._live.statuses(snapshot.lab.id)
        return [move_view(move, snapshot, statuses, self._live.alive) for move in snapshot.moves]

    async def _begin(self, before: LabSnapshot, going: Mapping[str, Choice], reason: MoveReason) -> MovesView:
        """Write new moves; they wait for their turn."""
        moves = before.moves
        nodes = {node.name: node for node in before.nodes}
        made = []
        for name in sorted(going):
            move = self._edits.new_move(nodes[name], going[name].host, reason)
            moves = with_move(moves, move)
            made.append(move)
        after = self._edits.next(before, before.nodes).model_copy(update={"moves": moves})
        ids = tuple(move.node_id for move in made)
        targets = OperationTargets(
            nodes=ids,
            wires=links_at(self._edits.slices_of(before), ids),
            named=tuple(sorted(going)),
            hosts={move.node_id: move.target for move in made},
        )
        operation = self._edits.operation(after, "move", "running", targets)
        view = await self._edits.apply(before, after, operation)
        for name in sorted(going):
            message = f"moves from {nodes[name].host} to {going[name].host}" + _because(reason)
            self._journal.tell("node.moves", message, lab=before.lab.name, node=name)
        self.wake()
        statuses = self._live.statuses(before.lab.id)
        shown = tuple(move_view(move, after, statuses, self._live.alive) for move in made)
        return MovesView(moves=shown, operation=view.id)

    async def _sizes(self, lab: LabSnapshot, names: Iterable[str]) -> dict[str, int]:
        """Bytes that would be carried, by node id, as far as hosts say it now."""
        nodes = [node for node in lab.nodes if node.name in set(names)]
        sizes: dict[str, int] = {}
        for host in sorted({node.host for node in nodes} & self._live.alive):
            question = CargoQuestion(nodes=tuple(node.id for node in nodes if node.host == host))
            with contextlib.suppress(WireloomError):  # an older agent does not know, and moves nothing either
                sizes |= (await self._fabric.call(host, CARGO, question)).sizes
        return sizes

    @staticmethod
    def _preview(before: LabSnapshot, name: str, choice: Choice, sizes: Mapping[str, int]) -> MoveView:
        node = before.node(name)
        size = sizes.get(node.id, 0) if node is not None else 0
        return MoveView(
            lab=before.lab.name,
            node=name,
            source=node.host if node is not None else "",
            target=choice.host,
            total=size,
            message=f"{choice.reason}, about {size / (1 << 20):.0f} MiB" if choice.reason else "",
            error=choice.error.to_wire() if choice.error is not None else None,
        )

    # ---------------------------------------------------------------- the loop

    async def _run(self) -> None:
        while True:
            self._awake.clear()
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._awake.wait()

    async def look(self) -> None:
        """Carry on what is due now."""
        self._note_away()
        for lab_id, move in self._moves():
            if self._step(lab_id, move) is not None:
                await self._guarded(lab_id, move, None)
        led = [move for lab_id, move in self._moves() if self._leads(lab_id)]
        for move in startable(led, self._live.alive, AT_ONCE):
            await self._guarded(move.lab_id, move, Step("go", MovePhase.LEAVING))
        for host in sorted(self._draining()):
            await self._drain(host)
        await self._end_drains()

    def _moves(self) -> list[tuple[str, MoveRecord]]:
        """Moves of all labs, the oldest first."""
        found = [
            (lab_id, move)
            for lab_id in self._board.lab_ids
            if (snapshot := self._board.snapshot(lab_id)) is not None and not snapshot.lab.removing
            for move in snapshot.moves
        ]
        return sorted(found, key=lambda item: (item[1].created_at, item[1].id))

    def _note_away(self) -> None:
        now = self._monotonic()
        targets = {move.target for _, move in self._moves()}
        for host in self._away.keys() - (targets - self._live.alive):
            del self._away[host]
        for host in targets - self._live.alive:
            self._away.setdefault(host, now)

    def _step(self, lab_id: str, move: MoveRecord, snapshot: LabSnapshot | None = None) -> Step | None:
        """What is due for ``move`` by what is known now, in a lab that we lead."""
        snapshot = snapshot or self._board.snapshot(lab_id)
        if snapshot is None or not self._leads(lab_id):
            return None
        away = self._away.get(move.target)
        seen = seen_of(move, self._live.statuses(lab_id), 0 if away is None else self._monotonic() - away)
        node = next((node for node in snapshot.nodes if node.id == move.node_id), None)
        others = (other for other in snapshot.moves if other.node_id == move.node_id and other.id != move.id)
        return next_step(move, node, seen, others)

    async def _guarded(self, lab_id: str, move: MoveRecord, step: Step | None) -> None:
        """One move's failure is tried again and keeps no other waiting."""
        known = self._board.snapshot(lab_id)
        if known is None:
            return
        try:
            async with self._edits.hold(known.lab.name):
                before = await self._store.snapshot_by_id(lab_id)
                fresh = next((item for item in before.moves if item.id == move.id), None) if before else None
                if before is None or before.lab.removing or fresh is None or fresh.phase is not move.phase:
                    return
                due = step or self._step(lab_id, fresh, before)
                if due is not None:
                    await self._take(before, fresh, due)
        except WireloomError as error:
            log.warning("move not carried on", move=move.id, error=error.to_wire())

    async def _take(self, before: LabSnapshot, move: MoveRecord, step: Step) -> None:
        """Write one step."""
        changed = move.model_copy(update={"changed_at": self._clock()})
        nodes = list(before.nodes)
        if step.kind == "go":
            changed = changed.model_copy(update={"phase": step.phase})
            if step.phase is MovePhase.ARRIVING:
                nodes = [_placed(node, move.target) if node.id == move.node_id else node for node in nodes]
        elif step.kind == "undo":
            changed = changed.model_copy(update={"phase": MovePhase.UNDONE, "error": step.error})
            nodes = [started_again(node) if node.id == move.node_id else node for node in before.nodes]
        moves = tuple(changed if item.id == move.id else item for item in before.moves)
        if step.kind == "end":
            moves = tuple(item for item in moves if item.id != move.id)
        after = self._edits.next(before, nodes).model_copy(update={"moves": moves})
        await self._edits.write(before, after)
        self._tell(before, move, step)

    def _tell(self, lab: LabSnapshot, move: MoveRecord, step: Step) -> None:
        node = next((node for node in lab.nodes if node.id == move.node_id), None)
        kind, level = "node.moving", EventLevel.INFO
        if step.kind == "undo":
            error = (step.error or {}).get("message", "")
            kind, level, message = "node.move-undone", EventLevel.ERROR, f"stays on {move.source}: {error}"
        elif step.kind == "end":
            arrived = node is not None and node.host == move.target
            kind, message = "node.moved", f"has moved from {move.source} to {move.target}"
            if not arrived:
                kind, message = "node.move-overtaken", f"does not move to {move.target}: it has another place by now"
        else:
            message = {
                MovePhase.LEAVING: f"is stopped on {move.source} to move to {move.target}",
                MovePhase.CARRYING: f"is carried from {move.source} to {move.target}",
                MovePhase.ARRIVING: f"starts on {move.target}: all of it has arrived and is verified",
            }.get(step.phase, str(step.phase))
        self._journal.tell(kind, message, lab=lab.lab.name, node=node.name if node else "", level=level)

    # ---------------------------------------------------------------- drains

    async def _drain(self, host: str) -> None:
        for lab_id in self._board.lab_ids:
            snapshot = self._board.snapshot(lab_id)
            if snapshot is None or snapshot.lab.removing or not self._leads(lab_id):
                continue
            there = {node.name for node in snapshot.nodes if node.host == host and node.problem is None}
            there -= {node.name for node in snapshot.nodes if node.id in snapshot.moving}
            if there and self._monotonic() >= self._drained_at.get((host, lab_id), 0.0):
                self._drained_at[host, lab_id] = self._monotonic() + _AGAIN_S
                try:
                    await self._drain_lab(snapshot.lab.name, host, there)
                except WireloomError as error:
                    log.warning("lab not drained", host=host, lab=snapshot.lab.name, error=error.to_wire())

    async def _drain_lab(self, lab: str, host: str, names: Iterable[str]) -> None:
        async with self._edits.hold(lab):
            before = await self._edits.existing(lab)
            wanted = frozenset(names) & {node.name for node in before.nodes if node.host == host}
            choices = await self._chooser.choose(before, wanted, "")
            going = {name: choice for name, choice in choices.items() if choice.host and choice.error is None}
            if going:
                await self._begin(before, going, "drain")
            for name, choice in sorted(choices.items()):
                if choice.error is not None:
                    self._say(lab, name, f"stays on {host}, which is drained: {choice.error.message}")

    def _say(self, lab: str, node: str, message: str) -> None:
        """Tell it once, until something else is to be told."""
        if self._said.get((lab, node)) != message:
            self._said[lab, node] = message
            self._journal.tell("node.stays", message, lab=lab, node=node, level=EventLevel.WARNING)

    async def _end_drains(self) -> None:
        """A drain that was taken back moves nothing more that has not begun to move."""
        draining = frozenset(self._draining())
        for key in [key for key in self._drained_at if key[0] not in draining]:
            del self._drained_at[key]
        for lab_id, move in self._moves():
            if move.phase is MovePhase.QUEUED and move.reason == "drain" and move.source not in draining:
                await self._guarded(lab_id, move, Step("end"))


def _placed(node: NodeRecord, host: str) -> NodeRecord:
    """The node on another host, whose management network gives it another address."""
    return node.model_copy(update={"host": host, "mgmt_ipv4": None})


def _because(reason: MoveReason) -> str:
    return {"drain": ": its host is drained", "topology": ": the topology says so"}.get(reason, "")
