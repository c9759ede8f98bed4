"""Members of an uncompressed tar file, by its headers alone: nothing is unpacked, and nothing large is kept.

The standard library's reader takes names of any length into memory and follows what it reads; this one is for files of
unknown origin. Formats: POSIX ustar and pax, GNU, and the old one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from typing import Final, Literal

from wireloom.library.values import ImageRefused

__all__ = ["BLOCK", "TarKind", "TarMember", "is_header", "tar_members"]

BLOCK: Final = 512

TarKind = Literal["file", "folder", "hard-link", "link", "device", "fifo", "sparse", "other"]

_KINDS: Final[dict[bytes, TarKind]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard-link",
    b"2": "link",
    b"3": "device",
    b"4": "device",
    b"5": "folder",
    b"6": "fifo",
    b"S": "sparse",
}
#: Headers whose data is about the next member, or all that follow.
_LONG_NAME, _LONG_TARGET, _PAX, _PAX_FOR_ALL = b"L", b"K", b"x", b"g"
_MOST_ABOUT: Final = 1 << 20


@dataclass(frozen=True)
class TarMember:
    """One member. Its name and target are as they are written: not checked for where they lead.

    :ivar offset: where its ``size`` bytes begin.
    """

    name: str
    kind: TarKind
    size: int
    offset: int
    target: str = ""


def is_header(block: bytes) -> bool:
    """Whether 512 bytes are the header of a member, by their sum."""
    if len(block) < BLOCK or not block.rstrip(b"\0"):
        return False
    try:
        told = _number(block[148:156])
    except ImageRefused:
        return False
    plain = block[:148] + b" " * 8 + block[156:BLOCK]
    # Some old programs summed signed bytes.
    return told in (sum(plain), sum(each - 256 if each > 127 else each for each in plain))


def tar_members(file: FileIO, *, entries: int, name: int) -> Iterator[TarMember]:
    """Members in order; ends at the end mark, or where the file ends between two members.

    :param entries: members at most; :param name: bytes of a name at most.
    :raises ImageRefused: ``corrupt``, ``truncated``, ``name``, or ``unbounded``: too many.
    """
    size = os.fstat(file.fileno()).st_size
    position = count = 0
    about: dict[str, str] = {}
    for_all: dict[str, str] = {}
    while (block := os.pread(file.fileno(), BLOCK, position)).rstrip(b"\0"):
        if len(block) < BLOCK:
            raise ImageRefused("truncated", "the archive ends within a header")
        if not is_header(block):
            raise ImageRefused("corrupt", f"the archive has no header where one belongs, at byte {position}")
        count += 1
        if count > entries:
            raise ImageRefused("unbounded", f"the archive has more than {entries} members")
        kind, length, start = block[156:157], _number(block[124:136]), position + BLOCK
        if kind in (_LONG_NAME, _LONG_TARGET, _PAX, _PAX_FOR_ALL):
            data = _data(file, start, length, size)
            (for_all if kind == _PAX_FOR_ALL else about).update(_what_it_tells(kind, data))
        else:
            member = _member(block, start, for_all | about)
            about = {}
            if len(member.name.encode(errors="surrogateescape")) > name:
                raise ImageRefused("name", f"the archive has a name of more than {name} bytes")
            length = member.size
            if start + length > size:
                raise ImageRefused("truncated", f"the archive ends within {member.name!r}")
            yield member
        position = start + (length + BLOCK - 1) // BLOCK * BLOCK


def _member(block: bytes, start: int, about: dict[str, str]) -> TarMember:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{_text(block[345:500])}/{name}"
    name = about.get("path", name)
    kind = _KINDS.get(block[156:157], "other")
    if kind == "file" and name.endswith("/"):
        kind = "folder"
    if any(key.startswith("GNU.sparse.") for key in about):
        kind = "sparse"
    length = 0
    if kind not in ("hard-link", "link", "device", "folder", "fifo"):
        # Beyond 8 GiB, writers put 0 into the header.
        length = _decimal(about["size"]) if "size" in about else _number(block[124:136])
    return TarMember(name, kind, length, start, about.get("linkpath", _text(block[157:257])))


def _data(file: FileIO, start: int, length: int, size: int) -> bytes:
    if length > _MOST_ABOUT:
        raise ImageRefused("name", f"the archive has a header of {length} bytes")
    if start + length > size:
        raise ImageRefused("truncated", "the archive ends within a header")
    return os.pread(file.fileno(), length, start)


def _what_it_tells(kind: bytes, data: bytes) -> dict[str, str]:
    if kind == _LONG_NAME:
        return {"path": _text(data)}
    if kind == _LONG_TARGET:
        return {"linkpath": _text(data)}
    return dict(_records(data))


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """Records of pax: ``<length> <key>=<value>\\n``, where the length counts itself."""
    while data:
        head, blank, _ = data.partition(b" ")
        length = _decimal(_text(head)) if blank else 0
        record = data[len(head) + 1 : length]
        key, equals, value = record.partition(b"=")
        if length <= len(head) + 1 or length > len(data) or not equals or not value.endswith(b"\n"):
            raise ImageRefused("corrupt", "the archive has a header that does not hold together")
        yield _text(key), value[:-1].decode(errors="surrogateescape")
        data = data[length:]


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or since GNU the bytes of a large one."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise ImageRefused("corrupt", "the archive has a header whose numbers are none")
    return int(digits, 8)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ImageRefused("corrupt", "the archive has a header whose numbers are none")
    return int(text)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="surrogateescape")
