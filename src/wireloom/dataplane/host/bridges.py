"""VLANs of the kernel's bridges and of their ports: what we ask for, and what the kernel shows. Pure."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from wireloom.dataplane.host.attributes import attr, fields, nested, text, u8, u16, u32, walk
from wireloom.dataplane.host.links import RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK
from wireloom.dataplane.host.protocol import GONE, Request
from wireloom.model.vlans import DEFAULT_VLAN, HIGHEST_VLAN, Tagging, Vlans

__all__ = [
    "ALL_VLANS",
    "DUMP_VLANS",
    "Membership",
    "admit_host",
    "parse_vlans",
    "read_vlans",
    "set_tagging",
    "set_vlans",
]

#: First VLAN, last VLAN, flags: as the kernel codes the VLANs that a port is in.
Membership = tuple[int, int, int]

# linux/if_link.h and linux/if_bridge.h
_IFNAME, _LINKINFO, _AF_SPEC, _EXT_MASK = 3, 18, 26, 29
_INFO_KIND, _INFO_DATA = 1, 2
_BR_VLAN_FILTERING, _BR_VLAN_PROTOCOL, _BR_VLAN_DEFAULT_PVID = 7, 8, 39
_BRIDGE_FLAGS, _BRIDGE_VLAN_INFO = 0, 2
_SELF: Final = 2
_PVID, _UNTAGGED, _RANGE_BEGIN, _RANGE_END = 0x2, 0x4, 0x8, 0x10
_COMPRESSED: Final = 1 << 2
_PROTOCOLS: Final[Mapping[Tagging, bytes]] = {"802.1q": bytes.fromhex("8100"), "802.1ad": bytes.fromhex("88a8")}

#: struct ifinfomsg: family, pad, type, index, flags, change mask.
_IFINFO = struct.Struct("=BxHiII")
#: struct bridge_vlan_info: flags, VLAN.
_INFO = struct.Struct("=HH")

#: The port that carries every VLAN of a segment to the world, the default one without a tag.
ALL_VLANS: Final = Vlans(untagged=DEFAULT_VLAN, tagged=((DEFAULT_VLAN + 1, HIGHEST_VLAN),))

#: All ports of all bridges with their VLANs, ranges as ranges.
DUMP_VLANS: Final = Request(
    RTM_GETLINK,
    _IFINFO.pack(socket.AF_BRIDGE, 0, 0, 0, 0) + u32(_EXT_MASK, _COMPRESSED),
    operation="list VLANs of ports",
)


def set_tagging(name: str, tagging: Tagging) -> Request:
    """Let a bridge tell VLANs apart by the tags of ``tagging``, or not at all.

    A port that is put into it is in no VLAN until it is said in which.
    """
    settings = [u8(_BR_VLAN_FILTERING, 0 if tagging == "none" else 1)]
    if tagging != "none":
        settings += [attr(_BR_VLAN_PROTOCOL, _PROTOCOLS[tagging]), u16(_BR_VLAN_DEFAULT_PVID, 0)]
    data = nested(_INFO_DATA, *settings)
    body = _header(0) + text(_IFNAME, name) + nested(_LINKINFO, text(_INFO_KIND, "bridge"), data)
    return Request(RTM_NEWLINK, body, device=name, operation="set the VLAN filtering of")


def set_vlans(index: int, device: str, present: Sequence[Membership], wanted: Vlans) -> list[Request]:
    """Requests that bring a bridge's port from the VLANs that it is in to those that it should be in.

    It leaves VLANs before it enters others: no frame ever crosses from one to another.
    """
    goal = _memberships(wanted)
    if list(present) == goal:
        return []
    requests: list[Request] = []
    stale = _ranges(_numbers(present) - _numbers(goal))
    if stale:
        body = _header(index) + nested(_AF_SPEC, *_infos((first, last, 0) for first, last in stale))
        requests.append(Request(RTM_DELLINK, body, device=device, operation="take out of VLANs", fine=GONE))
    body = _header(index) + nested(_AF_SPEC, *_infos(goal))
    requests.append(Request(RTM_SETLINK, body, device=device, operation="put into VLANs", fine=GONE))
    return requests


def admit_host(index: int, name: str) -> Request:
    """Put the host's own side of a bridge into the default VLAN."""
    infos = _infos(_memberships(Vlans.access(DEFAULT_VLAN)))
    body = _header(index) + nested(_AF_SPEC, u16(_BRIDGE_FLAGS, _SELF), *infos)
    return Request(RTM_SETLINK, body, device=name, operation="put the host into a VLAN of")


def parse_vlans(bodies: Sequence[bytes]) -> dict[int, tuple[Membership, ...]]:
    """The VLANs of each bridge's port in a dump, by its index."""
    found: dict[int, tuple[Membership, ...]] = {}
    for body in bodies:
        _, _, index, _, _ = _IFINFO.unpack_from(body)
        spec = fields(body, _IFINFO.size).get(_AF_SPEC)
        if spec is not None:
            found[index] = tuple(_members(spec))
    return found


def read_vlans(memberships: Sequence[Membership]) -> Vlans | None:
    """The port that these make; ``None`` for one in no VLAN, and for mixtures that no plan has."""
    plain = _UNTAGGED | _PVID
    bare = [(first, last, flags) for first, last, flags in memberships if flags & plain]
    if len(bare) > 1 or any(first != last or flags & plain != plain for first, last, flags in bare):
        return None
    tagged = _ranges(_numbers([member for member in memberships if not member[2] & plain]))
    untagged = bare[0][0] if bare else None
    return Vlans(untagged=untagged, tagged=tuple(tagged)) if bare or tagged else None


def _header(index: int) -> bytes:
    family = socket.AF_BRIDGE if index else socket.AF_UNSPEC
    return _IFINFO.pack(family, 0, index, 0, 0)


def _memberships(vlans: Vlans) -> list[Membership]:
    """What the kernel is to show for ``vlans``, in its order."""
    numbers = {number for first, last in vlans.tagged for number in range(first, last + 1)} - {vlans.untagged}
    found = [(first, last, 0) for first, last in _ranges(numbers)]
    if vlans.untagged is not None:
        found.append((vlans.untagged, vlans.untagged, _PVID | _UNTAGGED))
    return sorted(found)


def _infos(memberships: Iterable[Membership]) -> list[bytes]:
    infos: list[bytes] = []
    for first, last, flags in memberships:
        if first == last:
            infos.append(attr(_BRIDGE_VLAN_INFO, _INFO.pack(flags, first)))
        else:
            infos.append(attr(_BRIDGE_VLAN_INFO, _INFO.pack(flags | _RANGE_BEGIN, first)))
            infos.append(attr(_BRIDGE_VLAN_INFO, _INFO.pack(flags | _RANGE_END, last)))
    return infos


def _members(spec: bytes) -> Iterable[Membership]:
    begin = 0
    for kind, value in walk(spec):
        if kind != _BRIDGE_VLAN_INFO:
            continue
        flags, number = _INFO.unpack_from(value)
        if flags & _RANGE_BEGIN:
            begin = number
            continue
        yield (begin if flags & _RANGE_END else number, number, flags & (_PVID | _UNTAGGED))


def _numbers(memberships: Iterable[Membership]) -> set[int]:
    return {number for first, last, _ in memberships for number in range(first, last + 1)}


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """``numbers`` as ascending ranges, as few as can be."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
