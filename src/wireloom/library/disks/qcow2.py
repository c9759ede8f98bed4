"""The header of a qcow2 file, read strictly before any other program may, and what a guest would see in it.

Layout: docs/interop/qcow2.txt of QEMU. What leads to another file, or what we do not understand, is refused.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from typing import Final

from wireloom.library.disks.reading import Header, bytes_at, check_virtual_size, file_size
from wireloom.library.values import ImageRefused, Limits

__all__ = ["Qcow2", "is_cut", "read_guest", "read_qcow2"]

MAGIC: Final = b"QFI\xfb"

_FIXED: Final = struct.Struct(">4sIQIIQIIQQIIQ")
_V2_LENGTH: Final = 72
_V3: Final = struct.Struct(">QQQII")
_V3_LENGTH: Final = _V2_LENGTH + _V3.size

# Bits of features that a reader must know.
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = 1, 2, 4, 8, 16
_KNOWN: Final = 0x1F

_END, _BACKING_FORMAT, _FEATURE_NAMES, _BITMAPS = 0, 0xE2792ACA, 0x6803F857, 0x23852875
_ENCRYPTION_HEADER, _DATA_FILE_NAME = 0x0537BE77, 0x44415441

# As QEMU has them.
_CLUSTER_BITS: Final = range(9, 22)
_LONGEST_L1: Final = 32 << 20
_LONGEST_REFCOUNT_TABLE: Final = 8 << 20
_MOST_SNAPSHOTS: Final = 65536
_MOST_EXTENSIONS: Final = 64

#: Bytes of tables that are looked through for the reason of a refusal.
_MOST_LOOKED_AT: Final = 64 << 20

_OFFSET: Final = 0x00FFFFFFFFFFFE00
_COMPRESSED: Final = 1 << 62
_READS_ZERO: Final = 1


@dataclass(frozen=True)
class Qcow2(Header):
    """:ivar zstd: compressed clusters are zstd's. :ivar extended: entries of 16 bytes, with parts of clusters.

    :ivar dirty: it was not closed, so its references are not counted right; which is all that is wrong with it.
    """

    version: int = 3
    cluster_bits: int = 16
    l1_offset: int = 0
    l1_size: int = 0
    zstd: bool = False
    extended: bool = False
    dirty: bool = False

    @property
    def cluster(self) -> int:
        """Bytes of a cluster."""
        return 1 << self.cluster_bits


def read_qcow2(file: FileIO, limits: Limits) -> Qcow2:
    """The header, checked against the file's size and against itself.

    :raises ImageRefused: ``backing-file``, ``data-file``, ``encrypted``, ``virtual-size``, ``truncated``, ``corrupt``,
        or ``format``: it has features that we do not know.
    """
    fixed = _FIXED.unpack(bytes_at(file, 0, _V2_LENGTH, "header"))
    magic, version, backing, backing_length, cluster_bits, size, encryption, l1_size, l1 = fixed[:9]
    refcounts, refcount_clusters, snapshots, snapshot_table = fixed[9:]
    if magic != MAGIC or version not in (2, 3):
        raise ImageRefused("format", f"the file is no qcow2 file of version 2 or 3, but of {version}")
    if backing or backing_length:
        raise ImageRefused(
            "backing-file",
            "the disk names another file that it lies on; an image stands alone",
            hint="flatten it where that file is: qemu-img convert -O qcow2",
        )
    if encryption:
        raise ImageRefused("encrypted", "the disk is encrypted", hint="decrypt it: qemu-img convert -O qcow2")
    check_virtual_size(size, limits)
    if cluster_bits not in _CLUSTER_BITS:
        raise ImageRefused("corrupt", f"its clusters have 2^{cluster_bits} bytes, which no disk has")
    features = _Features.read(file, version, cluster_bits)
    end = file_size(file)
    cluster = 1 << cluster_bits
    entries = cluster // (16 if features.extended else 8)
    for offset, length, longest, what in (
        (l1, l1_size * 8, _LONGEST_L1, "table of clusters"),
        (refcounts, refcount_clusters * cluster, _LONGEST_REFCOUNT_TABLE, "table of references"),
    ):
        if offset % cluster or not offset or length > longest:
            raise ImageRefused("corrupt", f"its {what} cannot be where it says, or not that large")
        if offset + length > end:
            raise ImageRefused("truncated", f"the file ends before its {what}")
    if l1_size * entries * cluster < size or not refcount_clusters:
        raise ImageRefused("corrupt", "its table of clusters is smaller than the disk")
    unclean = features.unclean()
    warnings: tuple[str, ...] = ("it was not closed: what was written last may be missing",) if features.dirty else ()
    if snapshots:
        _check_snapshots(snapshots, snapshot_table, cluster, end)
        unclean += ("snapshots",)
        warnings += (f"{snapshots} snapshots inside of the disk were left out; its latest state was kept",)
    return Qcow2(
        driver="qcow2",
        virtual_size=size,
        unclean=unclean,
        warnings=warnings,
        version=version,
        cluster_bits=cluster_bits,
        l1_offset=l1,
        l1_size=l1_size,
        zstd=features.zstd,
        extended=features.extended,
        dirty=features.dirty,
    )


@dataclass(frozen=True)
class _Features:
    dirty: bool = False
    zstd: bool = False
    extended: bool = False
    extensions: tuple[int, ...] = ()

    @classmethod
    def read(cls, file: FileIO, version: int, cluster_bits: int) -> _Features:
        needed, length, compression = 0, _V2_LENGTH, 0
        if version == 3:
            needed, _, _, refcount_order, length = _V3.unpack(bytes_at(file, _V2_LENGTH, _V3.size, "header"))
            if refcount_order > 6 or length < _V3_LENGTH or length % 8 or length > 1 << cluster_bits:
                raise ImageRefused("corrupt", "its header does not hold together")
            compression = bytes_at(file, _V3_LENGTH, 1, "header")[0] if length > _V3_LENGTH else 0
        _check_features(needed)
        if compression > 1 or bool(compression) != bool(needed & _COMPRESSION):
            raise ImageRefused("format", f"its clusters are compressed by method {compression}, which is unknown")
        extensions = tuple(_extensions(file, length, 1 << cluster_bits))
        return cls(bool(needed & _DIRTY), bool(compression), bool(needed & _EXTENDED_L2), extensions)

    def unclean(self) -> tuple[str, ...]:
        """What makes a conversion necessary."""
        found: tuple[str, ...] = ("it was not closed",) if self.dirty else ()
        strange = set(self.extensions) - {_FEATURE_NAMES}
        if strange:
            found += ("bitmaps",) if strange == {_BITMAPS} else ("extensions of its header",)
        return found


def _check_features(needed: int) -> None:
    if needed & _DATA_FILE:
        raise ImageRefused("data-file", "the disk keeps its data in another file; an image stands alone")
    if needed & _CORRUPT:
        raise ImageRefused("corrupt", "the disk is marked as damaged", hint="repair it: qemu-img check -r all")
    if needed & ~_KNOWN:
        raise ImageRefused("format", "the disk needs features that are unknown")


def _extensions(file: FileIO, start: int, cluster: int) -> Iterator[int]:
    """Kinds of the header's extensions; the first cluster has them all."""
    position = start
    for _ in range(_MOST_EXTENSIONS):
        if position + 8 > min(cluster, file_size(file)):
            return
        kind, length = struct.unpack(">II", bytes_at(file, position, 8, "header"))
        if kind == _END:
            return
        if position + 8 + length > cluster:
            raise ImageRefused("corrupt", "its header does not hold together")
        if kind == _DATA_FILE_NAME:
            raise ImageRefused("data-file", "the disk names another file for its data; an image stands alone")
        if kind == _ENCRYPTION_HEADER:
            raise ImageRefused("encrypted", "the disk has a header of encryption")
        yield kind
        position += 8 + (length + 7) // 8 * 8
    raise ImageRefused("corrupt", "its header has no end")


