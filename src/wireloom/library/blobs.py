"""A folder of files by the digest of their content, and of drafts: files that are still coming.

Layout::

    <folder>/sha256/ab/<64 hex>     a blob: whole, 0444, never written again
    <folder>/drafts/<key>           a draft: what has come so far, its length is the truth

A blob appears under its name only when its bytes are on the disk, so whatever has a name is whole, also after a crash.
All methods block and belong into worker threads; several processes and threads may use one folder at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from wireloom.errors import Conflict, InvalidInput, NotFound
from wireloom.library.durable import Hash, digest_of, file_digest, flush_file, flush_folder, place_copy
from wireloom.library.values import Progress, no_progress
from wireloom.model.images import check_digest

__all__ = ["BlobStore", "Draft", "file_digest"]

_FOLDER_MODE: Final = 0o700
_BLOB_MODE: Final = 0o444
_ANY_WRITE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})
#: Of files that are on their way into a folder of blobs; no digest looks like it.
_COMING: Final = ".new-"


@dataclass(frozen=True)
class Draft:
    """A file that is coming. One writer at a time; what it has appended stays over crashes, byte by byte.

    Only flushed bytes are sure to be there after a loss of power; whoever promises more to a peer flushes first.
    """

    path: Path
    store: BlobStore

    def length(self) -> int:
        """Bytes that are there; 0 when nothing has come yet."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def open_append(self) -> FileIO:
        """The file, unbuffered, to be appended to; nobody else can open it so until it is closed.

        :raises Conflict: another writer has it.
        """
        file = self.path.open("ab", buffering=0)
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise Conflict(f"{self.path.name} is being written already", hint="wait for the other writer") from None
        except BaseException:
            file.close()
            raise
        return file

    def digest_so_far(self, progress: Progress = no_progress) -> Hash:
        """SHA-256 of what is there, to go on with while the rest comes."""
        try:
            with self.path.open("rb", buffering=0) as file:
                return digest_of(file, progress)
        except FileNotFoundError:
            return hashlib.sha256()

    def commit(self, digest: str) -> Path:
        """Make it the blob of ``digest``, which the caller has computed; the draft is gone then."""
        return self.store.adopt(self.path, digest, move=True)

    def discard(self) -> None:
        """Remove it; nothing to remove is no error."""
        self.path.unlink(missing_ok=True)


class BlobStore:
    """Files by their digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "sha256"
        self._drafts = folder / "drafts"
        for each in (folder, self._blobs, self._drafts):
            each.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(_FOLDER_MODE)

    def path(self, digest: str) -> Path:
        """Where the blob of ``digest`` is, or would be. :raises InvalidInput: that is no digest."""
        name = check_digest(digest).removeprefix("sha256:")
        return self._blobs / name[:2] / name

    def has(self, digest: str) -> bool:
        """Whether the blob is there; what is there is whole."""
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Bytes of the blob. :raises NotFound: it is not there."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise _absent(digest) from None

    def draft(self, key: str) -> Draft:
        """The draft of that name, which may have bytes already. :raises InvalidInput: the name is none for a file."""
        if not _KEY.fullmatch(key):
            raise InvalidInput(f"{key!r} is not a name for a draft")
        return Draft(self._drafts / key, self)

    def adopt(self, file: Path, digest: str, *, move: bool, progress: Progress = no_progress) -> Path:
        """Take ``file``, whose digest is trusted, in as a blob; idempotent. Returns the blob's path.

        ``move``: the file goes from where it was, also where the blob was there already. Else it stays: a file that
        nobody may write (such as another store's blob) is shared by a hard link, others are copied.

        :raises CapacityExceeded: no space left for a copy.
        """
        target = self.path(digest)
        if not target.is_file():
            self._make_folder(target.parent)
            unfinished = target.parent / f"{_COMING}{target.name}-{secrets.token_hex(4)}"
            try:
                _bring(file, unfinished, move=move, progress=progress)
                unfinished.chmod(_BLOB_MODE)
                flush_file(unfinished)
                unfinished.rename(target)
            finally:
                unfinished.unlink(missing_ok=True)
            flush_folder(target.parent)
        if move:
            file.unlink(missing_ok=True)
        return target

    def _make_folder(self, folder: Path) -> None:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=_FOLDER_MODE)
            flush_folder(folder.parent)

    def verify(self, digest: str, progress: Progress = no_progress) -> bool:
        """Read the whole blob; whether it is what its name says. :raises NotFound: it is not there."""
        try:
            return file_digest(self.path(digest), progress) == digest
        except FileNotFoundError:
            raise _absent(digest) from None

    def all(self) -> Iterator[tuple[str, int, float]]:
        """Digest, bytes and time of last change of each blob."""
        for folder in _entries(self._blobs):
            for entry in _entries(Path(folder.path)) if folder.is_dir(follow_symlinks=False) else ():
                if _HEX.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        facts = entry.stat(follow_symlinks=False)
                        yield f"sha256:{entry.name}", facts.st_size, facts.st_mtime

    def remove(self, digest: str) -> None:
        """Remove the blob; nothing to remove is no error."""
        self.path(digest).unlink(missing_ok=True)

    def drafts(self) -> Iterator[tuple[str, int, float]]:
        """Key, bytes so far and time of last change of each draft."""
        for entry in _entries(self._drafts):
            with contextlib.suppress(FileNotFoundError):
                facts = entry.stat(follow_symlinks=False)
                yield entry.name, facts.st_size, facts.st_mtime

    def sweep(self, older_than: float) -> int:
        """Remove what a crash left on its way in, unchanged since that time; returns how many files."""
        removed = 0
        for folder in _entries(self._blobs):
            for entry in _entries(Path(folder.path)) if folder.is_dir(follow_symlinks=False) else ():
                with contextlib.suppress(FileNotFoundError):
                    if entry.name.startswith(_COMING) and entry.stat(follow_symlinks=False).st_ctime < older_than:
                        Path(entry.path).unlink()
                        removed += 1
        return removed

    def free(self) -> int:
        """Bytes that can still be written to the file system of the folder."""
        facts = os.statvfs(self.folder)
        return facts.f_bavail * facts.f_frsize


def _bring(file: Path, target: Path, *, move: bool, progress: Progress) -> None:
    """Link, or else copy. Also a move links first: the old name goes only when the new one is safe."""
    facts = file.lstat()
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidInput(f"{file} is not a file")
    if move or not facts.st_mode & _ANY_WRITE:
        try:
            os.link(file, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
        else:
            return
    place_copy(file, target, progress)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        return []


def _absent(digest: str) -> NotFound:
    return NotFound(f"there is no blob {digest}", hint="fetch or import it again")
