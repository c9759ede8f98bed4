"""How far an operation is. Pure.

An operation looks at its targets only. A target that a later verb took out of the lab, or wished into another state,
counts no more; one that has reached the goal or failed for good is settled; when all are settled, it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from wireloom.controller.picture import LabPicture, LinkPicture, NodePicture, SegmentPicture
from wireloom.controller.store.records import LabSnapshot, OperationRecord
from wireloom.errors import RuntimeFailed
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.state import LinkState, NodeState
from wireloom.model.views import OperationState

__all__ = ["advance"]


class _Standing(Enum):
    DONE = auto()
    GOING = auto()
    FAILED = auto()


_Verdict = tuple[_Standing, dict[str, Any] | None]

_DONE: _Verdict = (_Standing.DONE, None)
_GOING: _Verdict = (_Standing.GOING, None)


def advance(operation: OperationRecord, picture: LabPicture | None, now: float) -> OperationRecord:
    """``operation`` as it stands: the lab is as in ``picture``, or gone (``None``); ``now`` in UNIX seconds."""
    if operation.state is not OperationState.RUNNING:
        return operation
    if picture is None or (picture.snapshot.lab.removing and operation.goal != "absent"):
        return _lab_is_gone(operation, now)
    if operation.goal == "configured":  # it is about texts, which the board does not see: their own worker tells
        return operation
    verdicts = list(_verdicts(operation, picture))
    done = sum(standing is _Standing.DONE for standing, _ in verdicts)
    errors = tuple(error for _, error in verdicts if error is not None)
    settled = all(standing is not _Standing.GOING for standing, _ in verdicts)
    ends = settled and operation.goal != "absent"  # a lab is gone only when its last row is
    state = OperationState.RUNNING if not ends else OperationState.FAILED if errors else OperationState.DONE
    return operation.model_copy(
        update={
            "done": done,
            "total": len(verdicts),
            "errors": errors,
            "state": state,
            "finished_at": now if ends else None,
        }
    )


def _lab_is_gone(operation: OperationRecord, now: float) -> OperationRecord:
    if operation.goal == "absent":
        update = {"state": OperationState.DONE, "done": operation.total, "errors": (), "finished_at": now}
    else:
        gone = RuntimeFailed(f"lab {operation.lab} was destroyed meanwhile", hint="deploy it again")
        update = {"state": OperationState.FAILED, "errors": (gone.to_wire(),), "finished_at": now}
    return operation.model_copy(update=update)


def _verdicts(operation: OperationRecord, picture: LabPicture) -> Iterator[_Verdict]:
    if operation.goal == "absent":
        yield from _absent(operation, picture)
        return
    yield from _nodes(operation, picture)
    for link_id in operation.targets.wires:
        link = picture.links.get(link_id)
        if link is not None:
            yield _linked(link)
        elif operation.goal == "linked":  # the goal was to remove it, or a later verb did
            yield _unlinked(link_id, picture)
    for segment_id in operation.targets.segments:
        segment = picture.segments.get(segment_id)
        if segment is not None:
            yield _made(segment)
        elif operation.goal == "linked":
            yield _unlinked(segment_id, picture)


def _nodes(operation: OperationRecord, picture: LabPicture) -> Iterator[_Verdict]:
    power = "off" if operation.goal == "stopped" else "on"
    for node_id in operation.targets.nodes:
        node = picture.nodes.get(node_id)
        standing = _moved(operation, node, picture.snapshot)
        if standing is not None:
            yield standing
        elif node is not None and node.intent.power == power:
            yield _stopped(node) if power == "off" else _running(operation, node)


def _moved(operation: OperationRecord, node: NodePicture | None, lab: LabSnapshot) -> _Verdict | None:
    """Of a node that moves, or was to; ``None``: it does not, or has arrived."""
    if node is None:
        return None
    target = operation.targets.hosts.get(node.record.id, "")
    if node.record.id in lab.moving:
        return _GOING if target or (operation.goal == "running" and node.record.power == "on") else None
    if not target or node.record.host == target:
        return None
    undone = next((move for move in lab.moves if move.node_id == node.record.id and move.error), None)
    error = undone.error if undone is not None and undone.error else RuntimeFailed("it was not moved").to_wire()
    return _Standing.FAILED, {**error, "node": node.record.name}


def _absent(operation: OperationRecord, picture: LabPicture) -> Iterator[_Verdict]:
    """Progress of a removal: a node is gone when its host confirms the removal, or no longer lists it."""
    left = {node.id for host in picture.snapshot.hosts for node in _listed(picture, host)}
    unconfirmed = any(not picture.host_converged(host) for host in picture.snapshot.hosts)
    for node_id in operation.targets.nodes:
        yield _GOING if node_id in left or unconfirmed else _DONE


def _listed(picture: LabPicture, host: str) -> Iterator[Any]:
    status = picture.statuses.get(host)
    if status is not None:
        yield from status.nodes


def _running(operation: OperationRecord, node: NodePicture) -> _Verdict:
    if node.record.problem is not None:
        return _Standing.FAILED, node.record.problem
    if not node.fresh or node.status is None:
        return _GOING
    status = node.status
    if status.state is NodeState.RUNNING:
        return _DONE if node.converged or _started_anew(operation, node) else _GOING
    if status.state is NodeState.FAILED:
        error = status.error or RuntimeFailed("it failed").to_wire()
        return _Standing.FAILED, {**error, "node": node.intent.name}
    if node.converged:  # the host has nothing left to do, and yet it does not run
        ended = RuntimeFailed(
            status.message or f"it is {status.state}",
            node=node.intent.name,
            hint="look at `wireloom logs`, and at the node's restart policy",
        )
        return _Standing.FAILED, ended.to_wire()
    return _GOING


def _started_anew(operation: OperationRecord, node: NodePicture) -> bool:
    """Whether the runtime is not the one that ran when the verb was given, where the verb asks for another."""
    started = operation.targets.started
    return node.intent.id not in started or (
        node.status is not None and node.status.started_at != started[node.intent.id]
    )


def _stopped(node: NodePicture) -> _Verdict:
    if node.record.problem is not None:
        return _DONE
    if not node.fresh:
        return _GOING
    if node.status is None or node.status.state in {NodeState.STOPPED, NodeState.ABSENT}:
        return _DONE if node.converged or node.status is None else _GOING
    if node.status.state is NodeState.FAILED and node.converged:
        error = node.status.error or RuntimeFailed("it could not be stopped").to_wire()
        return _Standing.FAILED, {**error, "node": node.intent.name}
    return _GOING


def _linked(link: LinkPicture) -> _Verdict:
    if any(end.record.problem is not None or end.intent.power == "off" for end in link.ends):
        return _DONE  # nothing to join until that end runs
    if not link.fresh or link.status is None:
        return _GOING
    wanted = LinkState.UP if link.intent.up else LinkState.DOWN
    if link.status.state is wanted:
        return _DONE if link.converged or not link.intent.up or _is_impaired_as_wanted(link) else _GOING
    if link.status.state is LinkState.FAILED:
        text = link.status.message or "the link could not be made"
        return _Standing.FAILED, RuntimeFailed(f"{link.a} to {link.b}: {text}").to_wire()
    # With nothing left to do on the host, an end does not run; that node has its own verdict.
    return _DONE if link.converged else _GOING


def _made(segment: SegmentPicture) -> _Verdict:
    if not segment.fresh or segment.status is None:
        return _GOING
    if segment.status.state is LinkState.FAILED:
        text = segment.status.message or "it could not be made"
        return _Standing.FAILED, RuntimeFailed(f"segment {segment.intent.name}: {text}").to_wire()
    return _DONE if segment.converged or segment.status.state is LinkState.UP else _GOING


def _is_impaired_as_wanted(link: LinkPicture) -> bool:
    """Whether the host has made what impairs the link; when its time is over is the host's business."""
    seen = link.status.impairment if link.status else None
    return seen is not None and _directions(seen) == _directions(link.intent.impairment)


def _directions(impairment: LinkImpairment) -> tuple[Impairment | None, ...]:
    """Both, with ``None`` for one that is whole."""
    both = (impairment.forward, impairment.backward)
    return tuple(direction.or_none() if direction is not None else None for direction in both)


def _unlinked(own_id: str, picture: LabPicture) -> _Verdict:
    """Of a link or a segment that is wanted no more."""
    for host in picture.snapshot.hosts:
        status = picture.statuses.get(host)
        if status is None or status.generation < picture.generation or host not in picture.alive:
            return _GOING
        links = {wire.id for wire in status.wires} | {plug.id for plug in status.plugs}
        if own_id in links | {segment.id for segment in status.segments}:
            return _GOING
    return _DONE if picture.converged else _GOING
