"""What a file is, by its content and never by its name. Reads a few blocks, and the headers of a tar file."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Final, Literal

from wireloom.library.tar_format import is_header
from wireloom.library.tarheads import tar_members
from wireloom.library.values import ImageRefused
from wireloom.model.images import SourceKind

__all__ = ["COMPRESSED", "DISKS", "Compression", "Sniffed", "SniffedKind", "compression", "sniff"]

Compression = Literal["gzip", "xz", "zstd", "bzip2", "zip"]
SniffedKind = SourceKind | Compression | Literal["tar", "iso", "gns3a", "unknown"]

COMPRESSED: Final[frozenset[str]] = frozenset({"gzip", "xz", "zstd", "bzip2", "zip"})
DISKS: Final[frozenset[str]] = frozenset({"qcow2", "raw", "vmdk", "vhd", "vhdx", "ova"})

_HEAD: Final = 4096
_ISO_MAGIC: Final = 0x8001
_FOOTER: Final = 512
_TEXT: Final = 4 << 20
#: Headers of a tar file until we know what it holds: the manifest of a Docker archive is often its last member.
_ENTRIES: Final = 50_000
_NAME: Final = 4096

_ELF_PROGRAMS: Final = frozenset({2, 3})  # e_type: executable, also one that can be moved
_ELF_PROCESSORS: Final = {3: "i386", 62: "x86_64"}

#: Disks and packers that we know by sight, and do not take.
_STRANGERS: Final = (
    (0x40, b"\x7f\x10\xda\xbe", "a disk of VirtualBox (VDI); convert it with: qemu-img convert -O qcow2"),
    (0, b"QED\0", "a disk in QED's format; convert it with: qemu-img convert -O qcow2"),
    (0, b"COWD", "a disk of an ESX of old; convert it with: qemu-img convert -O qcow2"),
    (0, b"LUKS\xba\xbe", "an encrypted disk (LUKS)"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"),
    (0, b"Rar!\x1a\x07", "a RAR archive; unpack it"),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4; unpack it"),
    (0, b"!<arch>\n", "a Debian package or a library"),
    (0, b"\xed\xab\xee\xdb", "an RPM package; unpack it"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"070701", "a cpio archive"),
)


@dataclass(frozen=True)
class Sniffed:
    """``detail``: what can be said beyond the kind, in words; for ``unknown`` what it might be."""

    kind: SniffedKind
    size: int
    detail: str = ""


def compression(head: bytes) -> Compression | None:
    """What a file that begins so is compressed with."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bzip2"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return None


