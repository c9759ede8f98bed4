"""Checksums that a guest leaves to its NIC, which the userspace datapath passes on unfinished. Blocking.

Between two veth ends nobody ever computes the checksum of a frame: the kernel marks it as whole and goes on. A datapath
in user space reads the frame's bytes only, and what it writes at the other end is wrong. So guests behind it have to
compute their checksums themselves; large segments then are cut by them, too.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.namespaces import find_namespaces, inside
from wireloom.dataplane.host.netlink import Netlink

__all__ = ["leave_checksums_to_guests"]

_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_STXCSUM: Final = 0x17
#: struct ethtool_value: command, data.
_VALUE: Final = "I"


def leave_checksums_to_guests(netlink: Netlink, ports: Sequence[Link], *, alone: bool = True) -> None:
    """Have the guests' ends of veth ports compute checksums themselves (``alone``), or leave them to the NIC again.

    Guests whose namespace has gone are left out.
    """
    pairs = [(link.link_nsid, link) for link in ports if link.kind == "veth" and link.link_nsid is not None]
    by_space: dict[int, list[int]] = {}
    for nsid, link in pairs:
        by_space.setdefault(nsid, []).append(link.link)
    namespaces = find_namespaces(netlink, by_space)
    try:
        for nsid, namespace in namespaces.items():
            inside(namespace, partial(_set_checksums, by_space[nsid], on=not alone))
    finally:
        for namespace in namespaces.values():
            os.close(namespace)


def _set_checksums(nics: Sequence[int], *, on: bool) -> None:
    command = array.array(_VALUE, [_ETHTOOL_STXCSUM, int(on)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as opened:
        for nic in nics:
            # It may have gone meanwhile, or be of a kind that has no such setting.
            with suppress(OSError):
                name = socket.if_indextoname(nic).encode()
                fcntl.ioctl(opened, _SIOCETHTOOL, struct.pack("@16sP", name, command.buffer_info()[0]))
