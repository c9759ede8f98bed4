"""One header of a tar file, and the records of an extended one.

Readers of tar differ in what they make of unusual headers, and an image must not look harmless to us and be something
else to the engine. So this one is strict: numbers are numbers, checksums fit, and what Go's ``archive/tar`` (the
engine's reader), GNU tar and Python would read differently is refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from wireloom.library.values import ImageRefused

__all__ = [
    "BLOCK",
    "EXTENDED_MOST",
    "ZEROS",
    "Header",
    "Records",
    "each_record",
    "is_header",
    "parse_header",
    "parse_records",
    "parse_size",
]

BLOCK: Final = 512
ZEROS: Final = bytes(BLOCK)
#: Bytes of an extended header; Go's reader has the same bound.
EXTENDED_MOST: Final = 1 << 20

#: name, mode, uid, gid, size, mtime, checksum, type, link, magic, user, group, major, minor, prefix, padding
_LAYOUT: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_CHECKSUM: Final = slice(148, 156)
_POSIX, _GNU, _OLD = b"ustar\x00", b"ustar  \x00", bytes(8)
_STAR_TRAILER: Final = b"tar\x00"
#: GNU headers have times there, where POSIX has the prefix of a name.
_GNU_TIMES: Final = (slice(345, 357), slice(357, 369))

_TIME: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]*)?")
_ID: Final = re.compile(r"-?[0-9]{1,18}")
_SIZE: Final = re.compile(r"[0-9]{1,18}")
_FORMS: Final = {
    **dict.fromkeys(("mtime", "atime", "ctime"), _TIME),
    **dict.fromkeys(("uid", "gid"), _ID),
    "size": _SIZE,
}
_XATTR: Final = "SCHILY.xattr."
_SPARSE: Final = "GNU.sparse."


@dataclass(frozen=True, slots=True)
class Header:
    """A header as it stands, names not yet looked at; ``device``: major and minor number."""

    name: bytes
    link: bytes
    type: bytes
    size: int
    mode: int
    mtime: int
    device: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Records:
    """What an extended header changes; ``xattrs`` are names of attributes only."""

    path: str | None = None
    link: str | None = None
    size: int | None = None
    mtime: int | None = None
    xattrs: tuple[str, ...] = ()
    keys: frozenset[str] = field(default_factory=frozenset)


def is_header(block: bytes) -> bool:
    """Whether ``block`` begins a tar file, as far as its checksum tells."""
    try:
        return len(block) == BLOCK and _adds_up(block, _number(block[_CHECKSUM], ""))
    except ImageRefused:
        return False


def parse_header(block: bytes, where: str) -> Header:
    """The header in ``block``; ``where`` it stands is for the message.

    :raises ImageRefused: ``corrupt`` where it is damaged, ``format`` where its readers disagree.
    """
    parts = _LAYOUT.unpack(block)
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, major, minor, prefix, padding = parts
    if not _adds_up(block, _number(checksum, where)):
        raise ImageRefused("corrupt", f"{where}: the checksum of a header is wrong")
    _check_form(block, magic, padding, where)
    for unused in (uid, gid):
        _number(unused, where)
    if magic.startswith(_POSIX) and prefix[0]:
        name = _text(prefix) + b"/" + _text(name)
    return Header(
        name=_text(name),
        link=_text(link),
        type=kind,
        size=parse_size(size, where),
        mode=_number(mode, where),
        mtime=_number(mtime, where),
        device=(_number(major, where), _number(minor, where)),
    )


def _check_form(block: bytes, magic: bytes, padding: bytes, where: str) -> None:
    if magic.startswith(_POSIX):
        if padding.endswith(_STAR_TRAILER):
            raise ImageRefused("format", f"{where}: a header of star, which readers take for different names")
    elif magic == _GNU:
        for part in _GNU_TIMES:
            _number(block[part], where)
    elif magic != _OLD or any(block[265:500]):
        raise ImageRefused("format", f"{where}: a header of no known form")


def _adds_up(block: bytes, told: int) -> bool:
    """Whether the checksum is that of the bytes; some old writers took them with a sign."""
    rest = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    plain = sum(rest)
    return told == plain or told == plain - 256 * sum(byte > 127 for byte in rest)


def _text(field_bytes: bytes) -> bytes:
    return field_bytes.partition(b"\x00")[0]


def _number(digits: bytes, where: str) -> int:
    """Octal digits, or the bytes of a number after 0x80, or of one below zero after 0xff."""
    if digits[0] & 0x80:
        value = int.from_bytes(digits[1:], "big", signed=False) - (digits[0] == 0xFF) * (1 << 8 * (len(digits) - 1))
        if digits[0] not in {0x80, 0xFF} or not -(1 << 63) <= value < 1 << 63:
            raise ImageRefused("corrupt", f"{where}: a number of a header has no known form")
        return value
    stripped = digits.lstrip(b" ").rstrip(
        b" \x00"
    )  # zeros before digits are an end to some readers, and none to others
    if not stripped:
        return 0
    if not all(48 <= digit <= 55 for digit in stripped):
        raise ImageRefused("corrupt", f"{where}: a number of a header is none")
    return int(stripped, 8)


def parse_size(digits: bytes, where: str) -> int:
    """Bytes of a member, as its header has them. :raises ImageRefused: ``corrupt`` or ``size``."""
    size = _number(digits, where)
    if size < 0:
        raise ImageRefused("size", f"{where}: a member says that it has {size} bytes")
    return size


def parse_records(data: bytes, where: str) -> Records:
    """The records of an extended header (``<length> <key>=<value>\\n``).

    :raises ImageRefused: they do not fit together, say something twice, or tell of holes in a file (``sparse``).
    """
    found: dict[str, str] = {}
    xattrs: list[str] = []
    for key, value in each_record(data, where):
        if key.startswith(_SPARSE):
            raise ImageRefused("sparse", f"{where}: a file with holes", hint="pack it again without --sparse")
        if key.startswith(_XATTR):
            xattrs.append(key.removeprefix(_XATTR))
        if key not in {"path", "linkpath"} and key not in _FORMS:
            continue
        if key in found:
            raise ImageRefused("duplicate", f"{where}: an extended header says {key} twice")
        found[key] = _value(key, value, where)
    return Records(
        path=found.get("path"),
        link=found.get("linkpath"),
        size=int(found["size"]) if "size" in found else None,
        mtime=int(found["mtime"].partition(".")[0]) if "mtime" in found else None,
        xattrs=tuple(xattrs),
        keys=frozenset(found),
    )


def each_record(data: bytes, where: str) -> Iterator[tuple[str, bytes]]:
    """Keys and values of an extended header as they stand. :raises ImageRefused: ``corrupt`` or ``name``."""
    at = 0
    while at < len(data):
        key, value, at = _record(data, at, where)
        yield key, value


def _record(data: bytes, at: int, where: str) -> tuple[str, bytes, int]:
    """Key, value and where the next one begins."""
    space = data.find(b" ", at, at + 8)
    digits = data[at:space] if space > at else b""
    length = int(digits) if digits.isdigit() else 0
    end = at + length
    equals = data.find(b"=", space + 1, end)
    if not length or end > len(data) or equals <= space + 1 or data[end - 1] != 0x0A:
        raise ImageRefused("corrupt", f"{where}: a record of an extended header is damaged")
    try:
        key = data[space + 1 : equals].decode()
    except UnicodeDecodeError:
        raise ImageRefused("name", f"{where}: the key of a record is not UTF-8") from None
    return key, data[equals + 1 : end - 1], end


def _value(key: str, value: bytes, where: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ImageRefused("name", f"{where}: {key} of an extended header is not UTF-8") from None
    form = _FORMS.get(key)
    if "\x00" in text or not text or (form is not None and not form.fullmatch(text)):
        raise ImageRefused("corrupt", f"{where}: {key} of an extended header is none")
    return text
