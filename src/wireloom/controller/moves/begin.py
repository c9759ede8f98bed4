"""How moves begin. Pure but for new ids.

A node that is made is never just given another host: what it has is carried there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from wireloom.controller.store.records import LabSnapshot, MoveRecord, NodeRecord
from wireloom.model.moves import MovePhase, MoveReason
from wireloom.model.topology import Topology

__all__ = ["NewMove", "moved_instead", "started_again", "with_move", "without_moves"]

#: Makes a move of a node to a host, that waits for its turn.
NewMove = Callable[[NodeRecord, str, MoveReason], MoveRecord]

#: Until then the node is still where it was, and can stay there.
_REVERSIBLE = frozenset({MovePhase.QUEUED, MovePhase.LEAVING, MovePhase.CARRYING})


def moved_instead(
    before: LabSnapshot | None, nodes: Iterable[NodeRecord], topology: Topology, new_move: NewMove
) -> tuple[list[NodeRecord], tuple[MoveRecord, ...]]:
    """``nodes`` of an edit and the lab's moves: nodes that exist stay where they are, and move from there.

    A move that was begun goes on unless the topology names another place.
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
        if node.host not in {was.host, going}:
            moves = with_move(moves, new_move(was, node.host, "topology"))
        elif node.host == was.host and going and pins.get(node.name) == was.host:
            moves = without_moves(moves, node.id)
        result.append(node.model_copy(update={"host": was.host, "mgmt_ipv4": was.mgmt_ipv4}))
    return result, moves


def started_again(node: NodeRecord) -> NodeRecord:
    """A node that was stopped to move and stays: its agent starts it again, as if the user had asked for it."""
    return node.model_copy(update={"attention": node.attention + 1})


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
