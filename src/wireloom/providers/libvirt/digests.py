"""Digests of image files, read once for each state of a file, and kept beside them across restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from pathlib import Path
from typing import Final

from wireloom.providers.newfile import file_digest

__all__ = ["KnownDigests", "Stamp", "stamp_of"]

_FILE: Final = ".digests.json"

#: What changes when a file's content does: device, inode, size, time of the last change. Its owner may change.
Stamp = tuple[int, int, int, int]


def stamp_of(path: Path) -> Stamp:
    """:raises OSError: it cannot be looked at."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


class KnownDigests:
    """Of the files of one folder, and of others that images are. Without room for its own file it only forgets."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE
        self._known: dict[str, tuple[Stamp, str]] | None = None
        self._locks: dict[Path, asyncio.Lock] = {}

    async def of(self, path: Path, *, again: bool = False) -> str:
        """Digest of the file, which is read when it is not known, or when asked to. :raises OSError:"""
        async with self._locks.setdefault(path, asyncio.Lock()):
            stamp = stamp_of(path)
            known = (await self._all()).get(str(path))
            if known is not None and known[0] == stamp and not again:
                return known[1]
            digest = await file_digest(path)
            if stamp_of(path) == stamp:
                await self.note(path, digest)
            return digest

    async def note(self, path: Path, digest: str) -> None:
        """The file has that digest, as it is now. :raises OSError:"""
        known = await self._all()
        known[str(path)] = (stamp_of(path), digest)
        await asyncio.to_thread(self._write, dict(known))

    async def _all(self) -> dict[str, tuple[Stamp, str]]:
        if self._known is None:
            self._known = await asyncio.to_thread(self._read)
        return self._known

    def _read(self) -> dict[str, tuple[Stamp, str]]:
        try:
            told = json.loads(self._file.read_text(encoding="utf-8"))
            return {path: ((s[0], s[1], s[2], s[3]), str(digest)) for path, (s, digest) in told.items()}
        except (OSError, ValueError, TypeError, AttributeError, LookupError):  # what cannot be read is read again
            return {}

    def _write(self, known: dict[str, tuple[Stamp, str]]) -> None:
        there = {path: entry for path, entry in known.items() if Path(path).exists()}
        part = self._file.with_name(f"{_FILE}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(there), encoding="utf-8")
            part.rename(self._file)
        part.unlink(missing_ok=True)
