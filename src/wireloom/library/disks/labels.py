"""Labels of a disk's partitions and file systems, as far as they tell what a disk is.

Layouts: UEFI specification (GPT), Linux ``include/linux/`` headers of ext and XFS, Microsoft's of FAT. Reads a few
kilobytes a partition, believes nothing and never fails: what it finds is text from outside.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Extent", "ReadAt", "labels", "partitioned"]

#: What a guest reads at an offset; shorter where there is nothing.
ReadAt = Callable[[int, int], bytes]

_SECTOR: Final = 512
_MOST_PARTITIONS: Final = 128
_MOST_LOGICAL: Final = 32
_MOST_LABELS: Final = 64
_LONGEST: Final = 100
_EXTENDED: Final = frozenset({0x05, 0x0F, 0x85})
_PROTECTIVE: Final = 0xEE
_NO_LABEL: Final = frozenset({"", "NO NAME"})


def labels(read: ReadAt) -> tuple[str, ...]:
    """Names of partitions and of the file systems in them, each once, in the order of the disk."""
    found: dict[str, None] = {}
    for start, _, name in _partitions(read):
        for text in (name, _file_system(read, start)):
            if text not in _NO_LABEL and len(found) < _MOST_LABELS:
                found[text] = None
    return tuple(found)


@dataclass(frozen=True)
class Extent:
    """Where the last partition ends, and the second table of partitions, in bytes; 0: there is none."""

    partitions: int = 0
    table: int = 0


def partitioned(read: ReadAt) -> Extent:
    """How large a disk has to be for its partitions."""
    header = read(_SECTOR, _SECTOR)
    is_gpt = header.startswith(b"EFI PART") and len(header) == _SECTOR
    table = (struct.unpack_from("<Q", header, 32)[0] + 1) * _SECTOR if is_gpt else 0
    return Extent(max(end for _, end, _ in _partitions(read)), table)


def _partitions(read: ReadAt) -> Iterator[tuple[int, int, str]]:
    """Where each begins and ends, in bytes, and its name; first the disk, which may be one file system itself."""
    yield 0, 0, ""
    first = read(0, _SECTOR)
    if len(first) < _SECTOR or first[510:512] != b"\x55\xaa":
        return
    entries = list(_entries(first))
    if any(kind == _PROTECTIVE for kind, *_ in entries):
        yield from _gpt(read)
        return
    for kind, start, length in entries:
        if kind in _EXTENDED:
            yield from _logical(read, start)
        elif kind:
            yield start * _SECTOR, (start + length) * _SECTOR, ""


def _entries(sector: bytes) -> Iterator[tuple[int, int, int]]:
    for place in range(446, 510, 16):
        start, length = struct.unpack_from("<II", sector, place + 8)
        yield sector[place + 4], start, length


def _logical(read: ReadAt, extended: int) -> Iterator[tuple[int, int, str]]:
    """Partitions in an extended one: a chain of tables, each with one partition and the way to the next."""
    table = extended
    for _ in range(_MOST_LOGICAL):
        sector = read(table * _SECTOR, _SECTOR)
        if len(sector) < _SECTOR or sector[510:512] != b"\x55\xaa":
            return
        (kind, start, length), (_, following, _), *_rest = _entries(sector)
        if kind:
            yield (table + start) * _SECTOR, (table + start + length) * _SECTOR, ""
        if not following:
            return
        table = extended + following


def _gpt(read: ReadAt) -> Iterator[tuple[int, int, str]]:
    header = read(_SECTOR, _SECTOR)
    if not header.startswith(b"EFI PART") or len(header) < 92:
        return
    place, count, size = struct.unpack_from("<QII", header, 72)
    if not 128 <= size <= 4096:
        return
    table = read(place * _SECTOR, min(count, _MOST_PARTITIONS) * size)
    for at in range(0, len(table) - 127, size):
        if any(table[at : at + 16]):
            first, last = struct.unpack_from("<QQ", table, at + 32)
            name = _clean(table[at + 56 : at + 128].decode("utf-16-le", errors="replace"))
            yield first * _SECTOR, (last + 1) * _SECTOR, name


def _file_system(read: ReadAt, start: int) -> str:
    """The label of a file system that begins there; empty when there is none."""
    block = read(start, 4096)
    for place, magic, label, length in _FILE_SYSTEMS:
        if block[place : place + len(magic)] == magic:
            return _clean(block[label : label + length].decode(errors="replace"))
    if read(start + 0x8001, 5) == b"CD001":
        return _clean(read(start + 0x8028, 32).decode(errors="replace"))
    if read(start + 0x10040, 8) == b"_BHRfS_M":
        return _clean(read(start + 0x1012B, 256).decode(errors="replace"))
    return ""


#: Place and bytes of what tells a file system, place and length of its label.
_FILE_SYSTEMS: Final = (
    (1080, b"\x53\xef", 1144, 16),
    (0, b"XFSB", 108, 12),
    (82, b"FAT32", 71, 11),
    (54, b"FAT", 43, 11),
    (4086, b"SWAPSPACE2", 1052, 16),
)


def _clean(text: str) -> str:
    """What can be printed of it, up to its first zero."""
    text = text.split("\0", 1)[0]
    return "".join(each for each in text if each.isprintable() and each != "\ufffd").strip()[:_LONGEST]
