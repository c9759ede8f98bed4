"""Netlink's type-length-value coding (RFC 3549, section 2.2), as pure functions on bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["align", "attr", "fields", "nested", "text", "u8", "u16", "u32", "walk"]

_HEADER = struct.Struct("=HH")
#: The two upper bits of a type are flags: nested, and network byte order (linux/netlink.h).
_TYPE_MASK = 0x3FFF
_NESTED = 0x8000


def align(length: int) -> int:
    """``length`` rounded up to netlink's four-byte grid."""
    return (length + 3) & ~3


def attr(kind: int, value: bytes = b"") -> bytes:
    """One attribute, padded."""
    length = 4 + len(value)
    return _HEADER.pack(length, kind) + value + b"\0" * (align(length) - length)


def nested(kind: int, *children: bytes) -> bytes:
    """An attribute that holds other attributes."""
    return attr(kind | _NESTED, b"".join(children))


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string attribute."""
    return attr(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=B", value))


def u16(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=I", value))


def walk(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """``(type, value)`` of each attribute in ``data`` from ``offset``; stops at the first malformed one."""
    end = len(data)
    unpack = _HEADER.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4 or offset + length > end:
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def fields(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """All attributes of ``data`` by type; of a repeated type the last one."""
    return dict(walk(data, offset))
