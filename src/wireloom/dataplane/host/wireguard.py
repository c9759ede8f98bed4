"""A WireGuard device: made, told whom it knows, removed. Blocking, in the calling thread's network namespace."""

from __future__ import annotations

import base64
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from wireloom.dataplane.host import links
from wireloom.dataplane.host.attributes import attr, fields, nested, text, u8, u16, u32, walk
from wireloom.dataplane.host.links import RTM_NEWLINK
from wireloom.dataplane.host.netlink import Netlink, check, open_transport
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request
from wireloom.errors import DataPlaneFailed, Unsupported

__all__ = ["KnownPeer", "ensure_device", "remove_device", "set_peers", "try_device"]

#: struct ifinfomsg: family, pad, type, index, flags, change mask.
_IFINFO = struct.Struct("=BxHiII")
_IFNAME, _MTU, _LINKINFO, _INFO_KIND = 3, 4, 18, 1
_KIND: Final = "wireguard"

#: struct ifaddrmsg: family, length of the prefix, flags, scope, index.
_IFADDR = struct.Struct("=BBBBI")
_RTM_NEWADDR: Final = 20
_IFA_ADDRESS, _IFA_LOCAL = 1, 2

_NETLINK_GENERIC: Final = 16
_GENL = struct.Struct("=BBH")
_CTRL, _GETFAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_GET_DEVICE, _SET_DEVICE = 0, 1
_IFNAME_A, _PRIVATE_KEY, _LISTEN_PORT, _PEERS = 2, 3, 6, 8
_PEER_KEY, _PEER_FLAGS, _PEER_ENDPOINT, _PEER_KEEPALIVE, _PEER_ALLOWED = 1, 3, 4, 5, 9
_REMOVE_ME, _REPLACE_ALLOWED = 1, 2
_ALLOWED_FAMILY, _ALLOWED_ADDRESS, _ALLOWED_MASK = 1, 2, 3
#: What the kernel says to a kind of device that it does not know.
_UNKNOWN: Final = frozenset({errno.EOPNOTSUPP, errno.ENOENT})
#: Peers of one message: it is far below what the kernel takes.
_BATCH: Final = 64
_KEEPALIVE_S: Final = 25


@dataclass(frozen=True)
class KnownPeer:
    """Whom a device talks to. ``key``: base64; ``endpoint`` and ``port``: where; ``inside``: its address within."""

    key: str
    endpoint: str
    port: int
    inside: str


def try_device(name: str) -> None:
    """See whether the kernel has WireGuard, which loads its module; a device of this name stays as it is.

    :raises Unsupported: it has not.
    """
    with closing(_route()) as route:
        if look_up(route, [name]):
            return
        _make(route, name, 1420)
        check(route.batch([links.delete_link(name)]))


def ensure_device(name: str, *, private_key: str, port: int, mtu: int, address: str) -> None:
    """Have the device, up, with its key, its UDP port and ``address`` (with the prefix that it leads to).

    :raises Unsupported: the kernel has no WireGuard. :raises DataPlaneFailed: it refuses: the port is taken, say.
    """
    with closing(_route()) as route, closing(_generic()) as generic:
        if not look_up(route, [name]):
            _make(route, name, mtu)
        index = look_up(route, [name])[name].index
        device = text(_IFNAME_A, name) + attr(_PRIVATE_KEY, base64.b64decode(private_key)) + u16(_LISTEN_PORT, port)
        generic.ask(_set(_family(generic), device, name))
        body = _IFINFO.pack(0, 0, index, 1, 1) + u32(_MTU, mtu)
        check(route.batch([Request(RTM_NEWLINK, body, 0, name, "raise"), _new_address(index, address, name)]))


def set_peers(name: str, peers: Sequence[KnownPeer]) -> None:
    """Have the device know exactly ``peers``. Sessions with those that stay go on."""
    with closing(_generic()) as generic:
        family = _family(generic)
        wanted = {base64.b64decode(peer.key): peer for peer in peers}
        requests = [_peer(key, peer) for key, peer in wanted.items()]
        requests += [_gone(key) for key in _keys(generic, family, name) if key not in wanted]
        for start in range(0, len(requests), _BATCH):
            some = [nested(0, body) for body in requests[start : start + _BATCH]]
            generic.ask(_set(family, text(_IFNAME_A, name) + nested(_PEERS, *some), name))


