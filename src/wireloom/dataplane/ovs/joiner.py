"""Joining by Open vSwitch: flows for wires, learning bridges for segments. Blocking: for the worker thread."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path

from wireloom.dataplane.host import links, traffic
from wireloom.dataplane.host.joiner import Admission, Joins
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.mtu import mend_mtu
from wireloom.dataplane.host.netlink import Netlink, check, raise_together
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import Request, failure
from wireloom.dataplane.ovs.database import Database
from wireloom.dataplane.ovs.datapath import find_datapath
from wireloom.dataplane.ovs.fence import fence, unfence
from wireloom.dataplane.ovs.offloads import leave_checksums_to_guests
from wireloom.dataplane.ovs.segments import Segments
from wireloom.dataplane.ovs.switch import Place, Switch, SwitchPort
from wireloom.dataplane.ovs.vlans import mode_of, vlans_of
from wireloom.dataplane.ovs.wires import Wires
from wireloom.errors import DataPlaneFailed
from wireloom.model.network import DataPlaneAbilities, PlugPlan, SegmentPlan, WirePlan
from wireloom.model.vlans import Vlans

__all__ = ["OvsJoiner"]


class OvsJoiner:
    """See :class:`~wireloom.dataplane.host.joiner.Joiner`.

    Every port of ours is in a bridge of ours from the moment that it is admitted: that of wires, where it reaches
    nobody until there is a flow for it, or that of its segment.
    """

    def __init__(self, netlink: Netlink, installation: str, folder: Path) -> None:
        self._netlink = netlink
        self._datapath = find_datapath()
        self._database = Database(folder)
        self._switch = Switch(self._database, installation, self._datapath)
        self._wires = Wires(self._switch)
        self._segments = Segments(self._switch, netlink)

    def abilities(self) -> DataPlaneAbilities:
        self._switch.refresh()
        return DataPlaneAbilities(
            name="ovs",
            qinq=self._switch.why_no_two_tags(),
            impair_from_guest="Open vSwitch takes frames from a port before the kernel could impair them",
        )

    def observe(self, found: Sequence[Link], ports: Sequence[Link]) -> Joins:
        """How ports are joined; removes what is left of devices that have vanished."""
        self._switch.refresh()
        indexes = {link.name: link.index for link in found}
        known = self._switch.ports()
        self._switch.drop([device for device in known if device not in indexes])
        self._segments.mend(found)
        present = {device: port for device, port in known.items() if indexes.get(device) == port.index}
        shown = {link.name for link in ports}
        peers = self._wires.peers(present)
        return Joins(
            peers={device: peer for device, peer in peers.items() if device in shown},
            plugs={device: plug for device, plug in self._plugs(present).items() if device in shown},
            segments=self._segments.observe(found),
        )

    def _plugs(self, ports: Mapping[str, SwitchPort]) -> dict[str, tuple[str, Vlans | None]]:
        bridges = self._switch.bridges()
        plugs: dict[str, tuple[str, Vlans | None]] = {}
        for device, port in ports.items():
            if port.bridge == self._switch.wires:
                continue
            tagging = bridges[port.bridge].tagging if port.bridge in bridges else "none"
            tag = port.row.tag[0] if port.row.tag else None
            plugs[device] = (port.bridge, vlans_of(tagging, tag, port.row.trunks))
        return plugs

    def admit(self, ports: Sequence[Admission]) -> Mapping[str, DataPlaneFailed]:
        if not ports:
            return {}
        self._switch.refresh()
        known = self._switch.ports()
        bridges = self._switch.bridges()
        problems: dict[str, DataPlaneFailed] = {}
        places: list[Place] = []
        for port in ports:
            present = known.get(port.device)
            fits = present is not None and present.index == port.index
            if port.segment and port.segment not in bridges:
                problems[port.device] = failure(errno.ENODEV, "plug into the segment", port.segment)
            elif port.segment and not (fits and present and present.bridge == port.segment):
                mode = mode_of(bridges[port.segment].tagging, None)
                places.append(Place(port.device, port.index, port.segment, mode))
            elif not port.segment and not fits:
                places.append(Place(port.device, port.index, self._switch.wires))
        return problems | dict(self._place(places))

    def release(self, devices: Sequence[str]) -> None:
        if devices:
            self._switch.refresh()
            self._switch.drop(devices)

    def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        self._switch.refresh()
        found = look_up(self._netlink, dict.fromkeys(name for wire in wires for name in (wire.a, wire.b)))
        present = [wire for wire in wires if wire.a in found and wire.b in found]
        ends = [(found[name], wire.mtu) for wire in present for name in (wire.a, wire.b)]
        outcomes = mend_mtu(self._netlink, ends)
        # A tap passes frames only while its host side is up; the guest's carrier is the hypervisor's.
        down = [link.name for link, _ in ends if link.kind == "tun" and not link.up]
        outcomes += self._netlink.batch([links.set_flags(device, up=True) for device in down])
        problems = self._bring([Place(link.name, link.index, self._switch.wires) for link, _ in ends])
        self._wires.join(present)
        raise_together([outcome.failure() for outcome in outcomes if outcome.failed] + list(problems.values()))

    def remove_wires(self, wires: Sequence[WirePlan]) -> None:
        self._switch.refresh()
        self._wires.remove(wires)

    def ensure_segment(self, segment: SegmentPlan) -> None:
        self._switch.refresh()
        self._segments.ensure(segment)

    def remove_segment(self, name: str) -> None:
        self._switch.refresh()
        if name not in self._switch.bridges():
            return
        self.remove_plugs([device for device, port in self._switch.ports().items() if port.bridge == name])
        self._switch.drop_bridges({name})

    def ensure_plugs(self, plugs: Sequence[PlugPlan]) -> None:
        """Put devices into segments; those that are there already are left alone."""
        self._switch.refresh()
        found = look_up(self._netlink, [plug.device for plug in plugs])
        bridges = self._switch.bridges()
        present = [plug for plug in plugs if plug.device in found and plug.segment in bridges]
        outcomes = mend_mtu(self._netlink, [(found[plug.device], plug.mtu) for plug in present])
        problems = self._bring(
            [
                Place(
                    plug.device,
                    found[plug.device].index,
                    plug.segment,
                    mode_of(bridges[plug.segment].tagging, plug.vlans),
                )
                for plug in present
            ]
        )
        raise_together([outcome.failure() for outcome in outcomes if outcome.failed] + list(problems.values()))

    def remove_plugs(self, devices: Sequence[str]) -> None:
        self._switch.refresh()
        plugged = {device: port for device, port in self._switch.ports().items() if port.bridge != self._switch.wires}
        leaving = [plugged[device] for device in devices if device in plugged]
        self._bring([Place(port.device, port.index, self._switch.wires) for port in leaving])

    def withdraw(self) -> None:
        if not self._database.is_there:
            return
        self._switch.refresh()
        ports = self._switch.ports()
        found = look_up(self._netlink, ports)
        self._switch.drop(ports, wait=True)
        self._switch.drop_bridges(self._switch.bridges().keys())
        requests: list[Request] = []
        for link in found.values():
            requests += [unfence(link.index, link.name), *traffic.apart(link.index, link.name)]
        check(self._netlink.batch(requests))
        if self._datapath == "netdev":
            leave_checksums_to_guests(self._netlink, list(found.values()), alone=False)

    def close(self) -> None:
        self._database.close()

    def _bring(self, places: Sequence[Place]) -> Mapping[str, DataPlaneFailed]:
        """Place only what is not yet in its place, as the port that it should be."""
        known = self._switch.ports()
        return self._place([place for place in places if not _is_there(known.get(place.device), place)])

    def _place(self, places: Sequence[Place]) -> Mapping[str, DataPlaneFailed]:
        if not places:
            return {}
        if any(place.bridge == self._switch.wires for place in places):
            self._switch.ensure_wires_bridge()
        known = self._switch.ports()
        new = [place for place in places if place.device not in known or known[place.device].index != place.index]
        self._take_over(new)
        return self._switch.place(places)

    def _take_over(self, places: Sequence[Place]) -> None:
        """Make devices fit for the datapath before it gets them."""
        found = list(look_up(self._netlink, [place.device for place in places]).values())
        requests: list[Request] = []
        for link in found:
            if link.master:
                requests.append(links.enslave(link.name, 0))
            requests.append(traffic.no_ingress(link.index, link.name))
            if self._datapath == "netdev":
                requests += fence(link.index, link.name)
        check(self._netlink.batch(requests))
        if self._datapath == "netdev":
            leave_checksums_to_guests(self._netlink, found)


def _is_there(port: SwitchPort | None, place: Place) -> bool:
    if port is None or (port.index, port.bridge) != (place.index, place.bridge):
        return False
    row, mode = port.row, place.mode
    shown = (row.vlan_mode, row.tag, frozenset(row.trunks), dict(row.other_config))
    return shown == ([mode.vlan_mode], [] if mode.tag is None else [mode.tag], mode.trunks, mode.other_config)
