"""Values about networking on one host: ports, wires and segments as they should be, and as the kernel shows them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Literal

from wireloom.model.attachment import Attachment
from wireloom.model.base import Value
from wireloom.model.identity import device_name
from wireloom.model.impairment import Impairment
from wireloom.model.vlans import Tagging, Vlans

__all__ = [
    "DataPlaneAbilities",
    "DataPlaneState",
    "HostPort",
    "ImpairmentPlan",
    "LargestPayload",
    "PathTest",
    "PlugPlan",
    "PortAlias",
    "PortCounters",
    "PortEvent",
    "PortPlan",
    "ProbeEnd",
    "Segment",
    "SegmentAlias",
    "SegmentPlan",
    "Tunnel",
    "TunnelAlias",
    "TunnelPlan",
    "Uplink",
    "WirePlan",
]


class DataPlaneAbilities(Value):
    """What a host's data plane can do; what it cannot has a reason, in words for the user.

    :ivar vlans: empty, or why switches cannot have VLANs; ``qinq``: likewise for tags of providers.
    :ivar vlan_devices: empty, or why a VLAN of a NIC cannot be had beside the host's own use of the NIC.
    :ivar impairments: names of :data:`wireloom.model.impairment.PARTS` → why they cannot be made.
    :ivar impair_from_guest: empty, or why frames from a node to a segment cannot be impaired.
    :ivar fence: empty, or why what guests send may reach the host's own IP stack where no link takes it.
    :ivar whole_frames: guests have to finish their frames themselves, with all checksums and in the size of the MTU.
    """

    name: str = "kernel"
    vlans: str = ""
    qinq: str = ""
    vlan_devices: str = ""
    impairments: Mapping[str, str] = {}
    impair_from_guest: str = ""
    fence: str = ""
    whole_frames: bool = False

    @property
    def lacks(self) -> bool:
        """Whether anything is missing that a host may have."""
        links = (self.vlans, self.qinq, self.vlan_devices, self.impair_from_guest, *self.impairments.values())
        return any((*links, self.fence))


class PortAlias(Value):
    """Who a host device belongs to; written as the link alias ``wireloom i=… l=… n=… p=… name=lab/node/port``."""

    installation: str
    lab_id: str
    node_id: str
    index: int
    name: str  # "<lab>/<node>/<port>", for people reading `ip link`

    def text(self) -> str:
        """The alias as stored; at most 255 bytes (IFALIASZ is 256)."""
        head = f"wireloom i={self.installation} l={self.lab_id} n={self.node_id} p={self.index} name="
        return head + self.name[: 255 - len(head)]

    @classmethod
    def parse(cls, text: str) -> PortAlias | None:
        """The reverse of :meth:`text`; ``None`` for an alias that is not ours."""
        if not text.startswith("wireloom "):
            return None
        fields = dict(item.split("=", 1) for item in text.split(" ")[1:] if "=" in item)
        try:
            return cls(
                installation=fields["i"],
                lab_id=fields["l"],
                node_id=fields["n"],
                index=int(fields["p"]),
                name=fields["name"],
            )
        except (KeyError, ValueError):
            return None


class PortPlan(Value):
    """A host port that should exist.

    :ivar device: host-side device name; ``guest_name`` and ``mac`` are the guest's side (namespace attachments).
    :ivar mtu: bytes, both sides.
    :ivar segment: bridge-like segment that the port is plugged into, by name; ``None`` for a port to be wired.
    :ivar addresses: set on the guest's side (namespace attachments only), e.g. ``172.30.128.5/20``.
    :ivar gateway: default route set on the guest's side.
    :ivar carrier: whether the host side is up from the start.
    """

    device: str
    alias: PortAlias
    attachment: Attachment
    guest_name: str
    mac: str
    mtu: int = 1500
    segment: str | None = None
    addresses: tuple[str, ...] = ()
    gateway: str | None = None
    carrier: bool = False


class WirePlan(Value):
    """Two host devices joined both ways. ``mtu`` is set on both host sides (and the guest side of a veth)."""

    a: str
    b: str
    mtu: int = 1500


class Tunnel(Value):
    """What joins a host device to one on another host.

    :ivar remote: the other host's address, IPv4 or IPv6; empty: it was found cut in one direction at least.
    :ivar vni: the number that both ends know the wire by, and no other wire has; 1 to 2^24 - 1.
    :ivar local: this host's address that the other one sends to; empty: whichever its routes choose.
    """

    remote: str
    vni: int
    local: str = ""


class TunnelPlan(Value):
    """A host device joined to one on another host, as :class:`Tunnel` says; ``mtu`` as of a wire, on this host."""

    device: str
    remote: str
    vni: int
    local: str = ""
    mtu: int = 1500

    @property
    def tunnel(self) -> Tunnel:
        """What is observed once it is carried out: with addresses as everybody writes them."""
        remote, local = (str(ip_address(text)) if text else "" for text in (self.remote, self.local))
        return Tunnel(remote=remote, vni=self.vni, local=local)


class TunnelAlias(Value):
    """Whom a device that leads to another host belongs to; written as ``wireloom tunnel i=… d=… name=lab/node/port``.

    :ivar device: the port that it is made for; ``name``: the port's, for people.
    """

    installation: str
    device: str
    name: str = ""

    def text(self) -> str:
        """The alias as stored; at most 255 bytes."""
        head = f"wireloom tunnel i={self.installation} d={self.device} name="
        return head + self.name[: 255 - len(head)]

    @classmethod
    def parse(cls, text: str) -> TunnelAlias | None:
        """The reverse of :meth:`text`; ``None`` for an alias of anything else."""
        words = text.split(" ")
        if words[:2] != ["wireloom", "tunnel"]:
            return None
        found = dict(item.split("=", 1) for item in words[2:] if "=" in item)
        if not found.get("i") or not found.get("d"):
            return None
        return cls(installation=found["i"], device=found["d"], name=found.get("name", ""))


class PlugPlan(Value):
    """A host device in a segment. ``vlans`` where the segment's ``tagging`` is not ``none``."""

    device: str
    segment: str
    vlans: Vlans | None = None
    mtu: int = 1500


