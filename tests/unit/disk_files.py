"""Disk files made by hand, byte by byte, so that each test says which byte is wrong."""

from __future__ import annotations

import io
import struct
import tarfile
import uuid
from collections.abc import Mapping, Sequence

MIB = 1 << 20
CLUSTER = 1 << 16
SECTOR = 512
COPIED = 1 << 63


def qcow2(
    size: int = 4 * MIB,
    *,
    version: int = 3,
    backing: str = "",
    features: int = 0,
    encryption: int = 0,
    snapshots: int = 0,
    extensions: Sequence[tuple[int, bytes]] = (),
    clusters: Mapping[int, bytes] | None = None,
    l1_offset: int = 3 * CLUSTER,
    refcounts_offset: int = CLUSTER,
    cluster_bits: int = 16,
) -> bytes:
    """A qcow2 file: header, table and block of reference counts, L1, L2, then data, a cluster each."""
    data = {number: content.ljust(CLUSTER, b"\0") for number, content in (clusters or {}).items()}
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        512 if backing else 0,
        len(backing),
        cluster_bits,
        size,
        encryption,
        1,
        l1_offset,
        refcounts_offset,
        1,
        snapshots,
        5 * CLUSTER if snapshots else 0,
    )
    if version == 3:
        header += struct.pack(">QQQII", features, 0, 0, 4, 104)
    for kind, content in extensions:
        header += struct.pack(">II", kind, len(content)) + content.ljust((len(content) + 7) // 8 * 8, b"\0")
    header += bytes(8)
    if backing:
        header = header.ljust(512, b"\0") + backing.encode()
    used = 5 + len(data)
    l2 = bytearray(CLUSTER)
    for place, number in enumerate(data):
        struct.pack_into(">Q", l2, 8 * number, (5 + place) * CLUSTER | COPIED)
    return b"".join(
        each.ljust(CLUSTER, b"\0")
        for each in (
            header,
            struct.pack(">Q", 2 * CLUSTER),
            struct.pack(">H", 1) * used,
            struct.pack(">Q", 4 * CLUSTER | COPIED),
            bytes(l2),
            *data.values(),
        )
    )


def gpt_disk(*partitions: tuple[str, str], size: int = 8 * MIB) -> bytes:
    """A raw disk with partitions of a MiB: name, and label of the ext file system in it (empty: none)."""
    disk = bytearray(size)
    struct.pack_into("<B3xB3xII", disk, 446, 0, 0xEE, 1, size // SECTOR - 1)
    disk[510:512] = b"\x55\xaa"
    struct.pack_into("<8sIII", disk, SECTOR, b"EFI PART", 0x10000, 92, 0)
    struct.pack_into("<Q", disk, SECTOR + 32, size // SECTOR - 1)
    struct.pack_into("<QII", disk, SECTOR + 72, 2, 128, 128)
    for number, (name, label) in enumerate(partitions):
        start = (number + 1) * MIB
        entry = 2 * SECTOR + 128 * number
        disk[entry : entry + 16] = uuid.UUID(int=number + 1).bytes_le
        struct.pack_into("<QQ", disk, entry + 32, start // SECTOR, (start + MIB) // SECTOR - 1)
        disk[entry + 56 : entry + 56 + 2 * len(name)] = name.encode("utf-16-le")
        if label:
            disk[start + 1080 : start + 1082] = b"\x53\xef"
            disk[start + 1144 : start + 1144 + len(label)] = label.encode()
    return bytes(disk)


def mbr_disk(label: str = "", *, size: int = 4 * MIB) -> bytes:
    """A raw disk with one FAT partition of that label."""
    disk = bytearray(size)
    struct.pack_into("<B3xB3xII", disk, 446, 0x80, 0x0E, 2048, size // SECTOR - 2048)
    disk[510:512] = b"\x55\xaa"
    start = 2048 * SECTOR
    disk[start + 54 : start + 62] = b"FAT16   "
    disk[start + 43 : start + 54] = label.encode().ljust(11)
    disk[start + 510 : start + 512] = b"\x55\xaa"
    return bytes(disk)


SPARSE = 'RW 8192 SPARSE "disk.vmdk"'


def vmdk(
    *, capacity: int = 8192, extents: str = SPARSE, kind: str = "monolithicSparse", more: str = "", parent: str = ""
) -> bytes:
    """A sparse VMDK file of which no grain is in use."""
    text = f"# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID={parent or 'ffffffff'}\n"
    text += f'createType="{kind}"\n{more}\n{extents}\n'
    header = struct.pack(
        "<4sIIQQQQIQQQ?4sH", b"KDMV", 1, 3, capacity, 128, 1, 20, 512, 21, 30, 128, False, b"\n \r\n", 0
    )
    return header.ljust(SECTOR, b"\0") + text.encode().ljust(20 * SECTOR, b"\0") + bytes(128 * SECTOR)


def vhd(*, size: int = 4 * MIB, kind: int = 2, parent_name: bytes = b"", break_sum: bool = False) -> bytes:
    """A VHD file, fixed or dynamic (of which no block is in use)."""
    dynamic = kind != 2
    footer = bytearray(SECTOR)
    where = SECTOR if dynamic else 0xFFFFFFFFFFFFFFFF
    struct.pack_into(">8sIIQI4sI4sQQIII", footer, 0, b"conectix", 2, 0x10000, where, 0, b"qem2", 0x50003, b"Wi2k",
                     size, size, 0x00780410, kind, 0)  # fmt: skip
    struct.pack_into(">I", footer, 64, ~sum(footer) & 0xFFFFFFFF if not break_sum else 0)
    if not dynamic:
        return bytes(size) + bytes(footer)
    header = bytearray(1024)
    blocks = -(-size // (2 * MIB))
    struct.pack_into(">8sQQIIII", header, 0, b"cxsparse", 0xFFFFFFFFFFFFFFFF, 1536, 0x10000, blocks, 2 * MIB, 0)
    header[64 : 64 + len(parent_name)] = parent_name
    struct.pack_into(">I", header, 36, ~sum(header) & 0xFFFFFFFF)
    table = b"\xff" * max(4 * min(blocks, 1 << 16), SECTOR)  # of a size beyond all, as much as memory bears
    return bytes(footer) + bytes(header) + table + bytes(footer)


def vhdx(*, size: int = 4 * MIB, parent: bool = False, locator: bool = False, log: bool = False) -> bytes:
    """The headers of a VHDX file."""
    file = bytearray(2 * MIB)
    file[:8] = b"vhdxfile"
    for place in (64 << 10, 128 << 10):
        struct.pack_into("<4sIQ", file, place, b"head", 0, 1)
        if log:
            file[place + 48 : place + 64] = b"\1" * 16
    regions = _guid("8B7CA206-4790-4B9A-B8FE-575F050F886E") + struct.pack("<QII", MIB, MIB, 1)
    for place in (192 << 10, 256 << 10):
        struct.pack_into("<4sII", file, place, b"regi", 0, 1)
        file[place + 16 : place + 16 + len(regions)] = regions
    items = [
        ("CAA16737-FA36-4D43-B3B6-33F0AA44E76B", struct.pack("<II", MIB, 2 if parent else 0)),
        ("2FA54224-CD1B-4876-B211-5DBED83BF4B8", struct.pack("<Q", size)),
    ]
    if locator:
        items.append(("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C", bytes(20)))
    struct.pack_into("<8sHH", file, MIB, b"metadata", 0, len(items))
    for number, (what, content) in enumerate(items):
        offset = (64 << 10) + 64 * number
        entry = MIB + 32 + 32 * number
        file[entry : entry + 24] = _guid(what) + struct.pack("<II", offset, len(content))
        file[MIB + offset : MIB + offset + len(content)] = content
    return bytes(file)


def _guid(text: str) -> bytes:
    return uuid.UUID(text).bytes_le


def description(*hrefs: str, references: Sequence[str] | None = None, more: str = "", head: str = "") -> bytes:
    """An OVF text with a disk for each file."""
    files = "".join(f'<File ovf:id="f{n}" ovf:href="{name}"/>' for n, name in enumerate(references or hrefs))
    disks = "".join(f'<Disk ovf:diskId="d{n}" ovf:fileRef="f{n}" ovf:capacity="4"/>' for n in range(len(hrefs)))
    return (
        f'<?xml version="1.0"?>{head}<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" '
        f'xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"><References>{files}</References>'
        f"<DiskSection>{disks}{more}</DiskSection><VirtualSystem><ProductSection><Product>Router</Product>"
        "<Version>7.1</Version></ProductSection></VirtualSystem></Envelope>"
    ).encode()


def tar_of(*members: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar file of these members, in order, whatever their names are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is no file."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info
