"""Which host has which image, and which is to have it or to drop it. Level-triggered.

What a host is to do is one document, written when it changes and when the fabric lost its store; what it has is its
shelf, which it tells. Nothing is removed from a host because a list leaves it out: what is to go is named, until the
host has said that it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, cast

import structlog

from wireloom.controller.library.catalogue import Catalogue
from wireloom.controller.library.removals import Removals
from wireloom.controller.library.shelves import Shelves
from wireloom.controller.library.tokens import BlobTokens
from wireloom.controller.live import LiveState
from wireloom.controller.ports import Change, ControllerFabric
from wireloom.controller.store.images import ImageStore
from wireloom.controller.tasks import Supervisor
from wireloom.errors import Conflict, NotFound, Unsupported, WireloomError
from wireloom.fabric.image_documents import BlobSource, HostLibrary, HostShelf
from wireloom.fabric.subjects import split_key
from wireloom.model.images import ImagePin, ImageState, ImageView

__all__ = ["Distribution"]

log = structlog.get_logger(__name__)

RETRY_S: Final = 1.0


@dataclass(frozen=True)
class _Offer:
    """What hosts with the same providers are told of images.

    :ivar pins: of all that are not being deleted, by name. :ivar ready: of those that can be given, with their ids.
    """

    pins: tuple[ImagePin, ...]
    ready: tuple[tuple[str, ImagePin], ...]

    @classmethod
    def of(cls, images: Iterable[ImageView]) -> _Offer:
        there = [(image, image.pin) for image in images if image.state is not ImageState.DELETING]
        ready = ((image.id, pin) for image, pin in there if image.state is ImageState.READY)
        return cls(tuple(pin for _, pin in there), tuple(ready))


class Distribution:
    """The only writer of what hosts are to do about images, and the ear for what they have.

    :param known_hosts: all hosts of the installation, those that are away too.
    """

    def __init__(
        self,
        *,
        fabric: ControllerFabric,
        store: ImageStore,
        catalogue: Catalogue,
        removals: Removals,
        shelves: Shelves,
        live: LiveState,
        tokens: BlobTokens,
        known_hosts: Callable[[], frozenset[str]],
    ) -> None:
        self._fabric = fabric
        self._store = store
        self._catalogue = catalogue
        self._removals = removals
        self._shelves = shelves
        self._live = live
        self._tokens = tokens
        self._known_hosts = known_hosts
        self._url = ""
        #: Whether this controller is the one that tells hosts.
        self.leads: Callable[[], bool] = lambda: True
        self._wishes: dict[str, frozenset[str]] = {}
        self._put: dict[str, HostLibrary] = {}
        self._awake = asyncio.Event()
        self._offers: dict[frozenset[str] | None, _Offer] = {}
        catalogue.on_change(self._image_changed)

    async def load(self) -> None:
        """Read what is stored."""
        self._wishes = await self._store.wishes()

    def start(self, supervisor: Supervisor) -> None:
        """Write and listen for ever."""
        self._fabric.on_rebuilt(self.rewrite)
        supervisor.start("publish libraries", self._publish_for_ever)
        supervisor.start("watch shelves", self._watch_shelves)

    @property
    def url(self) -> str:
        """Where hosts reach the API; empty: not known yet."""
        return self._url

    def serve_at(self, url: str) -> None:
        """Hosts reach the API at ``url`` from now on, and files of the library below it."""
        self._url = url.rstrip("/")
        self.wake()

    def _image_changed(self, _image: ImageView) -> None:
        self._offers.clear()
        self.wake()

    def wake(self) -> None:
        """Something changed that hosts may have to know; returns at once."""
        self._awake.set()

    def rewrite(self) -> None:
        """What the fabric holds may be anything: write it all again."""
        self._put.clear()
        self.wake()

    # ---------------------------------------------------------------- verbs

    async def push(self, image_id: str, hosts: Collection[str]) -> ImageView:
        """Have ``hosts`` (none named: all of the installation that can run it) fetch an image, and keep it.

        :raises NotFound: no such image or host. :raises Conflict: it is being deleted, or damaged.
        :raises Unsupported: a host that was named cannot run it, or none can.
        """
        image = self._catalogue.get(image_id)
        if image.state is not ImageState.READY:
            raise Conflict(f"image {image.name} is {image.state.value}", hint="only a ready image is given to hosts")
        able = frozenset(host for host in self._known_hosts() if self._runs(host, image))
        chosen = self._named(hosts, image) if hosts else able
        if not chosen:
            raise Unsupported(f"no host has a provider {image.provider}, which image {image.name} is for")
        await self._store.wish(image_id, chosen)
        self._wishes[image_id] = self._wishes.get(image_id, frozenset()) | chosen
        self.wake()
        return self._catalogue.get(image_id)

    async def unpush(self, image_id: str, hosts: Collection[str]) -> ImageView:
        """Take a push back: ``hosts`` (none named: all) have an image for as long as they need it and keep such images.

        What they have is not removed by this.

        :raises NotFound: no such image or host.
        """
        self._catalogue.get(image_id)
        wished = self._wishes.get(image_id, frozenset())
        for host in hosts:
            if host not in wished:
                self._check_known(host)
        freed = frozenset(hosts) or wished
        await self._store.unwish(image_id, freed)
        self._wishes[image_id] = self._wishes.get(image_id, frozenset()) - freed
        self.wake()
        return self._catalogue.get(image_id)

    def host_token(self, host: str) -> str:
        """What ``host`` shows to read files of the library."""
        return self._tokens.host_token(host)

    def may_read_blobs(self, token: str) -> bool:
        """Whether ``token`` is that of a host of the installation."""
        return self._tokens.may_read(token)

    async def forget_host(self, host: str) -> None:
        """``host`` is of the installation no more: nobody waits for what it would say."""
        await self._removals.forget_host(host)
        self._wishes = {image_id: wished - {host} for image_id, wished in self._wishes.items()}
        self._shelves.put(host, None)
        self._put.pop(host, None)
        await self._catalogue.finish_removals()

    def host_changed(self, host: str) -> None:
        """``host`` came, went, or has other providers than before."""
        self._catalogue.presence_changed(self._shelves.keys(host))
        self.wake()

    def document(self, host: str) -> HostLibrary | None:
        """What ``host`` was told last."""
        return self._put.get(host)

    def shelf(self, host: str) -> HostShelf | None:
        """What ``host`` told last."""
        return self._shelves.get(host)

    # ---------------------------------------------------------------- telling

    async def _publish_for_ever(self) -> None:
        self._put.clear()  # also after a defect, which may have left anything undone
        self._awake.set()
        while True:
            await self._awake.wait()
            self._awake.clear()
            for host in sorted(self._known_hosts() | self._removals.hosts) if self.leads() else ():
                await self._publish(host)

    async def _publish(self, host: str) -> None:
        before = self._put.get(host)
        wanted = self._document(host, before.generation if before is not None else 0)
        if wanted == before:
            return
        wanted = wanted.model_copy(update={"generation": self._removals.next_generation()})
        self._put[host] = wanted  # before it is: the host may answer before the fabric does
        try:
            await self._fabric.put_library(wanted)
        except WireloomError as error:
            log.warning("a host was not told of its images", host=host, error=str(error))
            self._put.pop(host, None)
            asyncio.get_running_loop().call_later(RETRY_S, self.wake)

    def _document(self, host: str, generation: int) -> HostLibrary:
        offer = self._offer(host)
        return HostLibrary(
            host=host,
            generation=generation,
            wanted=tuple(pin for image_id, pin in offer.ready if host in self._wishes.get(image_id, ())),
            unwanted=self._removals.for_host(host),
            known=offer.pins,
            sources=tuple(self._sources(host)),
            serve_token=self._tokens.serve_token(host),
        )

    def _offer(self, host: str) -> _Offer:
        """What there is for ``host``, made once for all that can run the same."""
        seen = self._live.hosts.get(host)
        providers = None if seen is None else frozenset(provider.name for provider in seen.facts.providers)
        if providers not in self._offers:
            images = sorted(self._catalogue.bare(), key=lambda image: image.name)
            self._offers[providers] = _Offer.of(image for image in images if self._runs(host, image))
        return self._offers[providers]

    def _runs(self, host: str, image: ImageView) -> bool:
        """Whether ``host`` can do anything with the image; one that has not told yet may."""
        seen = self._live.hosts.get(host)
        return seen is None or any(provider.name == image.provider for provider in seen.facts.providers)

    def _sources(self, host: str) -> list[BlobSource]:
        """The controller first: it has everything that is whole."""
        token = self._tokens.host_token(host)
        own = BlobSource(url=self._url, token=token, digests=self._whole())
        others = [
            BlobSource(
                url=shelf.url, token=self._tokens.serve_token(shelf.host), host=shelf.host, digests=shelf.digests
            )
            for shelf in self._shelves.serving()
            if shelf.host != host
        ]
        return [own, *others] if self._url else others

    def _whole(self) -> frozenset[str] | None:
        """Files that the controller has; ``None``: all that there are."""
        if any(image.state is ImageState.DAMAGED for image in self._catalogue.bare()):
            return frozenset(image.digest for image in self._catalogue.bare() if image.state is ImageState.READY)
        return None

    # ---------------------------------------------------------------- listening

    async def _watch_shelves(self) -> None:
        # The fabric's watchers are asynchronous generators; closing them ends their subscription.
        watcher = cast(AsyncGenerator[Change[HostShelf], None], self._fabric.watch_shelves())
        async with aclosing(watcher) as changes:
            async for change in changes:
                (host,) = split_key(change.key)
                await self._heard(host, change.value)

    async def _heard(self, host: str, shelf: HostShelf | None) -> None:
        before = self._shelves.get(host)
        changed = self._shelves.put(host, shelf)
        self._live.set_shelf(host, shelf)
        if shelf is not None and await self._is_removal_over(shelf):
            await self._catalogue.finish_removals()
            self.wake()
        self._catalogue.presence_changed(changed)
        if _served(before) != _served(shelf):
            self.wake()

    async def _is_removal_over(self, shelf: HostShelf) -> bool:
        """Whether the host has said that something is gone that had to go.

        A word about a document that this process has not written does not count: it is of another time. The host is
        told anew, under a greater number, and tells again.
        """
        told = self._put.get(shelf.host)
        if told is None or shelf.generation > told.generation:
            self._removals.reached(shelf.generation)
            if told is not None:
                del self._put[shelf.host]
                self.wake()
            return False
        return await self._removals.heard(shelf)

    # ---------------------------------------------------------------- inside

    def _check_known(self, host: str) -> None:
        known = self._known_hosts()
        if host not in known:
            raise NotFound(f"there is no host {host}", hint=f"hosts: {', '.join(sorted(known)) or 'none'}")

    def _named(self, hosts: Collection[str], image: ImageView) -> frozenset[str]:
        for host in hosts:
            self._check_known(host)
            if not self._runs(host, image):
                raise Unsupported(
                    f"host {host} has no provider {image.provider}, which image {image.name} is for",
                    hint="choose other hosts",
                )
        return frozenset(hosts)


def _served(shelf: HostShelf | None) -> tuple[str, frozenset[str]] | None:
    """What others can fetch there."""
    return None if shelf is None or not shelf.url else (shelf.url, shelf.digests)
