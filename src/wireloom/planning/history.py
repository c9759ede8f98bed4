"""From two observations of a lab to the lines of its history. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from wireloom.model.impairment import Impairment
from wireloom.model.state import (
    LinkState,
    NodeState,
    NodeStatus,
    PlugStatus,
    Readiness,
    SegmentStatus,
    SliceStatus,
    WireStatus,
)

__all__ = ["Change", "changes"]


@dataclass(frozen=True)
class Change:
    """One line of history; ``kind`` is a stable dotted word, ``level`` info, warning or error.

    :ivar details: for programs: the ``link`` or ``segment`` concerned, by id.
    """

    kind: str
    message: str
    node: str = ""
    level: str = "info"
    details: Mapping[str, str] = field(default_factory=dict)


def changes(before: SliceStatus | None, after: SliceStatus) -> Iterator[Change]:
    """What happened between two observations of the same lab."""
    old_nodes = {node.id: node for node in before.nodes} if before else {}
    for node in after.nodes:
        yield from _node_changes(old_nodes.pop(node.id, None), node)
    for gone in old_nodes.values():
        yield Change("node.removed", "removed from the host", gone.name)
    old_links = {link.id: link for link in _links(before)} if before else {}
    for link in _links(after):
        yield from _link_changes(old_links.get(link.id), link, after.observed_at)
    old_segments = {segment.id: segment for segment in before.segments} if before else {}
    for segment in after.segments:
        yield from _segment_changes(old_segments.get(segment.id), segment)


def _links(status: SliceStatus) -> Iterator[WireStatus | PlugStatus]:
    yield from status.wires
    yield from status.plugs


def _link_changes(old: WireStatus | PlugStatus | None, new: WireStatus | PlugStatus, now: float) -> Iterator[Change]:
    if old is None:
        return
    details, name = {"link": new.id}, new.name or "a link"
    if old.state is not new.state:
        message = f"{name}: {new.message or new.state}"
        yield Change(f"link.{new.state}", message, level=_level(new.state), details=details)
    before = (old.impairment.forward, old.impairment.backward)
    after = (new.impairment.forward, new.impairment.backward)
    if before == after:
        return
    left = old.impairment.at(now)
    if after == (left.forward, left.backward):
        rest = f"; left: forward {_words(after[0])}, backward {_words(after[1])}" if any(after) else ""
        message = f"{name}: the time set for its impairment is over{rest}"
        yield Change("link.impairment-ended", message, details=details)
    elif any(after):
        message = f"{name}: forward {_words(after[0])}; backward {_words(after[1])}"
        yield Change("link.impaired", message, details=details)
    else:
        yield Change("link.impairment-cleared", f"{name}: impaired no more", details=details)


def _segment_changes(old: SegmentStatus | None, new: SegmentStatus) -> Iterator[Change]:
    if old is not None and old.state is not new.state:
        message = f"{new.name or 'a segment'}: {new.message or new.state}"
        yield Change(f"segment.{new.state}", message, level=_level(new.state), details={"segment": new.id})


def _level(state: LinkState) -> str:
    return "warning" if state is LinkState.FAILED else "info"


def _words(impairment: Impairment | None) -> str:
    """E.g. ``delay 50 ms, loss 1 %``."""
    if impairment is None:
        return "whole"
    parts = (
        ("delay", impairment.delay_ms, " ms"),
        ("jitter", impairment.jitter_ms, " ms"),
        ("loss", impairment.loss, " %"),
        ("duplicates", impairment.duplicate, " %"),
        ("corruption", impairment.corrupt, " %"),
        ("reordering", impairment.reorder, " %"),
        ("rate", impairment.rate_kbit, " kbit/s"),
        ("limit", impairment.limit, " frames"),
    )
    return ", ".join(f"{name} {value:.10g}{unit}" for name, value, unit in parts if value)


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
