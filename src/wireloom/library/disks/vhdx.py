"""Headers of VHDX files. Layout: Microsoft, [MS-VHDX]."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from io import FileIO
from typing import Final

from wireloom.library.disks.reading import Header, bytes_at, check_virtual_size
from wireloom.library.values import ImageRefused, Limits

__all__ = ["read_vhdx"]

_HEADERS: Final = (64 << 10, 128 << 10)
_REGION_TABLES: Final = (192 << 10, 256 << 10)
_REGION_TABLE: Final = 64 << 10
_METADATA_TABLE: Final = 64 << 10
_MOST_ENTRIES: Final = 2047


def _guid(text: str) -> bytes:
    return uuid.UUID(text).bytes_le


_METADATA: Final = _guid("8B7CA206-4790-4B9A-B8FE-575F050F886E")
_PARAMETERS: Final = _guid("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
_DISK_SIZE: Final = _guid("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
_PARENT: Final = _guid("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
_HAS_PARENT: Final = 2


def read_vhdx(file: FileIO, limits: Limits) -> Header:
    """Both region tables, and the metadata that they lead to.

    :raises ImageRefused: ``backing-file``, ``virtual-size``, ``truncated`` or ``corrupt``.
    """
    sizes = {_virtual_size(file, place) for place in _metadata_places(file)}
    if len(sizes) != 1:
        raise ImageRefused("corrupt", "it has no metadata, or two that differ")
    _check_log(file)
    return Header("vhdx", check_virtual_size(sizes.pop(), limits))


def _check_log(file: FileIO) -> None:
    """Changes that wait in the log would be lost, or carried out by whoever opens the file."""
    headers = [bytes_at(file, place, 80, "header") for place in _HEADERS]
    living = [each for each in headers if each.startswith(b"head")]
    if not living:
        raise ImageRefused("corrupt", "it has no header")
    latest = max(living, key=lambda each: int.from_bytes(each[8:16], "little"))
    if any(latest[48:64]):
        raise ImageRefused("corrupt", "the disk was not closed", hint="shut its machine down and export it")


def _metadata_places(file: FileIO) -> Iterator[int]:
    for place in _REGION_TABLES:
        table = bytes_at(file, place, _REGION_TABLE, "tables")
        count = int.from_bytes(table[8:12], "little")
        if not table.startswith(b"regi") or count > _MOST_ENTRIES:
            continue
        for number in range(count):
            what, offset = struct.unpack_from("<16sQ", table, 16 + 32 * number)
            if what == _METADATA:
                yield offset


def _virtual_size(file: FileIO, place: int) -> int:
    table = bytes_at(file, place, _METADATA_TABLE, "metadata")
    count = int.from_bytes(table[10:12], "little")
    if not table.startswith(b"metadata") or count > _MOST_ENTRIES:
        raise ImageRefused("corrupt", "its metadata does not hold together")
    size = 0
    for number in range(count):
        what, offset, _length = struct.unpack_from("<16sII", table, 32 + 32 * number)
        if what == _PARENT:
            raise ImageRefused("backing-file", "the disk names another one that it lies on; an image stands alone")
        if what == _PARAMETERS:
            _, flags = struct.unpack("<II", bytes_at(file, place + offset, 8, "metadata"))
            if flags & _HAS_PARENT:
                raise ImageRefused("backing-file", "the disk lies on another one; an image stands alone")
        elif what == _DISK_SIZE:
            size = int.from_bytes(bytes_at(file, place + offset, 8, "metadata"), "little")
    return size
