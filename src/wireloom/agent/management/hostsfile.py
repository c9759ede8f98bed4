"""The block in the host's hosts file that makes nodes resolvable from the host itself. Blocking: for a thread."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from wireloom.agent.management.rendering import with_block

__all__ = ["HostsFile"]

_LOCK = Path("/run/wireloom-hosts.lock")


class HostsFile:
    """``path`` is ``/etc/hosts`` but for tests. Installations on one host take turns by a lock."""

    def __init__(self, path: Path, lock: Path = _LOCK) -> None:
        self._path = path
        self._lock = lock

    def write_block(self, installation: str, lines: Sequence[str]) -> bool:
        """Replace the block (an empty one is removed); whether the file changed."""
        with self._locked():
            before = self._path.read_text(encoding="utf-8", errors="surrogateescape") if self._path.exists() else ""
            after = with_block(before, installation, lines)
            if after == before:
                return False
            self._replace(after.encode("utf-8", errors="surrogateescape"))
            return True

    def _replace(self, content: bytes) -> None:
        scratch = self._path.with_name(f".{self._path.name}.wireloom")
        try:
            scratch.write_bytes(content)
            if self._path.exists():
                shutil.copystat(self._path, scratch)
                owner = self._path.stat()
                os.chown(scratch, owner.st_uid, owner.st_gid)
            scratch.replace(self._path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            # A bind mount cannot be replaced, a read-only folder takes no new file: write in place.
            if error.errno not in (errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            self._path.write_bytes(content)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
