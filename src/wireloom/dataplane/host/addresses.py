"""Address and route messages of rtnetlink. Pure."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Sequence
from typing import Final

from wireloom.dataplane.host.attributes import attr, fields, u32
from wireloom.dataplane.host.protocol import GONE, NLM_F_CREATE, NLM_F_REPLACE, Request

__all__ = [
    "DUMP_ADDRESSES",
    "Interface",
    "add_address",
    "default_route",
    "delete_address",
    "parse_addresses",
    "parse_owners",
]

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR, _RTM_NEWROUTE = 20, 21, 22, 24
#: struct ifaddrmsg: family, prefix length, flags, scope, index.
_IFADDR = struct.Struct("=BBBBI")
#: struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
_RTMSG = struct.Struct("=BBBBBBBBI")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD: Final = 0x02
_RTA_OIF, _RTA_GATEWAY = 4, 5
_TABLE_MAIN, _PROTO_STATIC, _SCOPE_UNIVERSE, _UNICAST = 254, 4, 0, 1
_SCOPE_LINK: Final = 253
#: Longest prefix that still has a broadcast address (RFC 3021).
_BROADCAST_PREFIX = 30

_UNSET: Final = GONE | {errno.EADDRNOTAVAIL}

DUMP_ADDRESSES: Final = Request(_RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0), operation="list addresses")


def _family(address: Interface | ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def add_address(index: int, address: Interface, device: str) -> Request:
    """Give a device an address; harmless when it has it."""
    body = _IFADDR.pack(_family(address), address.network.prefixlen, 0, _SCOPE_UNIVERSE, index)
    body += attr(_IFA_LOCAL, address.packed) + attr(_IFA_ADDRESS, address.packed)
    if address.version == 4 and address.network.prefixlen <= _BROADCAST_PREFIX:
        body += attr(_IFA_BROADCAST, address.network.broadcast_address.packed)
    if address.version == 6:
        # The address is ours by plan: probing would only delay its use.
        body += u32(_IFA_FLAGS, _IFA_F_NODAD)
    return Request(_RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_REPLACE, device, f"set the address {address} on", GONE)


def delete_address(index: int, address: Interface, device: str) -> Request:
    """Take an address from a device, if it has it."""
    body = _IFADDR.pack(_family(address), address.network.prefixlen, 0, 0, index)
    body += attr(_IFA_LOCAL, address.packed)
    return Request(_RTM_DELADDR, body, device=device, operation=f"take the address {address} from", fine=_UNSET)


def default_route(index: int, gateway: str, device: str) -> Request:
    """Make ``gateway`` the default route of its family, in place of another."""
    address = ipaddress.ip_address(gateway)
    body = _RTMSG.pack(_family(address), 0, 0, 0, _TABLE_MAIN, _PROTO_STATIC, _SCOPE_UNIVERSE, _UNICAST, 0)
    body += attr(_RTA_GATEWAY, address.packed) + u32(_RTA_OIF, index)
    return Request(_RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_REPLACE, device, f"set the route by {gateway} on", GONE)


def parse_owners(bodies: Sequence[bytes]) -> set[int]:
    """Indexes of the devices that have addresses, but for those that the kernel gives itself (link scope)."""
    heads = (_IFADDR.unpack_from(body) for body in bodies)
    return {index for _, _, _, scope, index in heads if scope != _SCOPE_LINK}


def parse_addresses(bodies: Sequence[bytes], index: int) -> set[Interface]:
    """The addresses of one device in a dump, without those that the kernel gives itself (link scope)."""
    found: set[Interface] = set()
    for body in bodies:
        _, prefix, _, scope, owner = _IFADDR.unpack_from(body)
        values = fields(body, _IFADDR.size)
        raw = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if owner == index and scope != _SCOPE_LINK and raw:
            found.add(ipaddress.ip_interface((raw, prefix)))
    return found
