"""Every lab as the controller knows it now: intent, observation, running operations. In memory, no I/O.

The database says what the intent is and the fabric what is observed; the board joins the two, tells readers of every
difference through the hub, and hands finished operations on to be written down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

from wireloom.controller.hub import Hub
from wireloom.controller.live import LiveState
from wireloom.controller.picture import LabPicture
from wireloom.controller.progress import advance
from wireloom.controller.store.records import LabSnapshot, OperationRecord
from wireloom.controller.view import lab_summary, lab_view
from wireloom.errors import NotFound
from wireloom.model.base import Value
from wireloom.model.slice import Slice
from wireloom.model.views import LabSummary, LabView, OperationState, OperationView, StreamMessage

__all__ = ["Board"]

#: Finished operations that the board remembers, so that a late reader still sees how they ended.
REMEMBERED_OPERATIONS: Final = 200


class Board:
    """All labs and operations; every method returns at once."""

    def __init__(self, *, live: LiveState, hub: Hub, clock: Callable[[], float]) -> None:
        self._live = live
        self._hub = hub
        self._clock = clock
        self._snapshots: dict[str, LabSnapshot] = {}
        self._slices: dict[str, Mapping[str, Slice]] = {}
        self._views: dict[str, LabView] = {}
        self._running: dict[str, OperationRecord] = {}
        self._finished: dict[str, OperationRecord] = {}
        #: Operations to be written down, in order.
        self.finished: asyncio.Queue[OperationRecord] = asyncio.Queue()
        #: Called with the id of each lab whose intent changed, or that has gone.
        self.on_put: Callable[[str], None] = lambda _: None

    # ---------------------------------------------------------------- reading

    @property
    def lab_ids(self) -> tuple[str, ...]:
        return tuple(self._snapshots)

    def snapshot(self, lab_id: str) -> LabSnapshot | None:
        return self._snapshots.get(lab_id)

    def named(self, name: str) -> LabPicture:
        """The lab called ``name``. :raises NotFound:"""
        for lab_id, snapshot in self._snapshots.items():
            if snapshot.lab.name == name:
                return self.picture(lab_id)
        raise NotFound(f"no lab is called {name}", hint="`wireloom labs` lists them")

    def picture(self, lab_id: str) -> LabPicture:
        """Intent and observation of a lab that is on the board."""
        return LabPicture(
            snapshot=self._snapshots[lab_id],
            slices=self._slices.get(lab_id, {}),
            statuses=self._live.statuses(lab_id),
            alive=self._live.alive,
            clocks={name: host.ahead_s for name, host in self._live.hosts.items() if host.ahead_s},
        )

    def view(self, lab_id: str) -> LabView:
        """The lab as users see it."""
        return self._views[lab_id]

    def views(self) -> list[LabView]:
        """All labs, by name."""
        return sorted(self._views.values(), key=lambda view: view.lab)

    def summaries(self) -> list[LabSummary]:
        """All labs in short, by name."""
        found = [lab_summary(self.picture(lab_id), view) for lab_id, view in self._views.items()]
        return sorted(found, key=lambda summary: summary.lab)

    def intents(self, lab_id: str) -> Mapping[str, Slice] | None:
        """What each host shall be told of a lab; ``None`` for a lab whose slices cannot be computed."""
        snapshot, slices = self._snapshots.get(lab_id), self._slices.get(lab_id)
        if snapshot is None or slices is None:
            return None
        refused = {node.id for node in snapshot.nodes if node.problem is not None}
        return {host: _without(document, refused) for host, document in slices.items() if host in snapshot.hosts}

    def operation(self, operation_id: str) -> OperationRecord | None:
        """An operation that runs, or ended not long ago."""
        return self._running.get(operation_id) or self._finished.get(operation_id)

    def operations(self) -> list[OperationView]:
        """Operations that run or ended not long ago, oldest first."""
        found = [*self._finished.values(), *self._running.values()]
        return [record.view() for record in sorted(found, key=lambda record: record.created_at)]

    # ---------------------------------------------------------------- changes

    def put(
        self, snapshot: LabSnapshot, slices: Mapping[str, Slice] | None, operation: OperationRecord | None = None
    ) -> None:
        """A lab's intent has changed, by ``operation`` if one is given.

        :param slices: of all its nodes by host; ``None``: they cannot be computed, so no host is told anything.
        """
        lab_id = snapshot.lab.id
        self._snapshots[lab_id] = snapshot
        if slices is not None:
            self._slices[lab_id] = slices
        if operation is not None:
            self.track(operation)
        self.refresh(lab_id)
        self.on_put(lab_id)

    def forget(self, lab_id: str) -> None:
        """A lab is gone."""
        snapshot = self._snapshots.pop(lab_id, None)
        self._slices.pop(lab_id, None)
        self._views.pop(lab_id, None)
        if snapshot is not None:
            self._hub.publish(StreamMessage(type="removed", data={"lab": snapshot.lab.name, "id": lab_id}))
            self.on_put(lab_id)
        self._advance(lab_id)

    def track(self, operation: OperationRecord) -> None:
        """Follow an operation until it ends."""
        self._running[operation.id] = operation
        self._hub.publish(_message("operation", operation.view()))

    def report(self, operation: OperationRecord) -> None:
        """How far an operation is that the board cannot judge itself; without effect when it has ended."""
        before = self._running.get(operation.id)
        if before is None:
            return
        if operation.view() != before.view():
            self._hub.publish(_message("operation", operation.view()))
        self._keep(operation)

    def refresh(self, lab_id: str) -> None:
        """Something of a lab may have changed: tell readers if its view did, and advance its operations."""
        if lab_id not in self._snapshots:
            self._advance(lab_id)
            return
        view = lab_view(self.picture(lab_id))
        if self._views.get(lab_id) != view:
            self._views[lab_id] = view
            self._hub.publish(_message("lab", view))
        self._advance(lab_id)

    def refresh_host(self, host: str) -> list[str]:
        """A host came, went or changed: refresh the labs on it and return their ids."""
        touched = [lab_id for lab_id, snapshot in self._snapshots.items() if host in snapshot.hosts]
        for lab_id in touched:
            self.refresh(lab_id)
        return touched

    def greeting(self, lab: str | None = None) -> list[StreamMessage]:
        """Everything as it is now, in messages for a new reader (of one lab)."""
        hosts = [_message("host", self._live.view(host)) for host in self._live.hosts]
        labs = [_message("lab", view) for view in self.views() if lab in {None, view.lab}]
        operations = [_message("operation", view) for view in self.operations() if lab in {None, view.lab}]
        return [*hosts, *labs, *operations]

    # ---------------------------------------------------------------- inside

    def _advance(self, lab_id: str) -> None:
        concerned = [record for record in self._running.values() if record.lab_id == lab_id]
        if not concerned:
            return
        picture = self.picture(lab_id) if lab_id in self._snapshots else None
        for before in concerned:
            after = advance(before, picture, self._clock())
            if after.view() != before.view():
                self._hub.publish(_message("operation", after.view()))
            self._keep(after)

    def _keep(self, record: OperationRecord) -> None:
        if record.state is OperationState.RUNNING:
            self._running[record.id] = record
            return
        self._running.pop(record.id, None)
        self._finished[record.id] = record
        while len(self._finished) > REMEMBERED_OPERATIONS:
            self._finished.pop(next(iter(self._finished)))
        self.finished.put_nowait(record)


def _without(document: Slice, refused: Iterable[str]) -> Slice:
    """``document`` without the nodes that preflight refused and the links that end at them."""
    gone = frozenset(refused)
    if not gone:
        return document
    return document.model_copy(
        update={
            "nodes": tuple(node for node in document.nodes if node.id not in gone),
            "wires": tuple(wire for wire in document.wires if not gone & {end.node_id for end in wire.ends}),
            "plugs": tuple(plug for plug in document.plugs if plug.port.node_id not in gone),
        }
    )


def _message(kind: Literal["lab", "host", "operation"], value: Value) -> StreamMessage:
    return StreamMessage(type=kind, data=value.model_dump(mode="json"))
