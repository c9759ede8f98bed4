"""The one file of a zip archive that matters, by the archive's own list. Layout: PKWARE's APPNOTE, 4.3.

The list is checked before the standard library reads it into memory; the data is read by :mod:`.unpack`.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from dataclasses import dataclass
from io import FileIO
from typing import Final

from wireloom.library.names import check_file_name, lies_beside, shown
from wireloom.library.values import ImageRefused, Limits

__all__ = ["ZipMember", "useful_member"]

#: Bytes of an archive's list. An archive with one image has a few hundred.
_LONGEST_LIST: Final = 4 << 20
_MOST_MEMBERS: Final = 10_000

_END: Final = b"PK\x05\x06"
_END_SIZE: Final = 22
_LONGEST_COMMENT: Final = 0xFFFF
_LOCATOR: Final = b"PK\x06\x07"
_LOCATOR_SIZE: Final = 20
_END_64: Final = b"PK\x06\x06"
_LOCAL: Final = b"PK\x03\x04"
_LOCAL_SIZE: Final = 30
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000  # the file, strongly, or the list


@dataclass(frozen=True)
class ZipMember:
    """:ivar name: without folders. :ivar method: of compression, its number. :ivar offset: where its bytes begin."""

    name: str
    method: int
    offset: int
    packed: int
    size: int
    crc: int


def useful_member(file: FileIO, limits: Limits) -> ZipMember:
    """The file in the archive. Notes and signatures beside it do not count.

    :raises ImageRefused: ``format``: none or several; ``encrypted``, ``path``, ``name``, ``link``, ``duplicate``,
        ``bomb``, ``size``, ``truncated`` or ``corrupt``.
    """
    end = os.fstat(file.fileno()).st_size
    _check_list(file, end)
    try:
        with zipfile.ZipFile(file) as archive:  # reads the list alone
            members = archive.infolist()
    except NotImplementedError as error:  # the standard library's word for a version that is later than its own
        raise ImageRefused(
            "format", f"the archive is of a kind that nobody here reads: {error}", hint="pack it again, or unpack it"
        ) from error
    except (zipfile.BadZipFile, ValueError, struct.error) as error:
        raise ImageRefused("corrupt", f"the archive's list does not hold together: {error}") from error
    if len(members) > _MOST_MEMBERS:
        raise ImageRefused("unbounded", f"the archive has more than {_MOST_MEMBERS} members")
    for member in members:
        _check(member)
    useful = [member for member in members if _matters(member)]
    if len({member.filename for member in members}) < len(members):
        raise ImageRefused("duplicate", "the archive has two files of one name")
    if len(useful) != 1:
        names = ", ".join(shown(member.filename) for member in useful[:4])
        raise ImageRefused(
            "format",
            f"the archive has {len(useful)} files that may be images: {names}" if useful else "the archive has no file",
            hint="unpack it, and bring in what you need",
        )
    return _located(file, useful[0], end, limits)


def _check(member: zipfile.ZipInfo) -> None:
    # What the archive says, not what the standard library makes of it (it cuts at a zero byte).
    name = member.orig_filename
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or "\\" in name or ".." in parts or name[1:2] == ":":
        raise ImageRefused("path", f"the archive has a file whose name leads elsewhere: {shown(name)}")
    for part in parts:
        check_file_name(part)
    if member.flag_bits & _ENCRYPTED:
        raise ImageRefused("encrypted", f"{shown(name)} is encrypted", hint="unpack it with its password")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise ImageRefused("link", f"{shown(name)} is a link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ImageRefused("device-node", f"{shown(name)} is neither a file nor a folder")


def _matters(member: zipfile.ZipInfo) -> bool:
    return not (member.is_dir() or lies_beside(member.filename))


def _located(file: FileIO, member: zipfile.ZipInfo, end: int, limits: Limits) -> ZipMember:
    """Where its bytes are, by its own header, which must say what the list says."""
    header = os.pread(file.fileno(), _LOCAL_SIZE, member.header_offset)
    if len(header) < _LOCAL_SIZE or header[:4] != _LOCAL:
        raise ImageRefused("corrupt", "the archive's list leads to no file")
    flags, method = struct.unpack_from("<HH", header, 6)
    name_size, extra_size = struct.unpack_from("<HH", header, 26)
    name = os.pread(file.fileno(), name_size, member.header_offset + _LOCAL_SIZE)
    told = member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437", errors="replace")
    if method != member.compress_type or name != told or flags & _ENCRYPTED:
        raise ImageRefused("corrupt", "the archive's list and its file say different things")
    offset = member.header_offset + _LOCAL_SIZE + name_size + extra_size
    if offset + member.compress_size > end:
        raise ImageRefused("truncated", "the archive ends within its file")
    if member.file_size > limits.size:
        raise ImageRefused("size", f"it unpacks to {member.file_size} bytes, at most {limits.size} may come in")
    if member.file_size > limits.free + limits.ratio * member.compress_size:
        raise ImageRefused("bomb", f"{member.compress_size} bytes unpack to {member.file_size}")
    last = member.filename.rpartition("/")[2]
    return ZipMember(last, method, offset, member.compress_size, member.file_size, member.CRC)


def _check_list(file: FileIO, end: int) -> None:
    """That the list is there, and short enough to be read."""
    tail_start = max(0, end - _END_SIZE - _LONGEST_COMMENT)
    tail = os.pread(file.fileno(), end - tail_start, tail_start)
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_SIZE:
        raise ImageRefused("truncated", "the archive has no list of its files: it is cut")
    count, size = struct.unpack_from("<HI", tail, place + 10)
    locator = tail_start + place - _LOCATOR_SIZE
    if locator >= 0 and os.pread(file.fileno(), 4, locator) == _LOCATOR:
        record = struct.unpack("<Q", os.pread(file.fileno(), 8, locator + 8).ljust(8, b"\0"))[0]
        large = os.pread(file.fileno(), 56, record) if record < end else b""
        if len(large) < 56 or large[:4] != _END_64:
            raise ImageRefused("corrupt", "the archive's list does not hold together")
        count, size = struct.unpack_from("<QQ", large, 32)
    if count > _MOST_MEMBERS or size > _LONGEST_LIST:
        raise ImageRefused("unbounded", f"the archive's list has {count} entries in {size} bytes")
