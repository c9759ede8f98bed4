"""Images of simulated engines: names for contents, which are files of any kind."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from wireloom.errors import Conflict, ImageMissing, NotFound
from wireloom.model.images import ImageFormat
from wireloom.model.runtime import ImageInfo
from wireloom.providers.contract import Credentials
from wireloom.providers.newfile import another_image, new_file
from wireloom.providers.simulated.world import SimulatedWorld, image_file

__all__ = ["SimulatedImageStore", "SimulatedSaver"]


class SimulatedImageStore:
    """An :class:`~wireloom.providers.contract.ImageStore` in memory. Any file is an image, unless it is empty."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world
        self.format: ImageFormat = "docker-archive" if world.capabilities.exec else "qcow2"

    async def has(self, image: str) -> bool:
        await self._world.before("has", None)
        return image in self._world.images

    async def info(self, image: str) -> ImageInfo | None:
        await self._world.before("info", None)
        return self._world.images.get(image)

    async def load(
        self, image: str, source: Path | None = None, *, content: str = "", credentials: Credentials | None = None
    ) -> ImageInfo:
        del credentials  # anybody may pull
        await self._world.before("load", None)
        if source is None:
            return self._pull(image, content)
        try:
            data = await asyncio.to_thread(source.read_bytes)
        except OSError as error:
            raise _missing(f"there is no file {source}: {error.strerror}") from error
        if not data:
            raise _missing(f"{source} is empty, which is no image")
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        _compare(image, content, digest)
        known = self._world.images.get(image)
        if known is not None and known.digest != digest and self._used(image):
            raise Conflict(f"a runtime uses the image {image}")
        self._world.damaged.discard(digest)
        self._world.put_image(image, data)
        return self._world.images[image]

    async def verify(self, image: str) -> ImageInfo:
        await self._world.before("verify", None)
        return self._whole(image)

    async def export(self, image: str, target: Path) -> None:
        await self._world.before("export", None)
        data = self._world.contents[self._whole(image).digest]
        async with new_file(target) as part:
            await asyncio.to_thread(part.write_bytes, data)

    async def remove(self, image: str) -> None:
        await self._world.before("remove", None)
        if self._used(image):
            raise Conflict(f"a runtime uses the image {image}")
        self._world.drop_image(image)

    async def list(self) -> Sequence[ImageInfo]:
        await self._world.before("list", None)
        return list(self._world.images.values())

    def _pull(self, image: str, content: str) -> ImageInfo:
        present = image in self._world.images
        if not present and content in self._world.contents:
            self._world.put_image(image, self._world.contents[content])
            return self._world.images[image]
        if not present and image not in self._world.pullable:
            raise _missing(f"there is no image {image}")
        if not present:
            self._world.add_image(image)
        try:
            _compare(image, content, self._world.images[image].digest)
        except ImageMissing:
            if not present:
                self._world.drop_image(image)
            raise
        return self._world.images[image]

    def _whole(self, image: str) -> ImageInfo:
        found = self._world.images.get(image)
        if found is None:
            raise _missing(f"there is no image {image}")
        if found.digest in self._world.damaged:
            raise _missing(f"the image {image} is damaged")
        return found

    def _used(self, image: str) -> bool:
        return any(runtime.spec.image == image for runtime in self._world.runtimes.values())


class SimulatedSaver:
    """An :class:`~wireloom.providers.contract.ImageSaver`: the guest's file system becomes an image."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world

    async def save(self, runtime_id: str, target: Path) -> None:
        await self._world.before("save", None)
        runtime = self._world.runtimes.get(runtime_id)
        if runtime is None:
            raise NotFound(f"no simulated runtime {runtime_id}")
        if runtime.up:
            raise Conflict("the runtime runs", hint="stop it, then save it")
        async with new_file(target) as part:
            await asyncio.to_thread(part.write_bytes, image_file(runtime_id, runtime.storage))


def _missing(message: str) -> ImageMissing:
    return ImageMissing(message, hint="load it from a file, or correct the name")


def _compare(image: str, wanted: str, found: str) -> None:
    if wanted and wanted != found:
        raise another_image(image, wanted, found, "give the file that was meant")
