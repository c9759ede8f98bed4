"""Link messages of rtnetlink: what we ask of devices, and devices as the kernel describes them. Pure."""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wireloom.dataplane.host.attributes import attr, fields, nested, text, u8, u16, u32, walk
from wireloom.dataplane.host.protocol import GONE, NLM_F_CREATE, NLM_F_EXCL, Request
from wireloom.model.vlans import Tagging

__all__ = [
    "DUMP_LINKS",
    "IFF_UP",
    "RTM_DELLINK",
    "RTM_NEWLINK",
    "Link",
    "VethEnd",
    "delete_link",
    "delete_together",
    "enslave",
    "get_link",
    "get_link_in",
    "hear",
    "new_bridge",
    "new_veth",
    "new_vlan",
    "parse_link",
    "parse_links",
    "quieten",
    "set_address",
    "set_flags",
    "set_link",
]

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19

IFF_UP: Final = 0x1
IFF_LOWER_UP: Final = 0x10000

# linux/if_link.h
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _TXQLEN = 1, 3, 4, 5, 10, 13
_LINKINFO, _IFALIAS, _AF_SPEC, _GROUP, _NET_NS_FD = 18, 20, 26, 27, 28
_EXT_MASK, _LINK_NETNSID, _TARGET_NETNSID = 29, 37, 46
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER = 1
_BR_STP_STATE, _BR_VLAN_FILTERING, _BR_VLAN_PROTOCOL, _BR_GROUP_FWD_MASK, _BR_MCAST_SNOOPING = 5, 7, 8, 9, 23
_VLAN_ID: Final = 1
_BRPORT_GROUP_FWD_MASK = 31
_INET_CONF = 1
_DEVCONF_FORWARDING, _DEVCONF_ARP_IGNORE = 1, 19
_INET6_ADDR_GEN_MODE, _ADDR_GEN_EUI64, _ADDR_GEN_NONE = 8, 0, 1
#: Leave counters out of answers: they are a third of each message and nobody here reads them.
_SKIP_STATS = 1 << 3

#: The kernel keeps STP, pause and LACP (bits 0 to 2) from a bridge-wide mask ...
_BRIDGE_GROUP_FWD_MASK = 0xFFF8
#: ... but lets a port forward everything except pause frames (bit 1).
_PORT_GROUP_FWD_MASK = 0xFFFD

#: Far from the small numbers that people give to device groups.
_GROUP_BASE = 0x57000000

#: struct ifinfomsg: family, pad, type, index, flags, change mask.
_IFINFO = struct.Struct("=BxHiII")
_SIGNED = struct.Struct("=i")
_UNSIGNED = struct.Struct("=I")
_SHORT = struct.Struct("=H")
_ETH_P_8021AD: Final = bytes.fromhex("88a8")


@dataclass(frozen=True, slots=True)
class Link:
    """A device as the kernel describes it.

    :ivar kind: the kernel's word: ``veth``, ``tun`` (taps too), ``bridge``, …; empty for hardware.
    :ivar link: index of the other end of a veth, in the namespace ``link_nsid`` (``None``: in this one).
    :ivar lower_up: the device has a carrier and is up.
    :ivar tagging: of a bridge: what it filters VLANs by.
    :ivar vlan: of a VLAN device: its VLAN on the device ``link``; 0 for all others.
    """

    index: int
    name: str
    kind: str = ""
    alias: str = ""
    mtu: int = 0
    up: bool = False
    lower_up: bool = False
    master: int = 0
    link: int = 0
    link_nsid: int | None = None
    address: bytes = b""
    tagging: Tagging = "none"
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class VethEnd:
    """The guest's end of a veth pair: its namespace as an open file, its name, MAC address and MTU in bytes."""

    netns: int
    name: str
    mac: str
    mtu: int


def _header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flags, change)


