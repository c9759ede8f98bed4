"""Headers of VMDK files: one sparse file with everything inside, as VMware's tools export it.

Layout: VMware, "Virtual Disk Format 5.0". A descriptor is text within the file, or a file of its own. It can name
other files to be opened as parts of the disk, or as what the disk lies on; all of that is refused here, also in the
places where the specification has none and readers look nevertheless.
"""

from __future__ import annotations

import os
import re
import struct
from io import FileIO
from typing import Final

from wireloom.library.disks.reading import Header, bytes_at, check_virtual_size, file_size
from wireloom.library.values import ImageRefused, Limits

__all__ = ["read_vmdk"]

_SECTOR: Final = 512
_HEADER: Final = struct.Struct("<4sIIQQQQIQQQ?4sH")
_AT_END: Final = 0xFFFFFFFFFFFFFFFF
#: The footer lies before the closing marker, each a sector.
_FOOTER_FROM_END: Final = 2 * _SECTOR
_LONGEST_DESCRIPTOR: Final = 1 << 20
#: QEMU looks for a parent here, whatever the header says of the descriptor's place.
_LOOKED_AT: Final = range(_SECTOR, 21 * _SECTOR)
_NO_PARENT: Final = "ffffffff"

_KINDS: Final = frozenset({"monolithicsparse", "streamoptimized"})
_SETTING: Final = re.compile(rb"^[ \t]*([A-Za-z0-9._]+)[ \t]*=[ \t]*\"?([^\"\r\n\0]*)", re.MULTILINE)
_EXTENT: Final = re.compile(rb"^[ \t]*(?:RW|RDONLY|NOACCESS)[ \t]+([0-9]+)[ \t]+([A-Z0-9]+)", re.MULTILINE)


def read_vmdk(file: FileIO, limits: Limits) -> Header:
    """The header, its footer, and its descriptor.

    :raises ImageRefused: ``data-file``: its parts are other files; ``backing-file``; ``virtual-size``, ``truncated``,
        ``corrupt`` or ``format``.
    """
    if not bytes_at(file, 0, 4, "header").startswith(b"KDMV"):
        raise ImageRefused(
            "data-file",
            "the file describes a disk whose data is in other files; an image stands alone",
            hint="make one file of them: qemu-img convert -O qcow2",
        )
    capacity, descriptor, length, table = _header(bytes_at(file, 0, _SECTOR, "header"))
    _check_descriptor(file, descriptor, length)
    if table == _AT_END:
        place = file_size(file) - _FOOTER_FROM_END
        footer = bytes_at(file, max(place, 0), _SECTOR, "footer")
        if not footer.startswith(b"KDMV"):
            raise ImageRefused("truncated", "the file ends before its footer")
        again = _HEADER.unpack(footer[: _HEADER.size])
        table = again[9]
        if again[3] != capacity or table == _AT_END:
            raise ImageRefused("corrupt", "its header and its footer say different things")
    if table * _SECTOR >= file_size(file):
        raise ImageRefused("truncated", "the file ends before its table")
    return Header("vmdk", check_virtual_size(capacity * _SECTOR, limits))


def _header(block: bytes) -> tuple[int, int, int, int]:
    """Capacity, descriptor's place and length, and place of the table, in sectors."""
    fields = _HEADER.unpack(block[: _HEADER.size])
    _, version, _, capacity, _, descriptor, length = fields[:7]
    if version not in (1, 2, 3):
        raise ImageRefused("format", f"the file is of version {version} of its format")
    if not capacity or not descriptor or not length:
        raise ImageRefused("data-file", "the file has no data of its own; an image stands alone")
    return capacity, descriptor, length, fields[9]


def _check_descriptor(file: FileIO, sector: int, sectors: int) -> None:
    if sectors * _SECTOR > _LONGEST_DESCRIPTOR:
        raise ImageRefused("corrupt", f"its descriptor has {sectors * _SECTOR} bytes")
    text = bytes_at(file, sector * _SECTOR, sectors * _SECTOR, "descriptor")
    # Before anything else, so that no text behind a zero byte, and no other spelling, escapes.
    near = os.pread(file.fileno(), len(_LOOKED_AT), _LOOKED_AT.start)
    if b"parentfilenamehint" in (text + near).lower():
        raise ImageRefused("backing-file", "the disk names another file that it lies on; an image stands alone")
    settings = {key.lower().decode(): value.decode(errors="replace") for key, value in _SETTING.findall(text)}
    if settings.get("parentcid", _NO_PARENT).strip().lower() != _NO_PARENT:
        raise ImageRefused("backing-file", "the disk lies on another one; an image stands alone")
    kind = settings.get("createtype", "").strip().lower()
    extents = _EXTENT.findall(text)
    if len(extents) != 1 or extents[0][1] != b"SPARSE":
        raise ImageRefused("data-file", f"the disk has {len(extents)} parts, of which some are other files")
    if kind not in _KINDS:
        raise ImageRefused("format", "the disk is neither monolithicSparse nor streamOptimized")
