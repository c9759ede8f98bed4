"""A host's part of the image library, put together; see README.md beside this file."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

import httpx
from aiohttp import web

from wireloom.agent.context import NodeContext
from wireloom.agent.library.decide import Rules
from wireloom.agent.library.exports import Exports, Holding
from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.http import ThreadedHttp
from wireloom.agent.library.ledger import Ledger
from wireloom.agent.library.questions import LibraryQuestions
from wireloom.agent.library.remains import Remains
from wireloom.agent.library.server import BlobServer, Others
from wireloom.agent.library.shelf import Shelf, nothing_served
from wireloom.agent.library.sources import Sources
from wireloom.agent.library.stock import Stock
from wireloom.agent.library.upkeep import Upkeep
from wireloom.agent.library.usage import Usage
from wireloom.agent.library.waiting import in_thread
from wireloom.agent.library.way import ControllerWay
from wireloom.agent.reporter import Tell
from wireloom.fabric.connection import Fabric
from wireloom.library.blobs import BlobStore
from wireloom.model.images import ImagePin
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import Slice
from wireloom.providers.contract import Provider

__all__ = ["ImageKeeper"]

_CACHE: Final = "cache"
#: Where a controller on the same host keeps its own.
_NEAR: Final = Path("library") / "blobs"


async def _nothing_else(_: web.BaseRequest) -> web.StreamResponse | None:
    return None


class ImageKeeper:
    """One per agent.

    :param slices: intents by lab id, as they are now. :param runtimes: by node id.
    :param holding: keeps verbs from a node while its image is made. :param way: to the controllers' files.
    :ivar stock: brings images.
    """

    def __init__(
        self,
        host: str,
        fabric: Fabric,
        data_dir: Path,
        *,
        providers: Mapping[str, Provider],
        rules: Rules,
        slices: Callable[[], Mapping[str, Slice]],
        runtimes: Mapping[str, RuntimeStatus],
        holding: Holding,
        tell: Tell,
        way: ControllerWay | None = None,
    ) -> None:
        self._host = host
        self._fabric = fabric
        self._way = way or ControllerWay()
        cache = data_dir / _CACHE
        blobs = self._blobs = BlobStore(cache / "blobs")
        sources = Sources(host)
        self._ledger = Ledger(cache / "ledger.json")
        self._fetching = ThreadedHttp(rules.fetches, self._way.trust)
        fetcher = Fetcher(blobs, sources, self._fetching, near=data_dir / _NEAR, most=rules.fetches)
        self._usage = Usage(slices, runtimes)
        self.stock = Stock(
            providers, fetcher, self._ledger, keeps_files=bool(rules.serve), tell=tell, changed=self._changed
        )
        #: Answers what other hosts ask the server for beside images; set by whoever has it.
        self.others: Others = _nothing_else
        self._server = BlobServer(rules.serve, blobs, self._serve_token, self._other) if rules.serve else None
        self._shelf = Shelf(
            host,
            fabric,
            providers=providers,
            stock=self.stock,
            fetcher=fetcher,
            sources=sources,
            ledger=self._ledger,
            uses=self._usage,
            rules=rules,
            served=self._server.served if self._server is not None else nothing_served,
        )
        self._upkeep = Upkeep(
            providers=providers,
            stock=self.stock,
            fetcher=fetcher,
            ledger=self._ledger,
            rules=rules,
            library=lambda: self._shelf.library,
        )
        self._exports = self._make_exports(cache / "exports", providers, runtimes, holding)
        #: Images and files of the library that nothing on this host uses.
        self.remains = Remains(
            providers, self.stock, fetcher, self._ledger, self._usage, library=lambda: self._shelf.library
        )
        self._questions = LibraryQuestions(providers, self.stock)

    def _make_exports(
        self,
        folder: Path,
        providers: Mapping[str, Provider],
        runtimes: Mapping[str, RuntimeStatus],
        holding: Holding,
    ) -> Exports:
        return Exports(
            folder,
            providers=providers,
            runtimes=runtimes,
            holding=holding,
            http=self._client,
            pulled=self._ledger.note_pulled,
            reach=self._way.reach,
        )

    @cached_property
    def _sending(self) -> httpx.AsyncClient:
        # A proxy in the environment must never see the tokens of an installation.
        return httpx.AsyncClient(trust_env=False, verify=self._way.trust())

    def _client(self) -> httpx.AsyncClient:
        return self._sending

    async def _other(self, request: web.BaseRequest) -> web.StreamResponse | None:
        return await self.others(request)

    @property
    def served_at(self) -> str:
        """Where other hosts reach this one; empty: nowhere."""
        return self._server.url if self._server is not None else ""

    @property
    def problems(self) -> tuple[str, ...]:
        """What the host's state should show."""
        return (self._server.problem,) if self._server is not None and self._server.problem else ()

    def obtainable(self, provider: str, image: str) -> ImagePin | None:
        """The library's image that a node of ``provider`` means by that name, where it can be brought here."""
        library = self._shelf.library
        if library is None:
            return None
        gone = {(pin.provider, pin.name, pin.content) for pin in library.unwanted}
        for pin in (*library.wanted, *library.known):
            if (pin.provider, pin.name) == (provider, image) and (provider, image, pin.content) not in gone:
                return pin
        return None

    def is_wanted(self, context: NodeContext) -> bool:
        """Whether the node at work is still to be brought up, of that image."""
        lab, node = context.lab, context.node
        return self._usage.is_wanted(lab.lab_id, node, lab.pin(node))

    async def serve(self, fabric: Fabric, host: str) -> None:
        """Begin to answer for ``host``."""
        await in_thread(self._ledger.load)
        await in_thread(self._blobs.sweep, time.time())  # what a kill left half; nothing is on its way yet
        await in_thread(self._exports.prepare)
        await self._questions.serve(fabric, host)
        await self._exports.serve(fabric, host)
        fabric.on_rebuilt(self._shelf.resend)

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What has to run for as long as the agent does."""
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "library": self._follow,
            "shelf": self._shelf.run,
            "image-upkeep": self._upkeep.run,
        }
        if self._server is not None:
            loops["image-server"] = self._server.run
        return loops

    async def close(self) -> None:
        """Let go; what is on its way is gone on with by the next agent."""
        await self._exports.close()
        await self._fetching.close()
        if "_sending" in self.__dict__:
            await self._sending.aclose()

    async def _follow(self) -> None:
        async for change in self._fabric.watch_library(self._host):
            self._shelf.set_library(self._way.library(change.value))

    def _serve_token(self) -> str:
        library = self._shelf.library
        return library.serve_token if library is not None else ""

    def _changed(self) -> None:
        self._shelf.look()
