"""Members of an uncompressed tar file, by its headers alone: nothing is unpacked, and nothing large is kept.

For finding out what a file is, and for bundles and machines around a disk: it takes what is odd as it is, where
:mod:`wireloom.library.archives.tars` refuses what engines may read in another way. Formats: POSIX ustar and pax, GNU,
and the old one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from typing import Final, Literal

from wireloom.library.tar_format import BLOCK, EXTENDED_MOST, each_record, is_header, parse_size
from wireloom.library.values import ImageRefused

__all__ = ["TarKind", "TarMember", "tar_members"]

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
#: Names the file in messages.
_ARCHIVE: Final = "the archive"


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
        kind, length, start = block[156:157], parse_size(block[124:136], _ARCHIVE), position + BLOCK
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
        length = _decimal(about["size"]) if "size" in about else parse_size(block[124:136], _ARCHIVE)
    return TarMember(name, kind, length, start, about.get("linkpath", _text(block[157:257])))


def _data(file: FileIO, start: int, length: int, size: int) -> bytes:
    if length > EXTENDED_MOST:
        raise ImageRefused("name", f"the archive has a header of {length} bytes")
    if start + length > size:
        raise ImageRefused("truncated", "the archive ends within a header")
    return os.pread(file.fileno(), length, start)


def _what_it_tells(kind: bytes, data: bytes) -> dict[str, str]:
    if kind == _LONG_NAME:
        return {"path": _text(data)}
    if kind == _LONG_TARGET:
        return {"linkpath": _text(data)}
    return {key: value.decode(errors="surrogateescape") for key, value in each_record(data, _ARCHIVE)}


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ImageRefused("corrupt", "the archive has a header whose numbers are none")
    return int(text)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="surrogateescape")
