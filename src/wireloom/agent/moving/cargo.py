"""What is carried of a node, and how it travels. Blocking functions on files, and values.

A file travels as frames: where its data goes, how much it is, a seal, and the data. Holes do not travel. A reader
takes frames from any offset on, so that a transfer that broke goes on where it was; each frame is checked by itself.

::

    offset  u64   length  u32   nonce  12 bytes   tag  16 bytes   data        (big-endian)
    size    u64   0       u32   nonce  12 bytes   tag  16 bytes               the last one: how long the file is

The seal is AES-GMAC over offset, length and data, with a key that is made of the move's token. It finds any damage, and
anybody between the two hosts who changes something; and it is ten times as fast as a hash, so that verifying costs a
transfer nothing.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wireloom.errors import InvalidInput, RuntimeFailed
from wireloom.model.base import Value

__all__ = ["FRAME", "FRAME_HEAD", "Cargo", "CargoFile", "Frame", "Seal", "cargo_of", "frames_of", "safe_path"]

#: The most data in one frame: one system call's worth, and what is fetched again when a connection breaks.
FRAME: Final = 4 << 20
FRAME_HEAD: Final = struct.Struct(">QI12s16s")

_PLACE: Final = struct.Struct(">QI")
_NONCE: Final = 12
_TAG: Final = 16

#: What of a node's folder is carried. The rest is made anew where the node starts: sockets, media, logs, the record.
_FOLDERS: Final = ("storage", "configs")
_NOT_CARRIED: Final = frozenset({"record.json", "record.new"})


class CargoFile(Value):
    """One entry below the node's folder. ``kind``: file, folder or link (``link``: where it points to).

    ``size`` is its length, ``data`` what of it is not holes; both in bytes.
    """

    path: str
    kind: str = "file"
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    size: int = 0
    data: int = 0
    link: str = ""


class Cargo(Value):
    """Everything that is carried of a node.

    :ivar record: what its agent remembered of it. :ivar facts: what the provider has to know of where it was.
    """

    files: tuple[CargoFile, ...] = ()
    record: dict[str, Any] = {}
    facts: dict[str, str] = {}

    @property
    def total(self) -> int:
        """Bytes to be carried."""
        return sum(file.data for file in self.files)


class Frame(Value):
    """Where data lies in a file; ``length`` 0: the end, at ``offset``."""

    offset: int
    length: int


def cargo_of(folder: Path, record: dict[str, Any], facts: dict[str, str]) -> Cargo:
    """What is in the node's folder now. :raises OSError:"""
    return Cargo(files=tuple(_entries(folder)), record=record, facts=facts)


def _entries(folder: Path) -> Iterator[CargoFile]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name in _FOLDERS and path.is_dir():
            yield from _below(folder, path)
        elif path.name not in _NOT_CARRIED and path.is_file() and not path.is_symlink():
            yield _entry(folder, path)


def _below(root: Path, folder: Path) -> Iterator[CargoFile]:
    yield _entry(root, folder)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _below(root, path)
        elif path.is_symlink() or path.is_file():  # sockets and pipes are made anew
            yield _entry(root, path)


def _entry(root: Path, path: Path) -> CargoFile:
    facts = path.lstat()
    known = {"path": str(path.relative_to(root)), "mode": stat.S_IMODE(facts.st_mode)}
    owner = {"uid": facts.st_uid, "gid": facts.st_gid}
    if stat.S_ISLNK(facts.st_mode):
        return CargoFile(**known, **owner, kind="link", link=os.readlink(path))
    if stat.S_ISDIR(facts.st_mode):
        return CargoFile(**known, **owner, kind="folder")
    data = sum(frame.length for frame in frames_of(path))
    return CargoFile(**known, **owner, size=facts.st_size, data=data)


def frames_of(path: Path, start: int = 0) -> list[Frame]:
    """The frames of a file from offset ``start`` on; the last one is its end. :raises OSError:"""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        frames = []
        for begin, end in _extents(descriptor, start, size):
            position = begin
            while position < end:
                length = min(FRAME, end - position)
                frames.append(Frame(offset=position, length=length))
                position += length
        return [*frames, Frame(offset=size, length=0)]
    finally:
        os.close(descriptor)


def _extents(descriptor: int, start: int, size: int) -> Iterator[tuple[int, int]]:
    position = start
    while position < size:
        try:
            begin = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield begin, min(end, size)
        position = end


class Seal:
    """Makes and checks what goes before the data of frames of one move. ``token``: the move's."""

    def __init__(self, token: str) -> None:
        self._key = AESGCM(hashlib.sha256(b"wireloom move " + token.encode()).digest())

    def head(self, frame: Frame, data: bytes | memoryview) -> bytes:
        """What goes before ``data``."""
        nonce = os.urandom(_NONCE)
        return FRAME_HEAD.pack(frame.offset, frame.length, nonce, self._tag(nonce, frame, data))

    def parse(self, head: bytes) -> Frame:
        """Which frame begins; :meth:`check` says whether it is what was sent. :raises InvalidInput: it is too large."""
        offset, length, _, _ = FRAME_HEAD.unpack(head)
        if length > FRAME:
            raise InvalidInput(f"a frame of {length} bytes is too large")
        return Frame(offset=offset, length=length)

    def check(self, head: bytes, data: bytes | memoryview) -> None:
        """:raises RuntimeFailed: it is not what was sent."""
        offset, length, nonce, tag = FRAME_HEAD.unpack(head)
        if not hmac.compare_digest(tag, self._tag(nonce, Frame(offset=offset, length=length), data)):
            raise RuntimeFailed("what was carried arrived damaged", hint="it is fetched again")

    def _tag(self, nonce: bytes, frame: Frame, data: bytes | memoryview) -> bytes:
        return self._key.encrypt(nonce, _PLACE.pack(frame.offset, frame.length), data)[-_TAG:]


def safe_path(folder: Path, name: str) -> Path:
    """Where the entry ``name`` goes below ``folder``. :raises InvalidInput: it would go elsewhere."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise InvalidInput(f"{name!r} is no path within a node's folder")
    return folder.joinpath(*parts)
