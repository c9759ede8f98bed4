"""The machine of a move: what is due next, from its row and from what both hosts said. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, Literal

from wireloom.controller.store.records import MoveRecord, NodeRecord
from wireloom.errors import RuntimeFailed
from wireloom.model.moves import ArrivalStatus, DepartureStatus, MovePhase
from wireloom.model.state import SliceStatus

__all__ = ["MOVING", "Seen", "Step", "next_step", "seen_of", "startable"]

#: Phases in which a node is on its way: off where it was, and not on yet where it goes.
MOVING: Final = frozenset({MovePhase.LEAVING, MovePhase.CARRYING, MovePhase.ARRIVING})
#: Seconds that a target may be away before a node that it has not got yet goes back.
_TARGET_AWAY_S: Final = 60.0


@dataclass(frozen=True)
class Seen:
    """What is known of a move by what hosts say. ``away_s``: seconds since the target was last heard; 0: it lives."""

    departure: DepartureStatus | None = None
    arrival: ArrivalStatus | None = None
    away_s: float = 0


@dataclass(frozen=True)
class Step:
    """What is due. ``go``: to ``phase``; ``end``: it is done, or overtaken; ``undo``: the node stays, for ``error``."""

    kind: Literal["go", "end", "undo"]
    phase: MovePhase = MovePhase.QUEUED
    error: dict[str, Any] | None = None


def seen_of(move: MoveRecord, statuses: Mapping[str, SliceStatus], away_s: float = 0) -> Seen:
    """What both hosts said of ``move``."""
    source, target = statuses.get(move.source), statuses.get(move.target)
    departures = source.departures if source is not None else ()
    arrivals = target.arrivals if target is not None else ()
    return Seen(
        departure=next((item for item in departures if item.move == move.id), None),
        arrival=next((item for item in arrivals if item.move == move.id), None),
        away_s=away_s,
    )


def next_step(move: MoveRecord, node: NodeRecord | None, seen: Seen, others: Iterable[MoveRecord] = ()) -> Step | None:
    """What is due for ``move`` of ``node``; ``None``: nothing, or it waits.

    :param others: further moves of the same node.
    """
    if move.phase is MovePhase.UNDONE:
        return None
    if node is None or node.host != (move.target if move.phase is MovePhase.ARRIVING else move.source):
        return Step("end")  # somebody else gave the node another place: a host that was lost, say
    if move.phase is MovePhase.ARRIVING:
        return Step("end") if seen.arrival is not None and seen.arrival.adopted else None
    if move.phase is MovePhase.QUEUED:
        return None  # see startable
    if any(other.phase is MovePhase.ARRIVING for other in others):
        return None  # it has not come yet where it is to leave from
    if seen.away_s > _TARGET_AWAY_S:
        gone = RuntimeFailed(
            f"host {move.target} does not answer, so the node stays on {move.source}",
            hint="move it again when the host is back, or to another one",
        )
        return Step("undo", error=gone.to_wire())
    if move.phase is MovePhase.LEAVING:
        ready = seen.departure is not None and seen.departure.ready
        return Step("go", MovePhase.CARRYING) if ready else None
    return _of_carrying(seen)


def _of_carrying(seen: Seen) -> Step | None:
    arrival = seen.arrival
    if arrival is None:
        return None
    if arrival.error is not None and not arrival.error.get("retryable", False):
        return Step("undo", error=arrival.error)
    return Step("go", MovePhase.ARRIVING) if arrival.ready else None


def startable(queue: Iterable[MoveRecord], alive: Set[str], at_once: int) -> list[MoveRecord]:
    """Which queued moves may begin now, so that no host takes part in more than ``at_once`` at a time.

    :param queue: all moves of all labs, the oldest first.
    """
    busy: dict[str, int] = {}
    nodes: set[str] = set()
    moves = list(queue)
    for move in moves:
        if move.phase in MOVING:
            nodes.add(move.node_id)
            for host in (move.source, move.target):
                busy[host] = busy.get(host, 0) + 1
    chosen = []
    for move in moves:
        hosts = (move.source, move.target)
        if move.phase is not MovePhase.QUEUED or move.node_id in nodes or not alive >= {*hosts}:
            continue
        if all(busy.get(host, 0) < at_once for host in hosts):
            chosen.append(move)
            nodes.add(move.node_id)
            for host in hosts:
                busy[host] = busy.get(host, 0) + 1
    return chosen
