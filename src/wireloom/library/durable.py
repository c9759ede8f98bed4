"""Files that are whole or not there: copies within the kernel, flushed before anybody may see them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from wireloom.errors import CapacityExceeded
from wireloom.library.values import Progress, no_progress

__all__ = [
    "Hash",
    "copy_range",
    "digest_of",
    "file_digest",
    "flush_file",
    "flush_folder",
    "no_space_is_refused",
    "place_copy",
]

#: Large enough that system calls cost nothing, small enough to stay in the processor's cache.
_BLOCK: Final = 1 << 20
#: One step of a copy in the kernel; between two of them progress is told and a cancel is heard.
_STEP: Final = 32 << 20

#: linux/fs.h: share all blocks of another file, on file systems that can.
_FICLONE: Final = 0x40049409
_NO_CLONE: Final = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM})
_NO_KERNEL_COPY: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Hash(Protocol):
    """What ``hashlib`` makes."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...

    def hexdigest(self) -> str: ...


def file_digest(path: Path, progress: Progress = no_progress, *, algorithm: str = "sha256") -> str:
    """``sha256:…`` of a file, at the speed of its disk or of the processor."""
    with path.open("rb", buffering=0) as file:
        return f"{algorithm}:{digest_of(file, progress, algorithm=algorithm).hexdigest()}"


def digest_of(file: FileIO, progress: Progress = no_progress, *, algorithm: str = "sha256") -> Hash:
    """The hash object of all that is left to read of ``file``; more can be added to it."""
    total = os.fstat(file.fileno()).st_size
    with contextlib.suppress(OSError):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    digest = hashlib.new(algorithm, usedforsecurity=False)
    block = bytearray(_BLOCK)
    view = memoryview(block)
    done = told = 0
    while count := file.readinto(view):
        digest.update(view[:count])
        done += count
        if done - told >= _STEP:
            told = done
            progress(done, total)
    progress(done, total)
    return digest


def flush_file(path: Path) -> None:
    """Return when the content of a file is on its disk."""
    _flush(path, os.O_RDONLY)


def flush_folder(path: Path) -> None:
    """Return when the names in a folder are on its disk."""
    _flush(path, os.O_RDONLY | os.O_DIRECTORY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def no_space_is_refused(folder: Path) -> Iterator[None]:
    """Turns the kernel's "no space left" into an error that a user can act upon.

    :raises CapacityExceeded: the disk, or the quota, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise CapacityExceeded(
            f"the disk of {folder} is full", hint="free space there, remove images that nobody uses, and try again"
        ) from error


def place_copy(source: Path, target: Path, progress: Progress = no_progress) -> None:
    """Copy a file; ``target`` must not exist, and is removed when the copy fails. Blocks are shared where possible.

    :raises CapacityExceeded: no space left.
    """
    with source.open("rb") as reader, no_space_is_refused(target.parent), target.open("xb") as writer:
        try:
            if not _clone(reader, writer):
                copy_range(reader, writer, 0, os.fstat(reader.fileno()).st_size, progress)
            os.fsync(writer.fileno())
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _clone(reader: BinaryIO, writer: BinaryIO) -> bool:
    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def copy_range(reader: BinaryIO, writer: BinaryIO, start: int, length: int, progress: Progress = no_progress) -> int:
    """Append ``length`` bytes of ``reader`` from ``start`` to ``writer``, within the kernel.

    Returns the number of bytes copied; it is less than ``length`` only where the file ended.
    """
    done = 0
    in_kernel = True
    while done < length:
        step = min(_STEP, length - done)
        if in_kernel:
            try:
                count = os.copy_file_range(reader.fileno(), writer.fileno(), step, start + done)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                in_kernel = False
                continue
        else:
            count = os.sendfile(writer.fileno(), reader.fileno(), start + done, step)
        if not count:
            break
        done += count
        progress(done, length)
    return done
