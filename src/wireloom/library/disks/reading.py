"""What the readers of disk formats share: a header as it was understood, and bytes that must be there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import FileIO
from typing import Literal

from wireloom.library.values import ImageRefused, Limits

__all__ = ["Driver", "Header", "bytes_at", "check_virtual_size", "file_size"]

#: Formats by the names that qemu-img has for them.
Driver = Literal["qcow2", "raw", "vmdk", "vpc", "vhdx"]


@dataclass(frozen=True)
class Header:
    """A disk that stands alone, as far as its headers tell.

    :ivar unclean: why it cannot be kept as it is, in words; conversion mends that. :ivar warnings: what that loses.
    """

    driver: Driver
    virtual_size: int
    unclean: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def bytes_at(file: FileIO, offset: int, length: int, what: str) -> bytes:
    """Exactly these bytes. :raises ImageRefused: ``truncated``: the file ends before."""
    data = os.pread(file.fileno(), length, offset) if offset < 1 << 62 else b""
    if len(data) < length:
        raise ImageRefused("truncated", f"the file ends before its {what}")
    return data


def check_virtual_size(size: int, limits: Limits) -> int:
    """``size``, where a disk may be as large as that. :raises ImageRefused: ``virtual-size``."""
    if not 0 < size <= limits.virtual_size:
        raise ImageRefused(
            "virtual-size", f"a guest would see a disk of {size} bytes; 1 to {limits.virtual_size} are allowed"
        )
    return size


def file_size(file: FileIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size
