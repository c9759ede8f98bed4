"""Compressed files: one layer, within limits, whole or not there.

gzip, xz and bzip2 are read by the standard library, a few hundred kilobytes at a time; zstd by its program, bounded. Of
a zip archive only the list of its members is read, then the one that matters, by the same means.
"""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final, Protocol

from wireloom.library.bounded import Bounds, run_bounded
from wireloom.library.durable import no_space_is_refused
from wireloom.library.sniff import COMPRESSED, compression, sniff
from wireloom.library.values import ImageRefused, Limits, Progress, no_progress
from wireloom.library.zips import ZipMember, useful_member
from wireloom.library.zstd_frames import is_whole

__all__ = ["unpack"]

_INPUT: Final = 256 << 10
_OUTPUT: Final = 1 << 20
_ZEROS: Final = bytes(_OUTPUT)
_HEAD: Final = 512
#: xz may ask for gigabytes; its strongest preset needs 65 MiB.
_XZ_MEMORY: Final = 512 << 20
#: Bytes that may follow what gzip has packed, as signatures of firmware do; gzip(1) passes over them, too.
_LONGEST_TAIL: Final = 64 << 10
_GZIP: Final = 0x1F


def unpack(path: Path, folder: Path, limits: Limits, progress: Progress = no_progress) -> Path:
    """Unpack ``path`` into a new file in ``folder``; blocks. ``progress`` counts what is read.

    Long runs of zeros become holes. The file is called ``unpacked``, or as the member of the zip archive that it was.

    :raises ImageRefused: ``bomb``, ``size``, ``truncated``, ``corrupt``, ``compressed-twice``; of zip archives also
        ``encrypted``, ``path``, ``name``, ``link``, ``duplicate`` and ``format``: not one file that matters.
    :raises CapacityExceeded: no space left.
    """
    kind = sniff(path).kind
    if kind not in COMPRESSED:
        raise ImageRefused("format", "the file is not compressed")
    with path.open("rb", buffering=0) as file:
        member = useful_member(file, limits) if kind == "zip" else None
        unfinished = folder / ".unpacked.part"
        taken = {path.name, unfinished.name}
        target = folder / (member.name if member and member.name not in taken else "unpacked")
        size = member.packed if member else os.fstat(file.fileno()).st_size
        try:
            with no_space_is_refused(folder), unfinished.open("wb", buffering=0) as out:
                writer = _Writer(out, size, limits, progress)
                if member:
                    _unpack_member(file, member, writer)
                elif kind == "zstd":
                    _unpack_zstd(file, writer, limits)
                else:
                    tail = _LONGEST_TAIL if kind == "gzip" else 0
                    _decode(_Window(file, 0, size), _DECODERS[kind], writer, whole_file=True, tail=tail)
                writer.finish()
            unfinished.rename(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return target


class _Writer:
    """The new file, which ends where a limit is."""

    def __init__(self, out: FileIO, packed: int, limits: Limits, progress: Progress) -> None:
        self._out = out
        self._packed = packed
        self._progress = progress
        self._size = limits.size
        self._allowed = limits.free + limits.ratio * packed
        self._head = b""
        self._consumed = 0
        self.written = 0
        self.crc = 0

    def write(self, block: bytes) -> None:
        """:raises ImageRefused: ``bomb``, ``size`` or ``compressed-twice``."""
        after = self.written + len(block)
        if after > self._allowed:
            raise ImageRefused(
                "bomb", f"{self._packed} bytes unpack to more than {self._allowed}", hint="unpack it yourself"
            )
        if after > self._size:
            raise ImageRefused("size", f"it unpacks to more than {self._size} bytes")
        if len(self._head) < _HEAD:
            self._head += block[: _HEAD - len(self._head)]
            self._check_head(len(self._head) == _HEAD)
        for start in range(0, len(block), _OUTPUT):
            self._put(block[start : start + _OUTPUT])
        self.written = after
        self._progress(self._consumed, self._packed)  # a few bytes may become many, and somebody may watch these

    def _put(self, block: bytes) -> None:
        if block == _ZEROS[: len(block)]:
            self._out.seek(len(block), os.SEEK_CUR)
            return
        view = memoryview(block)
        while view:
            view = view[self._out.write(view) :]

    def read(self, consumed: int) -> None:
        """That many bytes of the packed file are behind us."""
        self._consumed = consumed
        self._progress(consumed, self._packed)

    def finish(self) -> None:
        """Give the file its length. :raises ImageRefused: ``compressed-twice``."""
        self._check_head(True)
        self._out.truncate(self.written)

    def _check_head(self, complete: bool) -> None:
        inner = compression(self._head) if complete else None
        if inner is not None:
            raise ImageRefused(
                "compressed-twice", f"what is inside is compressed again, by {inner}", hint="unpack one layer yourself"
            )


@dataclass(frozen=True)
class _Window:
    """A part of a file."""

    file: FileIO
    start: int
    size: int

    def blocks(self) -> Iterator[bytes]:
        position, end = self.start, self.start + self.size
        while block := os.pread(self.file.fileno(), min(_INPUT, end - position), position):
            position += len(block)
            yield block


class _Decoder(Protocol):
    """As ``bz2`` and ``lzma`` have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Inflate:
    """``zlib`` in the manner of the others."""

    def __init__(self, window_bits: int) -> None:
        self._zlib = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        block = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        # A full block may not be all that zlib holds, even when it has taken all input.
        self.needs_input = not self._zlib.unconsumed_tail and len(block) < max_length
        return block


class _Stored:
    """What is not compressed."""

    eof = False
    needs_input = True
    unused_data = b""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return data


_DECODERS: Final[dict[str, Callable[[], _Decoder]]] = {
    "gzip": lambda: _Inflate(zlib.MAX_WBITS | 16),
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    "bzip2": bz2.BZ2Decompressor,
}
#: Methods of zip archives, as their format names them.
_METHODS: Final[dict[int, Callable[[], _Decoder]]] = {
    0: _Stored,
    8: lambda: _Inflate(-zlib.MAX_WBITS),
    12: bz2.BZ2Decompressor,
}


def _decode(window: _Window, make: Callable[[], _Decoder], writer: _Writer, *, whole_file: bool, tail: int = 0) -> None:
    """Write what is in ``window``: one stream after the other in a file of its own, exactly one in an archive.

    :param tail: bytes at most that may follow the last stream.
    """
    decoder = make()
    fresh = True  # no byte of this stream has come
    consumed = 0
    for packed in window.blocks():
        consumed += len(packed)
        data = packed
        while data or not (decoder.needs_input or decoder.eof):
            if decoder.eof:
                raise ImageRefused("corrupt", "something follows what is compressed")
            if fresh and whole_file and not (data := data.lstrip(b"\0")):
                break  # padding between and after streams is usual
            if fresh and writer.written and data[0] != _GZIP and window.size - consumed + len(data) <= tail:
                writer.read(window.size)
                return
            fresh = False
            block, ended = _step(decoder, data)
            writer.crc = zlib.crc32(block, writer.crc)
            writer.write(block)
            data = b""
            if ended:
                data = decoder.unused_data
                if whole_file:
                    decoder, fresh = make(), True
        writer.read(consumed)
    if not (fresh if whole_file else decoder.eof or isinstance(decoder, _Stored)):
        raise ImageRefused("truncated", "the file ends before what is compressed does")


def _step(decoder: _Decoder, data: bytes) -> tuple[bytes, bool]:
    """Some of the content, and whether the stream has ended."""
    try:
        return decoder.decompress(data, _OUTPUT), decoder.eof
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:  # bz2 says OSError
        raise ImageRefused("corrupt", f"what is compressed is damaged: {error}") from error


def _unpack_member(file: FileIO, member: ZipMember, writer: _Writer) -> None:
    make = _METHODS.get(member.method)
    if make is None:
        raise ImageRefused(
            "format", f"the archive uses method {member.method}, which is unusual", hint="pack it again, or unpack it"
        )
    _decode(_Window(file, member.offset, member.packed), make, writer, whole_file=False)
    if writer.written != member.size:
        raise ImageRefused("size", f"the archive says {member.size} bytes, and has {writer.written}")
    if writer.crc != member.crc:
        raise ImageRefused("corrupt", "the checksum of the file in the archive does not hold")


def _unpack_zstd(file: FileIO, writer: _Writer, limits: Limits) -> None:
    bounds = Bounds(memory=limits.memory, cpu_s=limits.convert_s, wall_s=limits.convert_s)
    done = run_bounded(
        ("zstd", "--decompress", "--stdout", "--quiet", "--no-progress"),
        bounds=bounds,
        stdin=file,
        on_output=writer.write,
        watch=lambda: writer.read(file.tell()),  # the program reads by the same offset
    )
    if done.code != 0:
        if not is_whole(file):
            raise ImageRefused("truncated", "the file ends before what is compressed does")
        raise ImageRefused("corrupt", f"what is compressed is damaged: {done.errors[-200:]}")
    writer.read(os.fstat(file.fileno()).st_size)
