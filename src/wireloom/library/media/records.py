"""Directory records of ISO 9660 and their Rock Ridge fields, as bytes say them: strict, and pure but for one callback.

ECMA-119 9.1 has the record, the System Use Sharing Protocol the fields behind the name, Rock Ridge what they mean.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from wireloom.library.values import ImageRefused

__all__ = ["SECTOR", "Naming", "Record", "records_in"]

SECTOR: Final = 2048
#: Which names count: those of ISO 9660, of Rock Ridge beside them, or of Joliet's own tree.
Naming = Literal["iso", "rock-ridge", "joliet"]

_HEAD: Final = 33
_DIRECTORY: Final = 0x02
_MULTI_EXTENT: Final = 0x80
_NAME_BYTES: Final = 255
_CONTINUATIONS: Final = 32
_AREA_BYTES: Final = 64 << 10
_FIELD_HEAD: Final = 4
_IS_CURRENT_OR_PARENT: Final = 0x02 | 0x04
_SPECIAL: Final = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)

#: Bytes of the image at an offset, in number; raises when they lie outside of it.
ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Record:
    """An entry of a folder. Offsets and sizes in bytes.

    :ivar self_or_parent: the two entries that every folder begins with.
    :ivar continues: the next record has more of the same file. :ivar raw: the name as ISO 9660 has it.
    :ivar child: offset of the folder that really stands here (Rock Ridge relocates deep ones); ``moved``: this is one.
    """

    name: str
    raw: bytes
    offset: int
    size: int
    directory: bool
    self_or_parent: bool
    continues: bool
    link: bool
    child: int | None
    moved: bool


@dataclass
class _Fields:
    """What Rock Ridge says of an entry."""

    name: bytearray | None = None
    link: bool = False
    child: int | None = None
    moved: bool = False


def records_in(data: bytes, naming: Naming, skip: int, read: ReadAt) -> Iterator[Record]:
    """The entries of a folder whose content is ``data``.

    :param skip: bytes before the fields of Rock Ridge, as the root says.
    :raises ImageRefused: a record that no program would have written.
    """
    position = 0
    while position < len(data):
        length = data[position]
        rest = SECTOR - position % SECTOR
        if length == 0:  # records do not cross sectors: what is left of this one is empty
            position += rest
            continue
        if length <= _HEAD or length > rest or position + length > len(data):
            raise ImageRefused("corrupt", "a folder of the image has an entry of an impossible length")
        yield _record(data[position : position + length], naming, skip, read)
        position += length


def _record(data: bytes, naming: Naming, skip: int, read: ReadAt) -> Record:
    extent, extent_again = struct.unpack("<I", data[2:6])[0], struct.unpack(">I", data[6:10])[0]
    size, size_again = struct.unpack("<I", data[10:14])[0], struct.unpack(">I", data[14:18])[0]
    flags, unit, gap, length = data[25], data[26], data[27], data[32]
    if (extent, size) != (extent_again, size_again):
        raise ImageRefused("corrupt", "an entry of the image has two different places or sizes")
    if data[1] or unit or gap:
        raise ImageRefused("format", "files in pieces (interleaved, or with extended attributes) are not read")
    if length == 0 or _HEAD + length > len(data):
        raise ImageRefused("name", "an entry of the image has no name, or one that is longer than the entry")
    raw = data[_HEAD : _HEAD + length]
    special = raw in {b"\x00", b"\x01"}
    fields = _Fields()
    if naming == "rock-ridge":
        after = _HEAD + length + (length + 1) % 2 + skip
        _read_fields(data[after:], read, fields)
    return Record(
        name="" if special else _name(raw, fields, naming),
        raw=raw,
        offset=extent * SECTOR,
        size=size,
        directory=bool(flags & _DIRECTORY),
        self_or_parent=special,
        continues=bool(flags & _MULTI_EXTENT),
        link=fields.link,
        child=fields.child,
        moved=fields.moved,
    )


def _name(raw: bytes, fields: _Fields, naming: Naming) -> str:
    """:raises ImageRefused: no name that a file may have."""
    written = bytes(fields.name) if fields.name else raw
    try:
        name = written.decode("utf-16-be" if naming == "joliet" else "utf-8")
    except UnicodeDecodeError as error:
        raise ImageRefused("name", f"{written[:40]!r} on the image is not text") from error
    if not fields.name:
        name = name.partition(";")[0]
    if len(name.encode()) > _NAME_BYTES:
        raise ImageRefused("name", f"a name on the image is longer than {_NAME_BYTES} bytes")
    if not name or name in {".", ".."} or "/" in name or not name.isprintable():
        raise ImageRefused("name", f"{name[:80]!r} on the image is not a name that a file may have")
    return name


# ------------------------------------------------------------------ Rock Ridge


def _read_fields(data: bytes, read: ReadAt, fields: _Fields) -> None:
    """Take in the fields of an entry, through all areas where they go on."""
    seen: set[tuple[int, int]] = set()
    following = _take_area(data, fields)
    while following is not None:
        offset, length = following
        if (offset, length) in seen or len(seen) >= _CONTINUATIONS:
            raise ImageRefused("loop", "fields of an entry of the image go on and on")
        if length > _AREA_BYTES:
            raise ImageRefused("bomb", f"an entry of the image has fields of {length} bytes")
        seen.add((offset, length))
        following = _take_area(read(offset, length), fields)


def _take_area(data: bytes, fields: _Fields) -> tuple[int, int] | None:
    """Take in one area; where the fields go on, as offset and length."""
    position, following = 0, None
    while position + _FIELD_HEAD <= len(data):
        sign, length = data[position : position + 2], data[position + 2]
        if sign == b"ST" or not sign.isalnum():
            break  # the end, or padding
        if length < _FIELD_HEAD or position + length > len(data):
            raise ImageRefused("corrupt", "an entry of the image has a field of an impossible length")
        body = data[position + _FIELD_HEAD : position + length]
        if sign == b"CE":
            following = _continuation(body)
        else:
            _take_field(sign, body, fields)
        position += length
    return following


def _continuation(body: bytes) -> tuple[int, int]:
    if len(body) < 24:
        raise ImageRefused("corrupt", "an entry of the image has a field of an impossible length")
    block, offset, length = (struct.unpack("<I", body[at : at + 4])[0] for at in (0, 8, 16))
    return block * SECTOR + offset, length


def _take_field(sign: bytes, body: bytes, fields: _Fields) -> None:
    if sign == b"NM" and body:
        if body[0] & _IS_CURRENT_OR_PARENT:
            return  # "." and "..", which those two entries are anyway
        fields.name = (fields.name or bytearray()) + body[1:]
        if len(fields.name) > _NAME_BYTES:
            raise ImageRefused("name", f"a name on the image is longer than {_NAME_BYTES} bytes")
    elif sign == b"SL":
        fields.link = True
    elif sign == b"RE":
        fields.moved = True
    elif sign == b"CL" and len(body) >= 4:
        fields.child = struct.unpack("<I", body[:4])[0] * SECTOR
    elif sign == b"PX" and len(body) >= 4 and stat.S_IFMT(struct.unpack("<I", body[:4])[0]) in _SPECIAL:
        raise ImageRefused("device-node", "the image has a device, a pipe or a socket on it")
