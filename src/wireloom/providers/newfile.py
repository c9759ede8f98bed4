"""Files of images that providers make: whole or not there, not begun without room, and what they should be."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from wireloom.errors import CapacityExceeded, ImageMissing, RuntimeFailed, WireloomError
from wireloom.library import durable
from wireloom.library.durable import flush_file, flush_folder

__all__ = ["another_image", "check_room", "file_digest", "new_file", "part_of", "publish", "refused"]

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
    flush_file(part)
    part.rename(target)
    flush_folder(target.parent)


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
    """``sha256:`` and the digest of a file's content; a caller who leaves is not followed for long."""
    left = threading.Event()

    def look(_done: int, _total: int) -> None:
        if left.is_set():
            raise _LeftError

    try:
        return await asyncio.to_thread(durable.file_digest, path, look)
    finally:
        left.set()


class _LeftError(Exception):
    """Ends the reading of a file that nobody waits for any more."""


def another_image(image: str, wanted: str, found: str, hint: str) -> ImageMissing:
    """What was to be loaded as ``image`` is ``found``, and not the content that is ``wanted``."""
    return ImageMissing(
        f"image {image} would be {found}, not {wanted}", hint=hint, details={"wanted": wanted, "found": found}
    )
