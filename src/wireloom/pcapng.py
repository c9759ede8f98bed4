"""The pcapng file format, as much of it as a capture needs: its blocks written, and a stream of them summed up.

Written after draft-ietf-opsawg-pcapng. Needs nothing beyond the standard library, because the capturing process loads
it at every start.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

__all__ = [
    "BlockReader",
    "Direction",
    "Summary",
    "enhanced_packet",
    "interface_description",
    "interface_statistics",
    "section_header",
]

SECTION_HEADER: Final = 0x0A0D0D0A
INTERFACE_DESCRIPTION: Final = 1
INTERFACE_STATISTICS: Final = 5
ENHANCED_PACKET: Final = 6

_MAGIC: Final = 0x1A2B3C4D
_ETHERNET: Final = 1
_NANOSECONDS: Final = b"\x09"

_COMMENT: Final = 1
_SECTION_OS, _SECTION_PROGRAM = 3, 4
_NAME, _DESCRIPTION, _RESOLUTION, _FILTER = 2, 3, 9, 11
_STARTED, _ENDED, _RECEIVED, _DROPPED, _DELIVERED = 2, 3, 4, 5, 8

#: No block of ours is larger: a frame of a host device has at most some 64 KiB, and options are short.
LONGEST_BLOCK: Final = 1 << 20

_PACKET_HEAD: Final = struct.Struct("=IIIIIII")
#: The option ``epb_flags`` of four bytes, the end of options, and the closing length.
_PACKET_TAIL: Final = struct.Struct("=HHIHHI")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


class Direction(IntEnum):
    """Which way a frame went through the host's device, as ``epb_flags`` says it."""

    INBOUND = 1
    OUTBOUND = 2


def section_header(comment: str, *, program: str, system: str) -> bytes:
    """The first block of a file, with a comment on all of it."""
    body = struct.pack("=IHHq", _MAGIC, 1, 0, -1)
    options = _text(_COMMENT, comment) + _text(_SECTION_OS, system) + _text(_SECTION_PROGRAM, program)
    return _block(SECTION_HEADER, body + _closed(options))


def interface_description(name: str, *, description: str, snaplen: int, capture_filter: str = "") -> bytes:
    """An Ethernet interface, numbered from 0 in the order of these blocks; its times are nanoseconds."""
    body = struct.pack("=HHI", _ETHERNET, 0, snaplen)
    options = _text(_NAME, name) + _text(_DESCRIPTION, description) + _option(_RESOLUTION, _NANOSECONDS)
    if capture_filter:
        options += _option(_FILTER, b"\0" + capture_filter.encode())  # 0: a text, as libpcap understands it
    return _block(INTERFACE_DESCRIPTION, body + _closed(options))


def enhanced_packet(interface: int, time_ns: int, frame: bytes, length: int, direction: Direction) -> bytes:
    """One frame; ``length`` is what it had before it was cut."""
    size = len(frame)
    padding = _PADDING[size & 3]
    total = 44 + size + len(padding)
    head = _PACKET_HEAD.pack(ENHANCED_PACKET, total, interface, time_ns >> 32, time_ns & 0xFFFFFFFF, size, length)
    return b"".join((head, frame, padding, _PACKET_TAIL.pack(2, 4, direction, 0, 0, total)))


def interface_statistics(
    interface: int, *, started_ns: int, ended_ns: int, received: int, dropped: int, delivered: int, comment: str = ""
) -> bytes:
    """What became of an interface's frames: passed by the filter, lost for want of room, and written."""
    body = struct.pack("=III", interface, ended_ns >> 32, ended_ns & 0xFFFFFFFF)
    options = _text(_COMMENT, comment) if comment else b""
    for code, moment in ((_STARTED, started_ns), (_ENDED, ended_ns)):
        options += _option(code, struct.pack("=II", moment >> 32, moment & 0xFFFFFFFF))
    for code, count in ((_RECEIVED, received), (_DROPPED, dropped), (_DELIVERED, delivered)):
        options += _option(code, struct.pack("=Q", count))
    return _block(INTERFACE_STATISTICS, body + _closed(options))


def _block(kind: int, body: bytes) -> bytes:
    total = 12 + len(body)
    return struct.pack("=II", kind, total) + body + struct.pack("=I", total)


def _closed(options: bytes) -> bytes:
    return options + bytes(4)


def _text(code: int, text: str) -> bytes:
    return _option(code, text.encode()[:0xFFFF])


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + _PADDING[len(value) & 3]


class Summary:
    """A capture as its blocks tell.

    :ivar dropped: frames that did not get into it because its reader was slow; known at its end.
    :ivar interfaces: their names, by number.
    :ivar ended: why it ended, in words; empty while it has not, or when it was cut off.
    """

    def __init__(self) -> None:
        self.packets = 0
        self.dropped = 0
        self.ended = ""
        self.interfaces: list[str] = []


class BlockReader:
    """Sums a stream up, piece by piece, of this machine's byte order or the other."""

    def __init__(self) -> None:
        self.summary = Summary()
        self._rest = bytearray()
        self._order = "="

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. :raises ValueError: this is no pcapng."""
        self._rest += piece
        position = 0
        while len(self._rest) - position >= 12:
            kind = int.from_bytes(self._rest[position : position + 4], "little")
            if kind == SECTION_HEADER:
                self._order = _order_of(self._rest[position + 8 : position + 12])
            kind, total = struct.unpack_from(f"{self._order}II", self._rest, position)
            if not 12 <= total <= LONGEST_BLOCK or total % 4:
                raise ValueError("this is not a capture in the pcapng format")
            if len(self._rest) - position < total:
                break
            self._take(kind, memoryview(self._rest)[position + 8 : position + total - 4].tobytes())
            position += total
        del self._rest[:position]

    def _take(self, kind: int, body: bytes) -> None:
        if kind == ENHANCED_PACKET:
            self.summary.packets += 1
        elif kind == INTERFACE_DESCRIPTION:
            names = [value.decode(errors="replace") for code, value in self._options(body[8:]) if code == _NAME]
            self.summary.interfaces.append(next(iter(names), ""))
        elif kind == INTERFACE_STATISTICS:
            for code, value in self._options(body[12:]):
                if code == _DROPPED and len(value) == 8:
                    self.summary.dropped += struct.unpack(f"{self._order}Q", value)[0]
                elif code == _COMMENT:
                    self.summary.ended = value.decode(errors="replace")

    def _options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        position = 0
        while position + 4 <= len(data):
            code, size = struct.unpack_from(f"{self._order}HH", data, position)
            if code == 0:
                return
            yield code, data[position + 4 : position + 4 + size]
            position += 4 + size + (-size & 3)


def _order_of(magic: bytes | bytearray) -> str:
    """The sign of :mod:`struct` for the byte order of a section."""
    for sign, order in (("<", "little"), (">", "big")):
        if magic == _MAGIC.to_bytes(4, "little" if order == "little" else "big"):
            return sign
    raise ValueError("this is not a capture in the pcapng format")
