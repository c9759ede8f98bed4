"""As much of an ELF file as is needed to know whether it is whole, for which machine, and what it is linked with. Pure.

Everything is read through bounds that the file itself cannot widen: at most :data:`MOST_HEADERS` headers, at most
:data:`MOST_NEEDED` names of libraries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Elf", "ElfWrong", "read_elf"]

MAGIC: Final = b"\x7fELF"
MOST_HEADERS: Final = 512
MOST_NEEDED: Final = 64
_MOST_NAME: Final = 255

_PROGRAM_TYPES: Final = (2, 3)  # ET_EXEC, ET_DYN
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5


class ElfWrong(Exception):
    """``kind`` says in which way."""

    def __init__(self, kind: Literal["format", "truncated", "architecture"], message: str) -> None:
        super().__init__(message)
        self.kind: Literal["format", "truncated", "architecture"] = kind


@dataclass(frozen=True)
class Elf:
    """A program.

    :ivar bits: 32 or 64. :ivar needed: names of libraries that it is linked with.
    """

    bits: int
    machine: int
    needed: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Layout:
    """Where things stand, by the width of the file's class."""

    bits: int
    header: struct.Struct
    segment: struct.Struct
    dynamic: struct.Struct


_LAYOUTS: Final = {
    1: _Layout(32, struct.Struct("<HHIIIIIHHHHHH"), struct.Struct("<IIIIIIII"), struct.Struct("<iI")),
    2: _Layout(64, struct.Struct("<HHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<qQ")),
}


@dataclass(frozen=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def read_elf(data: bytes | memoryview) -> Elf:
    """The program in ``data``, a whole file.

    :raises ElfWrong: it is none, is not whole, or is for big-endian machines.
    """
    if bytes(data[:4]) != MAGIC:
        raise ElfWrong("format", "it is no Linux program (ELF)")
    if len(data) < 64:
        raise ElfWrong("truncated", f"it ends after {len(data)} bytes, within its header")
    layout = _LAYOUTS.get(data[4])
    if layout is None:
        raise ElfWrong("format", f"its ELF class {data[4]} is unknown")
    if data[5] != 1:
        raise ElfWrong("architecture", "it is for a big-endian machine")
    kind, machine, _, _, segments_at, sections_at, _, _, size, count, section_size, sections, _ = (
        layout.header.unpack_from(data, 16)
    )
    if kind not in _PROGRAM_TYPES:
        raise ElfWrong("format", f"it is an ELF file, but no program (type {kind})")
    if sections_at and sections_at + section_size * sections > len(data):
        raise ElfWrong("truncated", f"its table of sections ends beyond its {len(data)} bytes")
    found = tuple(_segments(data, layout, segments_at, size, count))
    return Elf(layout.bits, machine, tuple(_needed(data, layout, found)))


def _segments(data: bytes | memoryview, layout: _Layout, at: int, size: int, count: int) -> Iterator[_Segment]:
    if not 1 <= count <= MOST_HEADERS or size < layout.segment.size:
        raise ElfWrong("format", f"its table of {count} segments is none")
    if at + size * count > len(data):
        raise ElfWrong("truncated", f"its table of segments ends beyond its {len(data)} bytes")
    for number in range(count):
        values = layout.segment.unpack_from(data, at + number * size)
        kind, offset, address, length = (
            (values[0], values[1], values[2], values[4])
            if layout.bits == 32
            else (values[0], values[2], values[3], values[5])
        )
        if kind in (_PT_LOAD, _PT_DYNAMIC) and offset + length > len(data):
            raise ElfWrong("truncated", f"a segment ends at {offset + length}, and the file has {len(data)} bytes")
        yield _Segment(kind, offset, address, length)


def _needed(data: bytes | memoryview, layout: _Layout, segments: tuple[_Segment, ...]) -> Iterator[str]:
    dynamic = next((segment for segment in segments if segment.kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return
    names: list[int] = []
    strings = 0
    for number in range(min(dynamic.size // layout.dynamic.size, MOST_HEADERS)):
        tag, value = layout.dynamic.unpack_from(data, dynamic.offset + number * layout.dynamic.size)
        if tag == _DT_NULL:
            break
        if tag == _DT_NEEDED:
            names.append(value)
        elif tag == _DT_STRTAB:
            strings = value
    table = _offset(strings, segments)
    if table is None:
        return
    for name in names[:MOST_NEEDED]:
        text = bytes(data[table + name : table + name + _MOST_NAME]).partition(b"\0")[0]
        if text.isascii() and text:
            yield text.decode("ascii")


def _offset(address: int, segments: tuple[_Segment, ...]) -> int | None:
    """Where in the file stands what is loaded to ``address``."""
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
            return segment.offset + address - segment.address
    return None
