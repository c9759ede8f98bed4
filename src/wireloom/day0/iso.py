"""A CD-ROM image as bytes: ISO 9660 with Rock Ridge and Joliet names, the same bytes for the same files.

The library stamps the time of day on everything, so the finished image is walked once and every date in it is set to a
fixed one: equal day-0 data is an equal medium, and a guest that applies data once per content is not fooled.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

import pycdlib

from wireloom.errors import InvalidInput

__all__ = ["build_iso"]

_SECTOR: Final = 2048
_FIRST_DESCRIPTOR: Final = 16

#: ECMA-119 8.4.26 (17 bytes of digits and a zone) and 9.1.5 (7 bytes): 1 January 2020, UTC.
_LONG_DATE: Final = b"2020010100000000\x00"
_SHORT_DATE: Final = bytes([120, 1, 1, 0, 0, 0, 0])

#: Creation, modification, expiration, effective date of a volume descriptor; the third is left unset.
_DESCRIPTOR_DATES: Final = (813, 830, 864)

#: ECMA-119 allows 31 in level 3, among them the separator and version that the library adds.
_NAME_LIMIT: Final = 27
_LABEL_LIMIT: Final = 32
_JOLIET_LABEL_LIMIT: Final = 16  # two bytes a character
_JOLIET_NAME_LIMIT: Final = 64


def build_iso(label: str, files: Mapping[str, bytes], *, joliet: bool = True) -> bytes:
    """An image labelled ``label`` with ``files``, relative POSIX path to content; folders are made as needed.

    Names are kept exactly by Rock Ridge, and by Joliet too unless it is not wanted or cannot hold the label (longer
    than 16 characters).

    :raises InvalidInput: a label or a path that cannot be on a CD-ROM.
    """
    joliet = joliet and len(label) <= _JOLIET_LABEL_LIMIT
    if not 0 < len(label) <= _LABEL_LIMIT or not label.isascii() or not label.isprintable():
        raise InvalidInput(f"{label!r} cannot label a CD-ROM: 1 to {_LABEL_LIMIT} ASCII characters")
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, vol_ident=label, joliet=3 if joliet else None, rock_ridge="1.09")
    names = _Names(joliet=joliet)
    for path, content in sorted((_checked(path), content) for path, content in files.items()):
        names.add_folders(image, path.parent)
        image.add_fp(
            io.BytesIO(content),
            len(content),
            f"{names.iso(path, is_folder=False)};1",
            rr_name=path.name,
            joliet_path=names.joliet(path),
        )
    finished = io.BytesIO()
    image.write_fp(finished)
    image.close()
    dated = bytearray(finished.getvalue())
    _set_dates(dated)
    return bytes(dated)


def _checked(path: str) -> PurePosixPath:
    parsed = PurePosixPath(path.lstrip("/"))
    parts = parsed.parts
    if not parts or ".." in parts or any(len(part) > _JOLIET_NAME_LIMIT or not part.isprintable() for part in parts):
        raise InvalidInput(f"{path!r} cannot be a file on a CD-ROM")
    return parsed


class _Names:
    """The plain ISO 9660 name of each path: upper case, few characters, unique within its folder."""

    def __init__(self, *, joliet: bool) -> None:
        self._joliet = joliet
        self._names: dict[PurePosixPath, str] = {}

    def joliet(self, path: PurePosixPath) -> str | None:
        return f"/{path}" if self._joliet else None

    def add_folders(self, image: pycdlib.PyCdlib, folder: PurePosixPath) -> None:
        for path in [*reversed(folder.parents), folder]:
            if path.name and path not in self._names:
                plain = self.iso(path, is_folder=True)
                image.add_directory(plain, rr_name=path.name, joliet_path=self.joliet(path))

    def iso(self, path: PurePosixPath, *, is_folder: bool) -> str:
        """The full plain path of ``path``, whose folder must have been named before."""
        parent = self._names.get(path.parent, "")
        taken = set(self._names.values())
        for number in range(1000):
            name = f"{parent}/{_plain(path.name, number, is_folder=is_folder)}"
            if name not in taken:
                self._names[path] = name
                return name
        raise InvalidInput(f"too many files on a CD-ROM are named like {path.name}")


def _plain(name: str, number: int, *, is_folder: bool) -> str:
    stem, _, suffix = name.rpartition(".")
    if is_folder or not stem:
        stem, suffix = name, ""
    suffix = re.sub(r"[^A-Z0-9_]", "_", suffix.upper())[:8]
    tail = f"_{number}" if number else ""
    stem = re.sub(r"[^A-Z0-9_]", "_", stem.upper())[: _NAME_LIMIT - len(suffix) - len(tail)] + tail
    return stem if is_folder else f"{stem}.{suffix}"


def _set_dates(image: bytearray) -> None:
    """Replace every date in a finished image; pure arithmetic on ECMA-119 and the Rock Ridge TF entry."""
    sector = _FIRST_DESCRIPTOR
    while (kind := image[sector * _SECTOR]) != 255:
        start = sector * _SECTOR
        if kind in {1, 2}:
            for offset in _DESCRIPTOR_DATES:
                image[start + offset : start + offset + 17] = _LONG_DATE
            image[start + 156 + 18 : start + 156 + 25] = _SHORT_DATE
            extent, size = _location(image, start + 156)
            _set_folder_dates(image, extent, size)
        sector += 1


def _location(image: bytearray, record: int) -> tuple[int, int]:
    """First byte and length of the extent that a directory record points to."""
    (block,) = struct.unpack_from("<I", image, record + 2)
    (size,) = struct.unpack_from("<I", image, record + 10)
    return block * _SECTOR, size


def _set_folder_dates(image: bytearray, start: int, size: int) -> None:
    for position, record in enumerate(_records(image, start, size)):
        image[record + 18 : record + 25] = _SHORT_DATE
        name_length = image[record + 32]
        used = record + 33 + name_length + (1 - name_length % 2)
        _set_rock_ridge_dates(image, used, record + image[record])
        is_folder = bool(image[record + 25] & 2)
        if is_folder and position > 1:  # the first two are the folder itself and its parent
            _set_folder_dates(image, *_location(image, record))


def _records(image: bytearray, start: int, size: int) -> Iterator[int]:
    """Offsets of a folder's records; none crosses a sector, and a zero length ends a sector's."""
    offset = start
    while offset < start + size:
        if image[offset] == 0:
            offset = (offset // _SECTOR + 1) * _SECTOR
            continue
        yield offset
        offset += image[offset]


def _set_rock_ridge_dates(image: bytearray, start: int, end: int) -> None:
    """Set the time stamps of one system use area, and of the area that it continues in."""
    while start + 4 <= end:
        signature, length = bytes(image[start : start + 2]), image[start + 2]
        if length < 4:
            return
        if signature == b"TF":
            count = (image[start + 4] & 0x7F).bit_count()
            image[start + 5 : start + 5 + 7 * count] = _SHORT_DATE * count
        elif signature == b"CE":
            block, offset, size = (struct.unpack_from("<I", image, start + at)[0] for at in (4, 12, 20))
            area = block * _SECTOR + offset
            _set_rock_ridge_dates(image, area, area + size)
        start += length