def _check_snapshots(count: int, offset: int, cluster: int, end: int) -> None:
    if count > _MOST_SNAPSHOTS or offset % cluster:
        raise ImageRefused("corrupt", "its table of snapshots does not hold together")
    if offset >= end:
        raise ImageRefused("truncated", "the file ends before its table of snapshots")


def is_cut(file: FileIO, disk: Qcow2) -> bool:
    """Whether a disk whose tables do not hold together lacks its end: they lead to clusters beyond it."""
    end, step = file_size(file), 2 if disk.extended else 1
    looked_at = 0
    l1 = _numbers(file, disk.l1_offset, 8 * disk.l1_size)
    for place in dict.fromkeys(entry & _OFFSET for entry in l1):
        if place >= end:
            return True
        looked_at += disk.cluster
        if place and looked_at <= _MOST_LOOKED_AT and _furthest(file, disk, place, step) >= end:
            return True
    return False


def _furthest(file: FileIO, disk: Qcow2, place: int, step: int) -> int:
    """Where the last of the clusters begins that a table leads to."""
    compressed = (1 << (62 - (disk.cluster_bits - 8))) - 1
    entries = _numbers(file, place, disk.cluster)[::step]
    return max((entry & (compressed if entry & _COMPRESSED else _OFFSET) for entry in entries), default=0)


