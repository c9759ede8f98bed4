"""One MTU for both sides of a port. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import os
from collections.abc import Sequence

from wireloom.dataplane.host import links
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.namespaces import enter, find_namespace
from wireloom.dataplane.host.netlink import Netlink
from wireloom.dataplane.host.protocol import Outcome

__all__ = ["mend_mtu"]


def mend_mtu(netlink: Netlink, ports: Sequence[tuple[Link, int]]) -> list[Outcome]:
    """Give each device its MTU in bytes, and the NIC of a guest in a namespace the same.

    The guest first, so that a crash between them is mended later: what is compared is the host's side.
    """
    wrong = [(link, mtu) for link, mtu in ports if link.mtu != mtu]
    outcomes: list[Outcome] = []
    for link, mtu in wrong:
        if link.kind == "veth" and link.link_nsid is not None:
            outcomes += _mend_guest(netlink, link, link.link_nsid, mtu)
    return outcomes + netlink.batch([links.set_link(link.name, mtu=mtu) for link, mtu in wrong])


def _mend_guest(host: Netlink, link: Link, nsid: int, mtu: int) -> list[Outcome]:
    namespace = find_namespace(host, nsid)
    if namespace is None:
        return []
    try:
        with enter(namespace) as netlink:
            return netlink.batch([links.set_link(link.link, name=link.name, mtu=mtu)])
    finally:
        os.close(namespace)
