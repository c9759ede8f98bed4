"""The links and segments of a topology, on the hosts that have their nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from wireloom.errors import Unsupported
from wireloom.model.identity import device_name, short_hash
from wireloom.model.impairment import LinkImpairment
from wireloom.model.network import Uplink
from wireloom.model.slice import NatIntent, PlugIntent, PortRef, RemoteEnd, SegmentIntent, WireIntent
from wireloom.model.topology import LinkEnd, LinkSpec, NodeSpec, PlugSpec, SegmentSpec, Topology
from wireloom.model.vlans import Tagging
from wireloom.planning.nat import choose_subnet, nat_intent

if TYPE_CHECKING:
    from wireloom.planning.expand import Expansion

__all__ = ["HostLinks", "expand_links", "link_id", "plug_id", "segment_id", "segment_tagging"]


@dataclass
class HostLinks:
    """What one host has of a lab's links."""

    wires: list[WireIntent] = field(default_factory=list)
    segments: list[SegmentIntent] = field(default_factory=list)
    plugs: list[PlugIntent] = field(default_factory=list)


def link_id(a: PortRef, b: PortRef) -> str:
    """The id of the link between two ports: the same whichever end comes first, and as long as both ends stay."""
    ends = sorted((ref.node_id, ref.index) for ref in (a, b))
    return short_hash("link", *(part for end in ends for part in end))


def segment_id(lab_id: str, name: str) -> str:
    """The id of a segment, as long as it keeps its name."""
    return short_hash("segment", lab_id, name)


def plug_id(port: PortRef, segment: str) -> str:
    """The id of the link between a port and the segment with the id ``segment``."""
    return short_hash("plug", port.node_id, port.index, segment)


def segment_tagging(topology: Topology, segment: SegmentSpec) -> Tagging:
    """A switch has VLANs as soon as one of its ports names one."""
    if segment.qinq:
        return "802.1ad"
    return "802.1q" if any(plug.vlans for plug in topology.plugs if plug.segment == segment.name) else "none"


def expand_links(topology: Topology, known: Expansion) -> dict[str, HostLinks]:
    """Links and segments by host; those of nodes without a host are left out. A link between hosts is on both.

    :raises Unsupported: a segment between two hosts.
    """
    specs = {spec.name: spec for spec in topology.nodes}
    if topology.link_encryption is not None:
        known = replace(known, encryption=topology.link_encryption)
    found = {host: HostLinks() for name, host in known.host_of.items() if name in specs}
    for link in topology.links:
        for where, wire in _wires(link, specs, known):
            found[where].wires.append(wire)
    subnets = _subnets(topology, known)
    for segment in topology.segments:
        plugs = [plug for plug in topology.plugs if plug.segment == segment.name]
        host = _host_of_segment(segment, plugs, known, found)
        if host is None:
            continue
        found[host].segments.append(_segment(topology, segment, known, subnets))
        found[host].plugs += [_plug(plug, known) for plug in plugs if plug.end.node in known.host_of]
    return found


def _wires(link: LinkSpec, specs: Mapping[str, NodeSpec], known: Expansion) -> Iterator[tuple[str, WireIntent]]:
    """The link as each host of its ends has it; as none, while an end's node has no host yet."""
    first, second = (known.host_of.get(end.node) for end in (link.a, link.b))
    if not first or not second:
        return
    wire = _wire(link, known)
    if first == second:
        yield first, wire
        return
    yield first, wire.changed(remote=_remote("b", link.b, wire.id, specs, known))
    yield second, wire.changed(remote=_remote("a", link.a, wire.id, specs, known))


def _remote(
    which: Literal["a", "b"], end: LinkEnd, wire_id: str, specs: Mapping[str, NodeSpec], known: Expansion
) -> RemoteEnd:
    device = known.devices.get(specs[end.node].device)
    return RemoteEnd(
        end=which,
        host=known.host_of[end.node],
        vni=known.vnis.get(wire_id, 0),
        name=f"{end.node}:{device.ports.display(end.index)}",
        link_down=device.link_down,
        encryption=known.encryption,
    )


