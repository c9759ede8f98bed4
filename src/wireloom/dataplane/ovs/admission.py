"""Bringing devices into bridges, made fit for the datapath first. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from wireloom.dataplane.host import links, traffic
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import Request
from wireloom.dataplane.ovs.datapath import Datapath
from wireloom.dataplane.ovs.fence import fence, open_nic, unfence
from wireloom.dataplane.ovs.offloads import leave_checksums_to_guests
from wireloom.dataplane.ovs.switch import Place, Switch, SwitchPort
from wireloom.errors import DataPlaneFailed

__all__ = ["Admissions"]


class Admissions:
    """What comes into and out of the bridges of one installation."""

    def __init__(self, switch: Switch, netlink: Netlink, datapath: Datapath) -> None:
        self._switch = switch
        self._netlink = netlink
        self._in_user_space = datapath == "netdev"

    def bring(self, places: Iterable[Place]) -> Mapping[str, DataPlaneFailed]:
        """Place what is not in its place yet, as the port that it should be; what failed, by device."""
        known = self._switch.ports()
        wanted = [place for place in places if not _is_there(known.get(place.device), place)]
        if not wanted:
            return {}
        if any(place.bridge == self._switch.wires for place in wanted):
            self._switch.ensure_wires_bridge()
        self._make_fit(
            [place for place in wanted if place.device not in known or known[place.device].index != place.index]
        )
        return self._switch.place(wanted)

    def let_go(self, devices: Sequence[str], *, fenced: bool) -> None:
        """Take devices out of Open vSwitch for good, and give them back what they were before.

        :param fenced: keep them from the host in another way from now on.
        """
        known = self._switch.ports()
        leaving = [device for device in devices if device in known]
        found = list(look_up(self._netlink, leaving).values())
        self._switch.drop(leaving, wait=True)
        requests: list[Request] = []
        for link in found:
            if known[link.name].uplink:
                open_nic(self._netlink, link)
            else:
                requests.append(unfence(link.index, link.name))
            if fenced:
                requests += traffic.apart(link.index, link.name)
        check(self._netlink.batch(requests))
        if self._in_user_space:
            leave_checksums_to_guests(self._netlink, found, alone=False)

    def _make_fit(self, places: Sequence[Place]) -> None:
        found = list(look_up(self._netlink, [place.device for place in places]).values())
        requests: list[Request] = []
        for link in self._in_kernel_bridges(found):
            requests.append(links.enslave(link.name, 0))
        for link in found:
            requests.append(traffic.no_ingress(link.index, link.name))
            if self._in_user_space:
                requests += fence(link.index, link.name)
        check(self._netlink.batch(requests))
        if self._in_user_space:
            leave_checksums_to_guests(self._netlink, found)

    def _in_kernel_bridges(self, found: Sequence[Link]) -> list[Link]:
        masters: set[int] = set()
        for index in {link.master for link in found} - {0}:
            with suppress(OSError):  # it has gone, and its ports are free
                name = socket.if_indextoname(index)
                masters |= {link.index for link in look_up(self._netlink, [name]).values() if link.kind == "bridge"}
        return [link for link in found if link.master in masters]


def _is_there(port: SwitchPort | None, place: Place) -> bool:
    if port is None or (port.index, port.bridge) != (place.index, place.bridge):
        return False
    row, mode = port.row, place.mode
    shown = (row.vlan_mode, row.tag, frozenset(row.trunks), dict(row.other_config))
    return shown == ([mode.vlan_mode], [] if mode.tag is None else [mode.tag], mode.trunks, mode.other_config)
