"""From an edited lab to what is stored, shown and published: what every verb ends with.

A verb holds the lab's lock from reading to writing, so that two verbs on one lab are one after the other, and the
database refuses an edit that was computed from an older generation. No verb performs a step of a lifecycle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from secrets import token_hex

from wireloom.controller.board import Board
from wireloom.controller.drafts import with_ports
from wireloom.controller.intents import (
    definitions_of,
    intents_by_id,
    keeping_definitions,
    links_by_id,
    segments_by_id,
    takes_new_runtime,
    tunnelled_links,
)
from wireloom.controller.live import LiveState
from wireloom.controller.publisher import Publisher
from wireloom.controller.store import (
    LabEdit,
    LabSnapshot,
    NodeRecord,
    OperationRecord,
    OperationTargets,
    Store,
)
from wireloom.controller.store.records import Goal, MoveRecord, revision_digest
from wireloom.controller.tasks import KeyedLocks
from wireloom.controller.topologies import Topologies
from wireloom.errors import Conflict, NotFound
from wireloom.model.impairment import LinkImpairment
from wireloom.model.moves import MoveReason
from wireloom.model.slice import Slice
from wireloom.model.views import OperationView

__all__ = ["Edits", "no_lab"]


class Edits:
    """Reads labs, makes the next generation of them, and carries it out of the controller."""

    def __init__(
        self,
        *,
        store: Store,
        topologies: Topologies,
        board: Board,
        live: LiveState,
        publisher: Publisher,
        locks: KeyedLocks,
        clock: Callable[[], float],
        new_id: Callable[[], str] = lambda: token_hex(6),
    ) -> None:
        self._store = store
        self._topologies = topologies
        self._board = board
        self._live = live
        self._publisher = publisher
        self._locks = locks
        self._clock = clock
        #: Makes an id of a lab, a node or an operation.
        self.new_id = new_id

    def hold(self, lab: str) -> AbstractAsyncContextManager[None]:
        """The lab's lock; every verb is within it."""
        return self._locks.hold(lab)

    async def existing(self, lab: str) -> LabSnapshot:
        """The lab called ``lab`` as it is stored. :raises NotFound: :raises Conflict: it is being removed."""
        snapshot = await self._store.snapshot(lab)
        if snapshot is None:
            raise no_lab(lab)
        self.check_alive(snapshot)
        return snapshot

    def check_alive(self, snapshot: LabSnapshot) -> None:
        """:raises Conflict: the lab is being removed."""
        if snapshot.lab.removing:
            raise Conflict(
                f"lab {snapshot.lab.name} is being removed", hint="wait until `wireloom labs` lists it no more"
            )

    # ---------------------------------------------------------------- making the next generation

    def next(
        self,
        before: LabSnapshot,
        nodes: Iterable[NodeRecord],
        *,
        text: str | None = None,
        impairments: Mapping[str, LinkImpairment] | None = None,
    ) -> LabSnapshot:
        """The lab one generation on, and with another ``text`` one revision on."""
        changed = text is not None and text != before.revision.topology
        lab = before.lab.model_copy(
            update={"generation": before.lab.generation + 1, "revision": before.lab.revision + changed}
        )
        revision = before.revision
        if changed and text is not None:
            revision = revision.model_copy(
                update={
                    "number": lab.revision,
                    "topology": text,
                    "sha256": revision_digest(text, revision.files),
                    "created_at": self._clock(),
                }
            )
        kept = before.impairments if impairments is None else dict(impairments)
        return before.model_copy(update={"lab": lab, "revision": revision, "nodes": tuple(nodes), "impairments": kept})

    async def render(self, snapshot: LabSnapshot) -> dict[str, Slice]:
        """The slices of a lab, with all devices defined as they are today."""
        return await asyncio.to_thread(self._topologies.render, snapshot, self._live.subnets)

    async def render_kept(
        self, before: LabSnapshot | None, after: LabSnapshot, anew: Collection[str] = ()
    ) -> dict[str, Slice]:
        """``after``, with nodes (but those of ``anew``) defined as they were deployed, whatever devices say today."""
        deployed = definitions_of(self.slices_of(before))
        return keeping_definitions(deployed, await self.render(after), anew=anew)

    def slices_of(self, snapshot: LabSnapshot | None) -> Mapping[str, Slice]:
        """What hosts are to have of a lab now."""
        return self._board.picture(snapshot.lab.id).slices if snapshot else {}

    def new_move(self, node: NodeRecord, target: str, reason: MoveReason) -> MoveRecord:
        """A move of ``node`` from where it is that waits for its turn."""
        now = self._clock()
        return MoveRecord(
            id=self.new_id(),
            lab_id=node.lab_id,
            node_id=node.id,
            source=node.host,
            target=target,
            reason=reason,
            token=token_hex(24),
            created_at=now,
            changed_at=now,
        )

    # ---------------------------------------------------------------- operations

    def operation(self, snapshot: LabSnapshot, verb: str, goal: Goal, targets: OperationTargets) -> OperationRecord:
        """A new operation on the lab as ``snapshot`` has it."""
        return OperationRecord(
            id=self.new_id(),
            lab_id=snapshot.lab.id,
            lab=snapshot.lab.name,
            verb=verb,
            goal=goal,
            generation=snapshot.lab.generation,
            targets=targets,
            total=len(targets.nodes) + len(targets.wires) + len(targets.segments),
            created_at=self._clock(),
        )

    def running_targets(
        self, nodes: Iterable[NodeRecord], slices: Mapping[str, Slice], before: Mapping[str, Slice]
    ) -> OperationTargets:
        """All nodes that shall be on, all links and segments; nodes that must be made anew wait for another start."""
        wanted = tuple(node for node in nodes if node.power == "on")
        old, new = intents_by_id(before), intents_by_id(slices)
        anew = frozenset(
            node_id for node_id, intent in new.items() if node_id in old and takes_new_runtime(old[node_id], intent)
        )
        lab_ids = {node.lab_id for node in wanted}
        started = self.start_times(lab_ids.pop(), anew) if lab_ids else {}
        return OperationTargets(
            nodes=tuple(node.id for node in wanted),
            wires=tuple(links_by_id(slices)),
            segments=tuple(segments_by_id(slices)),
            started=started,
        )

    def start_times(self, lab_id: str, node_ids: Iterable[str]) -> dict[str, float | None]:
        """When the runtimes of these nodes started, as far as hosts have told."""
        seen = {node.id: node.started_at for status in self._live.statuses(lab_id).values() for node in status.nodes}
        return {node_id: seen.get(node_id) for node_id in node_ids}

    def current(self, operation: OperationRecord) -> OperationView:
        """How far ``operation`` is."""
        return (self._board.operation(operation.id) or operation).view()

    async def follow(self, operation: OperationRecord) -> OperationView:
        """Keep and follow an operation that changes nothing of its lab."""
        await self._store.add_operation(operation)
        self._board.track(operation)
        self._board.refresh(operation.lab_id)
        return self.current(operation)

    # ---------------------------------------------------------------- writing

    async def apply(
        self,
        before: LabSnapshot | None,
        after: LabSnapshot,
        operation: OperationRecord,
        slices: Mapping[str, Slice] | None = None,
        superseded: frozenset[str] = frozenset(),
    ) -> OperationView:
        """Write ``after`` (whose ``slices`` may be known already), and let all who follow it know.

        :raises Conflict: another change came first, or a subnet overlaps another one. :raises CapacityExceeded:
        """
        await self.write(before, after, operation, slices, superseded)
        return self.current(operation)

    async def write(
        self,
        before: LabSnapshot | None,
        after: LabSnapshot,
        operation: OperationRecord | None = None,
        slices: Mapping[str, Slice] | None = None,
        superseded: frozenset[str] = frozenset(),
    ) -> None:
        """As :meth:`apply`, also for a change that no operation follows."""
        if slices is None:
            slices = await self.render_kept(before, after)
        edit = self._edit(before, after, operation, slices, superseded)
        stored = await self._store.apply(edit)
        if _given(stored) != _given(after) or set(stored.hosts) != slices.keys():
            slices = keeping_definitions(definitions_of(slices), await self.render(stored))
        self._board.put(stored, slices, operation)
        self._publisher.wake(after.lab.id)

    def _edit(
        self,
        before: LabSnapshot | None,
        after: LabSnapshot,
        operation: OperationRecord | None,
        slices: Mapping[str, Slice],
        superseded: frozenset[str],
    ) -> LabEdit:
        removing = after.lab.removing
        links = links_by_id(slices)
        impairments = {link_id: value for link_id, value in after.impairments.items() if link_id in links}
        return LabEdit(
            lab=after.lab,
            expected_generation=before.lab.generation if before else None,
            revision=after.revision if before is None or before.lab.revision != after.lab.revision else None,
            nodes=tuple(with_ports(after.nodes, slices)),
            subnets=dict(self._live.subnets),
            superseded=superseded,
            impairments=impairments,
            # Hosts may use subnets of a lab until they have removed it; leases go with the lab itself.
            nat_segments=after.nat_subnets if removing else self._topologies.nat_segments(after.revision, slices),
            tunnelled=None if removing else tunnelled_links(slices),
            definitions=None if removing else definitions_of(slices),
            moves=after.moves,
            operation=operation,
        )


def no_lab(name: str) -> NotFound:
    return NotFound(f"no lab is called {name}", hint="`wireloom labs` lists them")


def _given(snapshot: LabSnapshot) -> tuple[dict[str, str | None], dict[str, str], dict[str, int]]:
    """What the database gives out: addresses of nodes, subnets of segments, numbers of links between hosts."""
    return {node.id: node.mgmt_ipv4 for node in snapshot.nodes}, snapshot.nat_subnets, snapshot.vnis
