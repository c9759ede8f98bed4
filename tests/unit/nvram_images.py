"""NVRAM files of an emulated IOS, made here: the reverse of ``wireloom.configs.nvram``."""

from __future__ import annotations

import struct

_CLEAR = 256


def nvram(config: bytes, *, compressed: bool = False, private: bytes = b"", size: int = 65536) -> bytes:
    """A file with ``config`` as the startup configuration, and ``private`` behind it where that is given."""
    stored = compress(config) if compressed else config
    header = struct.pack(
        ">HHHHIIIIIHHI", 0xABCD, 2 if compressed else 1, 0x1234, 0x0F04, 0, 0, len(stored), 0, 0, 0, 0, len(config)
    )
    image = header + stored
    if private:
        image += bytes(-len(image) % 4)
        image += struct.pack(">HHIII", 0xFEDC, 1, 0, 0, len(private)) + private
    return image.ljust(size, b"\x00")


def compress(data: bytes, *, widest: int = 16, clear_every: int = 0) -> bytes:
    """``data`` in the format of ``compress``.

    :param clear_every: empty the dictionary after so many codes; 0: never.
    """
    writer = _Writer()
    known = {bytes([value]): value for value in range(256)}
    free, since = 257, 0
    current = b""
    for value in data:
        longer = current + bytes([value])
        if longer in known:
            current = longer
            continue
        writer.code(known[current])
        since += 1
        if free < 1 << widest:
            known[longer] = free
            free += 1
        if free > 1 << writer.width and writer.width < widest:  # the reader is one entry behind
            writer.resize(writer.width + 1)
        if clear_every and since == clear_every:
            writer.code(_CLEAR)
            writer.resize(9)
            known = {bytes([value]): value for value in range(256)}
            free, since = 257, 0
        current = bytes([value])
    if current:
        writer.code(known[current])
    return b"\x1f\x9d" + bytes([0x80 | widest]) + writer.done()


class _Writer:
    def __init__(self) -> None:
        self.width = 9
        self._out = bytearray()
        self._group: list[int] = []

    def code(self, code: int) -> None:
        self._group.append(code)
        if len(self._group) == 8:
            self._flush(8)

    def resize(self, width: int) -> None:
        """Fill the group up, as ``compress`` does, then go on with another width."""
        if self._group:
            self._flush(8)
        self.width = width

    def done(self) -> bytes:
        if self._group:
            self._flush(len(self._group))
        return bytes(self._out)

    def _flush(self, codes: int) -> None:
        bits = sum(code << number * self.width for number, code in enumerate(self._group))
        self._out += bits.to_bytes(-(-codes * self.width // 8), "little")
        self._group = []
