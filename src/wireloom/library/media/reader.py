"""The program that reads a reference platform's CD: ``python -m wireloom.library.media.reader IMAGE LIMITS``.

It prints an :class:`~wireloom.library.media.listing.Answer` as JSON and writes nothing. It runs in a process with
limits of memory and time (:mod:`wireloom.library.bounded`), because what it reads is from outside. Nothing is mounted.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

import pycdlib
from pycdlib.dr import DirectoryRecord
from pycdlib.pycdlibexception import PyCdlibException

from wireloom.library.media.definitions import TEXT_BYTES, ImageDefinition, NodeDefinition, read_definition
from wireloom.library.media.listing import Answer, Broken, Extent, ImageEntry, Medium, MediumFile, NodeEntry, Refusal
from wireloom.library.media.records import SECTOR
from wireloom.library.media.structure import MAX_ENTRIES, check_structure
from wireloom.library.values import ImageRefused, Limits

__all__ = ["main", "read_medium"]

_NODES: Final = "node-definitions"
_IMAGES: Final = "virl-base-images"
#: Definitions of one kind. The largest platform that is known has about a hundred.
_MOST: Final = 1000
#: Beyond its own errors, what the library meets in headers that make no sense.
_LOST: Final = (PyCdlibException, AttributeError, LookupError, OverflowError, TypeError, ValueError, struct.error)


def main(arguments: list[str]) -> int:
    """Print what is on the image, or why it is refused."""
    path, written = arguments
    limits = replace(Limits(), **json.loads(written))
    try:
        answer = Answer(medium=read_medium(Path(path), limits))
    except ImageRefused as error:
        answer = Answer(refusal=_refusal(error))
    except (MemoryError, RecursionError):
        answer = Answer(refusal=Refusal(reason="unbounded", message="it takes more memory than it may to read it"))
    sys.stdout.write(answer.model_dump_json(exclude_defaults=True))
    return 0


def read_medium(path: Path, limits: Limits) -> Medium:
    """What is on a reference platform's CD. Follows hostile input: to be called in a bounded process.

    :raises ImageRefused: it cannot be read, or is no such CD.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        check_structure(file, size, limits)
        image = pycdlib.PyCdlib()
        with _believing():
            image.open_fp(file)
        try:
            return _Reader(image, file, size).medium()
        finally:
            image.close()


@contextlib.contextmanager
def _believing() -> Iterator[None]:
    """While the library goes by what the image says."""
    try:
        yield
    except _LOST as error:
        raise ImageRefused("corrupt", "the image's folders cannot be read") from error