def sniff(path: Path) -> Sniffed:
    """What ``path`` is. Says nothing of whether it is whole or harmless."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        head = os.pread(file.fileno(), _HEAD, 0)
        for look in _LOOKS:
            found = look(file, head, size)
            if found is not None:
                return Sniffed(found[0], size, found[1])
    return Sniffed("unknown", size, _stranger(head))


_Found = tuple[SniffedKind, str] | None


def _packed(_file: FileIO, head: bytes, _size: int) -> _Found:
    kind = compression(head)
    return (kind, "") if kind else None


def _disk(file: FileIO, head: bytes, size: int) -> _Found:
    if head.startswith(b"QFI\xfb"):
        version = int.from_bytes(head[4:8], "big")
        return ("qcow2", f"version {version}") if version != 1 else ("unknown", "a disk in the first qcow format")
    if head.startswith((b"KDMV", b"# Disk DescriptorFile")):
        return "vmdk", "" if head.startswith(b"KDMV") else "a descriptor that names other files"
    if head.startswith(b"vhdxfile"):
        return "vhdx", ""
    if head.startswith(b"conectix"):
        return "vhd", "dynamic"
    if size >= 2 * _FOOTER and os.pread(file.fileno(), 8, size - _FOOTER) == b"conectix":
        return "vhd", "fixed"
    return None


def _program(_file: FileIO, head: bytes, _size: int) -> _Found:
    if not head.startswith(b"\x7fELF") or len(head) < 20 or head[5] != 1:
        return None
    kind, processor = struct.unpack_from("<HH", head, 16)
    if kind in _ELF_PROGRAMS and processor in _ELF_PROCESSORS:
        return "iol", _ELF_PROCESSORS[processor]
    return "unknown", "a program for another processor, or a library"


def _medium(file: FileIO, _head: bytes, _size: int) -> _Found:
    return ("iso", "") if os.pread(file.fileno(), 5, _ISO_MAGIC) == b"CD001" else None


def _archive(file: FileIO, head: bytes, _size: int) -> _Found:
    if not is_header(head[:512]):
        return None
    seen: set[str] = set()
    try:
        for member in tar_members(file, entries=_ENTRIES, name=_NAME):
            name = member.name.removeprefix("./").strip("/")
            if "/" not in name and name.lower().endswith(".ovf"):
                return "ova", name
            if name == "manifest.json":
                return "docker-archive", ""
            seen.add(name.partition("/")[0])
            if _is_file_tree(seen):
                return "rootfs", ""
    except ImageRefused as refusal:
        return ("oci-archive" if "oci-layout" in seen else "tar"), refusal.message
    return ("oci-archive" if "oci-layout" in seen else "tar"), ""


def _is_file_tree(names: set[str]) -> bool:
    return "etc" in names and bool(names & {"usr", "bin", "sbin", "lib"})


def _appliance(file: FileIO, head: bytes, size: int) -> _Found:
    if size > _TEXT or not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return None
    try:
        document: Any = json.loads(os.pread(file.fileno(), size, 0))
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict) and ({"registry_version", "appliance_id"} & document.keys()):
        return "gns3a", str(document.get("name", ""))[:100]
    return None


def _raw(file: FileIO, head: bytes, size: int) -> _Found:
    """A disk without a header of its own is one when it begins with partitions or a file system."""
    for name, begins in _BEGINNINGS:
        if begins(file, head, size):
            return "raw", name
    return None


def _has_gpt(_file: FileIO, head: bytes, _size: int) -> bool:
    return head[512:520] == b"EFI PART"


def _has_partitions(_file: FileIO, head: bytes, size: int) -> bool:
    """At least one partition within the file, and nothing that is none in the other places."""
    if head[510:512] != b"\x55\xaa":
        return False
    used = [entry for entry in _partition_entries(head) if entry[1]]
    return bool(used) and all(boot in (0, 0x80) and 0 < start * 512 < size for boot, _, start in used)


def _partition_entries(head: bytes) -> Iterator[tuple[int, int, int]]:
    for place in range(446, 510, 16):
        boot, kind, start = struct.unpack_from("<B3xB3xI", head, place)
        yield boot, kind, start


def _has_fat(_file: FileIO, head: bytes, _size: int) -> bool:
    return head[510:512] == b"\x55\xaa" and (head[54:57] == b"FAT" or head[82:87] == b"FAT32" or head[3:7] == b"NTFS")


def _has_ext(_file: FileIO, head: bytes, _size: int) -> bool:
    return head[1080:1082] == b"\x53\xef"


def _has_xfs(_file: FileIO, head: bytes, _size: int) -> bool:
    return head.startswith(b"XFSB")


def _has_btrfs(file: FileIO, _head: bytes, _size: int) -> bool:
    return os.pread(file.fileno(), 8, 0x10040) == b"_BHRfS_M"


_BEGINNINGS: Final = (
    ("a partition table (GPT)", _has_gpt),
    ("a file system (FAT or NTFS)", _has_fat),
    ("a partition table (MBR)", _has_partitions),
    ("a file system (ext)", _has_ext),
    ("a file system (XFS)", _has_xfs),
    ("a file system (Btrfs)", _has_btrfs),
)

#: In this order: media for both discs and sticks begin with a partition table, too.
_LOOKS: Final[tuple[Callable[[FileIO, bytes, int], _Found], ...]] = (
    _packed,
    _disk,
    _program,
    _medium,
    _archive,
    _appliance,
    _raw,
)


def _stranger(head: bytes) -> str:
    if not head:
        return "an empty file"
    for place, magic, words in _STRANGERS:
        if head[place : place + len(magic)] == magic:
            return words
    return ""
