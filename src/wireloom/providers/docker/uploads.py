"""Archives on their way to the engine: the image's parts as they are, under a name of ours and no other.

An archive names its images, and the engine would take those names from whatever has them. So the lists of names are
left out of the stream, and a list with one name is put in their place.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import json
import lzma
import posixpath
import re
import tarfile
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from pydantic import BaseModel, TypeAdapter

from wireloom.errors import ImageMissing

__all__ = ["Upload", "entry", "is_saved_image", "padding", "plan_upload", "raw_chunks"]

_CHUNK: Final = 1 << 20
_MEMBERS_MOST: Final = 20_000
#: An archive has four members a layer, of which there are at most 127.
_LOOKED_AT: Final = 1000
_JSON_MOST: Final = 8 << 20
_BLOCK: Final = tarfile.BLOCKSIZE

_MANIFEST: Final = "manifest.json"
#: What says which images are in an archive, and how they are called.
_NAMING: Final = {_MANIFEST, "repositories", "index.json", "oci-layout"}
_ARCHIVE_PARTS: Final = {*_NAMING, "blobs"}
_LAYER_NAME: Final = re.compile(r"(?:sha256:)?[0-9a-f]{64}(?:\.json|\.tar(?:\.gz)?)?")

#: What reading a tar file, packed or not, may end with.
_UNREADABLE: Final = (OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


class _Listed(BaseModel):
    """One image of an archive's manifest; names as the engine spells them."""

    Config: str
    Layers: list[str]
    RepoTags: list[str] | None = None


_LISTING: Final = TypeAdapter(list[_Listed])


@dataclass
class Upload:
    """An archive as it is sent.

    :ivar content: the engine's id of the image in it. :ivar size: bytes that are sent.
    :ivar pieces: bytes, or where they lie in the unpacked archive, in rising order.
    """

    source: Path
    content: str
    pieces: Sequence[bytes | range]
    stopped: bool = field(default=False, init=False)

    @property
    def size(self) -> int:
        return sum(len(piece) for piece in self.pieces)

    def stop(self) -> None:
        """Break off: the engine takes back what it has of an archive that does not end."""
        self.stopped = True

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is sent. :raises ConnectionAbortedError: it was stopped."""
        with await asyncio.to_thread(tarfile.open, self.source) as archive:
            file: Any = archive.fileobj  # unpacks while it reads
            for piece in self.pieces:
                if isinstance(piece, bytes):
                    yield piece
                    continue
                await asyncio.to_thread(file.seek, piece.start)
                left = len(piece)
                while left:
                    chunk = await asyncio.to_thread(file.read, min(left, _CHUNK))
                    if self.stopped or not chunk:
                        raise ConnectionAbortedError("the archive is not sent to its end")
                    left -= len(chunk)
                    yield chunk


def plan_upload(source: Path, image: str, name: str) -> Upload:
    """How the image of the archive ``source`` is sent, to be called ``name``. Blocking; reads headers and two texts.

    :param image: which one, where the archive has several.
    :raises ImageMissing: the archive cannot be read, or has no such image.
    """
    try:
        with tarfile.open(source) as archive:
            members = _members(archive, source)
            listing = _LISTING.validate_json(_text(archive, members.get(_MANIFEST)))
            chosen = _choose(listing, image, source)
            config = _text(archive, members.get(posixpath.normpath(chosen.Config)))
            end = archive.offset
    except (*_UNREADABLE, ValueError) as error:
        raise _unreadable(source, error) from error
    manifest = json.dumps([{"Config": chosen.Config, "RepoTags": [name], "Layers": chosen.Layers}]).encode()
    pieces: list[bytes | range] = [*_ranges(members, end), entry(_MANIFEST, manifest), bytes(2 * _BLOCK)]
    return Upload(source, f"sha256:{hashlib.sha256(config).hexdigest()}", pieces)


def is_saved_image(source: Path) -> bool:
    """Whether a tar file is an image archive (``docker save``, OCI) and not a plain file tree. Blocking.

    :raises ImageMissing: it is no tar file, or is not there.
    """
    try:
        with tarfile.open(source) as archive:
            for number, member in enumerate(itertools.islice(archive, _LOOKED_AT)):
                name = posixpath.normpath(member.name)
                if number == 0 and _is_part(name):
                    return True
                if name == _MANIFEST and member.isreg():  # a file tree may have one too
                    return bool(_LISTING.validate_json(_text(archive, member)))
    except ValueError:
        return False
    except _UNREADABLE as error:
        raise _unreadable(source, error) from error
    return False


def _is_part(name: str) -> bool:
    first = name.partition("/")[0]
    return first in _ARCHIVE_PARTS or _LAYER_NAME.fullmatch(first) is not None


async def raw_chunks(source: Path) -> AsyncIterator[bytes]:
    """The file as it is."""
    with await asyncio.to_thread(source.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


def entry(name: str, content: bytes) -> bytes:
    """A member of a tar file, whole."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header.tobuf(tarfile.GNU_FORMAT) + content + bytes(padding(len(content)))


def padding(size: int) -> int:
    """Zero bytes after ``size`` bytes of a member."""
    return -size % _BLOCK


def _members(archive: tarfile.TarFile, source: Path) -> dict[str, tarfile.TarInfo]:
    """By clean name; of two with one name the later one counts, as for the engine."""
    found: dict[str, tarfile.TarInfo] = {}
    for number, member in enumerate(archive):
        if number >= _MEMBERS_MOST:
            raise ImageMissing(f"{source.name} has too many parts for an image archive", hint="is it a file tree?")
        found[posixpath.normpath(member.name)] = member
    return found


def _ranges(members: dict[str, tarfile.TarInfo], end: int) -> list[range]:
    """Where the members lie that are sent."""
    order = sorted(members.values(), key=lambda member: member.offset)
    ends = [member.offset for member in order[1:]] + [end]
    kept = zip(order, ends, strict=True)
    return [range(m.offset, e) for m, e in kept if posixpath.normpath(m.name) not in _NAMING]


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes:
    if member is None or not member.isreg() or member.size > _JSON_MOST:
        raise tarfile.ReadError("it does not say what is in it")
    file: IO[bytes] = archive.extractfile(member) or io.BytesIO()
    return file.read()


def _choose(listing: list[_Listed], image: str, source: Path) -> _Listed:
    if len(listing) == 1:
        return listing[0]
    for listed in listing:
        if image in (listed.RepoTags or ()):
            return listed
    raise ImageMissing(
        f"{source.name} has {len(listing)} images and none is called {image}", hint="name the image as the file does"
    )


def _unreadable(source: Path, error: Exception) -> ImageMissing:
    return ImageMissing(
        f"cannot read image file {source}: {error}", hint="give a whole image archive, as 'docker save' makes it"
    )