def remove_device(name: str) -> None:
    """Remove the device; one that is not there is gone already."""
    with closing(_route()) as route:
        if look_up(route, [name]):
            check(route.batch([links.delete_link(name)]))


def _route() -> Netlink:
    return Netlink(open_transport())


def _generic() -> Netlink:
    return Netlink(open_transport(protocol=_NETLINK_GENERIC))


def _make(route: Netlink, name: str, mtu: int) -> None:
    body = _IFINFO.pack(0, 0, 0, 0, 0) + text(_IFNAME, name) + u32(_MTU, mtu)
    body += nested(_LINKINFO, text(_INFO_KIND, _KIND))
    (outcome,) = route.batch([Request(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, name, "make")])
    if outcome.error in _UNKNOWN:
        raise Unsupported("the kernel has no WireGuard", hint="load the module wireguard")
    check([outcome])


def _new_address(index: int, address: str, name: str) -> Request:
    found = ipaddress.ip_interface(address)
    family = socket.AF_INET if found.version == 4 else socket.AF_INET6
    body = _IFADDR.pack(family, found.network.prefixlen, 0, 0, index)
    body += attr(_IFA_LOCAL, found.ip.packed) + attr(_IFA_ADDRESS, found.ip.packed)
    return Request(_RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_REPLACE, name, f"give {address} to")


def _family(generic: Netlink) -> int:
    """What WireGuard's messages are known by; it differs with each start of the kernel."""
    body = _GENL.pack(_GETFAMILY, 1, 0) + text(_FAMILY_NAME, _KIND)
    for reply in generic.ask(Request(_CTRL, body, operation="find WireGuard")):
        found = fields(reply, _GENL.size)
        if _FAMILY_ID in found:
            return int(struct.unpack("=H", found[_FAMILY_ID][:2])[0])
    raise DataPlaneFailed("the kernel does not say how WireGuard is told of peers")


def _set(family: int, body: bytes, name: str) -> Request:
    return Request(family, _GENL.pack(_SET_DEVICE, 1, 0) + body, 0, name, "set up")


def _keys(generic: Netlink, family: int, name: str) -> Iterable[bytes]:
    """Public keys of those that the device knows."""
    body = _GENL.pack(_GET_DEVICE, 1, 0) + text(_IFNAME_A, name)
    for reply in generic.dump(Request(family, body, device=name, operation="read")):
        for _, peer in walk(fields(reply, _GENL.size).get(_PEERS, b"")):
            found = fields(peer)
            if _PEER_KEY in found:
                yield found[_PEER_KEY]


def _peer(key: bytes, peer: KnownPeer) -> bytes:
    inside = ipaddress.ip_address(peer.inside)
    family = socket.AF_INET if inside.version == 4 else socket.AF_INET6
    allowed = (
        u16(_ALLOWED_FAMILY, family) + attr(_ALLOWED_ADDRESS, inside.packed) + u8(_ALLOWED_MASK, inside.max_prefixlen)
    )
    return b"".join(
        (
            attr(_PEER_KEY, key),
            u32(_PEER_FLAGS, _REPLACE_ALLOWED),
            attr(_PEER_ENDPOINT, _sockaddr(peer.endpoint, peer.port)),
            u16(_PEER_KEEPALIVE, _KEEPALIVE_S),
            nested(_PEER_ALLOWED, nested(0, allowed)),
        )
    )


def _gone(key: bytes) -> bytes:
    return attr(_PEER_KEY, key) + u32(_PEER_FLAGS, _REMOVE_ME)


def _sockaddr(address: str, port: int) -> bytes:
    """struct sockaddr_in or sockaddr_in6."""
    found = ipaddress.ip_address(address)
    if found.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + found.packed + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", port, 0) + found.packed + bytes(4)
