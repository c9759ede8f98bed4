"""Counters of ports. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from wireloom.dataplane.host import links
from wireloom.dataplane.host.attributes import walk
from wireloom.dataplane.host.netlink import Netlink
from wireloom.dataplane.host.protocol import Request
from wireloom.model.network import PortAlias, PortCounters

__all__ = ["DUMP_COUNTERS", "Counters", "parse_counters"]

_RTM_GETSTATS = 94
#: struct if_stats_msg: family, pads, ifindex, filter mask.
_STATS = struct.Struct("=BxxxII")
_LINK_64: Final = 1
#: The head of struct rtnl_link_stats64: packets, bytes, errors and drops, each received and sent.
_COUNTERS = struct.Struct("=8Q")

DUMP_COUNTERS: Final = Request(
    _RTM_GETSTATS, _STATS.pack(0, 0, 1 << (_LINK_64 - 1)), operation="read the counters of all devices"
)


def parse_counters(body: bytes) -> tuple[int, PortCounters] | None:
    """Index of a device with its counters as its guest sees them: what the device sent, the guest received."""
    _, index, _ = _STATS.unpack_from(body)
    raw = next((value for kind, value in walk(body, _STATS.size) if kind == _LINK_64), b"")
    if len(raw) < _COUNTERS.size:
        return None
    received, sent, received_bytes, sent_bytes, _, _, received_dropped, sent_dropped = _COUNTERS.unpack_from(raw)
    counters = PortCounters(
        rx_packets=sent,
        rx_bytes=sent_bytes,
        rx_dropped=sent_dropped,
        tx_packets=received,
        tx_bytes=received_bytes,
        tx_dropped=received_dropped,
    )
    return index, counters


class Counters:
    """Counters of the ports of one installation.

    Counters come without names, which makes reading them often cheap: names are asked for only when devices came or
    went since the last time.
    """

    def __init__(self, netlink: Netlink, installation: str) -> None:
        self._netlink = netlink
        self._installation = installation
        self._indexes: frozenset[int] = frozenset()
        self._names: dict[int, str] = {}

    def read(self) -> Mapping[str, PortCounters]:
        """By device; of a port that came or went this moment there may be none."""
        bodies = self._netlink.dump(DUMP_COUNTERS)
        indexes = frozenset(_STATS.unpack_from(body)[1] for body in bodies)
        if indexes != self._indexes:
            self._names = self._read_names()
            self._indexes = indexes
        wanted = (body for body in bodies if _STATS.unpack_from(body)[1] in self._names)
        parsed = (found for body in wanted if (found := parse_counters(body)) is not None)
        return {self._names[index]: counters for index, counters in parsed}

    def _read_names(self) -> dict[int, str]:
        found = links.parse_links(self._netlink.dump(links.DUMP_LINKS))
        aliases = ((link, PortAlias.parse(link.alias)) for link in found)
        return {link.index: link.name for link, alias in aliases if alias and alias.installation == self._installation}
