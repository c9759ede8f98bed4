"""The bytes of a medium, of which most may be zero."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO, Final

__all__ = ["MediumImage"]

_ZEROS: Final = 1 << 20


@dataclass(frozen=True)
class MediumImage:
    """A disk or CD-ROM of ``size`` bytes: ``pieces`` are (offset, content), ascending; between them are zeros."""

    size: int
    pieces: tuple[tuple[int, bytes], ...]

    def write(self, stream: BinaryIO) -> None:
        """Write to an empty file from its beginning; what is zero becomes a hole where the file system has holes."""
        for offset, content in self.pieces:
            stream.seek(offset)
            stream.write(content)
        stream.truncate(self.size)

    def to_bytes(self) -> bytes:
        image = bytearray(self.size)
        for offset, content in self.pieces:
            image[offset : offset + len(content)] = content
        return bytes(image)

    def digest(self) -> str:
        """SHA-256 of :meth:`to_bytes`, hexadecimal, without holding all of it."""
        found, position = hashlib.sha256(), 0
        for offset, content in (*self.pieces, (self.size, b"")):
            for start in range(position, offset, _ZEROS):
                found.update(bytes(min(_ZEROS, offset - start)))
            found.update(content)
            position = offset + len(content)
        return found.hexdigest()
