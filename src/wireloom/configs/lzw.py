"""Decompression of ``compress`` (``.Z``) data: LZW with codes of growing width.

After the magic number ``1F 9D`` stands a byte with the widest code in bits (low five) and whether code 256 empties the
dictionary (high bit). Codes follow from 9 bits upwards, least significant bit first. They were written in groups of
eight: where the width changes or the dictionary is emptied, the rest of a group is filler.
"""

from __future__ import annotations

from typing import Final

__all__ = ["decompress"]

MAGIC: Final = b"\x1f\x9d"
_NARROWEST: Final = 9
_WIDEST: Final = 16
_CLEAR: Final = 256
_GROUP: Final = 8


class _Codes:
    """Reads codes of the present width; ``None`` at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._section = 0  # bit at which codes of this width begin
        self._read = 0  # codes read since then
        self.width = _NARROWEST

    def next(self) -> int | None:
        at = self._section + self._read * self.width
        if at + self.width > len(self._data) * 8:
            return None
        self._read += 1
        # A code of at most 16 bits lies within three bytes.
        window = int.from_bytes(self._data[at // 8 : at // 8 + 3], "little")
        return (window >> at % 8) & ((1 << self.width) - 1)

    def resize(self, width: int) -> None:
        """Go on with codes of ``width`` bits, after the filler of the last group."""
        groups = -(-self._read // _GROUP)
        self._section += groups * _GROUP * self.width
        self._read = 0
        self.width = width


def decompress(data: bytes, *, limit: int) -> bytes:
    """The bytes that were compressed, ``limit`` at most.

    :raises ValueError: it is no such data, or it would become larger.
    """
    if data[:2] != MAGIC or len(data) < 3:
        raise ValueError("it is not compressed as it says")
    widest, clears = data[2] & 0x1F, bool(data[2] & 0x80)
    if not _NARROWEST <= widest <= _WIDEST:
        raise ValueError(f"codes of {widest} bits are unknown")
    codes = _Codes(data[3:])
    empty: list[bytes] = [bytes([value]) for value in range(256)] + ([b""] if clears else [])
    known, before = list(empty), b""
    out = bytearray()
    while (code := codes.next()) is not None:
        if clears and code == _CLEAR:
            known, before = list(empty), b""
            codes.resize(_NARROWEST)
            continue
        found = _entry(known, code, before)
        out += found
        if len(out) > limit:
            raise ValueError(f"it is larger than {limit} bytes")
        if before and len(known) < 1 << widest:
            known.append(before + found[:1])
            if len(known) == 1 << codes.width and codes.width < widest:
                codes.resize(codes.width + 1)
        before = found
    return bytes(out)


def _entry(known: list[bytes], code: int, before: bytes) -> bytes:
    """What ``code`` stands for; it may be the entry that it completes itself."""
    if code < len(known):
        return known[code]
    if code == len(known) and before:
        return before + before[:1]
    raise ValueError("its codes are damaged")
