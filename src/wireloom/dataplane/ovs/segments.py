"""Segments: bridges that learn addresses, with the host's own device in each. Blocking: for the worker thread."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Sequence

from wireloom.dataplane.host import addresses, links
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import disable_ipv6, look_up
from wireloom.dataplane.host.protocol import Request, failure
from wireloom.dataplane.ovs.switch import Bridge, Switch
from wireloom.model.network import Segment, SegmentPlan

__all__ = ["Segments"]


class Segments:
    """The segments of one installation."""

    def __init__(self, switch: Switch, netlink: Netlink) -> None:
        self._switch = switch
        self._netlink = netlink

    def ensure(self, plan: SegmentPlan) -> None:
        """Make or mend a segment. :raises DataPlaneFailed: ``EEXIST`` when the name is not ours."""
        known = self._switch.bridges()
        if plan.name not in known and look_up(self._netlink, [plan.name]):
            raise failure(errno.EEXIST, "make the segment", plan.name, "the name belongs to a device that is not ours")
        wanted = Bridge(plan.name, "segment", None, plan.alias, plan.tagging, plan.address, plan.mtu)
        self._switch.ensure_segment_bridge(wanted)
        try:
            self._settle(wanted)
        except Exception:
            if plan.name not in known:
                self._switch.drop_bridges({plan.name})
            raise

    def mend(self, found: Sequence[Link]) -> None:
        """A new ovs-vswitchd makes the host's device in a segment anew, without what we have set on it."""
        shown = {link.name: link for link in found}
        for bridge in self._bridges():
            link = shown.get(bridge.name)
            if link is not None and (not link.up or link.alias != bridge.alias):
                self._settle(bridge)

    def observe(self, found: Sequence[Link]) -> dict[str, Segment]:
        """By name; one whose device ovs-vswitchd does not show is down."""
        shown = {link.name: link for link in found}
        segments: dict[str, Segment] = {}
        for bridge in self._bridges():
            link = shown.get(bridge.name)
            segments[bridge.name] = Segment(
                name=bridge.name,
                alias=bridge.alias,
                up=link is not None and link.up,
                mtu=link.mtu if link else bridge.mtu,
                tagging=bridge.tagging,
            )
        return segments

    def _bridges(self) -> list[Bridge]:
        return [bridge for bridge in self._switch.bridges().values() if bridge.role == "segment"]

    def _settle(self, bridge: Bridge) -> None:
        """What ovs-vswitchd leaves to others: the label, the address and the state of the host's device."""
        wanted = ipaddress.ip_interface(bridge.address) if bridge.address else None
        if wanted is None or wanted.version == 4:
            disable_ipv6(bridge.name)
        link = look_up(self._netlink, [bridge.name]).get(bridge.name)
        if link is None:
            raise failure(errno.ENODEV, "set up the segment", bridge.name)
        requests: list[Request] = []
        if wanted is None:
            requests.append(links.quieten(bridge.name, ipv6=True))
        requests.append(links.set_link(bridge.name, alias=bridge.alias, up=True))
        present = addresses.parse_addresses(self._netlink.dump(addresses.DUMP_ADDRESSES), link.index)
        stale = sorted(present - {wanted}, key=str)
        requests += [addresses.delete_address(link.index, address, bridge.name) for address in stale]
        if wanted and wanted not in present:
            requests.append(addresses.add_address(link.index, wanted, bridge.name))
        check(self._netlink.batch(requests))
