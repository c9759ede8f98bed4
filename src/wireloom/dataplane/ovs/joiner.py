"""Joining by Open vSwitch: flows for wires, learning bridges for segments. Blocking: for the worker thread."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path

from wireloom.dataplane.host import links
from wireloom.dataplane.host.fence_trial import why_no_fence
from wireloom.dataplane.host.joiner import Admission, Joins
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.mtu import mend_mtu
from wireloom.dataplane.host.netlink import Netlink, raise_together
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import Outcome, failure
from wireloom.dataplane.host.vlan_devices import refuse_without_vlan_devices, why_no_vlan_devices
from wireloom.dataplane.ovs.admission import Admissions
from wireloom.dataplane.ovs.daemon import require_daemon
from wireloom.dataplane.ovs.database import Database
from wireloom.dataplane.ovs.datapath import find_datapath
from wireloom.dataplane.ovs.segments import Segments
from wireloom.dataplane.ovs.switch import Place, Switch, SwitchPort
from wireloom.dataplane.ovs.tunnels import DeviceTunnels, FlowTunnels, Tunnels
from wireloom.dataplane.ovs.vlans import PortMode, mode_of, vlans_of
from wireloom.dataplane.ovs.wires import Wires
from wireloom.errors import Conflict, DataPlaneFailed, NotFound, Unsupported
from wireloom.model.network import DataPlaneAbilities, PlugPlan, SegmentPlan, TunnelPlan, WirePlan
from wireloom.model.vlans import Vlans

__all__ = ["OvsJoiner"]


class OvsJoiner:
    """See :class:`~wireloom.dataplane.host.joiner.Joiner`.

    Every port of ours is in a bridge from the moment that it is admitted: that of wires, where it reaches nobody until
    there is a flow for it, or that of its segment.

    :param tunnels_by_flows: as of :class:`~wireloom.dataplane.ovs.OvsDataPlane`.
    """

    def __init__(
        self, netlink: Netlink, installation: str, folder: Path, *, tunnels_by_flows: bool | None = None
    ) -> None:
        self._netlink = netlink
        self._datapath = find_datapath()
        self._database = Database(folder)
        self._switch = Switch(self._database, installation, self._datapath)
        self._admissions = Admissions(self._switch, netlink, self._datapath)
        self._wires = Wires(self._switch)
        by_flows = self._datapath == "system" if tunnels_by_flows is None else tunnels_by_flows
        self._tunnels = self._choose_tunnels(installation, by_flows=by_flows)
        self._segments = Segments(self._switch, self._admissions, netlink, installation)

    def _choose_tunnels(self, installation: str, *, by_flows: bool) -> Tunnels:
        if by_flows:
            return FlowTunnels(self._switch, self._wires)
        return DeviceTunnels(self._switch, self._admissions, self._wires, self._netlink, installation)

    def abilities(self) -> DataPlaneAbilities:
        self._switch.refresh()
        return DataPlaneAbilities(
            name="ovs",
            qinq=self._switch.why_no_provider_tags(),
            vlan_devices=why_no_vlan_devices(),
            impair_from_guest="Open vSwitch takes frames from a port before the kernel could impair them",
            # In the kernel's datapath frames do not pass by the host's stack in the first place.
            fence=why_no_fence() if self._datapath == "netdev" else "",
            whole_frames=self._datapath == "netdev",
        )

    def observe(self, found: Sequence[Link], ports: Sequence[Link]) -> Joins:
        """How ports are joined; removes what is left of devices that have vanished, and mends segments.

        :raises Unavailable: a daemon does not run; what the database says is not what frames do then.
        """
        self._switch.refresh()
        require_daemon(self._database.folder)
        indexes = {link.name: link.index for link in found}
        self._switch.drop([device for device in self._switch.ports() if device not in indexes])
        self._segments.let_go_of_strays()
        self._segments.mend(found)
        known = self._switch.ports()
        mine = {link.name: known[link.name] for link in ports if link.name in known}
        present = {device: port for device, port in mine.items() if indexes[device] == port.index}
        flows = self._wires.flows(present)
        return Joins(
            peers=self._wires.peers(present, flows),
            tunnels=self._tunnels.observe(found, present, flows),
            plugs=self._plugs(present),
            segments=self._segments.observe(found),
            bridges=frozenset(name for name, datapath in self._switch.others().items() if datapath == self._datapath),
            members=self._switch.members_of_others(),
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
            here = present.bridge if present and present.index == port.index else None
            if port.segment and port.segment not in bridges:
                problems[port.device] = failure(errno.ENODEV, "plug into the segment", port.segment)
            elif port.segment and here != port.segment:
                mode = mode_of(bridges[port.segment].tagging, None)
                places.append(Place(port.device, port.index, port.segment, mode))
            elif not port.segment and here is None:
                places.append(Place(port.device, port.index, self._switch.wires))
        return problems | dict(self._admissions.bring(places))

    def release(self, devices: Sequence[str]) -> None:
        if devices:
            self._switch.refresh()
            self._tunnels.leave(devices)
            self._switch.drop(devices)

    def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        self._switch.refresh()
        found = look_up(self._netlink, dict.fromkeys(name for wire in wires for name in (wire.a, wire.b)))
        present = [wire for wire in wires if wire.a in found and wire.b in found]
        ends = [(found[name], wire.mtu) for wire in present for name in (wire.a, wire.b)]
        outcomes, problems = self._bring_to_be_joined(ends)
        self._wires.join(present)
        self._tunnels.leave(link.name for link, _ in ends)
        _raise(outcomes, problems)

    def _bring_to_be_joined(
        self, ends: Sequence[tuple[Link, int]]
    ) -> tuple[list[Outcome], Mapping[str, DataPlaneFailed]]:
        """Have ports with their MTU in the bridge of wires; what came of it."""
        outcomes = mend_mtu(self._netlink, ends)
        # A tap passes frames only while its host side is up; the guest's carrier is the hypervisor's.
        down = [link.name for link, _ in ends if link.kind == "tun" and not link.up]
        outcomes += self._netlink.batch([links.set_flags(device, up=True) for device in down])
        return outcomes, self._admissions.bring([Place(link.name, link.index, self._switch.wires) for link, _ in ends])

    def remove_wires(self, wires: Sequence[WirePlan]) -> None:
        self._switch.refresh()
        self._wires.remove(wires)

    def ensure_tunnels(self, tunnels: Sequence[TunnelPlan]) -> None:
        self._switch.refresh()
        found = look_up(self._netlink, [plan.device for plan in tunnels])
        present = [plan for plan in tunnels if plan.device in found]
        outcomes, problems = self._bring_to_be_joined([(found[plan.device], plan.mtu) for plan in present])
        failed = self._tunnels.ensure([plan for plan in present if plan.device not in problems], found)
        raise_together([outcome.failure() for outcome in outcomes if outcome.failed] + [*problems.values(), *failed])

    def remove_tunnels(self, devices: Sequence[str]) -> None:
        self._switch.refresh()
        self._tunnels.remove(devices)

    def ensure_segment(self, segment: SegmentPlan) -> None:
        self._switch.refresh()
        if segment.foreign:
            self._refuse_unfit(segment.name)
            return
        if segment.uplink is not None and segment.uplink.vlan is not None:
            refuse_without_vlan_devices(segment, why_no_vlan_devices())
        # Whoever was here in an earlier boot may have had the NIC in another segment.
        self._segments.let_go_of_strays()
        self._segments.ensure(segment)

    def _refuse_unfit(self, name: str) -> None:
        """:raises NotFound: there is no such bridge. :raises Conflict: ports of ours cannot be put into it."""
        datapath = self._switch.others().get(name)
        if datapath is None:
            raise NotFound(
                f"Open vSwitch has no bridge {name} on this host",
                hint="`ovs-vsctl list-br` lists them; other bridges are for hosts with the data plane kernel",
                details={"device": name},
            )
        if datapath != self._datapath:
            raise Conflict(
                f"the bridge {name} uses the datapath {datapath}, ports of labs are in {self._datapath}",
                details={"device": name},
            )

    def remove_segment(self, name: str) -> None:
        self._switch.refresh()
        self._segments.remove(name)

    def mend(self) -> None:
        """Nothing here is changed without a word: frames of its bridges do not go through the host's firewall."""

    def ensure_plugs(self, plugs: Sequence[PlugPlan]) -> None:
        """Put devices into segments; those that are there already are left alone.

        :raises Unsupported: a bridge of somebody else's is to have a port with VLANs.
        """
        self._switch.refresh()
        found = look_up(self._netlink, [plug.device for plug in plugs])
        others = self._switch.others()
        bridges = self._switch.bridges()
        refused = [plug for plug in plugs if plug.segment in others and plug.vlans is not None]
        usable = bridges.keys() | others.keys()
        present = [plug for plug in plugs if plug.device in found and plug.segment in usable and plug not in refused]
        outcomes = mend_mtu(self._netlink, [(found[plug.device], plug.mtu) for plug in present])
        places: list[Place] = []
        for plug in present:
            bridge = bridges.get(plug.segment)
            mode = mode_of(bridge.tagging, plug.vlans) if bridge else PortMode()
            places.append(Place(plug.device, found[plug.device].index, plug.segment, mode))
        problems = self._admissions.bring(places)
        self._tunnels.leave(plug.device for plug in present)
        _raise(outcomes, problems)
        if refused:
            raise Unsupported(
                f"{refused[0].segment} is not Wireloom's: its VLANs are not for links to choose",
                hint="leave vlan and trunk out, or use a segment of kind switch",
                details={"device": refused[0].device},
            )

    def remove_plugs(self, devices: Sequence[str]) -> None:
        self._switch.refresh()
        plugged = {device: port for device, port in self._switch.ports().items() if port.bridge != self._switch.wires}
        leaving = [plugged[device] for device in devices if device in plugged]
        places = [Place(port.device, port.index, self._switch.wires) for port in leaving if not port.uplink]
        _raise((), self._admissions.bring(places))

    def plugged(self) -> Sequence[str]:
        if not self._database.is_there:
            return ()
        self._switch.refresh()
        ports = self._switch.ports().values()
        return [port.device for port in ports if port.bridge != self._switch.wires and not port.uplink]

    def withdraw(self) -> None:
        if not self._database.is_there:
            return
        self._switch.refresh()
        self._tunnels.withdraw()
        ports = [device for device, port in self._switch.ports().items() if not port.uplink]
        self._admissions.let_go(ports, fenced=True)
        for name in self._segments.names():
            self._segments.remove(name)
        self._switch.drop_bridges(self._switch.bridges().keys())

    def close(self) -> None:
        self._database.close()


def _raise(outcomes: Sequence[Outcome], problems: Mapping[str, DataPlaneFailed]) -> None:
    raise_together([outcome.failure() for outcome in outcomes if outcome.failed] + list(problems.values()))
