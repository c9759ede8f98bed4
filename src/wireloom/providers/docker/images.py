"""The engine's images: present or not, loaded from a file, pulled, removed, listed."""

from __future__ import annotations

import asyncio
import difflib
import re
import tarfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from wireloom.errors import ImageMissing, InvalidInput, NotFound, RuntimeFailed, WireloomError
from wireloom.model.runtime import ImageInfo
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.render import ImageConfig

__all__ = ["DockerImageStore", "is_saved_image"]

_CALL_S: Final = 20.0
_TRANSFER_S: Final = 1800.0
_CONFIG_FRESH_S: Final = 1.0
_CHUNK: Final = 1024 * 1024
_LOADED: Final = re.compile(r"Loaded image(?: ID)?: (\S+)")
_LAYER_FOLDER: Final = re.compile(r"[0-9a-f]{64}(\.json)?")
_ARCHIVE_PARTS: Final = {"blobs", "index.json", "manifest.json", "oci-layout", "repositories"}


class DockerImageStore:
    """An :class:`~wireloom.providers.contract.ImageStore` on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._configs: dict[str, tuple[float, ImageConfig]] = {}

    async def has(self, image: str) -> bool:
        try:
            await self._info(image)
        except NotFound:
            return False
        return True

    async def load(self, image: str, source: Path | None = None) -> ImageInfo:
        self._configs.pop(image, None)
        if source is None:
            await self._pull(image)
        elif await asyncio.to_thread(is_saved_image, source):
            await self._load_archive(image, source)
        else:
            await self._import_tree(image, source)
        try:
            return await self._info(image)
        except NotFound:
            raise ImageMissing(
                f"the file was loaded but holds no image {image}", hint="name the node's image as the file does"
            ) from None

    async def remove(self, image: str) -> None:
        self._configs.pop(image, None)
        try:
            async with self._engine.calling(f"remove image {image}", _CALL_S) as docker:
                await docker.images.delete(image)
        except NotFound:
            return

    async def list(self) -> Sequence[ImageInfo]:
        async with self._engine.calling("list images", _CALL_S) as docker:
            found = await docker.images.list()
        return [
            ImageInfo(name=tag, digest=item["Id"], size=item["Size"])
            for item in found
            for tag in item.get("RepoTags") or ()
            if tag != "<none>:<none>"
        ]

    async def config(self, image: str) -> ImageConfig:
        """What the image starts; a burst of nodes asks the engine once.

        :raises ImageMissing: with names that look alike in the hint.
        """
        known = self._configs.get(image)
        if known is not None and time.monotonic() - known[0] < _CONFIG_FRESH_S:
            return known[1]
        try:
            async with self._engine.calling(f"look at image {image}", _CALL_S) as docker:
                found = await docker.images.inspect(image)
        except NotFound:
            raise await self.missing(image) from None
        told = found.get("Config") or {}
        config = ImageConfig(
            digest=found["Id"],
            entrypoint=tuple(told.get("Entrypoint") or ()),
            command=tuple(told.get("Cmd") or ()),
            env=tuple(told.get("Env") or ()),
        )
        self._configs[image] = (time.monotonic(), config)
        return config

    async def missing(self, image: str, because: str = "") -> ImageMissing:
        """The error that says what to do about an absent image."""
        names = [info.name for info in await self.list()]
        near = difflib.get_close_matches(image, names, n=3, cutoff=0.5)
        hints = [f"pulling failed: {because}" if because else ""]
        hints += [f"did you mean {' or '.join(near)}?" if near else ""]
        hints += ["load it from a file, or correct the name"]
        return ImageMissing(
            f"the Docker engine has no image {image}",
            hint="; ".join(hint for hint in hints if hint),
            details={"image": image, "similar": near},
        )

    async def _info(self, image: str) -> ImageInfo:
        async with self._engine.calling(f"look at image {image}", _CALL_S) as docker:
            found = await docker.images.inspect(image)
        return ImageInfo(name=image, digest=found["Id"], size=found["Size"])

    async def _pull(self, image: str) -> None:
        try:
            async with self._engine.calling(f"pull image {image}", _TRANSFER_S) as docker:
                await docker.images.pull(image)
        except (NotFound, RuntimeFailed, InvalidInput) as error:
            if not await self.has(image):
                raise await self.missing(image, because=error.message) from error

    async def _load_archive(self, image: str, source: Path) -> None:
        try:
            async with self._engine.calling(f"load image {image}", _TRANSFER_S) as docker:
                told = await docker.images.import_image(_chunks(source))
        except RuntimeFailed as error:
            raise ImageMissing(f"cannot load {source.name}: {error.message}", hint="is the file whole?") from error
        loaded = [name for line in told for name in _LOADED.findall(line.get("stream", ""))]
        if len(loaded) == 1 and loaded[0] != image:
            repository, tag = _split(image)
            async with self._engine.calling(f"name image {image}", _CALL_S) as docker:
                await docker.images.tag(loaded[0], repository, tag=tag)

    async def _import_tree(self, image: str, source: Path) -> None:
        repository, tag = _split(image)
        params = {"fromSrc": "-", "repo": repository, "tag": tag}
        try:
            async with self._engine.request(
                f"import image {image}", "POST", "/images/create", timeout_s=_TRANSFER_S, params=params,
                data=_chunks(source),
            ) as response:  # fmt: skip
                told = await response.text()
        except WireloomError as error:
            raise ImageMissing(f"cannot import {source.name}: {error.message}", hint="is it a tar file?") from error
        if '"errorDetail"' in told:
            raise ImageMissing(f"cannot import {source.name}: {told.strip()}", hint="is it a tar file?")


def is_saved_image(source: Path) -> bool:
    """Whether a tar file is an image archive (``docker save``, OCI) and not a plain file tree. Blocking.

    :raises ImageMissing: it is no tar file, or is not there.
    """
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                parts = [part for part in member.name.split("/") if part not in {"", "."}]
                if parts:
                    return parts[0] in _ARCHIVE_PARTS or _LAYER_FOLDER.fullmatch(parts[0]) is not None
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ImageMissing(
            f"cannot read image file {source}: {error}", hint="give a tar file, packed or not"
        ) from error
    return False


async def _chunks(source: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(source.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


def _split(image: str) -> tuple[str, str]:
    """Repository and tag of a reference; a colon before the last slash belongs to a port."""
    head, slash, last = image.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag or "latest"
