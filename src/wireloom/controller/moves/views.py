"""Moves as users see them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from wireloom.controller.moves.phases import Seen, seen_of
from wireloom.controller.store.records import LabSnapshot, MoveRecord
from wireloom.model.moves import MovePhase, MoveView
from wireloom.model.state import SliceStatus

__all__ = ["move_view"]


def move_view(
    move: MoveRecord, lab: LabSnapshot, statuses: Mapping[str, SliceStatus], alive: Collection[str]
) -> MoveView:
    """How far a move of ``lab`` is. ``alive``: hosts that answer."""
    seen = seen_of(move, statuses)
    name = next((node.name for node in lab.nodes if node.id == move.node_id), move.node_id)
    return MoveView(
        id=move.id,
        lab=lab.lab.name,
        node=name,
        source=move.source,
        target=move.target,
        reason=move.reason,
        phase=move.phase,
        done=seen.arrival.done if seen.arrival else 0,
        total=seen.arrival.total if seen.arrival and seen.arrival.total else _total(seen),
        message=_message(move, seen, alive),
        error=move.error or _error(seen),
        created_at=move.created_at,
    )


def _total(seen: Seen) -> int:
    return seen.departure.total if seen.departure else 0


def _error(seen: Seen) -> dict[str, object] | None:
    for said in (seen.arrival, seen.departure):
        if said is not None and said.error is not None:
            return said.error
    return None


def _message(move: MoveRecord, seen: Seen, alive: Collection[str]) -> str:
    if move.phase is MovePhase.UNDONE:
        return f"stays on {move.source}"
    silent = [host for host in (move.source, move.target) if host not in alive]
    if silent:
        return f"host {silent[0]} does not answer: it goes on when that is back"
    error = _error(seen)
    if error is not None:
        return f"tried again: {error.get('message', '')}"
    return {
        MovePhase.QUEUED: "waits for its turn",
        MovePhase.LEAVING: f"is stopped on {move.source}",
        MovePhase.CARRYING: f"is carried to {move.target}",
        MovePhase.ARRIVING: f"starts on {move.target}",
    }.get(move.phase, "")
