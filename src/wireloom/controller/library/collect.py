"""What nothing needs goes: files of no image, files that were set aside, and what is left of work that is over.

Never one in use: a file goes only when no image has it, under the lock under which images come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from wireloom.controller.library.catalogue import Catalogue
from wireloom.controller.tasks import Supervisor
from wireloom.library.blobs import BlobStore
from wireloom.model.images import CollectView

__all__ = ["Collector", "Tidy"]

log = structlog.get_logger(__name__)

EVERY_S: Final = 3600.0
_DAY_S: Final = 24 * 3600.0
#: What a crash left half on its way into the store: nothing is on its way for so long.
_HALF_S: Final = _DAY_S

#: Has others drop what is left of their own work and whose time is over.
Tidy = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class _Found:
    """Something that nothing needs.

    :ivar name: its digest, or its file name. :ivar changed: when its file was written or moved, UNIX seconds.
    """

    name: str
    path: Path
    size: int
    changed: float
    is_blob: bool = False


class Collector:
    """:param keep_days: what nothing needs is kept for so long, but when a user has it collected.

    :param aside: folder of files that were set aside. :param tidy: see :data:`Tidy`.
    :param working_since: when the oldest job began that has not ended; ``None``: there is none. What is newer may be on
        its way into the catalogue.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        blobs: BlobStore,
        aside: Path,
        keep_days: float,
        tidy: Tidy,
        working_since: Callable[[], float | None],
        clock: Callable[[], float],
    ) -> None:
        self._catalogue = catalogue
        self._blobs = blobs
        self._aside = aside
        self._keep_s = keep_days * _DAY_S
        self._tidy = tidy
        self._working_since = working_since
        self._clock = clock

    def start(self, supervisor: Supervisor) -> None:
        """Collect for ever what is old enough."""
        supervisor.start("collect files of no image", self._collect_for_ever)

    async def collect(self, *, dry_run: bool, older_than_s: float = 0) -> CollectView:
        """Remove what nothing needs, or with ``dry_run`` say what it is.

        :param older_than_s: what has changed since stays.
        """
        if not dry_run:
            await self._tidy()
        before = self._clock() - older_than_s
        working = self._working_since()
        if working is not None:
            before = min(before, working)
        found = [item for item in await asyncio.to_thread(self._unneeded) if item.changed <= before]
        taken = [item for item in found if dry_run or await self._remove(item)]
        if taken and not dry_run:
            log.info("files of no image removed", files=len(taken), bytes=sum(item.size for item in taken))
        return CollectView(removed=tuple(item.name for item in taken), size=sum(item.size for item in taken))

    # ---------------------------------------------------------------- inside

    async def _collect_for_ever(self) -> None:
        while True:
            await self.collect(dry_run=False, older_than_s=self._keep_s)
            await asyncio.to_thread(self._blobs.sweep, self._clock() - _HALF_S)
            await asyncio.sleep(EVERY_S)

    def _unneeded(self) -> list[_Found]:
        """Blocking."""
        free = [digest for digest, _, _ in self._blobs.all() if not self._catalogue.is_stored(digest)]
        aside = sorted(self._aside.iterdir()) if self._aside.is_dir() else ()
        found = [
            *(_found(digest, self._blobs.path(digest), is_blob=True) for digest in free),
            *(_found(key, self._blobs.draft(key).path) for key, _, _ in self._blobs.drafts()),
            *(_found(path.name, path) for path in aside),
        ]
        return [item for item in found if item is not None]

    async def _remove(self, item: _Found) -> bool:
        if item.is_blob:
            return await self._catalogue.drop_file(item.name)
        await asyncio.to_thread(item.path.unlink, missing_ok=True)
        return True


def _found(name: str, path: Path, *, is_blob: bool = False) -> _Found | None:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    # A file that was moved into its place keeps the time of its content; that of its inode says when it came there.
    return _Found(name, path, facts.st_size, max(facts.st_mtime, facts.st_ctime), is_blob)
