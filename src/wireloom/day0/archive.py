"""A ``.tar.gz`` as bytes, the same bytes for the same files on every machine.

Compressors differ between versions, so the gzip stream stores what it holds; configurations are small.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from wireloom.errors import InvalidInput

__all__ = ["FIXED_TIME", "build_tar_gz"]

#: 1 January 2020, UTC, the date of everything that we make.
FIXED_TIME: Final = 1_577_836_800

_BLOCK: Final = 0xFFFF  # most that one stored block holds


def build_tar_gz(files: Mapping[str, bytes]) -> bytes:
    """An archive of ``files``, relative POSIX path to content, owned by root; folders are in it too.

    :raises InvalidInput: a path that leaves the archive.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        made: set[PurePosixPath] = set()
        for path, content in sorted((_checked(path), content) for path, content in files.items()):
            for folder in reversed(path.parents[:-1]):
                if folder not in made:
                    made.add(folder)
                    archive.addfile(_member(folder, tarfile.DIRTYPE, 0o755))
            member = _member(path, tarfile.REGTYPE, 0o644)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return _gzip(packed.getvalue())


def _checked(path: str) -> PurePosixPath:
    parsed = PurePosixPath(path.lstrip("/"))
    if not parsed.parts or ".." in parsed.parts:
        raise InvalidInput(f"{path!r} cannot be in an archive")
    return parsed


def _member(path: PurePosixPath, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(str(path))
    member.type, member.mode, member.mtime = kind, mode, FIXED_TIME
    member.uname = member.gname = "root"
    return member


def _gzip(data: bytes) -> bytes:
    """RFC 1952 around stored blocks of RFC 1951."""
    blocks = [data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK)]
    stored = b"".join(
        struct.pack("<BHH", number == len(blocks), len(block), ~len(block) & 0xFFFF) + block
        for number, block in enumerate(blocks, 1)
    )
    header = struct.pack("<2sBBIBB", b"\x1f\x8b", 8, 0, FIXED_TIME, 0, 255)
    return header + stored + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
