"""The address at which other hosts reach this one."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import closing
from typing import Final
from urllib.parse import urlsplit

__all__ = ["find_address"]

#: Addresses for documentation: nothing is sent there, only the route is asked for.
_ANYWHERE: Final = ("192.0.2.1", "2001:db8::1")


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
