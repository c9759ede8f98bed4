"""Frames of a byte stream: one byte of kind, a sequence number of four bytes, and a body. Pure.

===== ========= ==================================================================
kind  name      body
===== ========= ==================================================================
``D`` data      bytes
``C`` credit    unsigned 32 bit: bytes that the receiver has consumed
``R`` resize    columns and rows, unsigned 16 bit each
``M`` message   a JSON document beside the bytes, whose meaning is the stream's own
``K`` alive     empty
``E`` end       empty: no more data will come, all is well
``X`` error     a :class:`~wireloom.errors.WireloomError` as JSON; nothing comes after it
``Z`` close     empty: the other end has let go
===== ========= ==================================================================

Numbers count from 0 in each direction, so that a gap (frames lost with a server) is seen and never passed over.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import Enum

from wireloom.errors import InternalError, WireloomError, from_wire

__all__ = ["Frame", "FrameKind", "credit_body", "decode", "encode", "error_body", "resize_body"]

_HEAD = struct.Struct(">cI")
_CREDIT = struct.Struct(">I")
_RESIZE = struct.Struct(">HH")
_WRAP = 1 << 32


class FrameKind(Enum):
    DATA = b"D"
    CREDIT = b"C"
    RESIZE = b"R"
    MESSAGE = b"M"
    ALIVE = b"K"
    END = b"E"
    ERROR = b"X"
    CLOSE = b"Z"


@dataclass(frozen=True)
class Frame:
    kind: FrameKind
    number: int
    body: bytes = b""

    @property
    def credit(self) -> int:
        """Bytes consumed, of a credit frame."""
        return int(_CREDIT.unpack(self.body)[0])

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, of a resize frame."""
        columns, rows = _RESIZE.unpack(self.body)
        return columns, rows

    @property
    def error(self) -> WireloomError:
        """The error, of an error frame."""
        return from_wire(json.loads(self.body))


def encode(kind: FrameKind, number: int, body: bytes = b"") -> bytes:
    """A frame as bytes; ``number`` may run on, it is cut to 32 bits."""
    return _HEAD.pack(kind.value, number % _WRAP) + body


def decode(data: bytes) -> Frame:
    """The reverse of :func:`encode`. :raises InternalError: this is no frame."""
    try:
        kind, number = _HEAD.unpack_from(data)
        return Frame(FrameKind(kind), number, data[_HEAD.size :])
    except (struct.error, ValueError) as error:
        raise InternalError("the fabric brought a frame that is not one") from error


def credit_body(consumed: int) -> bytes:
    return _CREDIT.pack(consumed)


def resize_body(columns: int, rows: int) -> bytes:
    """Sizes are held to what a terminal can have (16 bits)."""
    return _RESIZE.pack(min(max(columns, 1), 0xFFFF), min(max(rows, 1), 0xFFFF))


def error_body(error: WireloomError) -> bytes:
    return json.dumps(error.to_wire()).encode()