def mac_bytes(mac: str) -> bytes:
    """``02:1f:…`` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def _addressed(device: str | int, flags: int = 0, change: int = 0) -> bytes:
    """Header for ``device``, by its name or by its index."""
    if isinstance(device, int):
        return _header(device, flags, change)
    return _header(0, flags, change) + text(_IFNAME, device)


DUMP_LINKS: Final = Request(RTM_GETLINK, _header() + u32(_EXT_MASK, _SKIP_STATS), operation="list devices")


def get_link(name: str) -> Request:
    """Ask for one device of our own namespace."""
    body = _header() + text(_IFNAME, name) + u32(_EXT_MASK, _SKIP_STATS)
    return Request(RTM_GETLINK, body, device=name, operation="look up a device", fine=GONE)


def get_link_in(nsid: int, device: str | int) -> Request:
    """Ask for a device in the namespace that ours knows as ``nsid``."""
    body = _addressed(device) + attr(_TARGET_NETNSID, _SIGNED.pack(nsid)) + u32(_EXT_MASK, _SKIP_STATS)
    return Request(RTM_GETLINK, body, device=str(device), operation="look up a guest's device", fine=GONE)


def new_veth(device: str, mtu: int, guest: VethEnd, txqlen: int) -> Request:
    """Make a pair: ``device`` here and down, the guest's end in its namespace, finished.

    Both are down: an end cannot be raised before it has its other end, which is after this message.
    """
    peer = nested(
        _VETH_INFO_PEER,
        _header(),
        text(_IFNAME, guest.name),
        attr(_ADDRESS, mac_bytes(guest.mac)),
        u32(_MTU, guest.mtu),
        u32(_TXQLEN, txqlen),
        u32(_NET_NS_FD, guest.netns),
    )
    body = (
        _header()
        + text(_IFNAME, device)
        + u32(_MTU, mtu)
        + u32(_TXQLEN, txqlen)
        + nested(_LINKINFO, text(_INFO_KIND, "veth"), nested(_INFO_DATA, peer))
    )
    return Request(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, device, "make a veth pair")


def new_bridge(name: str, mac: str) -> Request:
    """Make a bridge that forwards all that a bridge may: no STP, no snooping."""
    data = nested(
        _INFO_DATA,
        u32(_BR_STP_STATE, 0),
        u16(_BR_GROUP_FWD_MASK, _BRIDGE_GROUP_FWD_MASK),
        u8(_BR_MCAST_SNOOPING, 0),
    )
    body = (
        _header()
        + text(_IFNAME, name)
        + attr(_ADDRESS, mac_bytes(mac))
        + nested(_LINKINFO, text(_INFO_KIND, "bridge"), data)
    )
    return Request(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, name, "make a bridge")


def new_vlan(name: str, parent: int, vlan: int) -> Request:
    """Make the device of a VLAN (802.1Q) of the device with the index ``parent``."""
    data = nested(_INFO_DATA, u16(_VLAN_ID, vlan))
    body = _header() + u32(_LINK, parent) + text(_IFNAME, name) + nested(_LINKINFO, text(_INFO_KIND, "vlan"), data)
    return Request(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, name, f"make a device of VLAN {vlan}")


def enslave(device: str | int, master: int) -> Request:
    """Plug a device into a bridge (0: out of it)."""
    body = _addressed(device) + u32(_MASTER, master)
    return Request(RTM_SETLINK, body, device=str(device), operation="plug into a segment", fine=GONE)


def forward_groups(device: int, name: str) -> Request:
    """Let a bridge's port pass the link-local groups that the bridge alone may not."""
    data = nested(_INFO_SLAVE_DATA, u16(_BRPORT_GROUP_FWD_MASK, _PORT_GROUP_FWD_MASK))
    body = _header(device) + nested(_LINKINFO, text(_INFO_SLAVE_KIND, "bridge"), data)
    return Request(RTM_NEWLINK, body, device=name, operation="open a segment's port", fine=GONE)


def set_link(
    device: str | int, *, name: str = "", alias: str | None = None, mtu: int | None = None, up: bool | None = None
) -> Request:
    """Change a device; what is ``None`` stays. ``name`` is for messages where ``device`` is an index."""
    flags, change = (IFF_UP if up else 0, IFF_UP) if up is not None else (0, 0)
    body = _addressed(device, flags, change)
    if alias is not None:
        body += attr(_IFALIAS, alias.encode()[:255])
    if mtu is not None:
        body += u32(_MTU, mtu)
    return Request(RTM_SETLINK, body, device=name or str(device), operation="change a device", fine=GONE)


def set_flags(device: str, *, up: bool) -> Request:
    """Set a device up or down."""
    return set_link(device, up=up)


def set_address(device: str, mac: bytes) -> Request:
    """Give a device its hardware address."""
    body = _addressed(device) + attr(_ADDRESS, mac)
    return Request(RTM_SETLINK, body, device=device, operation="set the hardware address of", fine=GONE)


