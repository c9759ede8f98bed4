"""Bridges and ports of one installation in Open vSwitch's database. Blocking: for the data plane's worker thread.

What is ours says so in its ``external_ids``, and everything is found again by that:

* a bridge: whose it is, what it is for, and the alias, VLANs and host address of a segment;
* a port: whose it is, and the index of the device that it was made for. A device of the same name that was made anew
  (its container was restarted) has another index, and its port is made anew, too.

Ports of devices that have vanished are removed with the next observation.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from wireloom.dataplane.ovs.database import Database
from wireloom.dataplane.ovs.datapath import Datapath
from wireloom.dataplane.ovs.flows import TUNNEL_OPTIONS, TUNNEL_PORT, forget, free_numbers
from wireloom.dataplane.ovs.ofctl import OpenFlow
from wireloom.dataplane.ovs.vlans import PortMode, mode_of
from wireloom.errors import DataPlaneFailed, Unsupported
from wireloom.model.identity import device_name, mac_address
from wireloom.model.vlans import Tagging

__all__ = ["Bridge", "Place", "Role", "Switch", "SwitchPort"]

Role = Literal["wires", "segment"]

_OWNER: Final = "wireloom-installation"
_ROLE: Final = "wireloom-role"
_ALIAS: Final = "wireloom-alias"
_TAGGING: Final = "wireloom-tagging"
_ADDRESS: Final = "wireloom-address"
_INDEX: Final = "wireloom-index"
_UPLINK: Final = "wireloom-uplink"
#: Frames of link-local groups are forwarded, and addresses remembered for as many guests as a lab may have.
_SEGMENT_CONFIG: Final = {"forward-bpdu": "true", "mac-table-size": "65536"}


@dataclass(frozen=True)
class SwitchPort:
    """A port of ours.

    :ivar index: of its device. :ivar row: the library's. :ivar number: the one that flows know it by.
    :ivar uplink: it is a NIC of the host, not a port of a node.
    """

    device: str
    bridge: str
    index: int
    row: Any
    number: int | None = None
    uplink: bool = False


@dataclass(frozen=True)
class Bridge:
    """A bridge of ours. ``address``: the host's own in a segment."""

    name: str
    role: Role
    row: Any
    alias: str = ""
    tagging: Tagging = "none"
    address: str | None = None
    mtu: int = 0


@dataclass(frozen=True)
class Place:
    """Where a device should be: in a bridge, as which port; ``uplink`` as of :class:`SwitchPort`."""

    device: str
    index: int
    bridge: str
    mode: PortMode = field(default_factory=PortMode)
    uplink: bool = False


