"""Frames on IOL's netio sockets. Pure.

An application is a datagram socket ``/tmp/netio<uid>/<application id>``. A datagram is a header of 8 bytes and an
Ethernet frame without its checksum. The header, numbers big-endian::

    0  2  application id of the receiver
    2  2  application id of the sender
    4  1  port of the receiver (see ``netmap.port_key``)
    5  1  port of the sender
    6  1  type: 0 none, 1 data
    7  1  channel, 0 for Ethernet

Sources: the public bridges for these programs, which agree in it. They take frames of at most 4096 bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["HEADER_SIZE", "LARGEST_FRAME", "SMALLEST_FRAME", "Header", "pack", "unpack"]

_LAYOUT = struct.Struct(">HHBBBB")
HEADER_SIZE = _LAYOUT.size
#: What IOL takes; beyond it is dropped, as a NIC drops what does not fit.
LARGEST_FRAME = 4096
#: Two addresses and a type.
SMALLEST_FRAME = 14
_DATA = 1


class Header(NamedTuple):
    """Ends of a frame: application ids and ports."""

    to_application: int
    from_application: int
    to_port: int
    from_port: int


def pack(header: Header) -> bytes:
    """The bytes before a frame."""
    return _LAYOUT.pack(*header, _DATA, 0)


def unpack(data: bytes | bytearray | memoryview) -> Header | None:
    """Who a frame is for; ``None``: this is no Ethernet frame."""
    if len(data) < HEADER_SIZE:
        return None
    *ends, kind, channel = _LAYOUT.unpack_from(data)
    return Header(*ends) if kind == _DATA and channel == 0 else None
