"""What of a lab is on a lost host goes to others: an edit of intent like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from wireloom.controller.edits import Edits
from wireloom.controller.store import LabSnapshot, NodeRecord, OperationTargets, Store
from wireloom.controller.topologies import Topologies

__all__ = ["LostNodes", "PlaceAnew"]

#: Where else these nodes of a lab (by name) can run, as records that are placed; one that no host can take is left out.
PlaceAnew = Callable[[LabSnapshot, frozenset[str]], Awaitable[Mapping[str, NodeRecord]]]


class LostNodes:
    """Gives nodes of lost hosts away; see :data:`wireloom.controller.recovery.recovery.GiveAway`.

    A node that its topology pins to the host waits for it, as one does that no other host can take. The host goes on
    being told what it is to remove, for when it is back.
    """

    def __init__(self, *, store: Store, edits: Edits, topologies: Topologies, place_anew: PlaceAnew) -> None:
        self._store = store
        self._edits = edits
        self._topologies = topologies
        self._place_anew = place_anew

    async def give_away(self, lab_id: str, host: str) -> str:
        """What became of the nodes that the lab has on ``host``, in words; empty: it has none.

        :raises Conflict: the lab was changed at the same moment. :raises WireloomError: nothing was changed.
        """
        known = await self._store.snapshot_by_id(lab_id)
        if known is None or known.lab.removing:
            return ""
        async with self._edits.hold(known.lab.name):
            before = await self._store.snapshot_by_id(lab_id)
            if before is None or before.lab.removing:
                return ""
            there = {node.name for node in before.nodes if node.host == host and node.problem is None}
            if not there:
                return ""
            return await self._move(before, host, there)

    async def _move(self, before: LabSnapshot, host: str, there: set[str]) -> str:
        topology = await asyncio.to_thread(self._topologies.parse_revision, before.revision)
        pinned = {spec.name for spec in topology.nodes if spec.host == host and spec.name in there}
        placed = await self._place_anew(before, frozenset(there - pinned))
        given = {name: record for name, record in placed.items() if record.host != host and record.problem is None}
        if given:
            await self._write(before, given)
        return _told(given, pinned, there - pinned - given.keys())

    async def _write(self, before: LabSnapshot, given: Mapping[str, NodeRecord]) -> None:
        after = self._edits.next(before, [given.get(node.name, node) for node in before.nodes])
        slices = await self._edits.render_kept(before, after, {node.id for node in given.values()})
        named = tuple(sorted(given))
        targets = OperationTargets(nodes=tuple(node.id for node in given.values() if node.power == "on"), named=named)
        await self._edits.apply(before, after, self._edits.operation(after, "recover", "running", targets), slices)


def _told(given: Mapping[str, NodeRecord], pinned: set[str], left: set[str]) -> str:
    parts = []
    if given:
        parts.append("started elsewhere: " + ", ".join(f"{name} on {given[name].host}" for name in sorted(given)))
    if pinned:
        parts.append(f"{', '.join(sorted(pinned))} waits for it, as the topology says")
    if left:
        parts.append(f"no other host can take {', '.join(sorted(left))}")
    return "; ".join(parts)
