"""From two observations of a lab to the lines of its history. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wireloom.model.state import LinkState, NodeState, NodeStatus, Readiness, SliceStatus

__all__ = ["Change", "changes"]


@dataclass(frozen=True)
class Change:
    """One line of history; ``kind`` is a stable dotted word, ``level`` info, warning or error."""

    kind: str
    message: str
    node: str = ""
    level: str = "info"


def changes(before: SliceStatus | None, after: SliceStatus) -> Iterator[Change]:
    """What happened between two observations of the same lab."""
    old_nodes = {node.id: node for node in before.nodes} if before else {}
    for node in after.nodes:
        yield from _node_changes(old_nodes.pop(node.id, None), node)
    for gone in old_nodes.values():
        yield Change("node.removed", "removed from the host", gone.name)
    old_wires = {wire.id: wire for wire in before.wires} if before else {}
    for wire in after.wires:
        old = old_wires.get(wire.id)
        if old is not None and old.state is not wire.state:
            level = "warning" if wire.state is LinkState.FAILED else "info"
            yield Change(f"link.{wire.state}", wire.message or f"the link is {wire.state}", level=level)


def _node_changes(old: NodeStatus | None, new: NodeStatus) -> Iterator[Change]:
    if old is None or old.state is not new.state:
        level = "error" if new.state is NodeState.FAILED else "info"
        yield Change(f"node.{new.state}", new.message or f"the node is {new.state}", new.name, level)
    if new.ready is Readiness.YES and (old is None or old.ready is not Readiness.YES):
        yield Change("node.ready", "the node is ready", new.name)
    if new.ready is Readiness.TIMEOUT and (old is None or old.ready is not Readiness.TIMEOUT):
        yield Change("node.ready-timeout", new.message or "the node did not become ready in time", new.name, "warning")
    if new.error and (old is None or old.error != new.error or old.failures != new.failures):
        hint = new.error.get("hint") or ""
        text = str(new.error.get("message", "failed")) + (f" ({hint})" if hint else "")
        yield Change("node.error", text, new.name, "error")
