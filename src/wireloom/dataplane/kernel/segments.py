"""Shared media: Linux bridges. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence

from wireloom.dataplane.host import addresses, links
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import disable_ipv6, look_up
from wireloom.dataplane.host.protocol import Request, failure
from wireloom.model.identity import mac_address
from wireloom.model.network import Segment, SegmentAlias, SegmentPlan

__all__ = ["Segments"]


class Segments:
    """The bridges of one installation."""

    def __init__(self, netlink: Netlink, installation: str) -> None:
        self._netlink = netlink
        self._installation = installation

    def ensure(self, plan: SegmentPlan) -> None:
        """Make or mend a bridge. :raises DataPlaneFailed: ``EEXIST`` when the name is not ours."""
        link = look_up(self._netlink, [plan.name]).get(plan.name)
        if link is not None and not self._is_mine(link):
            raise failure(errno.EEXIST, "make the segment", plan.name, "the name belongs to a device that is not ours")
        created = link is None
        if created:
            # A fixed address: a bridge else takes the lowest of its ports' and changes as they come and go.
            mac = mac_address("segment", self._installation, plan.name)
            self._netlink.ask(links.new_bridge(plan.name, mac))
        try:
            self._settle(plan)
        except Exception:
            if created:
                self._netlink.batch([links.delete_link(plan.name)])
            raise

    def remove(self, name: str) -> bool:
        """Remove a bridge of ours; its ports stay, unplugged. ``False``: the name is somebody else's."""
        link = look_up(self._netlink, [name]).get(name)
        if link is None:
            return True
        if not self._is_mine(link):
            return False
        check(self._netlink.batch([links.delete_link(name)]))
        return True

    def observe(self, found: Sequence[Link]) -> dict[str, Segment]:
        """Those of ``found`` that are bridges of this installation."""
        return {
            link.name: Segment(name=link.name, alias=link.alias, up=link.up, mtu=link.mtu)
            for link in found
            if link.alias and self._is_mine(link)
        }

    def _is_mine(self, link: Link) -> bool:
        """By its alias; a bridge without one is a left-over of a crash between making and labelling it."""
        if link.kind != "bridge":
            return False
        if not link.alias:
            return link.name.startswith("wl")
        alias = SegmentAlias.parse(link.alias)
        return alias is not None and alias.installation == self._installation

    def _settle(self, plan: SegmentPlan) -> None:
        wanted = ipaddress.ip_interface(plan.address) if plan.address else None
        if wanted is None or wanted.version == 4:
            disable_ipv6(plan.name)
        index = socket.if_nametoindex(plan.name)
        requests: list[Request] = []
        if wanted is None:
            requests.append(links.quieten(plan.name, ipv6=True))
        requests.append(links.set_link(plan.name, alias=plan.alias, mtu=plan.mtu, up=True))
        requests += self._address_changes(plan.name, index, wanted)
        check(self._netlink.batch(requests))

    def _address_changes(self, name: str, index: int, wanted: addresses.Interface | None) -> list[Request]:
        present = addresses.parse_addresses(self._netlink.dump(addresses.DUMP_ADDRESSES), index)
        stale = [addresses.delete_address(index, address, name) for address in sorted(present - {wanted}, key=str)]
        new = [addresses.add_address(index, wanted, name)] if wanted and wanted not in present else []
        return stale + new