class _Reader:
    def __init__(self, image: pycdlib.PyCdlib, file: BinaryIO, size: int) -> None:
        self._image = image
        self._file = file
        self._size = size
        self._key = "rr_path" if image.has_rock_ridge() else "joliet_path" if image.has_joliet() else "iso_path"
        self._left_out: list[str] = []

    def medium(self) -> Medium:
        with _believing():
            files = {item.path: item for item in self._files()}
        nodes = [path for path in files if _is_definition(path, _NODES, 1)]
        images = [path for path in files if _is_definition(path, _IMAGES, 2)]
        if not nodes and not images:
            raise ImageRefused(
                "format", "this CD is no reference platform", hint=f"it would have folders {_NODES} and {_IMAGES}"
            )
        if max(len(nodes), len(images)) > _MOST:
            raise ImageRefused("bomb", f"the CD has more than {_MOST} definitions")
        broken: list[Broken] = []
        return Medium(
            label=self._label(),
            nodes=tuple(self._nodes([files[path] for path in nodes], broken)),
            images=tuple(self._images([files[path] for path in images], files, broken)),
            broken=tuple(broken),
            left_out=tuple(self._left_out),
        )

    # ---------------------------------------------------------------- definitions

    def _nodes(self, files: list[MediumFile], broken: list[Broken]) -> Iterator[NodeEntry]:
        seen: set[str] = set()
        for item in files:
            try:
                definition = read_definition(NodeDefinition, self._text(item), file=item.path)
                _unique(definition.id, seen)
            except ImageRefused as error:
                broken.append(_broken("device", item.path, error))
            else:
                yield NodeEntry(definition=definition)

    def _images(
        self, files: list[MediumFile], known: dict[str, MediumFile], broken: list[Broken]
    ) -> Iterator[ImageEntry]:
        seen: set[str] = set()
        for item in files:
            try:
                definition = read_definition(ImageDefinition, self._text(item), file=item.path)
                _unique(definition.id, seen)
            except ImageRefused as error:
                broken.append(_broken("image", item.path, error))
                continue
            folder = PurePosixPath(item.path).parent
            found = {name: known.get(str(folder / name)) for name in definition.disks}
            yield ImageEntry(
                definition=definition,
                files=tuple(disk for disk in found.values() if disk is not None),
                missing=tuple(name for name, disk in found.items() if disk is None),
            )

    def _text(self, item: MediumFile) -> bytes:
        if item.size > TEXT_BYTES:
            raise ImageRefused("size", f"{item.path} is larger than {TEXT_BYTES} bytes")
        parts: list[bytes] = []
        for offset, length in item.extents:
            self._file.seek(offset)
            parts.append(self._file.read(length))
        return b"".join(parts)

    # ---------------------------------------------------------------- files

    def _files(self) -> Iterator[MediumFile]:
        # The library's walk and look-up by path know only the last piece of a file in several.
        count = 0
        waiting = deque(["/"])
        while waiting:
            folder = waiting.popleft()
            for child in self._image.list_children(**{self._key: folder}):
                count += 1
                if count > MAX_ENTRIES:
                    raise ImageRefused("bomb", f"the image has more than {MAX_ENTRIES} entries")
                if child is None or child.is_dot() or child.is_dotdot():
                    continue
                path = str(PurePosixPath(folder) / self._name(child))
                if child.is_symlink():
                    self._left_out.append(f"{path} is a link to another file, and was left out")
                elif child.is_dir():
                    waiting.append(path)
                else:
                    yield self._file_of(path, child)

    def _name(self, record: DirectoryRecord) -> str:
        if self._key == "rr_path" and record.rock_ridge is not None:
            return str(record.rock_ridge.name().decode())
        return str(record.file_identifier().decode("utf-16-be" if self._key == "joliet_path" else "utf-8"))

    def _file_of(self, path: str, first: DirectoryRecord) -> MediumFile:
        extents: list[Extent] = []
        record: DirectoryRecord | None = first
        while record is not None:
            offset, length = record.extent_location() * SECTOR, record.get_data_length()
            if offset + length > self._size:
                raise ImageRefused("truncated", "a file of the image lies outside of it")
            if length:
                extents.append((offset, length))
            record = record.data_continuation
        return MediumFile(path=self._shown(path), size=sum(length for _, length in extents), extents=tuple(extents))

    def _shown(self, path: str) -> str:
        """A path as definitions write it: ISO 9660's own names have a version, and are of capitals."""
        return path.partition(";")[0].rstrip(".").lower() if self._key == "iso_path" else path

    def _label(self) -> str:
        label = self._image.pvd.volume_identifier.decode("ascii", "replace").strip()
        return "".join(letter if letter.isprintable() else "?" for letter in label)


def _is_definition(path: str, folder: str, depth: int) -> bool:
    """Whether it is a YAML file ``depth`` folders below one called ``folder``, wherever that is."""
    parts = PurePosixPath(path).parts
    return path.lower().endswith((".yaml", ".yml")) and len(parts) > depth + 1 and parts[-depth - 1] == folder


def _unique(name: str, seen: set[str]) -> None:
    if name in seen:
        raise ImageRefused("duplicate", f"there is another definition {name!r}")
    seen.add(name)


def _broken(kind: str, path: str, error: ImageRefused) -> Broken:
    return Broken(key=f"{kind}:{path}", title=PurePosixPath(path).name, why=_refusal(error))


def _refusal(error: ImageRefused) -> Refusal:
    return Refusal(reason=error.details["reason"], message=error.message)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
