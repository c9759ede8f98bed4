"""Whether the frames of a zstd file are all there. Layout: RFC 8878, section 3.1. Decodes nothing."""

from __future__ import annotations

import os
from io import FileIO
from typing import Final

__all__ = ["is_whole"]

_MAGIC: Final = 0xFD2FB528
_SKIPPABLE: Final = 0x184D2A50
_CHECKSUM: Final = 4
_SIZE_FIELD: Final = (0, 2, 4, 8)
_DICTIONARY_FIELD: Final = (0, 1, 2, 4)
_REPEATED: Final = 1  # a block of one byte, many times


def is_whole(file: FileIO) -> bool:
    """``False`` when the file ends within a frame; ``True`` also for what is no frame, which is another defect."""
    size = os.fstat(file.fileno()).st_size
    position = 0
    while position < size:
        magic = _number(file, position, 4)
        if magic & ~0xF == _SKIPPABLE:
            position += 8 + _number(file, position + 4, 4)
        elif magic == _MAGIC:
            position = _end_of_frame(file, position + 4, size)
        else:
            return size - position >= 4
    return position == size


def _end_of_frame(file: FileIO, position: int, size: int) -> int:
    """Where the frame ends; beyond ``size`` when it is cut."""
    descriptor = _number(file, position, 1)
    one_segment = bool(descriptor & 0x20)
    fields = _SIZE_FIELD[descriptor >> 6] or int(one_segment)
    position += 1 + (not one_segment) + _DICTIONARY_FIELD[descriptor & 3] + fields
    last = False
    while not last and position < size:
        header = _number(file, position, 3)
        last = bool(header & 1)
        position += 3 + (1 if header >> 1 & 3 == _REPEATED else header >> 3)
    if not last:
        return size + 1
    return position + (_CHECKSUM if descriptor & 4 else 0)


def _number(file: FileIO, position: int, length: int) -> int:
    return int.from_bytes(os.pread(file.fileno(), length, position), "little")
