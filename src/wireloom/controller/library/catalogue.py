"""The catalogue: every image of the library, what it serves, and the end of it. Durable; read from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from secrets import token_hex
from typing import Any

import structlog

from wireloom.controller.hub import Hub
from wireloom.controller.journal import Journal
from wireloom.controller.library.records import NewImage
from wireloom.controller.library.removals import Removals
from wireloom.controller.library.shelves import ImageKey, Shelves
from wireloom.controller.library.uses import NodeUses, Uses, full_name, spoken
from wireloom.controller.store.images import ImageStore
from wireloom.errors import Conflict, InvalidInput, NotFound, Unavailable, Unsupported, WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.library.blobs import BlobStore
from wireloom.model.images import (
    FORMAT_OF_PROVIDER,
    ImagePin,
    ImageState,
    ImageUpdate,
    ImageUse,
    ImageView,
    ServedDevice,
    check_digest,
    check_image_name,
)
from wireloom.model.slice import Slice
from wireloom.model.views import StreamMessage
from wireloom.planning.topology.images import LibraryImages

__all__ = ["Catalogue", "Planner"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Planner:
    """What the catalogue asks of planning.

    :ivar device: the device of a name or alias → its own name and its providers; ``None``: there is none.
    :ivar use: nodes are read with this from now on.
    :ivar broken: labs that could not be read with this → why not.
    """

    device: Callable[[str], tuple[str, Sequence[str]] | None]
    use: Callable[[LibraryImages], None]
    broken: Callable[[LibraryImages], Awaitable[Mapping[str, WireloomError]]]


class Catalogue:
    """See :class:`~wireloom.controller.library.records.ImageCatalogue`.

    :param known_hosts: all hosts of the installation, those that are away too.
    :param settled: waits until no verb on a lab is at work that began before.
    :param changed: is told of every image that came, changed or went.
    """

    def __init__(
        self,
        *,
        store: ImageStore,
        blobs: BlobStore,
        removals: Removals,
        shelves: Shelves,
        uses: Uses,
        planner: Planner,
        hub: Hub,
        journal: Journal,
        known_hosts: Callable[[], frozenset[str]],
        settled: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        new_id: Callable[[], str] = lambda: token_hex(6),
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._removals = removals
        self._shelves = shelves
        self._uses = uses
        self._planner = planner
        self._hub = hub
        self._journal = journal
        self._known_hosts = known_hosts
        self._settled = settled
        self._clock = clock
        self._new_id = new_id
        self._images: dict[str, ImageView] = {}
        self._names: dict[str, str] = {}
        self._closing: set[str] = set()
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[ImageView], None]] = []

    def on_change(self, listener: Callable[[ImageView], None]) -> None:
        """Have ``listener`` told of every image that came, changed or went; it returns at once."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Read what is stored, and finish removals that were confirmed before the controller went."""
        await self._removals.load()
        for image in await self._store.images():
            self._images[image.id] = image
            self._names[image.name] = image.id
        self._planner.use(self.known())
        await self.finish_removals()

    # ---------------------------------------------------------------- reading

    def all(self) -> Sequence[ImageView]:
        """By name."""
        nodes = self._uses.by_image()
        return [self._whole(self._images[self._names[name]], nodes) for name in sorted(self._names)]

    def get(self, image_id: str) -> ImageView:
        """:raises NotFound: no such image."""
        return self._whole(self._existing(image_id))

    def named(self, name: str) -> ImageView | None:
        found = self._names.get(name)
        return None if found is None else self._whole(self._images[found])

    def bare(self) -> Iterator[ImageView]:
        """All images, without presence and uses, which take a while to find out; in no order."""
        return iter(tuple(self._images.values()))

    def find(self, provider: str, name: str) -> ImageView | None:
        """The image that a node of ``provider`` means by ``name``, without presence and uses."""
        image = self._images.get(self._names.get(full_name(provider, name), ""))
        return image if image is not None and image.provider == provider else None

    def pin(self, provider: str, name: str) -> ImagePin | None:
        """Exactly which image a node of ``provider`` means by ``name``; ``None``: none of the library.

        The pin has the name that the node says.
        """
        image = self.find(provider, name)
        return None if image is None else image.pin.model_copy(update={"name": name})

    def pinned(self, document: Slice) -> Slice:
        """``document`` with the pins of those of its nodes, also coming ones, whose image is of the library."""
        nodes = (*document.nodes, *(item.node for item in document.arrivals))
        wanted = sorted({(node.provider, node.image) for node in nodes})
        pins = tuple(pin for key in wanted if (pin := self.pin(*key)) is not None)
        return document if pins == document.images else document.model_copy(update={"images": pins})

    def default(self, device: str, provider: str) -> str | None:
        """Name of the image of nodes that name none; ``None``: what the device itself says."""
        return self._planned().defaults.get((device, provider))

    def known(self) -> LibraryImages:
        """What planning is told."""
        return self._planned()

    def uses(self, image_id: str) -> tuple[ImageUse, ...]:
        """:raises NotFound: no such image."""
        return self._uses.of(self._existing(image_id))

    def is_closing(self, image: ImageView) -> bool:
        """Whether it is being deleted, or is about to be: nothing new may use it."""
        return image.state is ImageState.DELETING or image.id in self._closing

    def check_device(self, device: str, provider: str) -> str:
        """The device's own name, where an image for ``provider`` can serve it.

        :raises NotFound: no such device. :raises Unsupported: it does not run there.
        """
        found = self._planner.device(device)
        if found is None:
            raise NotFound(f"there is no device {device}", hint="`wireloom devices` lists them")
        name, providers = found
        if provider not in providers:
            raise Unsupported(
                f"device {name} does not run on {provider}", hint=f"it runs on {', '.join(sorted(providers))}"
            )
        return name

    # ---------------------------------------------------------------- writing

    async def add(self, new: NewImage) -> ImageView:
        """Take it up. The same name with the same content is no error, and what is there is returned: it serves the
        device of the new one, too, and if it was damaged, the new file takes its place.

        :raises Conflict: the name belongs to another content, or to an image that is being deleted.
        :raises InvalidInput: the name is none for it. :raises NotFound: no such device.
        :raises Unavailable: its file is not in the store.
        """
        self._check(new)
        async with self._lock:
            there = self._images.get(self._names.get(new.name, ""))
            if there is not None:
                return await self._again(there, new)
            await self._need_file(new.digest)
            image = self._made(new)
            await self._store.add(image)
            self._names[image.name] = image.id
            self._put(image)
        self._journal.tell("image.added", f"image {image.name} is in the library ({image.size >> 20} MiB)")
        return self.get(image.id)

    async def update(self, image_id: str, change: ImageUpdate) -> ImageView:
        """Say which devices it serves, and of which it is the default.

        :raises NotFound: no such image or device. :raises Unsupported: a device does not run on its provider.
        :raises Conflict: it is being deleted, or a lab could not go on without the default.
        """
        async with self._lock:
            image = self._existing(image_id)
            if self.is_closing(image):
                raise _is_going(image)
            changes: dict[str, Any] = {}
            if change.version is not None:
                changes["version"] = change.version
            if change.devices is not None:
                changes["devices"] = self._served(change.devices, image.provider)
            changed = image.model_copy(update=changes)
            await self._refuse_breaking(changed)
            await self._store.put([changed])
            self._put(changed)
        return self.get(image_id)

    async def delete(self, image_id: str) -> ImageView:
        """Take it off the library and off every host; it is there, in state ``deleting``, until all have said so.

        :raises NotFound: no such image. :raises Conflict: something uses it; ``details["used_by"]`` has all of it.
        """
        image = self._existing(image_id)
        if image.state is ImageState.DELETING:
            return self.get(image_id)
        with self._closed(image_id):
            await self._settled()  # verbs that found it well have put their labs on the board, later ones are refused
            async with self._lock:
                image = self._existing(image_id)
                self._refuse_used(image)
                going = image.model_copy(update={"state": ImageState.DELETING, "devices": (), "problem": None})
                await self._removals.begin(going, self._known_hosts())
                self._put(going)
        self._journal.tell("image.deleted", f"image {image.name} is taken off the library and all hosts")
        view = self.get(image_id)
        await self.finish_removals()
        return view

    async def finish_removals(self) -> None:
        """Forget the images that no host has any more, and remove their files if nobody else has them."""
        for image in [image for image in self._images.values() if image.state is ImageState.DELETING]:
            if self._removals.hosts_of(image):
                continue
            async with self._lock:
                if image.id not in self._images:
                    continue
                await self._store.forget(image.id)
                del self._images[image.id], self._names[image.name]
            self._tell(image)
            self._hub.publish(StreamMessage(type="image-removed", data={"id": image.id, "name": image.name}))
            await self.drop_file(image.digest)

    async def drop_file(self, digest: str) -> bool:
        """Remove a stored file that no image has; whether it was removed."""
        async with self._lock:
            if self.is_stored(digest):
                return False
            await asyncio.to_thread(self._blobs.remove, digest)
            return True

    def is_stored(self, digest: str) -> bool:
        """Whether an image has that file."""
        return any(image.digest == digest for image in self._images.values())

    # ---------------------------------------------------------------- soundness

    async def found_damaged(self, digest: str, problem: WireloomError) -> list[ImageView]:
        """Its file is not what it was: say so of every image that has it, and return those that were ready."""
        async with self._lock:
            hit = [image for image in self._with_file(digest) if image.state is ImageState.READY]
            state = {"state": ImageState.DAMAGED, "problem": problem.to_wire()}
            await self._write([image.model_copy(update=state) for image in hit])
        for image in hit:
            self._journal.tell("image.damaged", f"image {image.name}: {problem}", level=EventLevel.ERROR)
        return hit

    async def found_sound(self, digest: str) -> None:
        """Its file was read, and is what it was."""
        async with self._lock:
            sound = {"verified_at": self._clock(), "problem": None}
            await self._write([image.model_copy(update=sound | _ready(image)) for image in self._with_file(digest)])

    # ---------------------------------------------------------------- hosts told something

    def presence_changed(self, keys: Iterable[ImageKey]) -> None:
        """Hosts said another thing of these than before."""
        found = ((self.find(provider, name), content) for provider, name, content in keys)
        hit = [image for image, content in found if image is not None and image.content == content]
        nodes = self._uses.by_image() if hit else {}
        for image in hit:
            self._publish(image, nodes)

    # ---------------------------------------------------------------- inside

    def _existing(self, image_id: str) -> ImageView:
        image = self._images.get(image_id)
        if image is None:
            raise NotFound(f"there is no image {image_id}", hint="`wireloom images` lists them")
        return image

    def _whole(self, image: ImageView, nodes: NodeUses | None = None) -> ImageView:
        presence = self._shelves.presence(image, self._removals.hosts_of(image))
        return image.model_copy(update={"presence": presence, "used_by": self._uses.of(image, nodes)})

    def _planned(self, changed: ImageView | None = None) -> LibraryImages:
        """What planning is told, or would be told if ``changed`` were there, whose defaults win."""
        others = [image for image in self._images.values() if changed is None or image.id != changed.id]
        images = others if changed is None else [*others, changed]
        return LibraryImages(
            defaults={
                (served.device, image.provider): image.name
                for image in images
                for served in image.devices
                if served.default
            },
            needs={
                (image.provider, name): image.needs
                for image in images
                if image.needs
                for name in {image.name, image.name.removesuffix(":latest")}
            },
        )

    def _check(self, new: NewImage) -> None:
        check_digest(new.digest)
        check_image_name(new.name, new.format)
        if FORMAT_OF_PROVIDER.get(new.provider) != new.format:
            raise InvalidInput(f"{new.provider} has no images of format {new.format}")
        if new.device:
            self.check_device(new.device, new.provider)

    def _made(self, new: NewImage) -> ImageView:
        now = self._clock()
        devices: tuple[ServedDevice, ...] = ()
        if new.device:
            name = self.check_device(new.device, new.provider)
            devices = (ServedDevice(device=name, default=new.default),)
        kept = {item.name: getattr(new, item.name) for item in fields(new) if item.name not in {"device", "default"}}
        return ImageView(id=self._new_id(), devices=devices, created_at=now, verified_at=now, **kept)

    async def _need_file(self, digest: str) -> None:
        if not await asyncio.to_thread(self._blobs.has, digest):
            raise Unavailable("the image's file is not in the library's store any more", hint="import it again")

    async def _again(self, there: ImageView, new: NewImage) -> ImageView:
        """A name that is known comes again."""
        if self.is_closing(there):
            raise _is_going(there)
        if (there.provider, there.content) != (new.provider, new.content):
            raise Conflict(
                f"the name {there.name} belongs to another image already",
                hint="choose another name, or delete that image first",
                details={"image": there.id, "content": there.content},
            )
        changes: dict[str, Any] = {}
        if new.device:
            more = ServedDevice(device=new.device, default=new.default)
            changes["devices"] = self._served((*there.devices, more), there.provider)
        if there.state is ImageState.DAMAGED:
            await self._need_file(new.digest)
            changes |= {"digest": new.digest, "size": new.size, "verified_at": self._clock(), "problem": None}
            changes |= _ready(there)
            self._journal.tell("image.mended", f"image {there.name} is whole again")
        changed = there.model_copy(update=changes)
        if changed != there:
            await self._write([changed])
        return self.get(there.id)

    def _served(self, wanted: Iterable[ServedDevice], provider: str) -> tuple[ServedDevice, ...]:
        served: dict[str, bool] = {}
        for item in wanted:
            name = self.check_device(item.device, provider)
            served[name] = served.get(name, False) or item.default
        return tuple(ServedDevice(device=name, default=served[name]) for name in sorted(served))

    async def _refuse_breaking(self, changed: ImageView) -> None:
        """Labs whose nodes name no image must go on to find one."""
        planned = self._planned(changed)
        if self.known().defaults.keys() <= planned.defaults.keys():
            return
        for lab, reason in (await self._planner.broken(planned)).items():
            raise Conflict(
                f"lab {lab} could not go on without the default: {reason.message}",
                hint="name images in its topology, make another image the default first, or destroy the lab",
                details=reason.details,
            )

    def _refuse_used(self, image: ImageView) -> None:
        used = self._uses.of(image)
        unread = self._uses.unread_labs()
        if not used and not unread:
            return
        words = spoken(used) or f"lab {unread[0]}, perhaps: its devices are not all there"
        raise Conflict(
            f"image {image.name} is used by {words}",
            hint="change or destroy these labs; `wireloom images set IMAGE --no-default` has devices take another one",
            details={"used_by": [use.model_dump(mode="json") for use in used], "unread_labs": unread},
        )

    def _with_file(self, digest: str) -> list[ImageView]:
        return [image for image in self._images.values() if image.digest == digest]

    async def _write(self, images: Sequence[ImageView]) -> None:
        if images:
            await self._store.put(images)
        for image in images:
            self._put(image)

    @contextmanager
    def _closed(self, image_id: str) -> Iterator[None]:
        """Nothing begins to use the image for the length of the block."""
        self._closing.add(image_id)
        try:
            yield
        finally:
            self._closing.discard(image_id)

    def _put(self, image: ImageView) -> None:
        """Have ``image`` in memory, its defaults taken from whoever had them, and tell everybody."""
        self._images[image.id] = image
        claimed = {served.device for served in image.devices if served.default}
        for other in tuple(self._images.values()):
            if other.id == image.id or other.provider != image.provider:
                continue
            left = tuple(
                served.model_copy(update={"default": served.default and served.device not in claimed})
                for served in other.devices
            )
            if left != other.devices:
                self._images[other.id] = other.model_copy(update={"devices": left})
                self._publish(self._images[other.id])
        self._tell(image)
        self._publish(image)

    def _tell(self, image: ImageView) -> None:
        self._planner.use(self.known())
        for listener in self._listeners:
            listener(image)

    def _publish(self, image: ImageView, nodes: NodeUses | None = None) -> None:
        view = self._whole(image, nodes)
        self._hub.publish(StreamMessage(type="image", data=view.model_dump(mode="json")))


def _ready(image: ImageView) -> dict[str, Any]:
    return {"state": ImageState.READY} if image.state is ImageState.DAMAGED else {}


def _is_going(image: ImageView) -> Conflict:
    return Conflict(
        f"image {image.name} is being deleted",
        hint="its name is free when no host has it any more; `wireloom images` says which still do",
        details={"image": image.id},
    )
