"""How moves begin. Pure but for new ids.

A node that is made is never just given another host: what it has is carried there.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping

from wireloom.controller.store.records import LabSnapshot, MoveRecord, NodeRecord
from wireloom.model.moves import MovePhase, MoveReason
from wireloom.model.topology import Topology
from wireloom.model.views import ChangeView

__all__ = ["NewMove", "moved_instead", "started_again", "with_move", "with_moves_described", "without_moves"]

#: Makes a move of a node to a host, that waits for its turn.
NewMove = Callable[[NodeRecord, str, MoveReason], MoveRecord]

#: Until then the node is still where it was, and can stay there.
_REVERSIBLE = frozenset({MovePhase.QUEUED, MovePhase.LEAVING, MovePhase.CARRYING})


def moved_instead(
    before: LabSnapshot | None,
    nodes: Iterable[NodeRecord],
    topology: Topology,
    new_move: NewMove,
    alive: Container[str],
) -> tuple[list[NodeRecord], tuple[MoveRecord, ...]]:
    """``nodes`` of an edit and the lab's moves: nodes that exist stay where they are, and move from there.

    A move that was begun goes on unless the topology names another place. A node whose host is away (it is not
    ``alive``) moves only where its topology says: that it found another place now says nothing of when it is back.
    """
    moves = before.moves if before is not None else ()
    old = {node.id: node for node in before.nodes} if before is not None else {}
    pins = {spec.name: spec.host for spec in topology.nodes if spec.host}
    result = []
    for node in nodes:
        was = old.get(node.id)
        if was is None or not was.host or was.problem is not None or not node.host:
            result.append(node)
            continue
        going = _target(moves, node.id)
        wanted = was.host in alive or pins.get(node.name) == node.host
        if node.host not in {was.host, going} and wanted:
            moves = with_move(moves, new_move(was, node.host, "topology"))
        elif node.host == was.host and going and pins.get(node.name) == was.host:
            moves = without_moves(moves, node.id)
        result.append(node.model_copy(update={"host": was.host, "mgmt_ipv4": was.mgmt_ipv4}))
    return result, moves


def started_again(node: NodeRecord) -> NodeRecord:
    """A node that was stopped to move and stays: its agent starts it again, as if the user had asked for it."""
    return node.model_copy(update={"attention": node.attention + 1})


def with_moves_described(
    changes: Iterable[ChangeView], before: LabSnapshot | None, after: LabSnapshot
) -> tuple[ChangeView, ...]:
    """``changes`` of a plan with the moves that would begin by it, each at its node."""
    known = {move.id for move in before.moves} if before is not None else set()
    names = {node.id: node.name for node in after.nodes}
    new = {names[move.node_id]: move for move in after.moves if move.id not in known}
    changes = tuple(changes)
    told = {change.name for change in changes if change.kind == "node"}
    moved = [
        ChangeView(kind="node", name=name, action="change", reasons=(_move_told(move),), host=move.target)
        for name, move in new.items()
        if name not in told
    ]
    return (*moved, *(_with_move(change, new) for change in changes))


def _with_move(change: ChangeView, new: Mapping[str, MoveRecord]) -> ChangeView:
    move = new.get(change.name) if change.kind == "node" else None
    if move is None:
        return change
    return change.model_copy(update={"reasons": (_move_told(move), *change.reasons), "host": move.target})


def _move_told(move: MoveRecord) -> str:
    return f"moves from {move.source} to {move.target}: it is stopped while what it keeps is carried"


def with_move(moves: Iterable[MoveRecord], new: MoveRecord) -> tuple[MoveRecord, ...]:
    """``moves`` with a new one in place of what its node was about to do."""
    return (*without_moves(moves, new.node_id), new)


def without_moves(moves: Iterable[MoveRecord], node_id: str) -> tuple[MoveRecord, ...]:
    """``moves`` without those of the node that can be taken back, or were undone."""
    dropped = _REVERSIBLE | {MovePhase.UNDONE}
    return tuple(move for move in moves if move.node_id != node_id or move.phase not in dropped)


def _target(moves: Iterable[MoveRecord], node_id: str) -> str:
    """Where the node is going; empty: nowhere."""
    return next((move.target for move in moves if move.node_id == node_id and move.phase in _REVERSIBLE), "")
