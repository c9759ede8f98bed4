"""Where to listen for what a user wants to capture. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from wireloom.errors import NotFound
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.model.slice import PortRef, SegmentIntent, Slice
from wireloom.sniffer.order import Point

__all__ = ["Look", "Medium", "Subject", "find_subject"]


@dataclass(frozen=True)
class Medium:
    """A segment as the host shows it. ``device``: its bridge, ours or not; ``members``: devices in it, ours or not."""

    device: str
    members: Sequence[str] = ()


Look = Callable[[SegmentIntent], Medium]


@dataclass(frozen=True)
class Subject:
    """What is captured: ``name`` as users say it, e.g. ``r1:eth1 -- r2:eth1``; ``node`` where it is of one."""

    name: str
    node: str
    points: tuple[Point, ...]


def find_subject(lab: Slice, wanted: CaptureOpen, look: Look) -> Subject:
    """:raises NotFound: the lab has no such thing (any more)."""
    match wanted.kind:
        case "port":
            return _port(lab, PortRef(node_id=wanted.node_id, index=wanted.index))
        case "wire":
            return _wire(lab, wanted.id)
        case "plug":
            found = next((plug.port for plug in lab.plugs if plug.id == wanted.id), None)
            if found is None:
                raise NotFound("this host has no such link")
            return _port(lab, found)
        case "segment":
            return _segment(lab, wanted.id, look)


def _port(lab: Slice, ref: PortRef) -> Subject:
    """Both ways: what its guest sends and gets, the latter after every impairment."""
    node, point = _point(lab, ref)
    return Subject(point.name, node, (point._replace(take="both"),))


def _wire(lab: Slice, wire_id: str) -> Subject:
    wire = next((wire for wire in lab.wires if wire.id == wire_id), None)
    if wire is None:
        raise NotFound("this host has no such link")
    if wire.remote is not None:
        point = _point(lab, wire.local_ends[0])[1]
        names = (wire.remote.name, point.name) if wire.remote.end == "a" else (point.name, wire.remote.name)
        return Subject(" -- ".join(names), "", (point._replace(take="both"),))
    (_, a), (_, b) = _point(lab, wire.a), _point(lab, wire.b)
    return Subject(f"{a.name} -- {b.name}", "", (a, b))


def _segment(lab: Slice, segment_id: str, look: Look) -> Subject:
    segment = lab.segment(segment_id)
    if segment is None:
        raise NotFound("this host has no such segment")
    ours = [_point(lab, plug.port)[1] for plug in lab.plugs if plug.segment == segment.id]
    known = {point.device for point in ours}
    medium = look(segment)
    others = _others(lab, segment, medium.device, [device for device in medium.members if device not in known])
    return Subject(segment.name, "", (*ours, *others))


def _others(lab: Slice, segment: SegmentIntent, bridge: str, devices: Sequence[str]) -> Iterator[Point]:
    """How frames come into a segment beside its plugs: through other devices in it, and from the host itself."""
    for device in devices:
        yield Point(device=device, name=device, description=f"{lab.lab}/{segment.name}: {device} of the host")
    if segment.kind != "switch":
        yield Point(device=bridge, name="host", description=f"{lab.lab}/{segment.name}: the host itself", take="out")


def _point(lab: Slice, ref: PortRef) -> tuple[str, Point]:
    """The node's name, and its port as a place where frames come in."""
    node = lab.node(ref.node_id)
    port = node.port(ref.index) if node is not None else None
    if node is None or port is None:
        raise NotFound("this host has no such port")
    return node.name, Point(
        device=port.device, name=f"{node.name}:{port.name}", description=f"{lab.lab}/{node.name}/{port.name}"
    )
