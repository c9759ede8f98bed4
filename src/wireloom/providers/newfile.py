"""Files that providers make: whole or not there, and not begun where there is no room for them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from wireloom.errors import CapacityExceeded, RuntimeFailed, WireloomError

__all__ = ["check_room", "file_digest", "new_file", "part_of", "publish", "refused"]

#: Read at a time, so that a caller who leaves is not followed for long.
_PIECE: Final = 32 << 20

#: Bytes that a file system keeps beside the file itself.
_SPARE: Final = 16 << 20


@asynccontextmanager
async def new_file(target: Path) -> AsyncIterator[Path]:
    """A path beside ``target`` to write to: it becomes ``target`` when the body ends, and goes when the body fails.

    :raises CapacityExceeded: no room is left. :raises RuntimeFailed: the file system refuses.
    """
    part = part_of(target)
    try:
        yield part
        await asyncio.to_thread(publish, part, target)
    except OSError as error:
        raise refused(error, target) from error
    finally:
        part.unlink(missing_ok=True)


def part_of(target: Path) -> Path:
    """Where ``target`` is while it is written; it grows there."""
    return target.with_name(f".{target.name}.part")


def publish(part: Path, target: Path) -> None:
    """Give a finished file its name, for good: also after the host has lost its power. Blocking."""
    _sync(part, os.O_RDONLY)
    part.rename(target)
    _sync(target.parent, os.O_RDONLY | os.O_DIRECTORY)


def refused(error: OSError, target: Path) -> WireloomError:
    """The error of our tree for a file system that does not take ``target``."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return CapacityExceeded(f"there is no room for {target}", hint="free some space, or move the data folder")
    return RuntimeFailed(f"cannot write {target}: {error.strerror or error}")


def check_room(folder: Path, size: int) -> None:
    """Blocking, and short.

    :raises CapacityExceeded: the file system of ``folder`` has less than ``size`` bytes left.
    """
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise CapacityExceeded(
            f"{folder} has {free >> 20} MiB left, {size >> 20} MiB are needed",
            hint="free some space, or move the data folder",
            details={"free": free, "needed": size},
        )


async def file_digest(path: Path) -> str:
    """``sha256:`` and the digest of a file's content; cancelled within a moment."""
    known = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    with await asyncio.to_thread(path.open, "rb", buffering=0) as file:

        def some() -> bool:
            left = _PIECE
            while left > 0 and (size := file.readinto(buffer)):
                known.update(buffer[:size])
                left -= size
            return left <= 0

        while await asyncio.to_thread(some):
            pass
    return f"sha256:{known.hexdigest()}"


def _sync(path: Path, flags: int) -> None:
    opened = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