def quieten(device: str, *, ipv6: bool) -> Request:
    """Keep the host's own IP stack off a device: no answers to ARP, no forwarding, no IPv6 address."""
    inet = nested(socket.AF_INET, nested(_INET_CONF, u32(_DEVCONF_ARP_IGNORE, 8), u32(_DEVCONF_FORWARDING, 0)))
    inet6 = nested(socket.AF_INET6, u8(_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE)) if ipv6 else b""
    body = _addressed(device) + nested(_AF_SPEC, inet, inet6)
    return Request(RTM_SETLINK, body, device=device, operation="keep the host off a device", fine=GONE)


def hear(device: str) -> Request:
    """Have the host answer to ARP, and to its neighbours in IPv6, on a device that :func:`quieten` took it off."""
    inet = nested(socket.AF_INET, nested(_INET_CONF, u32(_DEVCONF_ARP_IGNORE, 0)))
    inet6 = nested(socket.AF_INET6, u8(_INET6_ADDR_GEN_MODE, _ADDR_GEN_EUI64))
    body = _addressed(device) + nested(_AF_SPEC, inet, inet6)
    return Request(RTM_SETLINK, body, device=device, operation="let the host speak on", fine=GONE)


def delete_link(device: str) -> Request:
    """Remove a device (and the other end of a veth)."""
    return Request(RTM_DELLINK, _addressed(device), device=device, operation="remove a device", fine=GONE)


def delete_together(devices: Sequence[str]) -> list[Request]:
    """Remove many devices in one step: each removal alone waits some 20 ms for the kernel's readers, all with it.

    They are put into a device group that nobody else uses, and the group is removed.
    """
    if len(devices) < 2:
        return [delete_link(device) for device in devices]
    group = _GROUP_BASE | secrets.randbits(24)
    requests = [
        Request(RTM_SETLINK, _addressed(device) + u32(_GROUP, group), 0, device, "mark for removal", GONE)
        for device in devices
    ]
    remove = Request(RTM_DELLINK, _header() + u32(_GROUP, group), operation="remove marked devices", fine=GONE)
    return [*requests, remove]


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _kind(linkinfo: bytes) -> tuple[str, bytes]:
    """What kind of device it is, and the settings of that kind as the kernel codes them."""
    name, data = "", b""
    for kind, value in walk(linkinfo):
        if kind == _INFO_KIND:
            name = _string(value)
        elif kind == _INFO_DATA:
            data = value
    return name, data


def _tagging(kind: str, data: bytes) -> Tagging:
    if kind != "bridge":
        return "none"
    settings = fields(data)
    if settings.get(_BR_VLAN_FILTERING, b"\0") == b"\0":
        return "none"
    return "802.1ad" if settings.get(_BR_VLAN_PROTOCOL) == _ETH_P_8021AD else "802.1q"


def _vlan(kind: str, data: bytes) -> int:
    value = fields(data).get(_VLAN_ID) if kind == "vlan" else None
    return int(_SHORT.unpack(value)[0]) if value is not None else 0


def parse_link(body: bytes) -> Link:
    """The device that the body of an ``RTM_NEWLINK`` or ``RTM_DELLINK`` message describes."""
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = fields(body, _IFINFO.size)
    nsid = found.get(_LINK_NETNSID)
    kind, data = _kind(found.get(_LINKINFO, b""))
    return Link(
        index=index,
        name=_string(found.get(_IFNAME, b"")),
        kind=kind,
        alias=_string(found.get(_IFALIAS, b"")),
        mtu=_number(found, _MTU),
        up=bool(flags & IFF_UP),
        lower_up=bool(flags & IFF_LOWER_UP),
        master=_number(found, _MASTER),
        link=_number(found, _LINK),
        link_nsid=None if nsid is None else _SIGNED.unpack(nsid)[0],
        address=found.get(_ADDRESS, b""),
        tagging=_tagging(kind, data),
        vlan=_vlan(kind, data),
    )


def _number(found: dict[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return int(_UNSIGNED.unpack(value)[0]) if value is not None else 0


def parse_links(bodies: Sequence[bytes]) -> list[Link]:
    """All devices of a dump."""
    return [parse_link(body) for body in bodies]
