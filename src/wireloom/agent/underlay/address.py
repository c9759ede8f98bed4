"""The address at which other hosts reach this one."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from contextlib import closing
from typing import Final
from urllib.parse import urlsplit

__all__ = ["address_of", "find_address"]

#: Addresses for documentation: nothing is sent there, only the route is asked for.
_ANYWHERE: Final = ("192.0.2.1", "2001:db8::1")
#: The ioctl that reads the first IPv4 address of an interface.
_SIOCGIFADDR: Final = 0x8915


def address_of(interface: str) -> str:
    """The first IPv4 address of an interface; empty: it has none, or is not there."""
    request = struct.pack("=16s24x", interface.encode()[:15])
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        try:
            return socket.inet_ntoa(fcntl.ioctl(asked, _SIOCGIFADDR, request)[20:24])
        except OSError:
            return ""


def find_address(fabric_urls: Iterable[str]) -> str:
    """Where the route to the fabric begins, else the default route; empty: there is none.

    Where the fabric is on this machine its address is one that nobody else reaches. Blocking: names are looked up.
    """
    hosts = [urlsplit(url).hostname or "" for url in fabric_urls]
    found = (_source(host) for host in (*hosts, *_ANYWHERE))
    return next((address for address in found if address), "")


def _source(host: str) -> str:
    if not host:
        return ""
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM):
            with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
                probe.connect(address)
                own = ipaddress.ip_address(str(probe.getsockname()[0]).partition("%")[0])
            if not (own.is_loopback or own.is_link_local or own.is_unspecified):
                return str(own)
    except OSError:
        return ""
    return ""
