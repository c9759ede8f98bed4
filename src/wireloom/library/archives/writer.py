"""Writes the canonical archive: the one form in which containers' images are stored and sent.

::

    manifest.json        [{"Config": "<hex>.json", "Layers": ["<hex>/layer.tar", …], "RepoTags": …}]
    <hex>/layer.tar      each layer, unpacked, under its own digest; one that comes twice is there once
    <hex>.json           the configuration, whose digest is the engine's id

Equal images make equal archives, byte for byte: there are no times, owners or names of ours in it. Layers go through
once. The header of a layer and the manifest are filled in when their digests are known, in room that was left for them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from wireloom.errors import InvalidInput
from wireloom.library.archives.documents import digest_of
from wireloom.library.archives.streams import CHUNK
from wireloom.library.durable import flush_file, flush_folder, no_space_is_refused
from wireloom.library.tar_format import BLOCK

__all__ = ["ArchiveWriter", "new_file", "unchanging_json", "write_archive"]

_RECORD: Final = 20 * BLOCK
_MODE: Final = 0o644
#: Twelve octal digits end there; beyond, GNU's numbers of base 256 are understood by every reader of today.
_OCTAL_MOST: Final = 8**11
_NO_DIGEST: Final = "0" * 64


def write_archive(target: Path, *, config: dict[str, Any], layers: Sequence[Path], tags: Sequence[str] = ()) -> str:
    """Write the new file ``target``, whole or not at all, and return the engine's id of the image.

    Equal arguments make equal bytes. Memory does not depend on sizes.

    :param config: the image's configuration (``architecture``, ``os``, ``config``, …); its ``rootfs`` is filled in.
    :param layers: uncompressed tar files, lowest first. They are not validated; use ``accept`` for what comes from
        outside. :param tags: names that a load gives the image; the library's own images have none.
    :raises CapacityExceeded: no space left. :raises InvalidInput: there are no layers.
    """
    if not layers:
        raise InvalidInput("an image needs a layer at least")
    with ArchiveWriter(target, layers=len(layers), tags=tags) as writer:
        for layer in layers:
            with layer.open("rb") as file:
                writer.begin_layer()
                while chunk := file.read(CHUNK):
                    writer.write(chunk)
                writer.end_layer()
        document = copy.deepcopy(config)
        document["rootfs"] = {"type": "layers", "diff_ids": list(writer.layers)}
        return writer.finish(unchanging_json(document))


def unchanging_json(document: Any) -> bytes:
    """JSON whose bytes depend on nothing but its content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """A file that has its name, and is on the disk, when the block ends well; otherwise nothing of it is left.

    After a crash a part may stay beside it, which the next attempt takes the place of.
    """
    unfinished = target.with_name(f".{target.name}.part")
    try:
        with no_space_is_refused(target.parent):
            with unfinished.open("wb") as file:
                yield file
            flush_file(unfinished)
            unfinished.rename(target)
            flush_folder(target.parent)
    finally:
        unfinished.unlink(missing_ok=True)


class ArchiveWriter:
    """Takes layers one after the other, then the configuration. Nothing is at ``target`` until :meth:`finish`.

    :param layers: how many will come; their number is what the room for the manifest follows from.
    :ivar layers: digests of those that have ended.
    """

    def __init__(self, target: Path, *, layers: int, tags: Sequence[str] = ()) -> None:
        self._count, self._tags = layers, tuple(tags)
        self._context = new_file(target)
        self.layers: list[str] = []
        self._written: set[str] = set()
        self._begin = 0
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        self._file = self._context.__enter__()
        self._finished = False
        manifest = self._manifest(_NO_DIGEST, [_NO_DIGEST] * self._count)
        self._file.write(_header("manifest.json", len(manifest)))
        self._file.write(_padded(manifest))
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None and not self._finished:
            unfinished = InvalidInput("the archive was not finished")
            self._context.__exit__(InvalidInput, unfinished, None)
            raise unfinished
        self._context.__exit__(kind, error, trace)

    def begin_layer(self) -> None:
        """The bytes of the next layer follow."""
        self._begin = self._file.tell()
        self._hash = hashlib.sha256()
        self._file.write(bytes(BLOCK))

    def write(self, chunk: bytes) -> None:
        """Bytes of the layer that was begun."""
        self._hash.update(chunk)
        self._file.write(chunk)

    def end_layer(self) -> str:
        """The digest of the layer. One that was there before is not kept again."""
        digest = self._hash.hexdigest()
        end = self._file.tell()
        self._file.seek(self._begin)
        if digest in self._written:
            self._file.truncate()
        else:
            self._file.write(_header(f"{digest}/layer.tar", end - self._begin - BLOCK))
            self._file.seek(end)
            self._file.write(bytes(-end % BLOCK))
        self._written.add(digest)
        self.layers.append(f"sha256:{digest}")
        return self.layers[-1]

    def finish(self, config: bytes) -> str:
        """Write the configuration, as it is, and close the archive. Returns the engine's id of the image."""
        if len(self.layers) != self._count:
            raise InvalidInput(f"the archive was to have {self._count} layers and has {len(self.layers)}")
        content = digest_of(config)
        name = content.removeprefix("sha256:")
        self._file.write(_header(f"{name}.json", len(config)))
        self._file.write(_padded(config))
        end = self._file.tell() + 2 * BLOCK
        self._file.write(bytes(2 * BLOCK + -end % _RECORD))
        self._file.seek(BLOCK)
        self._file.write(self._manifest(name, [layer.removeprefix("sha256:") for layer in self.layers]))
        self._file.seek(0, os.SEEK_END)
        self._finished = True
        return content

    def _manifest(self, config: str, layers: list[str]) -> bytes:
        return unchanging_json(
            [
                {
                    "Config": f"{config}.json",
                    "RepoTags": list(self._tags) or None,
                    "Layers": [f"{layer}/layer.tar" for layer in layers],
                }
            ]
        )


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def _header(name: str, size: int) -> bytes:
    """A file's header in GNU's form, with every field that could differ at zero."""
    digits = b"%011o\x00" % size if size < _OCTAL_MOST else b"\x80" + size.to_bytes(11, "big")
    fields = [
        name.encode().ljust(100, b"\x00"),
        b"%07o\x00" % _MODE,
        b"%07o\x00" % 0,
        b"%07o\x00" % 0,
        digits,
        b"%011o\x00" % 0,
        b" " * 8,
        b"0",
        bytes(100),
        b"ustar  \x00",
    ]
    block = b"".join(fields).ljust(BLOCK, b"\x00")
    return block[:148] + b"%06o\x00 " % sum(block) + block[156:]
