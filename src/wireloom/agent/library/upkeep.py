"""Reads images again now and then, one after the other, and tidies what the host fetched and needs no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from wireloom.agent.library.decide import Rules
from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.ledger import Ledger, file_key, image_key
from wireloom.agent.library.stock import Stock
from wireloom.agent.library.waiting import deadline, in_thread
from wireloom.errors import ImageMissing, WireloomError
from wireloom.fabric.image_documents import HostLibrary
from wireloom.model.images import ImagePin
from wireloom.providers.contract import Provider

__all__ = ["Upkeep"]

log = structlog.get_logger(__name__)

_LOOK_S: Final = 60.0
_READ_S: Final = 2 * 3600.0
_CALL_S: Final = 1800.0
_DAY_S: Final = 86_400.0
#: What was fetched and is of no image that comes: an agent that was killed left it.
_LEFT_S: Final = 3600.0
#: Half a file is worth something for so long.
_DRAFT_S: Final = 7 * _DAY_S
#: A host that serves files and keeps images for ever keeps those that the library does not know for so long: another
#: controller's, for instance, that the host was of.
_UNKNOWN_S: Final = 7 * _DAY_S


class Upkeep:
    """One per host.

    :param library: what the controller said last.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        stock: Stock,
        fetcher: Fetcher,
        ledger: Ledger,
        rules: Rules,
        library: Callable[[], HostLibrary | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._providers = providers
        self._stock = stock
        self._fetcher = fetcher
        self._ledger = ledger
        self._rules = rules
        self._library = library
        self._clock = clock

    async def run(self) -> None:
        """Look after them, for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            library = self._library()
            if library is not None and not self._stock.busy:  # what is on its way has the disk
                await self.tidy(library)
                await self.read_one(library)

    async def tidy(self, library: HostLibrary) -> None:
        """Remove files that nothing will be made of."""
        now = self._clock()
        for key, _, changed in await in_thread(lambda: list(self._fetcher.blobs.drafts())):
            if now - changed > _DRAFT_S:
                await in_thread(self._fetcher.blobs.draft(key).discard)
        known = {pin.digest for pin in (*library.wanted, *library.known)} if self._rules.serve else set()
        for digest, _, changed in await in_thread(lambda: list(self._fetcher.blobs.all())):
            if digest not in known and self._unknown_s < now - changed:
                await self._stock.drop_file(digest)
        await in_thread(self._fetcher.blobs.sweep, now - _LEFT_S)

    @property
    def _unknown_s(self) -> float:
        """How long a file stays that is of no image of the library, as far as this host is told."""
        if not self._rules.serve:
            return _LEFT_S
        return self._rules.keep_days * _DAY_S if self._rules.keep_days >= 0 else _UNKNOWN_S

    async def read_one(self, library: HostLibrary) -> None:
        """Read what was not read for longest, where that is long ago."""
        if self._rules.verify_days <= 0:
            return
        pins = {image_key(pin): pin for pin in (*library.wanted, *library.known)}
        files = await in_thread(lambda: [file_key(digest) for digest, _, _ in self._fetcher.blobs.all()])
        before = self._clock() - self._rules.verify_days * _DAY_S
        due = [key for key in (*pins, *files) if self._ledger.of(key).verified_at <= before]
        for key in sorted(due, key=lambda key: self._ledger.of(key).verified_at):
            if await (self._read_image(pins[key]) if key in pins else self._read_file(key)):
                return

    async def _read_image(self, pin: ImagePin) -> bool:
        """Whether it is there, and was read."""
        provider = self._providers.get(pin.provider)
        if provider is None:
            return False
        try:
            async with deadline(f"looking at image {pin.name}", _CALL_S):
                info = await provider.images.info(pin.name)
            if info is None or info.digest != pin.content:
                return False
            async with deadline(f"reading image {pin.name}", _READ_S):
                await self._stock.verify(pin)
        except ImageMissing as error:
            log.warning("image.damaged", image=pin.name, error=error.to_wire())
        except WireloomError as error:  # the provider does not answer
            log.info("image.not-read", image=pin.name, error=error.to_wire())
            return False
        return True

    async def _read_file(self, key: str) -> bool:
        digest = key.removeprefix(file_key(""))
        await self._fetcher.recheck(digest)
        self._ledger.note_read(key)
        return True