class ImpairmentPlan(Value):
    """What is wrong with the frames that a host device hands to its guest, and with those that come from there.

    ``from_guest`` is for devices in a segment: a wire has the other end's ``to_guest``.
    """

    device: str
    to_guest: Impairment | None = None
    from_guest: Impairment | None = None


class SegmentAlias(Value):
    """Whom a segment belongs to; written as ``wireloom segment i=… l=… s=… [a=…] name=lab/segment``.

    :ivar address: the host's own in it, so that a segment that should have another one shows.
    """

    installation: str
    lab_id: str = ""  # empty: the host's own, like the management network
    segment_id: str = ""
    address: str = ""
    name: str = ""

    def text(self) -> str:
        """The alias as stored; at most 255 bytes."""
        address = f" a={self.address}" if self.address else ""
        head = f"wireloom segment i={self.installation} l={self.lab_id} s={self.segment_id}{address} name="
        return head + self.name[: 255 - len(head)]

    @classmethod
    def parse(cls, text: str) -> SegmentAlias | None:
        """The reverse of :meth:`text`; ``None`` for an alias of anything else."""
        words = text.split(" ")
        if words[:2] != ["wireloom", "segment"]:
            return None
        found = dict(item.split("=", 1) for item in words[2:] if "=" in item)
        if not found.get("i"):
            return None
        return cls(
            installation=found["i"],
            lab_id=found.get("l", ""),
            segment_id=found.get("s", ""),
            address=found.get("a", ""),
            name=found.get("name", ""),
        )


