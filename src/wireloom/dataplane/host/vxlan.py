"""Messages about VXLAN devices: one carries the frames of one wire to another host. Pure.

A device is made without the NIC that its packets leave by. So its MTU may be raised beyond what the way to the other
host carries, and a packet that is too large is cut into fragments on that way instead of being lost.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from wireloom.dataplane.host.attributes import attr, fields, nested, text, u8, u32
from wireloom.dataplane.host.links import RTM_GETLINK, RTM_NEWLINK, parse_link
from wireloom.dataplane.host.protocol import NLM_F_CREATE, NLM_F_EXCL, Request
from wireloom.model.network import TunnelPlan

__all__ = ["DUMP_VXLANS", "KIND", "UDP_PORT", "Vxlan", "change_vxlan", "new_vxlan", "parse_vxlan"]

#: What the kernel calls this kind of device.
KIND: Final = "vxlan"
#: As assigned (RFC 7348, section 8), so that a firewall between hosts knows it, and every data plane the other's.
UDP_PORT: Final = 4789

_IFNAME, _MTU, _LINKINFO, _EXT_MASK = 3, 4, 18, 29
_INFO_KIND, _INFO_DATA = 1, 2
_SKIP_STATS: Final = 1 << 3
_ID, _GROUP, _LOCAL, _LEARNING, _PORT, _GROUP6, _LOCAL6 = 1, 2, 4, 7, 15, 16, 17
_DF: Final = 29
_DF_UNSET: Final = 0

#: struct ifinfomsg: family, pad, type, index, flags, change mask.
_IFINFO = struct.Struct("=BxHiII")
_UNSIGNED = struct.Struct("=I")
_BIG_SHORT = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A VXLAN device. ``remote`` and ``local`` are empty where it has none."""

    index: int
    name: str
    alias: str
    up: bool
    vni: int
    port: int
    remote: str = ""
    local: str = ""


DUMP_VXLANS: Final = Request(
    RTM_GETLINK,
    _IFINFO.pack(0, 0, 0, 0, 0) + u32(_EXT_MASK, _SKIP_STATS) + nested(_LINKINFO, text(_INFO_KIND, KIND)),
    operation="list VXLAN devices",
)


def _header(name: str) -> bytes:
    return _IFINFO.pack(0, 0, 0, 0, 0) + text(_IFNAME, name)


def _ends(plan: TunnelPlan) -> bytes:
    """Where to, and from which address; without one, the way there chooses."""
    remote = ipaddress.ip_address(plan.remote)
    local = ipaddress.ip_address(plan.local) if plan.local else type(remote)(0)
    if remote.version == 4:
        return attr(_GROUP, remote.packed) + attr(_LOCAL, local.packed)
    return attr(_GROUP6, remote.packed) + attr(_LOCAL6, local.packed)


def new_vxlan(name: str, plan: TunnelPlan) -> Request:
    """Make the device ``name``, which sends all frames to the plan's remote and learns nothing of those that come.

    What it does not say is as by default: the kernel lets devices share a UDP port only where they agree in that.
    """
    data = nested(
        _INFO_DATA,
        u32(_ID, plan.vni),
        _ends(plan),
        attr(_PORT, _BIG_SHORT.pack(UDP_PORT)),
        u8(_LEARNING, 0),
        u8(_DF, _DF_UNSET),
    )
    body = _header(name) + u32(_MTU, plan.mtu) + nested(_LINKINFO, text(_INFO_KIND, KIND), data)
    return Request(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, plan.device, f"make the tunnel {plan.vni} for")


def change_vxlan(name: str, plan: TunnelPlan) -> Request:
    """Have a device send to another address, or from another one, from now on; both of the IP version it has."""
    data = nested(_INFO_DATA, u32(_ID, plan.vni), _ends(plan))
    body = _header(name) + nested(_LINKINFO, text(_INFO_KIND, KIND), data)
    return Request(RTM_NEWLINK, body, 0, plan.device, f"change the tunnel {plan.vni} of")


def parse_vxlan(body: bytes) -> Vxlan | None:
    """The device that the body of a link message describes; ``None``: it is of another kind."""
    info = fields(fields(body, _IFINFO.size).get(_LINKINFO, b""))
    # A kernel that has not met this kind yet lists all devices.
    if info.get(_INFO_KIND, b"").rstrip(b"\0") != KIND.encode():
        return None
    link = parse_link(body)
    data = fields(info.get(_INFO_DATA, b""))
    return Vxlan(
        index=link.index,
        name=link.name,
        alias=link.alias,
        up=link.up,
        vni=_UNSIGNED.unpack(data.get(_ID, bytes(4)))[0],
        port=_BIG_SHORT.unpack(data.get(_PORT, bytes(2)))[0],
        remote=_shown(data.get(_GROUP) or data.get(_GROUP6)),
        local=_shown(data.get(_LOCAL) or data.get(_LOCAL6)),
    )


def _shown(raw: bytes | None) -> str:
    """An address as text; empty for none."""
    if raw is None or not any(raw):
        return ""
    return str(ipaddress.ip_address(raw))
