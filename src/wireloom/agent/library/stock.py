"""Images of the library on this host: has exactly what a pin says brought, once however many ask."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.flights import Flight, Flights, Turns, Urgent, never
from wireloom.agent.library.ledger import Ledger, image_key, key_of
from wireloom.agent.library.waiting import deadline, in_thread
from wireloom.agent.reporter import Tell
from wireloom.errors import Conflict, ImageMissing, Unsupported, WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.library.values import Progress, no_progress
from wireloom.model.images import ImagePin, PresenceState, engine_name
from wireloom.model.runtime import ImageInfo
from wireloom.providers.contract import ImageStore, Provider

__all__ = ["Stock"]

log = structlog.get_logger(__name__)

#: Engines take long to unpack tens of gigabytes; one that takes longer hangs.
_LOAD_S: Final = 2 * 3600.0
#: A disk that nobody has read yet is read for its digest first.
_CALL_S: Final = 1800.0
_LOADS: Final = 2
_MIB: Final = 1 << 20
_WARNING: Final = EventLevel.WARNING
#: Digits of a content in the name of what is kept, and characters of the name that it had.
_MARK: Final = 12
_LONGEST: Final = 100


class Stock:
    """One per host.

    :param keeps_files: whether a fetched file stays after the engine has the image, for other hosts.
    :param tell: told of what comes and what does not. :param changed: called when something came, went or began.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        fetcher: Fetcher,
        ledger: Ledger,
        *,
        keeps_files: bool,
        tell: Tell,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._providers = providers
        self._fetcher = fetcher
        self._ledger = ledger
        self._keeps_files = keeps_files
        self._tell = tell
        self._changed = changed
        self._loads = Turns(_LOADS)
        self._flights: Flights[str, None] = Flights(self._look_at_turns)
        self._names: dict[tuple[str, str], asyncio.Lock] = {}
        self._using: Counter[str] = Counter()

    def flight(self, pin: ImagePin) -> Flight[None] | None:
        """How far the image is, where it is on its way; its ``phase`` is a :class:`PresenceState`."""
        return self._flights.get(image_key(pin))

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return len(self._flights) > 0

    async def has(self, pin: ImagePin) -> bool:
        """Whether the image of that name is there, is that one, and nothing is known to be wrong with it."""
        async with deadline(f"looking at image {pin.name}", _CALL_S):
            info = await self._store(pin).info(pin.name)
        return info is not None and info.digest == pin.content and self._ledger.damage(image_key(pin)) is None

    async def bring(
        self,
        pin: ImagePin,
        *,
        progress: Progress = no_progress,
        urgent: Urgent = never,
        lab: str = "",
        node: str = "",
    ) -> None:
        """Return when the image is there.

        :param progress: told bytes that are there, of those that come. :param urgent: whether a node is held up.
        :param lab, node: who is told of in the history, where this call is the first that asks.
        :raises CapacityExceeded: no room. :raises ImageMissing: it cannot be had, or is not what it should be.
        :raises Unavailable: it cannot be had now. :raises Conflict: another image has the name, and is in use.
        """
        if await self.has(pin):
            return

        async def work(flight: Flight[None]) -> None:
            await self._told(pin, flight, lab, node)

        await self._flights.join(image_key(pin), work, progress=progress, urgent=urgent)

    async def remove(self, pin: ImagePin) -> bool:
        """Take the image off the host, where its name and content are both these; whether there was anything.

        :raises Conflict: a runtime uses it.
        """
        store = self._store(pin)
        async with self._name(pin), deadline(f"removing image {pin.name}", _CALL_S):
            info = await store.info(pin.name)
            there = info is not None and info.digest == pin.content
            if there:
                await store.remove(pin.name)
        if there:
            self._tell("", "", "image.removed", f"removed image {pin.name}")
            self._changed()
        return there

    async def verify(self, pin: ImagePin) -> None:
        """Read the image again, whole. :raises ImageMissing: it is damaged, gone, or another one by now."""
        try:
            async with self._name(pin):
                info = await self._store(pin).verify(pin.name)
            _check_content(pin, info)
        except ImageMissing as error:
            self._ledger.note_read(image_key(pin), error.to_wire())
            self._changed()
            raise
        self._ledger.note_read(image_key(pin))

    async def drop_file(self, digest: str) -> None:
        """Let go of a fetched file, unless an image is being made of it; idempotent."""
        if not self._using[digest]:
            await self._fetcher.drop(digest)

    async def _told(self, pin: ImagePin, flight: Flight[None], lab: str, node: str) -> None:
        """Bring it, and tell the history how that goes."""
        try:
            if await self._mended_itself(pin):
                return
            await self._make_way(pin)
            self._ledger.note_brought(image_key(pin))
            self._tell(lab, node, "image.fetching", f"fetching image {pin.name} ({max(pin.size // _MIB, 1)} MiB)")
            await self._fetch_and_load(pin, flight)
        except WireloomError as error:
            log.warning("image.failed", image=pin.name, error=error.to_wire())
            self._tell(lab, node, "image.failed", f"image {pin.name}: {error}", EventLevel.ERROR)
            raise
        finally:
            self._changed()
        self._ledger.note_read(image_key(pin))
        self._ledger.note_seen(image_key(pin))
        self._tell(lab, node, "image.present", f"image {pin.name} is on the host")

    async def _mended_itself(self, pin: ImagePin) -> bool:
        """Whether an image that was found damaged is whole by now, whoever did that."""
        if self._ledger.damage(image_key(pin)) is None:
            return False
        try:
            await self.verify(pin)
        except ImageMissing:
            return False
        return True

    async def _make_way(self, pin: ImagePin) -> None:
        """See to it that nothing of somebody's own is lost with the name that the library's image takes.

        Where an engine gives an image several names, such a one gets another; where it does not, the user decides.

        :raises Conflict: somebody's own image has the name, and no other one.
        """
        store = self._store(pin)
        async with self._name(pin), deadline(f"looking at image {pin.name}", _CALL_S):
            found = await store.info(pin.name)
            if found is None or found.digest == pin.content or self._is_copy(pin, found.digest):
                return
            ours = engine_name(pin.provider, pin.name)
            same = (info.name for info in await store.list() if info.digest == found.digest)
            if any(engine_name(pin.provider, name) != ours for name in same):
                return
            kept = _kept_name(pin, found.digest)
            try:
                await store.load(kept, content=found.digest)
            except ImageMissing as error:
                raise Conflict(
                    f"an image that is not of the library has the name {pin.name} on this host, and would be lost",
                    hint="give it another name, or remove it; then try again",
                    details={"found": found.digest},
                ) from error
        self._tell("", "", "image.kept", f"another image had the name {pin.name}; it is kept as {kept}", _WARNING)

    def _is_copy(self, pin: ImagePin, content: str) -> bool:
        """Whether what has the pin's name was brought from the library, and be it damaged since: a file changes, while
        another content of a container is always another image."""
        if pin.format == "qcow2" and self._ledger.seen(image_key(pin)):
            return True
        return self._ledger.seen(key_of(pin.provider, pin.name, content))

    async def _fetch_and_load(self, pin: ImagePin, flight: Flight[None]) -> None:
        self._using[pin.digest] += 1
        try:
            await self._fetch(pin, flight)
            try:
                await self._load(pin, flight)
            except ImageMissing:
                if await self._fetcher.recheck(pin.digest):
                    raise  # the file is what it should be, so the engine is right
                await self._fetch(pin, flight)
                await self._load(pin, flight)
        finally:
            self._using[pin.digest] -= 1
            self._using += Counter()  # without those that nobody uses
        if not self._keeps_files:
            await self.drop_file(pin.digest)

    async def _fetch(self, pin: ImagePin, flight: Flight[None]) -> Path:
        self._enter(flight, PresenceState.FETCHING, pin.size)
        return await self._fetcher.fetch(pin.digest, pin.size, progress=flight.tell, urgent=flight.urgent)

    async def _load(self, pin: ImagePin, flight: Flight[None]) -> None:
        file = await in_thread(self._fetcher.blobs.path, pin.digest)
        async with self._loads.turn(flight.urgent), self._name(pin):
            self._enter(flight, PresenceState.LOADING, pin.size)
            async with deadline(f"loading image {pin.name}", _LOAD_S):
                info = await self._store(pin).load(pin.name, file, content=pin.content)
            _check_content(pin, info)

    def _look_at_turns(self) -> None:
        self._fetcher.look_at_turns()
        self._loads.look()

    def _enter(self, flight: Flight[None], phase: PresenceState, total: int) -> None:
        flight.phase = phase
        flight.tell(total if phase is PresenceState.LOADING else 0, total)
        self._changed()

    def _store(self, pin: ImagePin) -> ImageStore:
        provider = self._providers.get(pin.provider)
        if provider is None:
            raise Unsupported(f"this host has no provider {pin.provider}, which image {pin.name} is for")
        if provider.images.format != pin.format:
            raise Unsupported(f"provider {pin.provider} takes no {pin.format}, which image {pin.name} is")
        return provider.images

    def _name(self, pin: ImagePin) -> asyncio.Lock:
        return self._names.setdefault((pin.provider, engine_name(pin.provider, pin.name)), asyncio.Lock())


def _kept_name(pin: ImagePin, content: str) -> str:
    """A name for what had the pin's, which says whose it was."""
    mark = content.removeprefix("sha256:")[:_MARK]
    if pin.format == "qcow2":
        return f"kept-{mark}-{pin.name[-_LONGEST:]}"
    repository, _, tag = engine_name("docker", pin.name).rpartition(":")
    return f"wireloom-kept/{repository.replace(':', '-').lower()}:{tag[:_LONGEST]}-{mark}"


def _check_content(pin: ImagePin, info: ImageInfo) -> None:
    if info.digest != pin.content:
        raise ImageMissing(
            f"image {pin.name} on this host is another one than the library's",
            hint="somebody gave its name to another image; remove that, or give it another name",
            details={"wanted": pin.content, "found": info.digest},
        )