class Uplink(Value):
    """The host's own device that a segment reaches the world by.

    :ivar device: a NIC of the host.
    :ivar vlan: a VLAN on it; ``None``: the NIC as it is.
    :ivar addresses: what to do when the host itself has addresses on the NIC: ``refuse``, or ``move`` them (and their
        routes) to the segment for as long as it is there.
    """

    device: str
    vlan: int | None = None
    addresses: Literal["refuse", "move"] = "refuse"

    def member(self, installation: str) -> str:
        """The device that is put into the segment: the NIC, or the device that ``installation`` makes of its VLAN."""
        return self.device if self.vlan is None else device_name("v", installation, self.device, self.vlan)


class SegmentPlan(Value):
    """A shared medium that should exist.

    :ivar name: device name. :ivar alias: text of a :class:`SegmentAlias`.
    :ivar address: the host's own in it, with its prefix. :ivar mtu: bytes.
    :ivar tagging: whether it has VLANs.
    :ivar uplink: by what it reaches the world.
    :ivar foreign: ``name`` is a bridge of somebody else's: ports are plugged into it, and nothing of it is changed.
    """

    name: str
    alias: str
    address: str | None = None
    mtu: int = 1500
    tagging: Tagging = "none"
    uplink: Uplink | None = None
    foreign: bool = False


class HostPort(Value):
    """A host device of ours as the kernel shows it.

    :ivar peer: the device that frames arriving from the guest are redirected to, or ``None``.
    :ivar up: the host side is administratively up (for a veth that is the guest's carrier).
    :ivar carrier: the guest's side is up too.
    :ivar segment: device name of the segment that it is in; ``vlans``: as which port.
    :ivar tunnel: what joins it to a port of another host.
    :ivar to_guest: what is wrong with the frames to the guest, read back; ``from_guest``: from it.
    """

    device: str
    alias: PortAlias
    kind: str  # "veth" | "tap"
    mtu: int
    up: bool
    carrier: bool
    peer: str | None = None
    segment: str | None = None
    vlans: Vlans | None = None
    tunnel: Tunnel | None = None
    to_guest: Impairment | None = None
    from_guest: Impairment | None = None


class Segment(Value):
    """A segment of ours as the host shows it. ``uplink``: the NIC or VLAN device in it."""

    name: str
    alias: str
    up: bool
    mtu: int = 1500
    tagging: Tagging = "none"
    uplink: str | None = None


class DataPlaneState(Value):
    """Everything of this installation that the kernel holds now, by device name.

    :ivar bridges: bridges of somebody else's that ports can be plugged into.
    :ivar members: other devices than ours in them, where the kernel itself does not show that.
    """

    ports: dict[str, HostPort] = {}
    segments: dict[str, Segment] = {}
    bridges: frozenset[str] = frozenset()
    members: dict[str, tuple[str, ...]] = {}


class PortCounters(Value):
    """Frames and bytes since the device was made, as the guest counts: ``rx`` is what it received."""

    rx_packets: int = 0
    rx_bytes: int = 0
    rx_dropped: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    tx_dropped: int = 0


class ProbeEnd(Value):
    """An end of a path that frames are sent over to find out what passes. ``mac``: of the guest's NIC."""

    device: str
    attachment: Attachment
    mac: str


class LargestPayload(Value):
    """How large a frame passed, in bytes of payload.

    :ivar passes: of the largest that did; 0: none did. ``fails``: of the smallest that did not; ``None``: none failed.
    """

    passes: int
    fails: int | None = None

    @property
    def exact(self) -> bool:
        """Whether it was found out, or the time for that was over before."""
        return self.fails is None or self.passes == 0 or self.fails == self.passes + 1


class PathTest(Value):
    """A real frame sent over one kind of path; ``problem`` is empty where it arrived unchanged."""

    path: str  # e.g. "wire between a container and a virtual machine"
    problem: str = ""
    hint: str = ""


class PortEvent(Value):
    """A device of ours changed or went; ``device`` is empty when events were lost (observe again).

    ``up`` and ``carrier`` as in :class:`HostPort`, where the event says so.
    """

    device: str = ""
    removed: bool = False
    up: bool | None = None
    carrier: bool | None = None
