"""What this host has of the image library and nothing on it uses: images that came from it, fetched files, drafts.

All of it can be had again. An image that the host had of its own is none of these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.ledger import Ledger, key_of
from wireloom.agent.library.stock import Stock
from wireloom.agent.library.usage import Usage
from wireloom.agent.library.waiting import in_thread
from wireloom.errors import Conflict, NotFound, WireloomError
from wireloom.fabric.image_documents import HostLibrary
from wireloom.model.images import ImagePin, engine_name
from wireloom.model.orphans import Leftover
from wireloom.providers.contract import Provider

__all__ = ["Remains"]

_IMAGE: Final = "image"
_BLOB: Final = "blob"
_DRAFT: Final = "draft"
#: A draft that did not grow for so long belongs to no fetch.
_STILL_S: Final = 600.0


class Remains:
    """A :class:`~wireloom.agent.housekeeping.LeftoverSource`. :param library: what the controller said last."""

    source = "images"

    def __init__(
        self,
        providers: Mapping[str, Provider],
        stock: Stock,
        fetcher: Fetcher,
        ledger: Ledger,
        usage: Usage,
        *,
        library: Callable[[], HostLibrary | None],
    ) -> None:
        self._providers = providers
        self._stock = stock
        self._fetcher = fetcher
        self._ledger = ledger
        self._usage = usage
        self._library = library

    async def leftovers(self) -> Sequence[Leftover]:
        return [*await self._images(), *await in_thread(lambda: list(self._files()))]

    async def discard(self, leftover: Leftover) -> None:
        kind, _, rest = leftover.id.partition(" ")
        if self._stock.busy:
            raise Conflict("images are on their way to this host", hint="try again when they are there")
        if kind == _IMAGE:
            provider, _, name = rest.partition(" ")
            await self._remove_image(provider, name)
        elif kind == _BLOB:
            await self._stock.drop_file(rest)
        else:
            await in_thread(self._fetcher.blobs.draft(rest).discard)

    async def _images(self) -> list[Leftover]:
        found = []
        for name, provider in self._providers.items():
            try:
                infos = await provider.images.list()
            except WireloomError:
                continue  # the engine is away, which is told of the engine itself
            for info in infos:
                brought = self._ledger.brought(key_of(name, info.name, info.digest))
                if brought and not self._is_used(name, info.name):
                    found.append(
                        Leftover(
                            id=f"{_IMAGE} {name} {info.name}",
                            kind="image",
                            name=info.name,
                            size=info.size,
                            unused=True,
                            detail=f"{name}: from the library, and no node here uses it",
                        )
                    )
        return found

    def _is_used(self, provider: str, name: str) -> bool:
        return bool(self._usage.held_by(provider, name)) or any(
            self._usage.wanted_by(pin) for pin in self._pins_of(provider, name)
        )

    def _pins_of(self, provider: str, name: str) -> list[ImagePin]:
        library = self._library()
        if library is None:
            return []
        wanted = engine_name(provider, name)
        return [
            pin
            for pin in (*library.wanted, *library.known)
            if pin.provider == provider and engine_name(provider, pin.name) == wanted
        ]

    async def _remove_image(self, provider: str, name: str) -> None:
        if provider not in self._providers:
            raise NotFound(f"this host has no provider {provider}")
        if self._is_used(provider, name):
            raise Conflict(f"a node has come to use image {name}")
        await self._providers[provider].images.remove(name)

    def _files(self) -> list[Leftover]:
        if self._stock.busy:
            return []
        now = time.time()
        blobs = [
            Leftover(
                id=f"{_BLOB} {digest}", kind="file", name=digest, size=size, unused=True, detail="kept for other hosts"
            )
            for digest, size, _ in self._fetcher.blobs.all()
        ]
        drafts = [
            Leftover(id=f"{_DRAFT} {key}", kind="file", name=key, size=size, detail="a fetch that nobody goes on with")
            for key, size, changed in self._fetcher.blobs.drafts()
            if now - changed > _STILL_S
        ]
        return [*blobs, *drafts]