class Switch:
    """The part of one host's Open vSwitch that belongs to ``installation``."""

    def __init__(self, database: Database, installation: str, datapath: Datapath) -> None:
        self._database = database
        self._installation = installation
        self._datapath = datapath
        self.wires = device_name("w", installation)
        self._tunnel = device_name("x", installation)
        self.openflow = OpenFlow(database.folder, self.wires)

    # --- reading ------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take in what others have changed; to be called before anything is read."""
        self._database.refresh()

    def bridges(self) -> dict[str, Bridge]:
        """Ours, by name."""
        rows = [(row, row.external_ids) for row in self._database.rows("Bridge")]
        return {row.name: _bridge(row, notes) for row, notes in rows if self._owns(notes)}

    def others(self) -> Mapping[str, str]:
        """Bridges of somebody else's, other installations' left out: name → datapath."""
        rows = [row for row in self._database.rows("Bridge") if _OWNER not in row.external_ids]
        return {row.name: row.datapath_type or "system" for row in rows}

    def members_of_others(self) -> dict[str, tuple[str, ...]]:
        """Devices in bridges of somebody else's that no data plane of this project has put there."""
        others = self.others()
        return {
            bridge.name: tuple(
                interface.name
                for port in bridge.ports
                if _OWNER not in port.external_ids
                for interface in port.interfaces
                if interface.name != bridge.name
            )
            for bridge in self._database.rows("Bridge")
            if bridge.name in others
        }

    def ports(self) -> dict[str, SwitchPort]:
        """Ours, by device; in whatever bridge."""
        found: dict[str, SwitchPort] = {}
        for bridge in self._database.rows("Bridge"):
            for row in bridge.ports:
                notes = row.external_ids
                if self._owns(notes) and _INDEX in notes:
                    number = row.interfaces[0].ofport_request
                    found[row.name] = SwitchPort(
                        row.name,
                        bridge.name,
                        int(notes[_INDEX]),
                        row,
                        number[0] if number else None,
                        uplink=_UPLINK in notes,
                    )
        return found

    def _owns(self, notes: Mapping[str, str]) -> bool:
        return notes.get(_OWNER) == self._installation

    def _row(self, bridge: str) -> Any:
        return next(row for row in self._database.rows("Bridge") if row.name == bridge)

    def change_flows(self, commands: Sequence[str]) -> None:
        """Change flows of the bridge of wires, in one step; see :meth:`OpenFlow.apply`."""
        self.openflow.apply(commands, gently=bool(self.others()))

    # --- bridges ------------------------------------------------------------------------------

    def ensure_wires_bridge(self) -> None:
        """The bridge of all wires; fails closed."""
        if self.wires not in self.bridges():
            self._make_bridge(self.wires, {_ROLE: "wires"}, "secure", PortMode())

    def ensure_segment_bridge(self, wanted: Bridge) -> None:
        """A bridge with the name, alias, VLANs, address and MTU of ``wanted``, whose row is not looked at.

        :raises DataPlaneFailed: ``EEXIST``: the name is somebody else's.
        """
        notes = {_ROLE: "segment", _ALIAS: wanted.alias, _TAGGING: wanted.tagging}
        if wanted.address:
            notes[_ADDRESS] = wanted.address
        if wanted.tagging == "802.1ad" and (reason := self.why_no_provider_tags()):
            raise Unsupported(
                f"a switch with tags of providers cannot be made: {reason}",
                hint="`ovs-vsctl remove Open_vSwitch . other_config vlan-limit`, unless other bridges need it",
                details={"device": wanted.name},
            )
        known = self.bridges().get(wanted.name)
        if known is None:
            # With no controller and this mode a bridge is a learning one, also after a restart of ovs-vswitchd.
            self._make_bridge(wanted.name, notes, "standalone", mode_of(wanted.tagging, None), wanted.mtu)
            return
        with self._database.change(f"mend the segment {wanted.name}"):
            known.row.external_ids = {_OWNER: self._installation, **notes}
            _local(known.row).interfaces[0].mtu_request = wanted.mtu
            _set_mode(_local(known.row), mode_of(wanted.tagging, None))

    def set_address(self, bridge: str, mac: str | None = None) -> None:
        """Give the host's device in a segment a hardware address; ``None``: its own again."""
        row = self._row(bridge)
        config = {**_SEGMENT_CONFIG, "hwaddr": mac or mac_address("segment", self._installation, bridge)}
        if row.other_config != config:
            with self._database.change(f"set the hardware address of {bridge}"):
                row.other_config = config

    def drop_bridges(self, names: Collection[str]) -> None:
        """Remove bridges of ours with all ports in them, and what nothing else of ours needs."""
        gone = [bridge for name, bridge in self.bridges().items() if name in names]
        if not gone:
            return
        with self._database.change("remove bridges", wait=self._database.daemon_runs):
            for bridge in gone:
                self._database.root.delvalue("bridges", bridge.row)
        self._tidy()

    def _make_bridge(
        self, name: str, notes: Mapping[str, str], fail_mode: str, mode: PortMode, mtu: int | None = None
    ) -> None:
        if any(row.name == name for row in self._database.rows("Bridge")):
            raise DataPlaneFailed(
                f"cannot make the bridge {name}: EEXIST: the name belongs to a bridge that is not ours",
                details={"errno": "EEXIST", "device": name, "operation": "make a bridge"},
            )
        with self._database.change(f"make the bridge {name}") as transaction:
            request: int | list[int] = [] if mtu is None else mtu
            local = self._insert(transaction, "Interface", name=name, type="internal", mtu_request=request)
            port = self._insert(transaction, "Port", name=name, interfaces=[local])
            _set_mode(port, mode)
            bridge = self._insert(transaction, "Bridge", name=name, ports=[port], fail_mode=fail_mode)
            bridge.datapath_type = self._datapath
            # A fixed address: a bridge else takes the lowest of its ports' and changes as they come and go.
            bridge.other_config = {**_SEGMENT_CONFIG, "hwaddr": mac_address("segment", self._installation, name)}
            bridge.external_ids = {_OWNER: self._installation, **notes}
            self._database.root.addvalue("bridges", bridge)
        error = _local(self._row(name)).interfaces[0].error
        if error:
            raise _refused(name, error[0])

    def _insert(self, transaction: Any, table: str, **columns: Any) -> Any:
        row = transaction.insert(self._database.table(table))
        for name, value in columns.items():
            setattr(row, name, value)
        return row

    # --- ports --------------------------------------------------------------------------------

    def place(self, places: Sequence[Place]) -> Mapping[str, DataPlaneFailed]:
        """Put each device where it should be, all in one step; what ovs-vswitchd could not open, by device.

        A device that vanished meanwhile is no failure.
        """
        known = self.ports()
        stale = [place.device for place in places if place.device in known and known[place.device].index != place.index]
        if self._drop_ports(stale, wait=True):
            known = self.ports()
        numbers = self._numbers(places, known)
        with self._database.change("place ports") as transaction:
            quiet = self._quiet(transaction) if places else None
            rows = {row.name: row for row in self._database.rows("Bridge")}
            for place in places:
                port = known.get(place.device)
                number: int | list[int] = numbers.get(place.device, [])
                row = port.row if port else self._new_port(transaction, place, number, quiet)
                if port and port.bridge != place.bridge:
                    rows[port.bridge].delvalue("ports", row)
                    row.interfaces[0].ofport_request = number
                if port is None or port.bridge != place.bridge:
                    rows[place.bridge].addvalue("ports", row)
                _set_mode(row, place.mode)
        placed = self.ports()
        present = [(place, placed[place.device]) for place in places if place.device in placed]
        return {
            place.device: _refused(place.device, error[0])
            for place, port in present
            if (error := port.row.interfaces[0].error) and _exists(place)
        }

    def drop(self, devices: Iterable[str], *, wait: bool = False) -> None:
        """Remove ports of ours; the devices stay. The bridge of wires goes with its last port.

        It may be empty before: its last port moved to a bridge that somebody removed with all ports in it.

        :param wait: until ovs-vswitchd has let them go, if it runs.
        """
        dropped = self._drop_ports(devices, wait=wait)
        left = self.ports().values()
        if (dropped or not left) and not any(port.bridge == self.wires for port in left):
            self.drop_bridges({self.wires})
        self._tidy()

    def _drop_ports(self, devices: Iterable[str], *, wait: bool) -> bool:
        """Whether there was any."""
        known = self.ports()
        gone = [known[device] for device in devices if device in known]
        if not gone:
            return False
        rows = {row.name: row for row in self._database.rows("Bridge")}
        with self._database.change("remove ports", wait=wait and self._database.daemon_runs):
            for port in gone:
                rows[port.bridge].delvalue("ports", port.row)
        return True

    def _numbers(self, places: Sequence[Place], known: Mapping[str, SwitchPort]) -> Mapping[str, int]:
        """Numbers for the ports that come into the bridge of wires; no flow is left at any of them."""
        here = {port.device: port for port in known.values() if port.bridge == self.wires}
        coming = [place.device for place in places if place.bridge == self.wires and place.device not in here]
        numbers = free_numbers((port.number for port in here.values() if port.number is not None), coming)
        if len(numbers) < len(coming):
            raise Unsupported("Open vSwitch has no more port numbers: too many wires on this host")
        if numbers:
            self.change_flows([command for number in numbers.values() for command in forget(number)])
        return numbers

    def _new_port(self, transaction: Any, place: Place, number: Any, quiet: Any) -> Any:
        interface = self._insert(transaction, "Interface", name=place.device, ofport_request=number)
        notes = {_OWNER: self._installation, _INDEX: str(place.index)}
        if place.uplink:
            notes[_UPLINK] = "yes"
        return self._insert(
            transaction, "Port", name=place.device, interfaces=[interface], qos=quiet, external_ids=notes
        )

    def _quiet_rows(self) -> list[Any]:
        return [row for row in self._database.rows("QoS") if self._owns(row.external_ids)]

    def _tidy(self) -> None:
        """Remove what ports of ours need, be they in bridges of ours or of others, where there are none any more."""
        rows = self._quiet_rows()
        if rows and not self.bridges() and not self.ports():
            with self._database.change("remove what no port needs", wait=False):
                for row in rows:
                    row.delete()

    def _quiet(self, transaction: Any) -> Any:
        """What keeps ovs-vswitchd from taking the queues off devices that make their impairment."""
        for row in self._quiet_rows():
            return row
        notes = {_OWNER: self._installation}
        return self._insert(transaction, "QoS", type="linux-noop", external_ids=notes)

    # --- the port to other hosts --------------------------------------------------------------

    @property
    def has_tunnel_port(self) -> bool:
        """Whether the bridge of wires has its port to other hosts."""
        return self._tunnel_port() is not None

    def _tunnel_port(self) -> Any:
        rows = (row for row in self._database.rows("Port") if row.name == self._tunnel and self._owns(row.external_ids))
        return next(rows, None)

    def ensure_tunnel_port(self) -> None:
        """The one port by which flows of the bridge of wires lead to other hosts.

        :raises DataPlaneFailed: ovs-vswitchd cannot open it: another bridge has one like it.
        """
        if not self.has_tunnel_port:
            with self._database.change("make the port to other hosts") as transaction:
                interface = self._insert(
                    transaction,
                    "Interface",
                    name=self._tunnel,
                    type="vxlan",
                    options=dict(TUNNEL_OPTIONS),
                    ofport_request=TUNNEL_PORT,
                )
                notes = {_OWNER: self._installation}
                port = self._insert(transaction, "Port", name=self._tunnel, interfaces=[interface], external_ids=notes)
                self._row(self.wires).addvalue("ports", port)
        error = self._tunnel_port().interfaces[0].error
        if error:
            self.drop_tunnel_port()
            raise _refused(self._tunnel, error[0])

    def drop_tunnel_port(self) -> None:
        """Remove the port to other hosts, if there is one."""
        row = self._tunnel_port()
        if row is None:
            return
        with self._database.change("remove the port to other hosts", wait=self._database.daemon_runs):
            self._row(self.wires).delvalue("ports", row)

    # --- tags of providers --------------------------------------------------------------------

    def why_no_provider_tags(self) -> str:
        """Empty, or why tags of customers would not survive here.

        Of the tags that Open vSwitch looks at, it keeps two. One of its own and any number that it takes for payload
        are fine; where it is told to look at the second one, too, it forgets the customer's own second.
        """
        if str(self._database.root.other_config.get("vlan-limit", "1")) == "1":
            return ""
        return "Open vSwitch is told to look behind the first VLAN tag of frames (other_config:vlan-limit)"


