"""Keeps the host's images as the controller and the host's rules want them, and tells the controller how they are."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from wireloom.agent.library.decide import Decision, Inventory, Rules, Sight, Travel, Uses, decide, entries
from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.ledger import Ledger, file_key, image_key, key_of
from wireloom.agent.library.sources import Sources
from wireloom.agent.library.stock import Stock
from wireloom.agent.library.waiting import deadline, in_thread
from wireloom.errors import WireloomError
from wireloom.fabric.image_documents import HostLibrary, HostShelf, ShelfEntry
from wireloom.model.images import ImagePin, PresenceState, engine_name
from wireloom.providers.contract import Provider

__all__ = ["Served", "Shelf", "ShelfSink", "nothing_served"]

log = structlog.get_logger(__name__)

#: A look at everything, whatever was heard; how often the progress of what is on its way is told.
_LOOK_S: Final = 60.0
_PROGRESS_S: Final = 1.0
_CALM_S: Final = 0.1
#: More names than that are looked for in a list of all.
_FEW: Final = 20
#: Disks that nobody has read yet are read for their digests first.
_LIST_S: Final = 3600.0
_FIRST_WAIT_S: Final = 15.0
_LONGEST_WAIT_S: Final = 900.0
#: Free space changes all the time, and is worth telling in steps of so many bytes.
_FREE_STEP: Final = 256 << 20


class ShelfSink(Protocol):
    """Where the shelf is told: the fabric, or a list in tests."""

    async def put_shelf(self, shelf: HostShelf) -> None: ...


@dataclass(frozen=True)
class Served:
    """What other hosts can fetch from this one; an empty ``url``: nothing."""

    url: str = ""
    digests: frozenset[str] = frozenset()


def nothing_served() -> Served:
    """Other hosts fetch nothing here. Blocking, as every answer to that question."""
    return Served()


@dataclass
class _Setback:
    """Why an image did not come or go, and when that is tried again (monotonic seconds)."""

    error: dict[str, Any]
    again_at: float
    wait_s: float


class Shelf:
    """One per host.

    :param served: what is served to others; called in a thread.
    """

    def __init__(
        self,
        host: str,
        sink: ShelfSink,
        *,
        providers: Mapping[str, Provider],
        stock: Stock,
        fetcher: Fetcher,
        sources: Sources,
        ledger: Ledger,
        uses: Uses,
        rules: Rules,
        served: Callable[[], Served] = nothing_served,
    ) -> None:
        self._host = host
        self._sink = sink
        self._providers = providers
        self._stock = stock
        self._fetcher = fetcher
        self._sources = sources
        self._ledger = ledger
        self._uses = uses
        self._rules = rules
        self._served = served
        self._library: HostLibrary | None = None
        self._sight = Sight({}, uses, ledger, 0)
        self._decision = Decision()
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._setbacks: dict[str, _Setback] = {}
        self._told: HostShelf | None = None
        self._wake = asyncio.Event()
        self._look_due = True
        self._looked_at = 0.0

    @property
    def library(self) -> HostLibrary | None:
        """What the controller said last; ``None``: nothing yet."""
        return self._library

    def set_library(self, document: HostLibrary | None) -> None:
        """The controller said what to do. A document that is gone says nothing: only tombstones remove images."""
        if document is None:
            return
        if self._library is None or self._library.sources != document.sources:
            self._setbacks.clear()  # it may work now
        self._library = document
        self._sources.update(document.sources)
        self.look()

    def look(self) -> None:
        """Something may have changed: look soon."""
        self._look_due = True
        self._wake.set()

    def resend(self) -> None:
        """The fabric may have lost what it was told."""
        self._told = None
        self.look()

    async def run(self) -> None:
        """Look, act and tell, for ever."""
        try:
            while True:
                if self._look_due:
                    self._look_due = False
                    self._wake.clear()
                    self._looked_at = time.monotonic()
                    await self._act()
                if not self._look_due:
                    await self._tell()
                await self._pause()
        finally:
            await self._stop()

    async def _pause(self) -> None:
        """Until something changes, something is to be tried again, or there is progress to tell."""
        await asyncio.sleep(_CALM_S)  # what comes in bursts is looked at once
        again = [setback.again_at for key, setback in self._setbacks.items() if key not in self._coming]
        due_at = min([self._looked_at + _LOOK_S, *again])
        longest = _PROGRESS_S if self._stock.busy else _LOOK_S
        try:
            async with asyncio.timeout(min(max(due_at - time.monotonic(), _PROGRESS_S), longest)):
                await self._wake.wait()
        except TimeoutError:
            self._look_due = self._look_due or time.monotonic() >= due_at

    async def _stop(self) -> None:
        for task in self._coming.values():
            task.cancel()
        await asyncio.gather(*self._coming.values(), return_exceptions=True)

    # -- acting --------------------------------------------------------------------------------------------

    async def _act(self) -> None:
        library = self._library
        if library is None:
            return
        self._sight = Sight(await self._inventory(library), self._uses, self._ledger, time.time())
        self._decision = decide(library, self._sight, self._rules)
        self._bring(self._decision.bring)
        for pin in self._decision.remove:
            await self._remove(pin)
        await self._drop_files(library)
        await self._remember(library)
        concerned = {image_key(pin) for pin in (*self._decision.bring, *self._decision.remove)}
        self._setbacks = {key: setback for key, setback in self._setbacks.items() if key in concerned}

    async def _inventory(self, library: HostLibrary) -> Inventory:
        wanted: dict[str, set[str]] = {name: set() for name in self._providers}
        for pin in (*library.unwanted, *library.wanted, *library.known):
            wanted.setdefault(pin.provider, set()).add(pin.name)
        providers = list(self._providers)
        found = await asyncio.gather(*(self._contents(name, wanted[name]) for name in providers))
        return dict(zip(providers, found, strict=True))

    async def _contents(self, provider: str, names: set[str]) -> dict[str, str] | None:
        """What has these names, as far as anything has. A user's own images are not even looked at, unless it is less
        work to look at all."""
        store = self._providers[provider].images
        try:
            async with deadline(f"looking at the images of {provider}", _LIST_S):
                if len(names) > _FEW:
                    infos = await store.list()
                else:
                    infos = [info for info in await asyncio.gather(*map(store.info, names)) if info is not None]
                found = {engine_name(provider, info.name): info.digest for info in infos}
                return {name: found[known] for name in names if (known := engine_name(provider, name)) in found}
        except WireloomError as error:
            log.info("image.not-listed", provider=provider, error=error.to_wire())
            return None

    def _bring(self, pins: tuple[ImagePin, ...]) -> None:
        """Begin what is to come and is not on its way; end what nobody wants ahead of need any more."""
        wanted = {image_key(pin): pin for pin in pins}
        for key in self._coming.keys() - wanted.keys():
            if self._library is not None and not self._is_ahead(key, self._library):
                self._coming[key].cancel()
        for key, pin in wanted.items():
            if key not in self._coming and self._may_try(key):
                task = asyncio.get_running_loop().create_task(self._come(key, pin), name=f"image {pin.name}")
                self._coming[key] = task

    def _is_ahead(self, key: str, library: HostLibrary) -> bool:
        ahead = (*library.wanted, *(library.known if self._rules.policy == "everywhere" else ()))
        unwanted = {image_key(pin) for pin in library.unwanted}
        return key not in unwanted and any(image_key(pin) == key for pin in ahead)

    async def _come(self, key: str, pin: ImagePin) -> None:
        try:
            await self._stock.bring(pin)
            self._setbacks.pop(key, None)
        except WireloomError as error:
            self._set_back(key, error.to_wire())
        except Exception as error:  # the supervisor's edge of one image
            log.exception("defect while an image comes", image=pin.name)
            self._set_back(key, {"code": "internal", "message": f"defect: {error!r}", "retryable": False})
        finally:
            self._coming.pop(key, None)
            self.look()

    async def _remove(self, pin: ImagePin) -> None:
        key = image_key(pin)
        if not self._may_try(key):
            return
        try:
            await self._stock.remove(pin)
            self._setbacks.pop(key, None)
        except WireloomError as error:  # a runtime of somebody else's may use it
            self._set_back(key, error.to_wire())

    def _may_try(self, key: str) -> bool:
        return key not in self._setbacks or self._setbacks[key].again_at <= time.monotonic()

    def _set_back(self, key: str, error: dict[str, Any]) -> None:
        known = self._setbacks.get(key)
        wait_s = min(known.wait_s * 2, _LONGEST_WAIT_S) if known else _FIRST_WAIT_S
        self._setbacks[key] = _Setback(error, time.monotonic() + wait_s, wait_s)

    async def _drop_files(self, library: HostLibrary) -> None:
        """Files of what was deleted, or has gone from here, unless another image has the same one."""
        gone = {image_key(pin): pin for pin in (*library.unwanted, *self._decision.remove)}
        kept = {pin.digest for pin in (*library.known, *library.wanted) if image_key(pin) not in gone}
        for digest in {pin.digest for pin in gone.values()} - kept:
            await self._stock.drop_file(digest)

    async def _remember(self, library: HostLibrary) -> None:
        known = {image_key(pin): pin for pin in (*library.unwanted, *library.wanted, *library.known)}
        for key, pin in known.items():
            if self._sight.found(pin) == pin.content:
                self._ledger.note_seen(key)
                if self._sight.users(pin):
                    self._ledger.note_used(key)
        self._ledger.keep((*known, *map(file_key, {pin.digest for pin in known.values()})))
        try:
            await in_thread(self._ledger.save)
        except OSError as problem:
            log.warning("image ledger not written", problem=str(problem))

    # -- telling -------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        library = self._library
        if library is None:
            return
        served, free = await in_thread(lambda: (self._served(), self._fetcher.blobs.free()))
        if self._look_due:
            return  # what was seen may be out of date, and what has no entry counts as gone
        shelf = HostShelf(
            host=self._host,
            generation=library.generation,
            entries=self._entries(library),
            url=served.url,
            digests=served.digests,
            free=free // _FREE_STEP * _FREE_STEP,
            time=time.time(),
        )
        told = self._told
        if told is not None and _without_time(shelf) == _without_time(told) and shelf.time - told.time < _LOOK_S:
            return
        with contextlib.suppress(WireloomError):  # told again with the next look
            await self._sink.put_shelf(shelf)
            self._told = shelf

    def _entries(self, library: HostLibrary) -> tuple[ShelfEntry, ...]:
        known = {image_key(pin): pin for pin in (*library.unwanted, *library.wanted, *library.known)}
        problems = {key: setback.error for key, setback in self._setbacks.items()} | dict(self._decision.held_up)
        told = self._told.entries if self._told is not None else ()
        before = {key_of(entry.provider, entry.name, entry.content): entry for entry in told}
        return entries(library, self._sight, travels=self._travels(known), problems=problems, before=before)

    def _travels(self, known: Mapping[str, ImagePin]) -> dict[str, Travel]:
        travels = {}
        for key, pin in known.items():
            flight = self._stock.flight(pin)
            if flight is not None and flight.phase:
                travels[key] = Travel(PresenceState(flight.phase), flight.done, flight.total)
        return travels


def _without_time(shelf: HostShelf) -> HostShelf:
    return shelf.model_copy(update={"time": 0})