def _numbers(file: FileIO, offset: int, length: int) -> array[int]:
    """Numbers of eight bytes; fewer where the file ends."""
    data = os.pread(file.fileno(), length, offset)
    found = array("Q", data[: len(data) // 8 * 8])
    if sys.byteorder == "little":
        found.byteswap()
    return found


def read_guest(file: FileIO, disk: Qcow2, offset: int, length: int) -> bytes:
    """What a guest would read there; shorter, or empty, where the disk does not tell (or only to other readers).

    For looking at labels: reads little, believes nothing, and never fails.
    """
    if disk.extended or disk.zstd:
        return b""
    length = max(0, min(length, disk.virtual_size - offset))
    cluster = 1 << disk.cluster_bits
    found = bytearray()
    while len(found) < length:
        within = (offset + len(found)) % cluster
        piece = _cluster(file, disk, (offset + len(found)) >> disk.cluster_bits)
        if len(piece) < cluster:
            break
        found += piece[within : within + length - len(found)]
    return bytes(found)


def _cluster(file: FileIO, disk: Qcow2, number: int) -> bytes:
    cluster = 1 << disk.cluster_bits
    l1_index, l2_index = divmod(number, cluster // 8)
    if l1_index >= disk.l1_size:
        return b""
    l2 = _entry(file, disk.l1_offset + 8 * l1_index) & _OFFSET
    if not l2:
        return bytes(cluster)
    entry = _entry(file, l2 + 8 * l2_index)
    if entry & _COMPRESSED:
        return _inflated(file, entry, disk.cluster_bits)
    if entry & _READS_ZERO or not entry & _OFFSET:
        return bytes(cluster)
    return os.pread(file.fileno(), cluster, entry & _OFFSET)


def _entry(file: FileIO, offset: int) -> int:
    data = os.pread(file.fileno(), 8, offset)
    return int.from_bytes(data, "big") if len(data) == 8 else 0


def _inflated(file: FileIO, entry: int, cluster_bits: int) -> bytes:
    bits = 62 - (cluster_bits - 8)
    offset = entry & ((1 << bits) - 1)
    sectors = (entry & (_COMPRESSED - 1)) >> bits
    data = os.pread(file.fileno(), (sectors + 1) * 512 - offset % 512, offset)
    try:
        return zlib.decompressobj(-12).decompress(data, 1 << cluster_bits)
    except zlib.error:
        return b""
