"""A file system that is small enough to be filled in a test, and is always unmounted."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wireloom.testing.installation import run

_BLOCK: Final = 4096


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own, which can be filled to its last block."""

    place: Path

    @property
    def free(self) -> int:
        facts = os.statvfs(self.place)
        return facts.f_bavail * facts.f_frsize

    def fill(self, *, left: int = 0) -> None:
        """Take its room, but for ``left`` bytes."""
        with self._filler.open("ab") as file:
            step = self.free - left
            while step >= _BLOCK:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
                except OSError as error:  # what a file system needs beside a file's content is not known before
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
                else:
                    step = min(step, self.free - left)

    def make_room(self) -> None:
        """Give back what :meth:`fill` took."""
        self._filler.unlink()

    @property
    def _filler(self) -> Path:
        return self.place / "filler"


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of ``size`` bytes at ``place``, which takes as much room on the machine's own as is written to it."""
    file = place.with_name(f"wl-{place.name}.disk")
    place.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as made:
        made.truncate(size)
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(file))
    run("mount", "-o", "loop,discard", str(file), str(place))
    try:
        yield SmallDisk(place)
    finally:
        if subprocess.run(["umount", str(place)], timeout=30, check=False).returncode:
            run("umount", "--lazy", str(place))  # something of ours is still in it, which is no reason to keep it
        file.unlink()
