"""Addresses and routes of one device, kept so that another device can have them meanwhile. Pure.

What the kernel shows is kept as bytes: its own message without what belongs to the one device alone, so that nothing
of an address or a route is lost that we do not know of.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from wireloom.dataplane.host.addresses import Interface
from wireloom.dataplane.host.attributes import attr, fields, u32, walk
from wireloom.dataplane.host.protocol import GONE, NLM_F_CREATE, NLM_F_REPLACE, Request
from wireloom.model.base import Value

__all__ = [
    "DUMP_ROUTES",
    "HeldAddress",
    "HeldRoute",
    "addresses_of",
    "drop_address",
    "drop_route",
    "give_address",
    "give_route",
    "in_order_of_giving",
    "routes_of",
    "shared_routes",
]

_RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 20, 21, 24, 25, 26
#: struct ifaddrmsg: family, prefix length, flags, scope, index.
_IFADDR = struct.Struct("=BBBBI")
#: struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
_RTMSG = struct.Struct("=BBBBBBBBI")
#: struct ifa_cacheinfo: preferred, valid (seconds), made, changed.
_CACHEINFO = struct.Struct("=IIII")
#: Begin of struct rta_cacheinfo: references, last use, expires (in ticks).
_ROUTE_CACHEINFO = struct.Struct("=IIi")
_FOREVER: Final = 0xFFFFFFFF
_SCOPE_LINK: Final = 253

_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_BROADCAST, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 3, 4, 6, 8
_IFA_RT_PRIORITY: Final = 9
_KEPT_OF_ADDRESS: Final = frozenset({_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_BROADCAST, _IFA_RT_PRIORITY})
_NODAD, _NOPREFIXROUTE, _MCAUTOJOIN, _STABLE_PRIVACY = 0x02, 0x200, 0x400, 0x800
#: The other flags tell of the address's life on its device, or are given anew by the kernel.
_KEPT_FLAGS: Final = _NOPREFIXROUTE | _MCAUTOJOIN | _STABLE_PRIVACY

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH = 1, 4, 5, 9
_RTA_CACHEINFO, _RTA_VIA, _RTA_EXPIRES, _RTA_NH_ID = 12, 18, 23, 30
_BELONGS_TO_THE_DEVICE: Final = frozenset({_RTA_OIF, _RTA_CACHEINFO, _RTA_NH_ID})
_RTNH_F_ONLINK: Final = 0x4
_RTM_F_CLONED: Final = 0x200
_PROTOCOL_REDIRECT, _PROTOCOL_KERNEL = 1, 2
#: struct rtnexthop: length, flags, hops, index.
_NEXTHOP = struct.Struct("=HBBi")

#: The kernel's ticks in what it tells user space (USER_HZ).
_TICKS: Final = 100

#: An address that runs out while it is held gets this long for whoever gave it to give it again.
_GRACE_S: Final = 300

DUMP_ROUTES: Final = Request(_RTM_GETROUTE, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), operation="list routes")


class HeldAddress(Value):
    """An address of the host.

    :ivar text: for people, e.g. ``192.0.2.5/24``.
    :ivar message: the kernel's message about it, in hexadecimal.
    :ivar valid_until: seconds of the clock since boot; ``None``: it does not run out; ``preferred_until``: likewise.
    """

    text: str
    message: str
    valid_until: float | None = None
    preferred_until: float | None = None

    @property
    def interface(self) -> Interface:
        return ipaddress.ip_interface(self.text)


class HeldRoute(Value):
    """A route of the host. ``text`` for people; ``message`` and ``valid_until`` as of :class:`HeldAddress`."""

    text: str
    message: str
    valid_until: float | None = None


def addresses_of(bodies: Sequence[bytes], index: int, now: float) -> list[HeldAddress]:
    """The addresses of one device in a dump that others may know the host by: all but those of link scope.

    :param now: seconds of the clock since boot.
    """
    found: list[HeldAddress] = []
    for body in bodies:
        family, prefix, _, scope, owner = _IFADDR.unpack_from(body)
        values = fields(body, _IFADDR.size)
        raw = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if owner != index or scope == _SCOPE_LINK or not raw:
            continue
        flags = _number(values, _IFA_FLAGS) & _KEPT_FLAGS
        kept = b"".join(attr(kind, value) for kind, value in sorted(values.items()) if kind in _KEPT_OF_ADDRESS)
        message = _IFADDR.pack(family, prefix, 0, scope, 0) + kept + u32(_IFA_FLAGS, flags)
        preferred, valid, *_ = _CACHEINFO.unpack(values.get(_IFA_CACHEINFO, b"\xff" * _CACHEINFO.size))
        found.append(
            HeldAddress(
                text=str(ipaddress.ip_interface((raw, prefix))),
                message=message.hex(),
                valid_until=None if valid == _FOREVER else now + valid,
                preferred_until=None if preferred == _FOREVER else now + preferred,
            )
        )
    return found


def in_order_of_giving(addresses: Sequence[HeldAddress]) -> list[HeldAddress]:
    """So that the kernel shows them in the order that they are in here: a new one of IPv6 comes first, of IPv4 last."""
    old = [one for one in addresses if one.interface.version == 4]
    return old + [one for one in reversed(addresses) if one.interface.version == 6]


def give_address(held: HeldAddress, index: int, device: str, *, at_home: bool, now: float) -> Request:
    """Give a device a held address.

    :param at_home: it is the device that had it: with its label, and for as long as it was meant to last. Elsewhere it
        does not run out, because whoever renews it renews it at home.
    """
    body = bytes.fromhex(held.message)
    family, prefix, _, scope, _ = _IFADDR.unpack_from(body)
    values = fields(body, _IFADDR.size)
    if family == socket.AF_INET6:
        # Nobody else took it meanwhile: probing would only delay its use.
        flags = int(struct.unpack("=I", values[_IFA_FLAGS])[0]) | _NODAD
        values[_IFA_FLAGS] = struct.pack("=I", flags)
    if at_home:
        lifetimes = (_remaining(held.preferred_until, now), _remaining(held.valid_until, now))
        values[_IFA_CACHEINFO] = _CACHEINFO.pack(min(lifetimes), lifetimes[1], 0, 0)
    else:
        values.pop(_IFA_LABEL, None)
    message = _IFADDR.pack(family, prefix, 0, scope, index)
    message += b"".join(attr(kind, value) for kind, value in sorted(values.items()))
    return Request(_RTM_NEWADDR, message, NLM_F_CREATE | NLM_F_REPLACE, device, f"set the address {held.text} on")


def drop_address(held: HeldAddress, index: int, device: str) -> Request:
    """Take a held address from a device, if it has it."""
    body = bytes.fromhex(held.message)
    family, prefix, _, _, _ = _IFADDR.unpack_from(body)
    values = fields(body, _IFADDR.size)
    local = attr(_IFA_LOCAL, values.get(_IFA_LOCAL) or values[_IFA_ADDRESS])
    message = _IFADDR.pack(family, prefix, 0, 0, index) + local
    fine = GONE | {errno.EADDRNOTAVAIL}
    return Request(_RTM_DELADDR, message, device=device, operation=f"take the address {held.text} from", fine=fine)


def routes_of(bodies: Sequence[bytes], index: int, now: float) -> list[HeldRoute]:
    """The routes by one device in a dump, without those that come and go with its addresses.

    A route by a gateway needs the route to this gateway: those without one come first.
    """
    found: list[HeldRoute] = []
    for body in bodies:
        family, size, source, tos, table, protocol, scope, kind, flags = _RTMSG.unpack_from(body)
        values = fields(body, _RTMSG.size)
        if flags & _RTM_F_CLONED or protocol in {_PROTOCOL_REDIRECT, _PROTOCOL_KERNEL}:
            continue
        if _number(values, _RTA_OIF) != index:
            continue
        head = _RTMSG.pack(family, size, source, tos, table, protocol, scope, kind, flags & _RTNH_F_ONLINK)
        kept = [attr(type_, value) for type_, value in walk(body, _RTMSG.size) if type_ not in _BELONGS_TO_THE_DEVICE]
        expires = _ROUTE_CACHEINFO.unpack_from(values[_RTA_CACHEINFO])[2] if _RTA_CACHEINFO in values else 0
        found.append(
            HeldRoute(
                text=_route_text(family, size, values),
                message=(head + b"".join(kept)).hex(),
                valid_until=now + expires / _TICKS if expires else None,
            )
        )
    return sorted(found, key=lambda route: " via " in route.text)


def shared_routes(bodies: Sequence[bytes], index: int) -> list[str]:
    """Routes that use several devices at once, this one among them: they cannot be moved as one."""
    found: list[str] = []
    for body in bodies:
        family, size, *_ = _RTMSG.unpack_from(body)
        values = fields(body, _RTMSG.size)
        if index in _hops(values.get(_RTA_MULTIPATH, b"")):
            found.append(_route_text(family, size, values))
    return found


def give_route(held: HeldRoute, index: int, device: str, *, at_home: bool, now: float) -> Request:
    """Lead a held route by a device; ``at_home`` as for an address.

    In IPv4 it takes the place of the one by the other device in one step; in IPv6 it is added beside it.
    """
    body = bytes.fromhex(held.message)
    if at_home and held.valid_until is not None:
        body += u32(_RTA_EXPIRES, _remaining(held.valid_until, now))
    flags = NLM_F_CREATE | (NLM_F_REPLACE if body[0] == socket.AF_INET else 0)
    fine = frozenset({errno.EEXIST})
    return Request(_RTM_NEWROUTE, body + u32(_RTA_OIF, index), flags, device, f"set the route {held.text} on", fine)


def drop_route(held: HeldRoute, index: int, device: str) -> Request:
    """Take a held route from a device, if it has it."""
    body = bytes.fromhex(held.message) + u32(_RTA_OIF, index)
    fine = GONE | {errno.ESRCH}
    return Request(_RTM_DELROUTE, body, device=device, operation=f"take the route {held.text} from", fine=fine)


def _remaining(until: float | None, now: float) -> int:
    return _FOREVER if until is None else max(int(until - now), _GRACE_S)


def _number(values: dict[int, bytes], kind: int) -> int:
    value = values.get(kind)
    return int(struct.unpack("=I", value)[0]) if value is not None else 0


def _hops(multipath: bytes) -> Iterable[int]:
    """Indexes of the devices of a route by several."""
    offset = 0
    while offset + _NEXTHOP.size <= len(multipath):
        length, _, _, index = _NEXTHOP.unpack_from(multipath, offset)
        yield index
        if length < _NEXTHOP.size:
            return
        offset += (length + 3) & ~3


def _route_text(family: int, size: int, values: dict[int, bytes]) -> str:
    destination, gateway = values.get(_RTA_DST), values.get(_RTA_GATEWAY)
    default = "default" if family == socket.AF_INET else "default of IPv6"
    text = f"{ipaddress.ip_address(destination)}/{size}" if destination else default
    if gateway:
        return f"{text} via {ipaddress.ip_address(gateway)}"
    return f"{text} via another family" if _RTA_VIA in values else text
