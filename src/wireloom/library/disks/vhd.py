"""Headers of VHD files ("vpc" for QEMU), fixed and dynamic.

Layout: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0.
"""

from __future__ import annotations

import struct
from io import FileIO
from typing import Final

from wireloom.library.disks.reading import Header, bytes_at, check_virtual_size, file_size
from wireloom.library.values import ImageRefused, Limits

__all__ = ["read_vhd"]

_FOOTER: Final = 512
_FOOTER_FIELDS: Final = struct.Struct(">8sIIQI4sI4sQQIII16sB")
_DYNAMIC: Final = 1024
_DYNAMIC_FIELDS: Final = struct.Struct(">8sQQIIII16sII512s192s")
_FIXED_DISK, _DYNAMIC_DISK, _ON_A_PARENT = 2, 3, 4
_FOOTER_SUM, _DYNAMIC_SUM = 64, 36


def read_vhd(file: FileIO, limits: Limits) -> Header:
    """The footer, its copy at the beginning, and the dynamic header.

    :raises ImageRefused: ``backing-file``, ``virtual-size``, ``truncated``, ``corrupt`` or ``format``.
    """
    end = file_size(file)
    footer = bytes_at(file, max(0, end - _FOOTER), _FOOTER, "footer")
    if not footer.startswith(b"conectix"):
        raise ImageRefused("truncated", "the file ends before its footer")
    _check_sum(footer, _FOOTER_SUM, "footer")
    fields = _FOOTER_FIELDS.unpack(footer[: _FOOTER_FIELDS.size])
    dynamic, size, kind = fields[3], fields[9], fields[11]
    if kind == _ON_A_PARENT:
        raise ImageRefused("backing-file", "the disk holds what differs from another one; an image stands alone")
    check_virtual_size(size, limits)
    if kind == _FIXED_DISK:
        if size > end - _FOOTER:
            raise ImageRefused("truncated", "the file is shorter than its disk")
    elif kind == _DYNAMIC_DISK:
        if bytes_at(file, 0, _FOOTER, "header")[: _FOOTER_FIELDS.size] != footer[: _FOOTER_FIELDS.size]:
            raise ImageRefused("corrupt", "its header and its footer say different things")
        _check_dynamic(bytes_at(file, dynamic, _DYNAMIC, "header"), size, end)
    else:
        raise ImageRefused("format", f"the disk is of type {kind}, which is unknown")
    return Header("vpc", size)


def _check_dynamic(header: bytes, size: int, end: int) -> None:
    if not header.startswith(b"cxsparse"):
        raise ImageRefused("corrupt", "its header does not hold together")
    _check_sum(header, _DYNAMIC_SUM, "header")
    fields = _DYNAMIC_FIELDS.unpack(header[: _DYNAMIC_FIELDS.size])
    table, blocks, block, parent, parent_name, locators = (fields[each] for each in (2, 4, 5, 7, 10, 11))
    if any(parent) or any(parent_name) or any(locators):
        raise ImageRefused("backing-file", "the disk names another one that it lies on; an image stands alone")
    if not block or blocks * block < size:
        raise ImageRefused("corrupt", "its table is smaller than the disk")
    if table + 4 * blocks > end:
        raise ImageRefused("truncated", "the file ends before its table")


def _check_sum(block: bytes, place: int, what: str) -> None:
    told = int.from_bytes(block[place : place + 4], "big")
    if ~(sum(block) - sum(block[place : place + 4])) & 0xFFFFFFFF != told:
        raise ImageRefused("corrupt", f"the checksum of its {what} does not hold")
