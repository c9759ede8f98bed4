"""What Linux neighbours leave to a NIC, done here because IOL has none: checksums, and cutting large segments. Pure.

A packet socket with ``PACKET_VNET_HDR`` gives each frame a header of 10 bytes (virtio's, little-endian) that says what
is left to do::

    0  1  flags: 1 the checksum is unfinished
    1  1  kind of segment: 0 none, 1 TCP over IPv4, 4 TCP over IPv6; 128 is a flag beside it
    2  2  length of all headers (a hint)
    4  2  payload of each piece
    6  2  where the checksummed bytes begin; at ``offset`` from there stands the sum of the pseudo header
    8  2  offset

Sources: the kernel's ``virtio_net.h``; RFC 1071 for the sum, RFC 9293 and RFC 3168 for the flags of pieces.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["NOTHING_LEFT", "SIZE", "finished"]

_LAYOUT = struct.Struct("<BBHHHH")
SIZE = _LAYOUT.size
#: The header of a frame that is whole.
NOTHING_LEFT = bytes(SIZE)

_UNFINISHED = 1
_TCP4, _TCP6 = 1, 4
_ECN = 0x80
_UDP_OFFSET = 6
_VLAN_TYPES = (0x8100, 0x88A8)
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_TCP = 6


def finished(header: bytes | bytearray | memoryview, frame: memoryview) -> Iterator[bytes | memoryview]:
    """The frame, or the frames, with everything done that ``header`` says is left to do.

    ``frame`` is changed in place. Nothing comes of a frame that contradicts its header, or of a kind that is unknown.
    """
    flags, kind, _, payload, start, offset = _LAYOUT.unpack_from(header)
    if kind:
        if kind & ~_ECN in (_TCP4, _TCP6) and payload:
            yield from _pieces(frame, start, payload, over_ipv6=kind & ~_ECN == _TCP6)
        return
    if flags & _UNFINISHED:
        if start + offset + 2 > len(frame):
            return
        value = checksum(frame[start:])
        if value == 0 and offset == _UDP_OFFSET:
            value = 0xFFFF  # 0 means to UDP that there is none
        struct.pack_into(">H", frame, start + offset, value)
    yield frame


def checksum(data: bytes | bytearray | memoryview) -> int:
    """The Internet checksum of ``data``, which is not all zeros.

    A sum with end-around carry is the remainder by 65535, which one division of a long number gives.
    """
    whole = int.from_bytes(data, "big") << (8 if len(data) & 1 else 0)
    rest = whole % 0xFFFF
    return 0xFFFF - rest if rest else 0


def _pieces(frame: memoryview, start: int, payload: int, *, over_ipv6: bool) -> Iterator[bytes]:
    """A large TCP segment as segments with at most ``payload`` bytes each."""
    network = _network_header(frame)
    if network is None or not network < start <= len(frame) - 20:
        return
    body = start + (frame[start + 12] >> 4) * 4
    if body > len(frame):
        return
    head = bytes(frame[:body])
    (sequence,) = struct.unpack_from(">I", head, start + 4)
    flags = head[start + 13]
    for number, at in enumerate(range(body, len(frame), payload)):
        piece = bytearray(head)
        piece += frame[at : at + payload]
        last = at + payload >= len(frame)
        struct.pack_into(">I", piece, start + 4, (sequence + at - body) & 0xFFFFFFFF)
        piece[start + 13] = flags & ~((0 if last else _FIN | _PSH) | (_CWR if number else 0))
        _finish_network(piece, network, number, over_ipv6=over_ipv6)
        _finish_tcp(piece, network, start, over_ipv6=over_ipv6)
        yield bytes(piece)


def _network_header(frame: memoryview) -> int | None:
    """Where the IP header begins."""
    at = 12
    while at + 2 <= len(frame) and struct.unpack_from(">H", frame, at)[0] in _VLAN_TYPES:
        at += 4
    return at + 2 if at + 2 <= len(frame) else None


def _finish_network(piece: bytearray, network: int, number: int, *, over_ipv6: bool) -> None:
    if over_ipv6:
        struct.pack_into(">H", piece, network + 4, len(piece) - network - 40)
        return
    (identification,) = struct.unpack_from(">H", piece, network + 4)
    struct.pack_into(">HH", piece, network + 2, len(piece) - network, (identification + number) & 0xFFFF)
    struct.pack_into(">H", piece, network + 10, 0)
    end = network + (piece[network] & 15) * 4
    struct.pack_into(">H", piece, network + 10, checksum(piece[network:end]))


def _finish_tcp(piece: bytearray, network: int, start: int, *, over_ipv6: bool) -> None:
    addresses = piece[network + 8 : network + 40] if over_ipv6 else piece[network + 12 : network + 20]
    struct.pack_into(">H", piece, start + 16, 0)
    pseudo = bytes(addresses) + struct.pack(">IHH", len(piece) - start, 0, _TCP)
    struct.pack_into(">H", piece, start + 16, checksum(pseudo + piece[start:]))