def _host_of_segment(
    segment: SegmentSpec, plugs: list[PlugSpec], known: Expansion, hosts: Mapping[str, object]
) -> str | None:
    """The host of the nodes that plug into it; one that nothing plugs into is where the lab is, if that is one host."""
    placed = {plug.end.node: known.host_of[plug.end.node] for plug in plugs if plug.end.node in known.host_of}
    where = sorted({*placed.values(), *([segment.host] if segment.host else [])})
    if len(where) > 1:
        there = ", ".join(f"{node} on {host!r}" for node, host in placed.items())
        raise Unsupported(
            f"segment {segment.name} would span the hosts {' and '.join(map(repr, where))}: {there}",
            hint="put the segment and its nodes on one host with `host:`",
        )
    if where:
        return where[0] if where[0] in hosts else None
    return next(iter(hosts)) if len(hosts) == 1 else None


def _ref(end: LinkEnd, known: Expansion) -> PortRef:
    return PortRef(node_id=known.ids[end.node], index=end.index)


def _wire(link: LinkSpec, known: Expansion) -> WireIntent:
    a, b = _ref(link.a, known), _ref(link.b, known)
    wire_id = link_id(a, b)
    return WireIntent(
        id=wire_id,
        a=a,
        b=b,
        mtu=link.mtu,
        up=known.link_overrides.get(wire_id, link.up),
        impairment=_impairment(wire_id, link.impairment, known),
    )


def _plug(plug: PlugSpec, known: Expansion) -> PlugIntent:
    port, segment = _ref(plug.end, known), segment_id(known.lab_id, plug.segment)
    own_id = plug_id(port, segment)
    return PlugIntent(
        id=own_id,
        port=port,
        segment=segment,
        vlans=plug.vlans,
        up=known.link_overrides.get(own_id, plug.up),
        impairment=_impairment(own_id, plug.impairment, known),
    )


def _impairment(own_id: str, declared: LinkImpairment, known: Expansion) -> LinkImpairment:
    said = known.impairments.get(own_id)
    return declared if said is None else said.over(declared)


def _segment(topology: Topology, segment: SegmentSpec, known: Expansion, subnets: Mapping[str, str]) -> SegmentIntent:
    own_id = segment_id(known.lab_id, segment.name)
    return SegmentIntent(
        id=own_id,
        name=segment.name,
        kind=segment.kind,
        device=device_name("s", known.installation, own_id),
        mtu=segment.mtu,
        tagging=segment_tagging(topology, segment),
        uplink=_uplink(segment),
        nat=_nat(segment, subnets.get(segment.name, "")),
    )


def _uplink(segment: SegmentSpec) -> Uplink | None:
    if segment.kind != "external":
        return None
    return Uplink(device=segment.interface, vlan=segment.vlan, addresses="move" if segment.move_addresses else "refuse")


def _nat(segment: SegmentSpec, subnet: str) -> NatIntent | None:
    return nat_intent(subnet, dhcp=segment.dhcp) if segment.kind == "nat" else None


def _subnets(topology: Topology, known: Expansion) -> dict[str, str]:
    """Subnets of the lab's ``nat`` segments, by name: declared, else remembered, else chosen."""
    ways_out = [segment for segment in topology.segments if segment.kind == "nat"]
    ids = {segment.name: segment_id(known.lab_id, segment.name) for segment in ways_out}
    found = {segment.name: segment.subnet or known.nat_subnets.get(ids[segment.name], "") for segment in ways_out}
    for name in [name for name, subnet in found.items() if not subnet]:
        found[name] = choose_subnet(ids[name], _taken(found, known))
    return found


def _taken(found: Mapping[str, str], known: Expansion) -> Iterator[str]:
    yield from (subnet for subnet in found.values() if subnet)
    yield from known.nat_subnets.values()
    yield from (management.subnet for management in known.mgmt.values())
