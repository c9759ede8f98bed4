"""The states of links and segments that users see, from raw observation. Pure.

``problems`` is what the kernel refused, by host device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.network import HostPort
from wireloom.model.slice import PlugIntent, PortRef, RemoteEnd, SegmentIntent, Slice, WireIntent
from wireloom.model.state import LinkState, PlugStatus, RuntimePhase, SegmentStatus, WireStatus
from wireloom.model.underlay import Way
from wireloom.planning.cabling import Cabling, is_let_go, is_shut
from wireloom.planning.plan import Observed
from wireloom.planning.segments import plug_vlans
from wireloom.planning.tunnels import tunnel_plan

__all__ = ["LinkStatuses", "link_statuses", "plug_status", "segment_status", "wire_status"]

_NO_PROBLEMS: Mapping[str, str] = MappingProxyType({})
_SWITCHED_OFF = "switched off by the user"


@dataclass(frozen=True)
class LinkStatuses:
    """Status documents of all links and segments of a lab on one host."""

    wires: tuple[WireStatus, ...] = ()
    plugs: tuple[PlugStatus, ...] = ()
    segments: tuple[SegmentStatus, ...] = ()


def link_statuses(wanted: Slice, observed: Observed, problems: Mapping[str, str] = _NO_PROBLEMS) -> LinkStatuses:
    """All of them at once, which costs little more than one of them."""
    cabling = Cabling(wanted, observed)
    return LinkStatuses(
        wires=tuple(_wire_status(wire, cabling, problems) for wire in cabling.wires),
        plugs=tuple(_plug_status(plug, cabling, problems) for plug in cabling.plugs),
        segments=tuple(_segment_status(segment, cabling, problems) for segment in cabling.segments.values()),
    )


def wire_status(
    wire: WireIntent, wanted: Slice, observed: Observed, problems: Mapping[str, str] = _NO_PROBLEMS
) -> WireStatus:
    """The status document of one wire: ``up`` only when the kernel shows it joined and both ends alive."""
    return _wire_status(wire, Cabling(wanted, observed), problems)


def plug_status(
    plug: PlugIntent, wanted: Slice, observed: Observed, problems: Mapping[str, str] = _NO_PROBLEMS
) -> PlugStatus:
    """The status document of one link to a segment: ``up`` only when the kernel shows the port in it, and alive."""
    return _plug_status(plug, Cabling(wanted, observed), problems)


def segment_status(
    segment: SegmentIntent, wanted: Slice, observed: Observed, problems: Mapping[str, str] = _NO_PROBLEMS
) -> SegmentStatus:
    """The status document of one segment."""
    return _segment_status(segment, Cabling(wanted, observed), problems)


def _wire_status(wire: WireIntent, cabling: Cabling, problems: Mapping[str, str]) -> WireStatus:
    here, there = (cabling.ports.get(cabling.device(ref) or "") for ref in (wire.a, wire.b))
    state, message = _wire_state(wire, cabling, problems)
    follows = state is LinkState.PENDING and not message
    if follows and wire.remote is not None:
        message = f"no signal from {wire.remote.name} on host {wire.remote.host}"
    return WireStatus(
        id=wire.id,
        state=state,
        mtu=min((port.mtu for port in (here, there) if port), default=wire.mtu) if state is LinkState.UP else wire.mtu,
        message=message,
        impairment=_read_back(wire.impairment, there.to_guest if there else None, here.to_guest if here else None),
        name=" - ".join(_end_name(ref, wire, cabling) for ref in wire.ends),
        far=_far_signal(wire, cabling),
        follows=follows,
    )


def _end_name(ref: PortRef, wire: WireIntent, cabling: Cabling) -> str:
    return cabling.port_name(ref) if wire.remote is None or ref in wire.local_ends else wire.remote.name


def _far_signal(wire: WireIntent, cabling: Cabling) -> Literal["", "up", "down", "unknown"]:
    if wire.remote is None:
        return ""
    far = cabling.far(wire)
    if far is None or far.works is None:
        return "unknown"
    return "up" if far.works and not far.shut else "down"


def _plug_status(plug: PlugIntent, cabling: Cabling, problems: Mapping[str, str]) -> PlugStatus:
    port = cabling.ports.get(cabling.device(plug.port) or "")
    segment = cabling.lab.segment(plug.segment)
    state, message = _plug_state(plug, segment, cabling, problems)
    mtu = segment.mtu if segment is not None else 0
    return PlugStatus(
        id=plug.id,
        state=state,
        mtu=port.mtu if port is not None and state is LinkState.UP else mtu,
        message=message,
        impairment=_read_back(plug.impairment, port.from_guest if port else None, port.to_guest if port else None),
        name=f"{cabling.port_name(plug.port)} - {segment.name if segment is not None else '?'}",
    )


def _segment_status(segment: SegmentIntent, cabling: Cabling, problems: Mapping[str, str]) -> SegmentStatus:
    name = cabling.bridge(segment)
    state, message = LinkState.UP, ""
    if cabling.observed.outage:
        state, message = _unknown(cabling)
    elif name in problems:
        state, message = LinkState.FAILED, problems[name]
    elif not cabling.has_segment(segment):
        state, message = LinkState.PENDING, "not made yet"
    elif not cabling.is_foreign(segment) and not cabling.observed.network.segments[name].up:
        state, message = LinkState.PENDING, "not up yet"
    return SegmentStatus(
        id=segment.id, state=state, message=message, details=_details(segment, cabling), name=segment.name
    )


def _details(segment: SegmentIntent, cabling: Cabling) -> dict[str, str]:
    """Facts for people, without those that do not apply."""
    uplink, nat = segment.uplink, segment.nat
    details = {"device": cabling.bridge(segment), "mtu": str(segment.mtu)}
    if segment.tagging != "none":
        details["tagging"] = segment.tagging
    if uplink is not None:
        details["uplink"] = uplink.device if uplink.vlan is None else f"{uplink.device}, VLAN {uplink.vlan}"
        details["bridge"] = "of the host" if cabling.is_foreign(segment) else "of the lab"
    if nat is not None:
        details |= {"subnet": nat.subnet, "gateway": nat.gateway}
        details["dhcp"] = " - ".join(nat.dhcp) if nat.dhcp else "off"
    return details


def _wire_state(wire: WireIntent, cabling: Cabling, problems: Mapping[str, str]) -> tuple[LinkState, str]:
    if not wire.up:
        return LinkState.DOWN, _SWITCHED_OFF
    if cabling.observed.outage:
        return _unknown(cabling)
    if wire.remote is not None:
        return _remote_state(wire, wire.remote, cabling, problems)
    ends = (_end(wire.a, cabling), _end(wire.b, cabling))
    if problem := ends[0].problem or ends[1].problem:
        return LinkState.PENDING, problem
    here, there = (end.found for end in ends)
    if refused := next((problems[port.device] for port in (here, there) if port.device in problems), ""):
        return LinkState.FAILED, refused
    if here.peer != there.device or there.peer != here.device:
        return LinkState.PENDING, "not joined yet"
    return _carrier(ends)


def _remote_state(
    wire: WireIntent, remote: RemoteEnd, cabling: Cabling, problems: Mapping[str, str]
) -> tuple[LinkState, str]:
    """Of the end that is here: the other host tells of its own, and a wire is up when both are.

    Pending without a message: nothing is wrong here.
    """
    end = _end(wire.local_ends[0], cabling)
    if end.problem:
        return LinkState.PENDING, end.problem
    if refused := problems.get(end.found.device):
        return LinkState.FAILED, refused
    if not remote.vni:
        return LinkState.PENDING, "no number is leased to its tunnel yet"
    plan, way = tunnel_plan(wire, cabling), cabling.observed.ways.get((remote.host, remote.encryption), Way())
    if way.problem:
        return LinkState.PENDING, way.problem
    if plan is None or (not plan.remote and end.found.tunnel is None):
        return LinkState.PENDING, f"where host {remote.host} can be reached is not known yet"
    if end.found.tunnel is None or (plan.remote and end.found.tunnel != plan.tunnel):
        return LinkState.PENDING, f"{end.name} is not joined to host {remote.host} yet"
    state, message = _carrier((end,))
    if state is LinkState.UP and way.mtu and wire.mtu > way.whole_frames:
        return state, f"frames of more than {way.whole_frames} bytes to host {remote.host} {way.beyond}"
    waits = state is LinkState.PENDING and _far_signal(wire, cabling) != "up" and not is_let_go(end.found)
    return (state, "") if waits else (state, message)


def _plug_state(
    plug: PlugIntent, segment: SegmentIntent | None, cabling: Cabling, problems: Mapping[str, str]
) -> tuple[LinkState, str]:
    if not plug.up:
        return LinkState.DOWN, _SWITCHED_OFF
    if cabling.observed.outage:
        return _unknown(cabling)
    if segment is None:
        return LinkState.PENDING, "its segment is not in the lab"
    end = _end(plug.port, cabling)
    if end.problem:
        return LinkState.PENDING, end.problem
    name, port = cabling.bridge(segment), end.found
    if refused := problems.get(port.device) or problems.get(name):
        return LinkState.FAILED, refused
    if not cabling.has_segment(segment):
        return LinkState.PENDING, f"the segment {segment.name} is not there yet"
    if (port.segment, port.vlans) != (name, plug_vlans(plug, segment)):
        return LinkState.PENDING, f"not plugged into {segment.name} yet"
    return _carrier((end,))


def _unknown(cabling: Cabling) -> tuple[LinkState, str]:
    return LinkState.PENDING, f"not known: {cabling.observed.outage}"


@dataclass(frozen=True)
class _End:
    """One end of a link: what keeps it from being there, and else the host port and what its provider says of it."""

    problem: str = ""
    name: str = ""
    port: HostPort | None = None
    dropped: bool = False

    @property
    def found(self) -> HostPort:
        assert self.port is not None, "an end without a problem has a port"  # noqa: S101 - our own mistake, not input
        return self.port


def _end(ref: PortRef, cabling: Cabling) -> _End:
    node, port = cabling.nodes.get(ref.node_id), cabling.port(ref)
    if node is None or port is None:
        return _End("one end is not in the lab")
    runtime = cabling.observed.runtimes.get(node.id)
    if runtime is None or runtime.phase is not RuntimePhase.RUNNING:
        return _End(f"{node.name} is not running")
    name = f"{node.name}:{port.name}"
    if port.device not in cabling.ports:
        return _End(f"{name} is not plugged yet")
    return _End("", name, cabling.ports[port.device], runtime.carriers.get(port.index) is False)


def _carrier(ends: tuple[_End, ...]) -> tuple[LinkState, str]:
    """What the ends of a link that is joined say of its carrier: causes at one end before what follows at the other."""
    shut = next((end for end in ends if is_shut(end.found)), None)
    if shut is not None:
        return LinkState.DOWN, f"{shut.name} is shut down by its guest"
    loose = next((end for end in ends if is_let_go(end.found)), None)
    if loose is not None:  # for instance because somebody deleted the tap
        return LinkState.PENDING, f"{loose.name} is not attached to its guest; restart the node"
    dropped = next((end for end in ends if end.dropped or not end.found.up), None)
    if dropped is not None:
        return LinkState.PENDING, f"the carrier of {dropped.name} is still down"
    return LinkState.UP, ""


def _read_back(wanted: LinkImpairment, forward: Impairment | None, backward: Impairment | None) -> LinkImpairment:
    """What the kernel does, with the ends that the intent gives it: a kernel knows of none."""
    return LinkImpairment(
        forward=forward,
        backward=backward,
        forward_until=wanted.forward_until if forward else None,
        backward_until=wanted.backward_until if backward else None,
    )
