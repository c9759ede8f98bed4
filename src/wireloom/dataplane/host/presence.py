"""The host's own presence on a segment: none at all, an address of its own, or what moved there from a NIC.

Blocking: for the data plane's worker thread.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

from wireloom.dataplane.host import addresses, links
from wireloom.dataplane.host.addresses import Interface
from wireloom.dataplane.host.netlink import Netlink
from wireloom.dataplane.host.ports import disable_ipv6
from wireloom.dataplane.host.protocol import Request

__all__ = ["let_speak", "settle_presence", "write_setting"]


def settle_presence(
    netlink: Netlink, device: str, index: int, address: str | None, moved: Set[Interface]
) -> list[Request]:
    """Requests that give the host its addresses on a segment, or keep it off where it has none.

    :param address: its own in the segment, with the prefix. :param moved: addresses that a NIC had and that stay.
    """
    wanted: set[Interface] = {ipaddress.ip_interface(address)} if address else set()
    speaks = wanted | moved
    ipv6 = any(one.version == 6 for one in speaks)
    if not ipv6:
        disable_ipv6(device)
    requests = [let_speak(device, ipv6=ipv6) if speaks else links.quieten(device, ipv6=True)]
    present = addresses.parse_addresses(netlink.dump(addresses.DUMP_ADDRESSES), index)
    stale = sorted(present - speaks, key=str)
    requests += [addresses.delete_address(index, one, device) for one in stale]
    return requests + [addresses.add_address(index, one, device) for one in wanted - present]


def let_speak(device: str, *, ipv6: bool, like: str = "all") -> Request:
    """Have the host's own IP stack speak on a segment that it was kept off, forwarding as it does on ``like``.

    :returns: the rest of it, as a request.
    """
    if ipv6:
        write_setting("ipv6", device, "disable_ipv6", "0")
    with suppress(OSError):
        forwarding = Path(f"/proc/sys/net/ipv4/conf/{like}/forwarding").read_text()
        write_setting("ipv4", device, "forwarding", forwarding)
    return links.hear(device)


def write_setting(family: str, device: str, key: str, value: str) -> None:
    """Set what the kernel has no message for; without effect where it has no such family or the device has gone."""
    with suppress(OSError):
        Path(f"/proc/sys/net/{family}/conf/{device}/{key}").write_text(value)
