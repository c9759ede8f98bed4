"""Ethernet frames that a transparent wire has to carry, above all those that ordinary bridges eat."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

__all__ = [
    "FRAMES",
    "JUMBO_FRAMES",
    "MAXIMUM_MTU",
    "SEGMENT_FRAMES",
    "ethernet",
    "internet_checksum",
    "source_address",
    "source_of",
]

#: Bytes; what a jumbo frame of these lists needs.
MAXIMUM_MTU: Final = 9000
_BROADCAST: Final = "ffffffffffff"
_UNICAST: Final = "020000000001"
_DOT1Q: Final = "8100"
_DOT1AD: Final = "88a8"


def source_address() -> bytes:
    """A fresh address: it marks one frame of a test, even one without payload."""
    return b"\x02" + secrets.token_bytes(5)


def source_of(frame: bytes) -> bytes:
    return frame[6:12]


def ethernet(destination: str, body: bytes, source: bytes | None = None) -> bytes:
    """A frame; ``body`` begins with the type (or tag, or length) field."""
    return bytes.fromhex(destination) + (source or source_address()) + body


def _typed(destination: str, ethertype: str, payload: int = 46) -> Callable[[], bytes]:
    return lambda: ethernet(destination, bytes.fromhex(ethertype) + secrets.token_bytes(payload))


def _spanning_tree() -> bytes:
    """A configuration BPDU: a length in place of a type, then LLC."""
    return ethernet("0180c2000000", bytes.fromhex("0026424203") + secrets.token_bytes(35) + bytes(8))


def internet_checksum(data: bytes) -> int:
    """Of an even number of bytes (RFC 1071); 0 for data that carry their own correct checksum."""
    total = sum(int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - ((total & 0xFFFF) + (total >> 16))


def _ipv4(destination: str = _UNICAST) -> bytes:
    """UDP from 192.0.2.1 to 192.0.2.2 with a correct header, as a firewall would look at."""
    payload = secrets.token_bytes(32)
    udp = bytes.fromhex("c000c001") + (8 + len(payload)).to_bytes(2) + bytes(2) + payload
    head = bytearray(bytes.fromhex("45000000123440004011") + bytes(2) + bytes([192, 0, 2, 1, 192, 0, 2, 2]))
    head[2:4] = (20 + len(udp)).to_bytes(2)
    head[10:12] = internet_checksum(bytes(head)).to_bytes(2)
    return ethernet(destination, bytes.fromhex("0800") + bytes(head) + udp)


def _ipv6() -> bytes:
    """UDP from fe80::1 to the group of all nodes, with a correct header."""
    udp = bytes.fromhex("c000c001") + (40).to_bytes(2) + secrets.token_bytes(34)
    head = bytes.fromhex("60000000") + len(udp).to_bytes(2) + b"\x11\x01"
    addresses = bytes.fromhex("fe80" + "00" * 13 + "01" + "ff02" + "00" * 13 + "01")
    return ethernet("333300000001", bytes.fromhex("86dd") + head + addresses + udp)


#: Builders by name. Each call gives a fresh frame with a source address of its own.
FRAMES: Final[dict[str, Callable[[], bytes]]] = {
    "lldp": _typed("0180c200000e", "88cc"),
    "lacp": _typed("0180c2000002", "8809", 110),
    "stp": _spanning_tree,
    "pause": _typed("0180c2000001", "8808"),
    "802.1x": _typed("0180c2000003", "888e"),
    "provider-stp": _typed("0180c2000008", "88cc"),
    "gvrp": _typed("0180c2000021", "0026"),
    "cdp": _typed("01000ccccccc", "0050", 80),
    "pvst": _typed("01000ccccccd", "0032", 50),
    "arp": _typed(_BROADCAST, "0806", 28),
    "ipv4": _ipv4,
    "ipv4-garbage": _typed(_UNICAST, "0800"),
    "ipv6-multicast": _ipv6,
    "ipv6-garbage": _typed("333300000001", "86dd", 60),
    "mpls": _typed(_UNICAST, "8847"),
    "macsec": _typed(_UNICAST, "88e5", 64),
    "802.1q": _typed(_UNICAST, _DOT1Q + "0064" + "0800"),
    "802.1q-lldp": _typed("0180c200000e", _DOT1Q + "e001" + "88cc"),
    "802.1q-priority": _typed(_UNICAST, _DOT1Q + "a000" + "88b5"),
    "q-in-q": _typed(_UNICAST, _DOT1AD + "00c8" + _DOT1Q + "0064" + "0800"),
    "q-in-q-old": _typed(_UNICAST, _DOT1Q + "0fff" + _DOT1Q + "0001" + "86dd"),
    "three-tags": _typed(_UNICAST, _DOT1AD + "0001" + _DOT1AD + "0002" + _DOT1Q + "0003" + "88b5"),
    "unknown-type": _typed(_UNICAST, "88b5"),
    "reserved-type": _typed(_UNICAST, "ffff"),
    "no-payload": _typed(_UNICAST, "88b5", 0),
    "one-byte": _typed(_UNICAST, "88b5", 1),
    "three-bytes": _typed(_BROADCAST, "0806", 3),
    "full-size": _typed(_UNICAST, "0800", 1500),
    "full-size-tagged": _typed(_UNICAST, _DOT1Q + "0064" + "0800", 1500),
}

#: Frames that need ports and a wire of ``MAXIMUM_MTU``.
JUMBO_FRAMES: Final[dict[str, Callable[[], bytes]]] = {
    "jumbo": _typed(_UNICAST, "0800", MAXIMUM_MTU),
    "jumbo-tagged": _typed(_UNICAST, _DOT1Q + "0064" + "86dd", MAXIMUM_MTU),
}

#: Frames that a segment carries to its other ports; a bridge keeps pause frames (IEEE 802.1Q, 8.6.3)
#: and, where the host filters bridged frames, drops malformed IP packets.
SEGMENT_FRAMES: Final[dict[str, Callable[[], bytes]]] = {
    name: FRAMES[name]
    for name in ("ipv4", "arp", "ipv6-multicast", "802.1q", "q-in-q", "lldp", "lacp", "stp", "802.1x", "unknown-type")
}
