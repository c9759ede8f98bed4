"""A FAT file system as bytes, with long names, the same bytes for the same files.

Layout and limits: Microsoft, "FAT: General Overview of On-Disk Format". The number of clusters alone decides whether
a reader takes a file system for FAT12, FAT16 or FAT32, so the size of a cluster is chosen to stay clear of the limits.
Every file lies in one piece; every date is 1 January 2020.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from wireloom.day0.fat_names import check_label, tree_of
from wireloom.day0.fat_tree import ENTRY, File, Folder, folder_content
from wireloom.day0.image import MediumImage
from wireloom.errors import InvalidInput

__all__ = ["build_fat"]

_SECTOR: Final = 512
_SECTORS_PER_MIB: Final = 2048
_FATS: Final = 2
_ROOT_ENTRIES: Final = 512  # of FAT12 and FAT16, whose root folder has a fixed place
_PARTITION_START: Final = 2048  # sectors, as every partitioning program aligns today
_HEADS: Final = 64
_SECTORS_PER_TRACK: Final = 32
_MEDIA: Final = 0xF8  # "fixed disk"
_FSINFO: Final = 1
_BACKUP: Final = 6
_PARTITION_TYPES: Final = {12: 0x01, 16: 0x0E, 32: 0x0C}

#: Bits → most clusters (16 fewer than the limit, because some readers count wrongly), smallest cluster in sectors,
#: reserved sectors.
_KINDS: Final = {12: (4068, 1, 1), 16: (65508, 4, 1), 32: (0x0FFFFFE4, 8, 32)}


@dataclass(frozen=True)
class _Geometry:
    """Where everything lies, in sectors from the beginning of the file system."""

    bits: Literal[12, 16, 32]
    total: int
    reserved: int
    fat_size: int
    cluster: int  # sectors
    hidden: int  # sectors before the file system

    @property
    def root_size(self) -> int:
        return 0 if self.bits == 32 else _ROOT_ENTRIES * ENTRY // _SECTOR

    @property
    def root_start(self) -> int:
        return self.reserved + _FATS * self.fat_size

    @property
    def data_start(self) -> int:
        return self.root_start + self.root_size

    @property
    def clusters(self) -> int:
        return (self.total - self.data_start) // self.cluster

    @property
    def cluster_bytes(self) -> int:
        return self.cluster * _SECTOR


def build_fat(label: str, files: Mapping[str, bytes], *, size_mb: int, partition: bool = False) -> MediumImage:
    """A disk of ``size_mb`` MiB labelled ``label`` with ``files``, relative POSIX path to content.

    :param partition: put a partition table before the file system, with this one partition.
    :raises InvalidInput: a label or path that FAT cannot hold, two names that it cannot tell apart, or too little room.
    """
    check_label(label)
    root = tree_of(files)
    hidden = _PARTITION_START if partition else 0
    geometry = _geometry(size_mb * _SECTORS_PER_MIB - hidden, hidden)
    layout = _Layout(geometry)
    layout.place(root, label)
    serial = _serial(label, files)
    pieces = [*_boot_pieces(geometry, label, serial, layout), *layout.pieces(root, label)]
    if partition:
        pieces.insert(0, (-hidden * _SECTOR, _partition_table(geometry, serial)))
    shifted = sorted((offset + hidden * _SECTOR, content) for offset, content in pieces)
    return MediumImage(size_mb * _SECTORS_PER_MIB * _SECTOR, tuple(shifted))


def _geometry(total: int, hidden: int) -> _Geometry:
    if total < _SECTORS_PER_MIB:
        raise InvalidInput("a FAT disk needs at least 1 MiB beside its partition table", hint="make it larger")
    if total < 16 * _SECTORS_PER_MIB:
        return _with_clusters(12, total, hidden)
    if total < 512 * _SECTORS_PER_MIB:
        return _with_clusters(16, total, hidden)
    return _with_clusters(32, total, hidden)


def _with_clusters(bits: Literal[12, 16, 32], total: int, hidden: int) -> _Geometry:
    most, cluster, reserved = _KINDS[bits]
    while True:
        # A table for all sectors after the reserved ones is at most a sector too large, which is allowed.
        fat_size = -(-(((total - reserved) // cluster + 2) * bits) // (8 * _SECTOR))
        found = _Geometry(bits, total, reserved, fat_size, cluster, hidden)
        if found.clusters <= most:
            return found
        cluster *= 2


class _Layout:
    """Gives every file and folder its clusters, in the order of the tree."""

    def __init__(self, geometry: _Geometry) -> None:
        self._geometry = geometry
        self._next = 2  # the first cluster's number
        self._chains: list[tuple[int, int]] = []

    def place(self, root: Folder, label: str) -> None:
        """:raises InvalidInput: they do not fit."""
        size = len(folder_content(root, label))
        if self._geometry.bits == 32:
            root.cluster = self._take(size)
        elif size > _ROOT_ENTRIES * ENTRY:
            raise InvalidInput("too many files in the root folder of a FAT disk", hint="put them into a folder")
        self._place_below(root)
        needed = (self._next - 2) * self._geometry.cluster_bytes
        if self._next - 2 > self._geometry.clusters:
            room = self._geometry.clusters * self._geometry.cluster_bytes
            raise InvalidInput(
                f"the files take {needed} bytes, and the FAT disk has room for {room}", hint="give it a larger `size`"
            )

    def _place_below(self, folder: Folder) -> None:
        for item in folder.items.values():
            if isinstance(item, Folder):
                item.cluster = self._take(len(folder_content(item)))
                self._place_below(item)
            elif item.content:
                item.cluster = self._take(len(item.content))

    def _take(self, size: int) -> int:
        first, count = self._next, max(1, -(-size // self._geometry.cluster_bytes))
        self._chains.append((first, count))
        self._next += count
        return first

    @property
    def free(self) -> tuple[int, int]:
        """How many clusters are free, and the first of them."""
        return self._geometry.clusters + 2 - self._next, self._next

    def pieces(self, root: Folder, label: str) -> list[tuple[int, bytes]]:
        """Tables, folders and files by their offsets."""
        table = self._table()
        starts = (self._geometry.reserved + number * self._geometry.fat_size for number in range(_FATS))
        found = [(start * _SECTOR, table) for start in starts]
        fixed = self._geometry.bits != 32
        root_at = self._geometry.root_start * _SECTOR if fixed else self._offset(root.cluster)
        found.append((root_at, folder_content(root, label)))
        self._gather(root, found)
        return found

    def _gather(self, folder: Folder, found: list[tuple[int, bytes]]) -> None:
        for item in folder.items.values():
            if isinstance(item, File):
                if item.content:
                    found.append((self._offset(item.cluster), item.content))
                continue
            found.append((self._offset(item.cluster), folder_content(item)))
            self._gather(item, found)

    def _offset(self, cluster: int) -> int:
        return (self._geometry.data_start + (cluster - 2) * self._geometry.cluster) * _SECTOR

    def _table(self) -> bytes:
        end = (1 << self._geometry.bits) - 1 if self._geometry.bits != 32 else 0x0FFFFFFF
        entries = [end & ~0xFF | _MEDIA, end]
        for first, count in self._chains:
            entries += [*range(first + 1, first + count), end]
        if self._geometry.bits == 12:
            return _packed_12(entries)
        return struct.pack(f"<{len(entries)}{'H' if self._geometry.bits == 16 else 'I'}", *entries)


def _packed_12(entries: list[int]) -> bytes:
    """Two entries of 12 bits in three bytes."""
    padded = entries + [0] * (len(entries) % 2)
    packed = bytearray()
    for low, high in zip(padded[::2], padded[1::2], strict=True):
        packed += (low | high << 12).to_bytes(3, "little")
    return bytes(packed)


def _serial(label: str, files: Mapping[str, bytes]) -> bytes:
    """The volume's number: a hash of what is on it."""
    digest = hashlib.sha256(label.encode())
    for path, content in sorted(files.items()):
        digest.update(f"/{path}/{len(content)}/".encode() + content)
    return digest.digest()[:4]