def _bridge(row: Any, notes: Mapping[str, str]) -> Bridge:
    role: Role = "wires" if notes.get(_ROLE) == "wires" else "segment"
    tagging: Tagging = "none"
    for known in ("802.1q", "802.1ad"):
        if notes.get(_TAGGING) == known:
            tagging = known
    mtu = _local(row).interfaces[0].mtu_request
    return Bridge(row.name, role, row, notes.get(_ALIAS, ""), tagging, notes.get(_ADDRESS), int(mtu[0]) if mtu else 0)


def _local(bridge: Any) -> Any:
    """The port that a bridge has in the host itself."""
    return next(port for port in bridge.ports if port.name == bridge.name)


def _set_mode(row: Any, mode: PortMode) -> None:
    row.vlan_mode = mode.vlan_mode
    row.tag = [] if mode.tag is None else mode.tag
    row.trunks = sorted(mode.trunks)
    row.other_config = mode.other_config


def _exists(place: Place) -> bool:
    try:
        return socket.if_nametoindex(place.device) == place.index
    except OSError:
        return False


def _refused(device: str, words: str) -> DataPlaneFailed:
    return DataPlaneFailed(
        f"Open vSwitch cannot use {device}: {words}",
        details={"errno": "", "device": device, "operation": "open a port"},
    )
