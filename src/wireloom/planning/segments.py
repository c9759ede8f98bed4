"""Which segments to make and drop, and which ports to put into them or take out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network

from wireloom.model.network import PlugPlan, Segment, SegmentAlias, SegmentPlan
from wireloom.model.slice import PlugIntent, SegmentIntent, Slice
from wireloom.model.vlans import Vlans
from wireloom.planning.cabling import Cabling

__all__ = ["dropped_segments", "plan_plugs", "plan_segments", "plug_vlans", "wanted_plugs"]


def plan_segments(cabling: Cabling) -> Iterator[SegmentPlan]:
    """Segments to be made or mended. A bridge of somebody else's is neither."""
    for segment in cabling.segments.values():
        found = cabling.observed.network.segments.get(segment.device)
        plan = _segment_plan(cabling.lab, segment)
        if not cabling.is_foreign(segment) and (found is None or not _is_right(found, plan, cabling.lab)):
            yield plan


def dropped_segments(cabling: Cabling) -> Iterator[str]:
    """Devices of the lab's segments that nobody wants any more."""
    wanted = {segment.device for segment in cabling.segments.values() if not cabling.is_foreign(segment)}
    for name, segment in sorted(cabling.observed.network.segments.items()):
        alias = SegmentAlias.parse(segment.alias)
        mine = alias is not None and (alias.installation, alias.lab_id) == (
            cabling.lab.installation,
            cabling.lab.lab_id,
        )
        if mine and name not in wanted:
            yield name


def wanted_plugs(cabling: Cabling) -> Mapping[str, PlugPlan]:
    """How ports should be in segments, by device, whether the port is there or not."""
    plans: dict[str, PlugPlan] = {}
    for plug in cabling.plugs:
        segment, device = cabling.segments.get(plug.segment), cabling.device(plug.port)
        if segment is None or device is None:
            continue
        if plug.up or not cabling.keeps_carrier(plug.port):
            plans[device] = PlugPlan(
                device=device,
                segment=cabling.bridge(segment),
                vlans=plug_vlans(plug, segment),
                mtu=segment.mtu,
            )
    return plans


def plan_plugs(cabling: Cabling, wanted: Mapping[str, PlugPlan]) -> Iterator[PlugPlan]:
    """Ports to be put into segments, or to be made other ports of them."""
    for device, plan in wanted.items():
        port = cabling.ports.get(device)
        if port is not None and (port.segment, port.vlans, port.mtu) != (plan.segment, plan.vlans, plan.mtu):
            yield plan


def plug_vlans(plug: PlugIntent, segment: SegmentIntent) -> Vlans | None:
    """A port that says nothing is an access port of VLAN 1, where there are VLANs."""
    return None if segment.tagging == "none" else plug.vlans or Vlans.access()


def _segment_plan(lab: Slice, segment: SegmentIntent) -> SegmentPlan:
    nat = segment.nat
    address = None if nat is None else f"{nat.gateway}/{ip_network(nat.subnet).prefixlen}"
    alias = SegmentAlias(
        installation=lab.installation,
        lab_id=lab.lab_id,
        segment_id=segment.id,
        address=address or "",
        name=f"{lab.lab}/{segment.name}",
    )
    return SegmentPlan(
        name=segment.device,
        alias=alias.text(),
        address=address,
        mtu=segment.mtu,
        tagging=segment.tagging,
        uplink=segment.uplink,
    )


def _is_right(found: Segment, plan: SegmentPlan, lab: Slice) -> bool:
    member = None if plan.uplink is None else plan.uplink.member(lab.installation)
    now = (found.up, found.alias, found.mtu, found.tagging, found.uplink)
    return now == (True, plan.alias, plan.mtu, plan.tagging, member)