def _boot_pieces(geometry: _Geometry, label: str, serial: bytes, layout: _Layout) -> list[tuple[int, bytes]]:
    sector = _boot_sector(geometry, label, serial)
    if geometry.bits != 32:
        return [(0, sector)]
    free, first_free = layout.free
    info = struct.pack("<I480xIII12xI", 0x41615252, 0x61417272, free, first_free, 0xAA550000)
    places = ((0, sector), (_FSINFO, info), (_BACKUP, sector), (_BACKUP + _FSINFO, info))
    return [(number * _SECTOR, content) for number, content in places]


def _boot_sector(geometry: _Geometry, label: str, serial: bytes) -> bytes:
    wide = geometry.bits == 32
    short_total = geometry.total if geometry.total < 0x10000 and not wide else 0
    common = struct.pack(
        "<3s8sHBHBHHBHHHII",
        b"\xeb\x58\x90" if wide else b"\xeb\x3c\x90",
        b"WIRELOOM",
        _SECTOR,
        geometry.cluster,
        geometry.reserved,
        _FATS,
        0 if wide else _ROOT_ENTRIES,
        short_total,
        _MEDIA,
        0 if wide else geometry.fat_size,
        _SECTORS_PER_TRACK,
        _HEADS,
        geometry.hidden,
        0 if short_total else geometry.total,
    )
    if wide:
        common += struct.pack("<IHHIHH12x", geometry.fat_size, 0, 0, 2, _FSINFO, _BACKUP)
    name = label.encode("ascii").ljust(11)
    tail = struct.pack("<BBB4s11s8s", 0x80, 0, 0x29, serial, name, f"FAT{geometry.bits}".ljust(8).encode())
    return (common + tail).ljust(_SECTOR - 2, b"\0") + b"\x55\xaa"


def _partition_table(geometry: _Geometry, serial: bytes) -> bytes:
    last = geometry.hidden + geometry.total - 1
    entry = struct.pack(
        "<B3sB3sII",
        0,
        _cylinder_address(geometry.hidden),
        _PARTITION_TYPES[geometry.bits],
        _cylinder_address(last),
        geometry.hidden,
        geometry.total,
    )
    return (bytes(440) + serial + bytes(2) + entry).ljust(_SECTOR - 2, b"\0") + b"\x55\xaa"


def _cylinder_address(sector: int) -> bytes:
    """The old address of a sector (cylinder, head, sector), as far as it reaches."""
    cylinder, rest = divmod(sector, _HEADS * _SECTORS_PER_TRACK)
    if cylinder > 1023:
        return b"\xfe\xff\xff"
    head, number = divmod(rest, _SECTORS_PER_TRACK)
    return bytes([head, (cylinder >> 8 << 6) | (number + 1), cylinder & 0xFF])
