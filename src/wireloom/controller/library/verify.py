"""Stored files are read again now and then. What is damaged is said, set aside, and fetched from a host that has it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from wireloom.controller.library.catalogue import Catalogue
from wireloom.controller.library.shelves import Shelves
from wireloom.controller.library.threads import Threads
from wireloom.controller.tasks import Supervisor
from wireloom.errors import NotFound, RuntimeFailed, WireloomError
from wireloom.library.blobs import BlobStore
from wireloom.library.values import Progress, no_progress
from wireloom.model.images import ImageState, ImageView

__all__ = ["Mend", "Verifier"]

log = structlog.get_logger(__name__)

#: Has an image brought into the library again from a host; returns when that is asked for, not when it is done.
Mend = Callable[[ImageView, str], Awaitable[None]]

#: How often files are looked for whose time has come, and images for which a host may have come.
LOOK_S: Final = 600.0
#: After an attempt to mend an image, whatever came of it.
MEND_AGAIN_S: Final = 3600.0
_DAY_S: Final = 24 * 3600.0
#: What the kernel says of a file whose bytes are lost; all else may be a passing want of something.
_BROKEN: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})


class _StoppedError(Exception):
    """Nobody waits for the reading any more."""


class Verifier:
    """:param aside: folder on the same file system, for files that are not what they were.

    :param days: after which a file is read again; 0: only when a user asks.
    :param mend: see :data:`Mend`.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        blobs: BlobStore,
        shelves: Shelves,
        threads: Threads,
        aside: Path,
        days: float,
        mend: Mend,
        clock: Callable[[], float],
    ) -> None:
        self._catalogue = catalogue
        self._blobs = blobs
        self._shelves = shelves
        self._threads = threads
        self._aside = aside
        self._days = days
        self._mend = mend
        self._clock = clock
        self._tried: dict[str, float] = {}
        self._stopping = False
        self._reading = asyncio.Lock()  # one file at a time: the disk has other work

    def start(self, supervisor: Supervisor) -> None:
        """Look and read for ever."""
        self._stopping = False
        supervisor.start("verify images", self._verify_for_ever)

    def stop(self) -> None:
        """Let go of the file that is being read; returns at once."""
        self._stopping = True

    async def check(self, image_id: str, progress: Progress = no_progress) -> bool:
        """Read an image's file now; whether it is what it was. What it is not is set aside, and the image says so.

        :raises NotFound: no such image. :raises RuntimeFailed: it cannot be read now, which says nothing of it.
        """
        return await self._check(self._catalogue.get(image_id).digest, progress)

    async def look(self) -> None:
        """Compare what can be compared at once, read the files whose time has come, and mend what can be mended."""
        for image in list(self._catalogue.bare()):
            if image.state is ImageState.READY:
                await self._look_at(image)
        if self._days > 0:
            for digest in self._due():
                with suppress(RuntimeFailed):  # it is said, and it stays due
                    await self._check(digest)
        await self.mend_all()

    async def mend_all(self) -> None:
        """Ask hosts for the images that are damaged here and whole there."""
        for image in list(self._catalogue.bare()):
            if image.state is ImageState.DAMAGED:
                await self._mend_one(image)

    # ---------------------------------------------------------------- inside

    async def _verify_for_ever(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    def _due(self) -> list[str]:
        """Files that were not read for long, the longest first."""
        before = self._clock() - self._days * _DAY_S
        read = {
            image.digest: image.verified_at
            for image in self._catalogue.bare()
            if image.state is ImageState.READY and image.verified_at <= before
        }
        return sorted(read, key=lambda digest: read[digest])

    async def _look_at(self, image: ImageView) -> None:
        """Whether its file is there and of the right size: quick, so done at every look."""
        problem = await asyncio.to_thread(self._outside_problem, image)
        if problem is not None:
            await self._damaged(image.digest, problem)

    def _outside_problem(self, image: ImageView) -> WireloomError | None:
        try:
            size = self._blobs.size(image.digest)
        except NotFound:
            return RuntimeFailed("its file is gone from the library", hint=_HINT)
        if size != image.size:
            return RuntimeFailed(f"its file has {size} bytes and should have {image.size}", hint=_HINT)
        return None

    async def _check(self, digest: str, progress: Progress = no_progress) -> bool:
        def told(done: int, total: int) -> None:
            if self._stopping:
                raise _StoppedError
            progress(done, total)

        async with self._reading:
            try:
                # Twice before it counts: memory has faults too, and the second reading costs nothing where all is well.
                sound = await self._threads.run(self._blobs.verify, digest, told)
                sound = sound or await self._threads.run(self._blobs.verify, digest, told)
            except _StoppedError:
                raise asyncio.CancelledError from None
            except NotFound:
                await self._damaged(digest, RuntimeFailed("its file is gone from the library", hint=_HINT))
                return False
            except OSError as error:
                log.warning("a stored file cannot be read", digest=digest, error=str(error))
                problem = RuntimeFailed(f"its file cannot be read: {error.strerror or error}", hint=_HINT)
                if error.errno not in _BROKEN:
                    raise problem from error
                await self._damaged(digest, problem)
                return False
        if sound:
            await self._catalogue.found_sound(digest)
        else:
            await self._damaged(digest, RuntimeFailed("its file is not what it was: bytes have changed", hint=_HINT))
        return sound

    async def _damaged(self, digest: str, problem: WireloomError) -> None:
        """Set the file aside, then say it: after a kill between the two, the next look finds that it is gone."""
        await self._threads.run(self._set_aside, digest)
        images = await self._catalogue.found_damaged(digest, problem)
        for image in images:
            await self._mend_one(image)

    def _set_aside(self, digest: str) -> None:
        """Nobody is given it any more, and what is fetched again takes its place."""
        self._aside.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._blobs.path(digest)
        try:
            file.rename(self._aside / file.name)
        except FileNotFoundError:
            return

    async def _mend_one(self, image: ImageView) -> None:
        now = self._clock()
        holders = self._shelves.holders(image)
        if not holders or now - self._tried.get(image.id, -MEND_AGAIN_S) < MEND_AGAIN_S:
            return
        self._tried[image.id] = now
        try:
            await self._mend(image, holders[0])
        except WireloomError as error:
            log.warning("an image is not mended", image=image.name, host=holders[0], error=str(error))


_HINT: Final = "import it again under the same name, or delete it"
