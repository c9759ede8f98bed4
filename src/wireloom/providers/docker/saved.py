"""What the engine saves of an image, read as a stream: every part is held against its digest, whatever its name.

Engines differ in how they lay an archive out; an image is the same in all of them: a configuration whose digest is its
id, and the layers that the configuration names by theirs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol

import aiohttp

from wireloom.errors import ImageMissing, Unavailable, Unsupported
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.uploads import entry, padding

__all__ = [
    "ArchiveFile",
    "ImageParts",
    "Nowhere",
    "PartSink",
    "Readable",
    "SavedStream",
    "members_of",
    "read_parts",
    "save_image",
]

TRANSFER_S: Final = 3600.0

_CHUNK: Final = 1 << 20
_JSON_MOST: Final = 8 << 20
_SILENCE_S: Final = 900.0
_HEADER: Final = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class ImageParts:
    """What an image is made of: ``id`` is its configuration's digest; digests of the layers, lowest first."""

    id: str
    layers: tuple[str, ...]
    size: int

    @classmethod
    def of(cls, found: dict[str, Any]) -> ImageParts:
        """From an inspection of the image."""
        return cls(found["Id"], tuple(found["RootFS"].get("Layers") or ()), int(found["Size"]))


class PartSink(Protocol):
    """Takes the parts of an image as they come; whether one is wanted is known at its end."""

    def begin(self, size: int) -> None: ...

    def write(self, data: bytes) -> None: ...

    def keep(self, digest: str) -> None: ...

    def drop(self) -> None: ...


class Nowhere:
    """For reading only."""

    def begin(self, size: int) -> None:
        del size

    def write(self, data: bytes) -> None:
        del data

    def keep(self, digest: str) -> None:
        del digest

    def drop(self) -> None:
        """There is nothing."""


class ArchiveFile:
    """Writes the layers into a docker-archive, then what describes them. Blocking.

    :param file: new, and open for reading and writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._start = 0
        self._size = 0

    def begin(self, size: int) -> None:
        self._start, self._size = self.file.tell(), size
        self.file.write(bytes(_HEADER))  # its name is known when it has been read

    def write(self, data: bytes) -> None:
        self.file.write(data)

    def keep(self, digest: str) -> None:
        header = tarfile.TarInfo(_layer_name(digest))
        header.size = self._size
        self.file.write(bytes(padding(self._size)))
        end = self.file.tell()
        self.file.seek(self._start)
        self.file.write(header.tobuf(tarfile.GNU_FORMAT))
        self.file.seek(end)

    def drop(self) -> None:
        self.file.seek(self._start)
        self.file.truncate()

    @property
    def content_at(self) -> int:
        """Where the content of the present part begins."""
        return self._start + _HEADER

    def finish(self, config: bytes, layers: Sequence[str], tags: Sequence[str]) -> None:
        """Complete the archive. :param layers: digests of layers that were kept, lowest first."""
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        listed = {"Config": name, "RepoTags": list(tags) or None, "Layers": [_layer_name(item) for item in layers]}
        self.file.write(entry(name, config))
        self.file.write(entry("manifest.json", json.dumps([listed]).encode()))
        self.file.write(bytes(2 * tarfile.BLOCKSIZE))


class SavedStream:
    """The body of an answer of the engine, for a worker thread that reads while the loop receives."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self._loop = asyncio.get_running_loop()
        self._stopped = False

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, ``b""`` at the end. :raises Unavailable: the engine, or whoever asked, has gone."""
        if self._stopped:
            raise Unavailable("the engine's archive is not read to its end")
        asked = asyncio.run_coroutine_threadsafe(self._content.read(size), self._loop)
        try:
            return asked.result(_SILENCE_S)
        except (aiohttp.ClientError, OSError, TimeoutError, FutureCancelled) as error:
            raise Unavailable(f"lost the Docker engine while it saved an image: {error}") from error

    def stop(self) -> None:
        """The next read fails."""
        self._stopped = True


async def save_image(
    engine: Engine, reference: str, work: Callable[[SavedStream], bytes], *, timeout_s: float = TRANSFER_S
) -> bytes:
    """Have the engine save an image, and ``work`` read it in a thread; what that gives.

    :raises RuntimeFailed: the engine cannot: a part is damaged or gone.
    """
    async with engine.request(
        f"save image {reference}", "GET", f"/images/{reference}/get", timeout_s=timeout_s
    ) as response:
        stream = SavedStream(response.content)
        try:
            return await asyncio.to_thread(work, stream)
        finally:
            stream.stop()


class Readable(Protocol):
    """Bytes in order."""

    def read(self, size: int = -1, /) -> bytes: ...


def members_of(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members one by one; those that were seen are forgotten, as a layer may have a million."""
    seen: Any = archive
    while (member := archive.next()) is not None:
        seen.members.clear()
        yield member


def read_parts(source: Readable, parts: ImageParts, sink: PartSink) -> bytes:
    """Read an archive to its end; layers go to ``sink``, each once. Gives the configuration. Blocking.

    :raises ImageMissing: it cannot be read, or a part is not in it with the digest that it must have.
    """
    missing = set(parts.layers)
    config = b""
    try:
        file: Any = source  # a stream is only read
        with tarfile.open(fileobj=file, mode="r|", bufsize=_CHUNK) as archive:
            for member in members_of(archive):
                if not member.isreg():
                    continue
                digest, text = _read_part(archive, member, sink)
                if digest in missing:
                    missing.discard(digest)
                    sink.keep(digest)
                    continue
                sink.drop()
                config = text if digest == parts.id else config
    except (tarfile.TarError, EOFError) as error:
        raise _damaged(str(error)) from error
    if missing:
        raise _damaged(f"there is no whole layer {min(missing)}")
    if not config:
        raise Unsupported(
            f"the archive has no configuration with the digest {parts.id}",
            hint="an engine that keeps its images in containerd's store knows them by other ids",
        )
    return config


def _read_part(archive: tarfile.TarFile, member: tarfile.TarInfo, sink: PartSink) -> tuple[str, bytes]:
    """Digest of a member's content, and the content where it is small enough to be a text."""
    known = hashlib.sha256()
    text = bytearray()
    sink.begin(member.size)
    file = archive.extractfile(member)
    while file is not None and (chunk := file.read(_CHUNK)):
        known.update(chunk)
        sink.write(chunk)
        if member.size <= _JSON_MOST:
            text += chunk
    return f"sha256:{known.hexdigest()}", bytes(text)


def _damaged(what: str) -> ImageMissing:
    return ImageMissing(what, hint="remove it and load it again")


def _layer_name(digest: str) -> str:
    return f"{digest.removeprefix('sha256:')}/layer.tar"
