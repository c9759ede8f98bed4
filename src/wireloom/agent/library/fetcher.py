"""Brings files of images into this host's own store: each once, so many at a time, from whoever has them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from wireloom.agent.library.download import Blob, Download, WrongContentError
from wireloom.agent.library.flights import Flight, Flights, Turns, Urgent, never
from wireloom.agent.library.http import Http
from wireloom.agent.library.sources import Sources
from wireloom.agent.library.waiting import in_thread, read_in_thread
from wireloom.errors import CapacityExceeded, Conflict, ImageMissing, NotFound, Unavailable, WireloomError
from wireloom.fabric.image_documents import BlobSource
from wireloom.library.blobs import BlobStore, Draft
from wireloom.library.values import Progress, no_progress
from wireloom.model.images import check_digest

__all__ = ["Fetcher"]

log = structlog.get_logger(__name__)

#: A host that has just started learns within that time where files are.
_TOLD_S: Final = 10.0
#: What others on the host need of the same disk meanwhile.
_SPARE: Final = 256 << 20


class Fetcher:
    """The files of one host.

    :param near: a folder of blobs on the same host, such as the controller's, from which is linked instead of fetched.
        It need not be there.
    :param most: fetches at the same time.
    """

    def __init__(
        self,
        blobs: BlobStore,
        sources: Sources,
        http: Http,
        *,
        near: Path | None = None,
        most: int = 2,
        free: Callable[[], int] | None = None,
    ) -> None:
        self.blobs = blobs
        self._sources = sources
        self._http = http
        self._near = near
        self._free = free or blobs.free
        self._turns = Turns(most)
        self._flights: Flights[str, Path] = Flights(self.look_at_turns)
        self._to_come: dict[str, int] = {}
        self._linked: set[str] = set()
        self._not_near: set[str] = set()

    def __contains__(self, digest: object) -> bool:
        """Whether it is on its way."""
        return digest in self._flights

    def look_at_turns(self) -> None:
        """What was not urgent may be now."""
        self._turns.look()

    async def fetch(self, digest: str, size: int, *, progress: Progress = no_progress, urgent: Urgent = never) -> Path:
        """The file of that content, which stays where it is until it is removed.

        :param progress: told bytes that are there, of ``size``.
        :raises CapacityExceeded: there is no room for it. :raises ImageMissing: nobody has it.
        :raises Unavailable: nobody gives it now.
        """
        blob = Blob(check_digest(digest), size)

        async def work(flight: Flight[Path]) -> Path:
            return await self._fetch(blob, flight)

        return await self._flights.join(digest, work, progress=progress, urgent=urgent)

    async def recheck(self, digest: str) -> bool:
        """Read the file again: whether it is whole. One that is not is thrown away, and not linked again."""
        try:
            if await read_in_thread(lambda progress: self.blobs.verify(digest, progress)):
                return True
        except NotFound:
            return False
        log.warning("image.file-damaged", digest=digest)
        await in_thread(self.blobs.remove, digest)
        if digest in self._linked:  # the other one is the same file
            self._not_near.add(digest)
        return False

    async def drop(self, digest: str) -> None:
        """Let go of the file, unless it is on its way; idempotent."""
        if digest not in self._flights:
            await in_thread(self.blobs.remove, digest)
            await in_thread(self._draft(digest).discard)

    async def _fetch(self, blob: Blob, flight: Flight[Path]) -> Path:
        if await in_thread(self.blobs.has, blob.digest):
            return self.blobs.path(blob.digest)
        if await in_thread(self._link, blob):
            return self.blobs.path(blob.digest)
        await self._sources.told(_TOLD_S)
        async with self._turns.turn(flight.urgent):
            draft = self._draft(blob.digest)
            await self._check_room(blob, draft)
            try:
                await self._from_any(blob, draft, self._counting(blob, flight))
            finally:
                self._to_come.pop(blob.digest, None)
        return self.blobs.path(blob.digest)

    def _draft(self, digest: str) -> Draft:
        return self.blobs.draft(digest.replace(":", "-"))

    def _counting(self, blob: Blob, flight: Flight[Path]) -> Progress:
        """Tells the flight, and keeps count of what is still to come."""

        def progress(done: int, total: int) -> None:
            self._to_come[blob.digest] = total - done
            flight.tell(done, total)

        return progress

    async def _check_room(self, blob: Blob, draft: Draft) -> None:
        """:raises CapacityExceeded: what is on its way already leaves no room for it."""
        wanted = blob.size - await in_thread(draft.length)
        room = await in_thread(self._free) - sum(self._to_come.values()) - _SPARE
        if wanted > room:
            raise CapacityExceeded(
                f"the host has no room for an image: {wanted} bytes are to come, and {max(room, 0)} are free",
                hint=f"free some space in {self.blobs.folder}, or place the node on another host",
            )
        self._to_come[blob.digest] = wanted

    async def _from_any(self, blob: Blob, draft: Draft, progress: Progress) -> None:
        errors: list[WireloomError] = []
        for source in self._sources.order(blob.digest):
            try:
                await self._from(source, blob, draft, progress)
                return
            except (CapacityExceeded, Conflict):
                raise
            except WireloomError as error:
                log.warning("image.source-failed", source=source.url, digest=blob.digest, error=error.to_wire())
                self._sources.put_last(source)
                errors.append(error)
        raise _nobody_gives_it(errors)

    async def _from(self, source: BlobSource, blob: Blob, draft: Draft, progress: Progress) -> None:
        try:
            await Download(self._http, source, blob, draft).run(progress)
        except WrongContentError as error:
            if error.whole:
                raise Unavailable(str(error)) from error
            log.info("image.begun-anew", source=source.url, digest=blob.digest)
            try:
                await Download(self._http, source, blob, draft).run(progress)
            except WrongContentError as again:
                raise Unavailable(str(again)) from again

    def _link(self, blob: Blob) -> bool:
        """Have the file of another store on the same file system. Blocking."""
        if self._near is None or blob.digest in self._not_near or not self._near.is_dir():
            return False
        near = BlobStore(self._near)
        try:
            same_disk = os.stat(self._near).st_dev == os.stat(self.blobs.folder).st_dev
            if not same_disk or near.size(blob.digest) != blob.size:
                return False
            self.blobs.adopt(near.path(blob.digest), blob.digest, move=False)
        except (NotFound, FileNotFoundError):  # it went in the same moment
            return False
        self._linked.add(blob.digest)
        return True


def _nobody_gives_it(errors: list[WireloomError]) -> WireloomError:
    if errors and all(isinstance(error, NotFound) for error in errors):
        return ImageMissing("none of the image's sources has its file any more", hint="import the image again")
    if not errors:
        return Unavailable(
            "this host does not know where to fetch the image from",
            hint="is the controller there? see `wireloom status`",
        )
    told = "; ".join(dict.fromkeys(error.message for error in errors))
    return Unavailable(f"the image cannot be fetched: {told}", hint="it is tried again")
