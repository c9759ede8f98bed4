"""Folders of a FAT file system: entries, with the long names that stand before them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

__all__ = ["ENTRY", "File", "Folder", "folder_content"]

#: Bytes of an entry.
ENTRY: Final = 32

_READ_WRITE: Final = 0x20  # "archive": an ordinary file
_FOLDER: Final = 0x10
_LABEL: Final = 0x08
_LONG_NAME: Final = 0x0F
_LAST_PART: Final = 0x40
_PART: Final = 13  # UTF-16 units of a long name in one entry
_DATE: Final = (2020 - 1980) << 9 | 1 << 5 | 1


@dataclass
class File:
    """A file: ``short`` is its 11-byte name, ``long`` its own, empty where the short one says it all.

    ``cluster`` is its first, 0 while it has none.
    """

    content: bytes
    short: bytes = b""
    long: str = ""
    cluster: int = 0


@dataclass
class Folder:
    """A folder, its items by name; see :class:`File`."""

    items: dict[str, Folder | File] = field(default_factory=dict)
    short: bytes = b""
    long: str = ""
    cluster: int = 0
    parent: Folder | None = None


def folder_content(folder: Folder, label: str = "") -> bytes:
    """The entries of a folder. The root has the volume's label; every other one has itself and its parent first."""
    content = bytearray()
    if folder.parent is None:
        content += _entry(label.encode("ascii").ljust(11), _LABEL, 0, 0)
    else:
        # A parent that is the root counts as cluster 0, also where the root has clusters of its own.
        above = 0 if folder.parent.parent is None else folder.parent.cluster
        content += _entry(b".".ljust(11), _FOLDER, folder.cluster, 0)
        content += _entry(b"..".ljust(11), _FOLDER, above, 0)
    for item in folder.items.values():
        content += _long_name(item)
        if isinstance(item, Folder):
            content += _entry(item.short, _FOLDER, item.cluster, 0)
        else:
            content += _entry(item.short, _READ_WRITE, item.cluster, len(item.content))
    return bytes(content)


def _entry(short: bytes, attributes: int, cluster: int, size: int) -> bytes:
    high, low = cluster >> 16, cluster & 0xFFFF
    return struct.pack("<11sBBBHHHHHHHI", short, attributes, 0, 0, 0, _DATE, _DATE, high, 0, _DATE, low, size)


def _long_name(item: Folder | File) -> bytes:
    """The entries of a long name, last part first."""
    if not item.long:
        return b""
    units = item.long.encode("utf-16-le")
    if len(units) % (2 * _PART):
        units += b"\0\0"
    units += b"\xff" * (-len(units) % (2 * _PART))
    parts = [units[start : start + 2 * _PART] for start in range(0, len(units), 2 * _PART)]
    checksum = _checksum(item.short)
    entries = []
    for number, part in enumerate(parts, 1):
        order = number | (_LAST_PART if number == len(parts) else 0)
        entries.append(
            struct.pack("<B10sBBB12sH4s", order, part[:10], _LONG_NAME, 0, checksum, part[10:22], 0, part[22:])
        )
    return b"".join(reversed(entries))


def _checksum(short: bytes) -> int:
    """Ties a long name to its short one."""
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total
