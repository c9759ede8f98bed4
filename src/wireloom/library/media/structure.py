"""Whether the structure of a CD-ROM image can be believed. Looked at before any library follows it.

What a library does with an image that was made to hurt is the library's own business: it may run in circles, clamp a
size that lies, or hand out bytes of another file. So every tree of the image is walked here once, with nothing but
bounds: each folder is reached once, each file lies inside of the image, and no two files share a part of it (sharing
all of it is what hard links are).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from wireloom.library.media.records import SECTOR, Naming, Record, records_in
from wireloom.library.values import ImageRefused, Limits

__all__ = ["MAX_DEPTH", "MAX_ENTRIES", "check_structure"]

MAX_DEPTH: Final = 32
#: Reference platforms have some hundreds. More than this is meant to keep somebody busy.
MAX_ENTRIES: Final = 50_000
_FOLDER_BYTES: Final = 16 << 20

_FIRST: Final = 16
_DESCRIPTORS: Final = 64
_PRIMARY, _SUPPLEMENTARY, _END = 1, 2, 255
_JOLIET: Final = (b"%/@", b"%/C", b"%/E")
_ROOT: Final = slice(156, 190)


@dataclass(frozen=True)
class _Folder:
    offset: int
    size: int


@dataclass
class _Tree:
    """What one tree has: physical parent by folder, placements of relocated ones, names of folders."""

    parents: dict[int, int] = field(default_factory=dict)
    placements: list[tuple[int, int]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    entries: int = 0


def check_structure(file: BinaryIO, size: int, limits: Limits) -> None:
    """:raises ImageRefused: it cannot be believed; the reason says why."""
    _Check(file, size, limits).run()


class _Check:
    def __init__(self, file: BinaryIO, size: int, limits: Limits) -> None:
        self._file = file
        self._size = size
        self._limits = limits
        self._most = min(limits.entries, MAX_ENTRIES)
        self._spans: set[tuple[int, int]] = set()
        self._folders: dict[int, int] = {}

    def run(self) -> None:
        trees = list(self._roots())
        if not trees:
            raise ImageRefused("format", "this is no CD-ROM image")
        for naming, root in trees:
            self._walk(naming, root)
        self._check_overlaps()

    # ---------------------------------------------------------------- descriptors

    def _roots(self) -> Iterator[tuple[Naming, _Folder]]:
        """The trees that the descriptors name, the primary one first."""
        for number in range(_DESCRIPTORS):
            offset = (_FIRST + number) * SECTOR
            data = self._read(offset, SECTOR)
            if data[1:6] != b"CD001":
                raise ImageRefused("format", "this is no CD-ROM image")
            kind = data[0]
            if kind == _END:
                self._spans.add((0, offset + SECTOR))
                return
            if kind == _PRIMARY:
                root = self._root(data)
                yield ("rock-ridge" if self._skip(root) is not None else "iso"), root
            elif kind == _SUPPLEMENTARY and data[88:91] in _JOLIET:
                yield "joliet", self._root(data)
        raise ImageRefused("corrupt", "the image's descriptors do not come to an end")

    def _root(self, descriptor: bytes) -> _Folder:
        if struct.unpack("<H", descriptor[128:130])[0] != SECTOR:
            raise ImageRefused("format", f"only images with sectors of {SECTOR} bytes are read")
        if struct.unpack("<I", descriptor[80:84])[0] * SECTOR > self._size:
            raise ImageRefused("truncated", "the image is shorter than it says")
        record = descriptor[_ROOT]
        extent, size = struct.unpack("<I", record[2:6])[0], struct.unpack("<I", record[10:14])[0]
        return _Folder(extent * SECTOR, size)

    def _skip(self, root: _Folder) -> int | None:
        """Bytes before the fields of Rock Ridge, as the root's first entry says; ``None`` without any."""
        head = self._read(root.offset, SECTOR)
        fields = head[34 : head[0]]
        if len(fields) >= 7 and fields[:2] == b"SP" and fields[4:6] == b"\xbe\xef":
            return fields[6]
        return None

    # ---------------------------------------------------------------- one tree

    def _walk(self, naming: Naming, root: _Folder) -> None:
        tree = _Tree()
        skip = (self._skip(root) or 0) if naming == "rock-ridge" else 0
        tree.parents[root.offset] = root.offset
        waiting = deque([root])
        while waiting:
            folder = waiting.popleft()
            waiting.extend(self._folder(folder, naming, skip, tree))
        _check_placements(tree, root.offset, self._limits.name)

    def _folder(self, folder: _Folder, naming: Naming, skip: int, tree: _Tree) -> Iterator[_Folder]:
        """Take in the entries of a folder; the folders in it that are new."""
        seen: set[str] = set()
        going_on = b""
        for record in self._records(folder, naming, skip):
            tree.entries += 1
            if tree.entries > self._most:
                raise ImageRefused("bomb", f"the image has more than {self._most} entries")
            if record.self_or_parent:
                continue
            if record.name in seen and record.raw != going_on:
                raise ImageRefused("duplicate", f"the image has {record.name!r} twice in one folder")
            seen.add(record.name)
            going_on = record.raw if record.continues else b""
            if record.child is not None:
                tree.placements.append((folder.offset, record.child))
            elif record.directory:
                yield self._enter(record, folder, tree)
            elif not record.link:
                self._span(record.offset, record.size)

    def _enter(self, record: Record, folder: _Folder, tree: _Tree) -> _Folder:
        if record.offset in tree.parents:
            raise ImageRefused("loop", f"the folder {record.name!r} of the image is inside of itself, or at two places")
        tree.parents[record.offset] = folder.offset
        tree.names[record.offset] = record.name
        return _Folder(record.offset, record.size)

    def _records(self, folder: _Folder, naming: Naming, skip: int) -> Iterator[Record]:
        if not 0 < folder.size <= _FOLDER_BYTES:
            raise ImageRefused("size", f"a folder of the image has {folder.size} bytes")
        self._folders[folder.offset] = folder.offset + folder.size
        data = self._read(folder.offset, folder.size)
        return records_in(data, naming, skip, self._read)

    # ---------------------------------------------------------------- bytes

    def _read(self, offset: int, length: int) -> bytes:
        if offset + length > self._size:
            raise ImageRefused("truncated", "a part of the image lies outside of it")
        self._file.seek(offset)
        data = self._file.read(length)
        if len(data) < length:
            raise ImageRefused("truncated", "a part of the image lies outside of it")
        return data

    def _span(self, offset: int, size: int) -> None:
        if size == 0:
            return  # some programs give empty files any place
        if offset + size > self._size:
            raise ImageRefused("truncated", "a file of the image lies outside of it")
        self._spans.add((offset, offset + size))

    def _check_overlaps(self) -> None:
        end = 0
        for start, stop in sorted({*self._spans, *self._folders.items()}):
            if start < end:
                raise ImageRefused("overlap", "two files of the image share a part of it")
            end = stop


def _check_placements(tree: _Tree, root: int, name_limit: int) -> None:
    """Every folder is below the root where it really stands, within bounds of depth and path."""
    parents = dict(tree.parents)
    placed: set[int] = set()
    for folder, child in tree.placements:
        if child not in parents or child == root or child in placed:
            raise ImageRefused("loop", "a relocated folder of the image is not there, or at two places")
        placed.add(child)
        parents[child] = folder
    lengths: dict[int, tuple[int, int]] = {root: (0, 0)}
    for folder in parents:
        trail: list[int] = []
        at = folder
        while at not in lengths:
            trail.append(at)
            at = parents[at]
            if len(trail) > MAX_DEPTH:
                raise ImageRefused("loop", f"folders of the image are more than {MAX_DEPTH} deep, or in circles")
        for step in reversed(trail):
            depth, length = lengths[parents[step]]
            lengths[step] = (depth + 1, length + len(tree.names[step].encode()) + 1)
            if depth >= MAX_DEPTH or lengths[step][1] > name_limit:
                raise ImageRefused("path", "folders of the image are too deep")
