"""Shared media: Linux bridges. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from wireloom.dataplane.host import bridges, links, traffic
from wireloom.dataplane.host.leftovers import Leftovers, is_unlabelled
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.presence import settle_presence
from wireloom.dataplane.host.protocol import Request, failure
from wireloom.dataplane.host.segment_uplinks import SegmentUplinks
from wireloom.dataplane.host.uplinks import Uplinks
from wireloom.model.identity import mac_address
from wireloom.model.network import PortAlias, Segment, SegmentAlias, SegmentPlan

__all__ = ["Segments", "read_vlans"]


def read_vlans(netlink: Netlink) -> Mapping[int, tuple[bridges.Membership, ...]]:
    """The VLANs that each port of each bridge is in, by its index."""
    return bridges.parse_vlans(netlink.dump(bridges.DUMP_VLANS))


class Segments:
    """The bridges of one installation."""

    def __init__(self, netlink: Netlink, installation: str, uplinks: Uplinks) -> None:
        self._netlink = netlink
        self._installation = installation
        self._uplinks = uplinks
        self._ways_out = SegmentUplinks(uplinks, _UplinkPorts(netlink, installation), installation)
        self._leftovers = Leftovers("bridge")

    def ensure(self, plan: SegmentPlan) -> None:
        """Make or mend a bridge with its uplink.

        :raises DataPlaneFailed: ``EEXIST`` when the name is not ours. :raises Conflict: see ``Uplinks.take``.
        """
        link = look_up(self._netlink, [plan.name]).get(plan.name)
        if link is not None and not self.is_mine(link):
            raise failure(errno.EEXIST, "make the segment", plan.name, "the name belongs to a device that is not ours")
        created = link is None
        if created:
            # A fixed address: a bridge else takes the lowest of its ports' and changes as they come and go.
            self._netlink.ask(links.new_bridge(plan.name, _own_address(self._installation, plan.name)))
        with ExitStack() as undo:
            if created:
                undo.callback(self.remove, plan.name)
            self._settle(plan, link.tagging if link else "none")
            self._ways_out.settle(plan)
            undo.pop_all()

    def remove(self, name: str) -> bool:
        """Remove a bridge of ours; its ports stay, unplugged. ``False``: the name is somebody else's."""
        link = look_up(self._netlink, [name]).get(name)
        if link is not None and not self.is_mine(link):
            return False
        self._ways_out.release(name)
        if link is not None:
            self._fence_ports(link)
            check(self._netlink.batch([links.delete_link(name)]))
        return True

    def observe(self, found: Sequence[Link]) -> dict[str, Segment]:
        """Those of ``found`` that are bridges of this installation; see ``SegmentUplinks.shown``."""
        check(self._netlink.batch([links.delete_link(name) for name in self._leftovers.due(found)]))
        names = {link.index: link.name for link in found}
        joined = {(names[link.master], link.name) for link in found if link.master in names}
        bridges_of_ours = [
            Segment(name=link.name, alias=link.alias, up=link.up, mtu=link.mtu, tagging=link.tagging)
            for link in found
            if link.alias and self.is_mine(link)
        ]
        return self._ways_out.shown(bridges_of_ours, joined)

    def host_speaks(self, plan: SegmentPlan) -> bool:
        """Whether the host has an address of its own in it."""
        return plan.address is not None or bool(self._uplinks.moved(plan.name))

    def is_mine(self, link: Link) -> bool:
        """By its alias; one without, named as ours are, is a left-over of a crash between making and labelling it."""
        if link.kind != "bridge":
            return False
        if not link.alias:
            return is_unlabelled(link, "bridge")
        alias = SegmentAlias.parse(link.alias)
        return alias is not None and alias.installation == self._installation

    def is_foreign(self, link: Link) -> bool:
        """It is a bridge that ports can be plugged into and that nobody's Wireloom made."""
        return link.kind == "bridge" and not self.is_mine(link) and SegmentAlias.parse(link.alias) is None

    def _settle(self, plan: SegmentPlan, tagging: str) -> None:
        index = socket.if_nametoindex(plan.name)
        moved = self._uplinks.moved(plan.name)
        requests = settle_presence(self._netlink, plan.name, index, plan.address, moved)
        if tagging != plan.tagging:
            requests.append(bridges.set_tagging(plan.name, plan.tagging))
        requests.append(links.set_link(plan.name, alias=plan.alias, mtu=plan.mtu, up=True))
        if plan.tagging != "none" and (self.host_speaks(plan) or plan.uplink is not None):
            requests.append(bridges.admit_host(index, plan.name))
        check(self._netlink.batch(requests))

    def _fence_ports(self, bridge: Link) -> None:
        """Keep the guests in it from the host before the bridge that lay between them goes."""
        requests: list[Request] = []
        for link in links.parse_links(self._netlink.dump(links.DUMP_LINKS)):
            if link.master == bridge.index and PortAlias.parse(link.alias):
                requests += traffic.apart(link.index, link.name)
        check(self._netlink.batch(requests))


class _UplinkPorts:
    """See :class:`~wireloom.dataplane.host.segment_uplinks.UplinkPorts`."""

    def __init__(self, netlink: Netlink, installation: str) -> None:
        self._netlink = netlink
        self._installation = installation

    def put_in(self, plan: SegmentPlan, member: Link) -> None:
        bridge = socket.if_nametoindex(plan.name)
        requests: list[Request] = []
        if member.master != bridge:
            requests.append(links.enslave(member.name, bridge))
        requests.append(links.forward_groups(member.index, member.name))
        if plan.tagging != "none":
            present = read_vlans(self._netlink).get(member.index, ())
            requests += bridges.set_vlans(member.index, member.name, present, bridges.ALL_VLANS)
        check(self._netlink.batch(requests))

    def take_out(self, segment: str, member: str | None) -> bool:
        if member is None:
            return False
        devices = look_up(self._netlink, [member, segment])
        link, bridge = devices.get(member), devices.get(segment)
        if link is not None and bridge is not None and link.master == bridge.index:
            check(self._netlink.batch([links.enslave(member, 0)]))
        return True

    def have_own_address(self, segment: str) -> None:
        bridge = look_up(self._netlink, [segment]).get(segment)
        own = links.mac_bytes(_own_address(self._installation, segment))
        if bridge is not None and bridge.address != own:
            check(self._netlink.batch([links.set_address(segment, own)]))


def _own_address(installation: str, segment: str) -> str:
    return mac_address("segment", installation, segment)
