"""The engine's images: present or not, loaded from a file, pulled, verified, exported, removed, listed."""

from __future__ import annotations

import asyncio
import base64
import difflib
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from wireloom.errors import (
    Conflict,
    ImageMissing,
    InvalidInput,
    NotFound,
    NotPermitted,
    RuntimeFailed,
    WireloomError,
)
from wireloom.model.images import ImageFormat
from wireloom.model.runtime import ImageInfo
from wireloom.providers.contract import Credentials
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.names import CALL_S, WORK, ImageNames, split, with_tag
from wireloom.providers.docker.render import ImageConfig
from wireloom.providers.docker.saved import (
    TRANSFER_S,
    ArchiveFile,
    ImageParts,
    Nowhere,
    SavedStream,
    read_parts,
    save_image,
)
from wireloom.providers.docker.uploads import Upload, is_saved_image, plan_upload, raw_chunks
from wireloom.providers.newfile import another_image, check_room, new_file

__all__ = ["DockerImageStore"]

T = TypeVar("T")

_CONFIG_FRESH_S: Final = 1.0
_HUB: Final = "https://index.docker.io/v1/"


class DockerImageStore:
    """An :class:`~wireloom.providers.contract.ImageStore` on one engine.

    :param installation: marks what is under way; nothing else of an image belongs to an installation.
    """

    format: ImageFormat = "docker-archive"

    def __init__(self, engine: Engine, installation: str) -> None:
        self.names = ImageNames(engine, installation)
        self._engine = engine
        self._configs: dict[str, tuple[float, ImageConfig]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._damaged: set[str] = set()
        self._finishing: set[asyncio.Task[Any]] = set()
        self._root: Path | None = None

    async def has(self, image: str) -> bool:
        return await self.names.find(image) is not None

    async def info(self, image: str) -> ImageInfo | None:
        found = await self.names.find(image)
        return None if found is None else _info(image, found)

    async def list(self) -> Sequence[ImageInfo]:
        async with self._engine.calling("list images", CALL_S) as docker:
            found = await docker.images.list()
        return [
            ImageInfo(name=tag, digest=item["Id"], size=item["Size"])
            for item in found
            for tag in item.get("RepoTags") or ()
            if tag != "<none>:<none>" and not tag.startswith(f"{WORK}/")
        ]

    async def remove(self, image: str) -> None:
        self._configs.pop(image, None)
        await self.names.sweep()
        found = await self.names.find(image)
        if found is None:
            return
        # The engine only minds the last name of a content; a runtime minds the name that it was made by.
        if await self.names.users(found["Id"], image):
            raise Conflict(f"image {image} is in use by a runtime", hint="destroy the nodes that use it first")
        await self.names.take(image)

    # ------------------------------------------------------------------ in

    async def load(
        self, image: str, source: Path | None = None, *, content: str = "", credentials: Credentials | None = None
    ) -> ImageInfo:
        async with self._locks.setdefault(image, asyncio.Lock()):
            self._configs.pop(image, None)
            await self.names.sweep()
            if content and content not in self._damaged and await self.names.find(content) is not None:
                return await self._named(image, content)
            if source is None:
                return await self.to_the_end(self._pull(image, content, credentials))
            if not content and not await asyncio.to_thread(is_saved_image, source):
                return await self.to_the_end(self._import_tree(image, source))
            return await self._load_archive(image, source, content)

    async def _load_archive(self, image: str, source: Path, content: str) -> ImageInfo:
        upload: list[Upload] = []

        async def work() -> ImageInfo:
            async with self.names.lent("loading") as name:
                plan = await asyncio.to_thread(plan_upload, source, image, name)
                upload.append(plan)
                if content and plan.content != content:
                    raise another_image(image, content, plan.content, f"{source.name} holds another image")
                await self.check_room(2 * plan.size)  # the engine unpacks it before it stores it
                others = await self._forget_damaged(plan.content)
                await self._send(plan)
                return await self._adopt(image, name, content, others)

        def stop() -> None:
            for plan in upload:
                plan.stop()

        return await self.to_the_end(work(), stop)

    async def _send(self, upload: Upload) -> None:
        try:
            async with self._engine.calling(f"load {upload.source.name}", TRANSFER_S) as docker:
                await docker.images.import_image(upload.chunks())
        except (RuntimeFailed, InvalidInput) as error:
            raise ImageMissing(
                f"cannot load {upload.source.name}: {error.message}", hint="is the file whole?"
            ) from error

    async def _import_tree(self, image: str, source: Path) -> ImageInfo:
        async with self.names.lent("loading") as name:
            repository, tag = split(name)
            params = {"fromSrc": "-", "repo": repository, "tag": tag}
            try:
                async with self._engine.request(
                    f"import image {image}", "POST", "/images/create", timeout_s=TRANSFER_S, params=params,
                    data=raw_chunks(source),
                ) as response:  # fmt: skip
                    refusal = _refusal(await response.text())
            except WireloomError as error:
                raise ImageMissing(f"cannot import {source.name}: {error.message}", hint="is it a tar file?") from error
            if refusal:
                raise ImageMissing(f"cannot import {source.name}: {refusal}", hint="is it a tar file?")
            return await self._adopt(image, name, "", ())

    async def _adopt(self, image: str, name: str, content: str, others: Sequence[str]) -> ImageInfo:
        """What came under our ``name`` becomes ``image``. :raises ImageMissing: it is not what was wanted."""
        found = await self.names.find(name)
        if found is None:
            raise ImageMissing(f"the engine took {image} and does not have it", hint="load it again")
        if content and found["Id"] != content:
            hint = "an engine with containerd's image store has ids of its own"
            raise another_image(image, content, found["Id"], hint)
        for other in (image, *others):
            await self.names.move(other, found["Id"])
        return _info(image, found)

    async def _named(self, image: str, content: str) -> ImageInfo:
        """An image whose content is there: it only needs the name."""
        await self.names.move(image, content)
        return _info(image, await self._found(image))

    async def _pull(self, image: str, content: str, credentials: Credentials | None) -> ImageInfo:
        """The engine gives the name itself, so what had it is kept until the new one has proved to be right."""
        before = await self.names.find(image)
        old = "" if before is None else before["Id"]
        async with self.names.keeping(old, image):
            try:
                await self._fetch(image, credentials)
            except (NotFound, NotPermitted, RuntimeFailed, InvalidInput) as error:
                raise await self.missing(image, because=error.message) from error
            found = await self._found(image)
            if not content or found["Id"] == content:
                return _info(image, found)
            async with self.names.keeping(found["Id"], image):
                await (self.names.give(old, image) if old else self.names.take(image))
            raise another_image(image, content, found["Id"], "the registry has another image of that name")

    async def _fetch(self, image: str, credentials: Credentials | None) -> None:
        repository, tag = split(image)
        headers = {} if credentials is None else {"X-Registry-Auth": _registry_auth(image, credentials)}
        async with self._engine.request(
            f"pull image {image}", "POST", "/images/create", timeout_s=TRANSFER_S,
            params={"fromImage": repository, "tag": tag}, headers=headers,
        ) as response:  # fmt: skip
            refusal = _refusal(await response.text())
        if refusal:
            raise RuntimeFailed(f"pull image {image}: {refusal}")

    async def _forget_damaged(self, content: str) -> Sequence[str]:
        """Have the engine drop a content that was found damaged: it would take its own parts for those that come.

        Gives the names that it had. :raises Conflict: a container uses it.
        """
        found = await self.names.find(content) if content in self._damaged else None
        if found is None:
            return ()
        users = await self.names.users(content)
        if users:
            raise Conflict(
                "the image is damaged, and runtimes use it",
                hint=f"destroy {', '.join(users)}",
                details={"users": users},
            )
        names = list(found.get("RepoTags") or ())
        for name in names:
            await self.names.take(name)
        self._damaged.discard(content)
        return names

    # ------------------------------------------------------------------ out

    async def verify(self, image: str) -> ImageInfo:
        found = await self._found(image)
        parts = ImageParts.of(found)
        await self.check_room(parts.size)  # the engine lays it all out before it sends
        await self._read(image, parts, lambda stream: read_parts(stream, parts, Nowhere()))
        self._damaged.discard(parts.id)
        return _info(image, found)

    async def export(self, image: str, target: Path) -> None:
        found = await self._found(image)
        parts = ImageParts.of(found)
        await self.check_room(parts.size)
        await asyncio.to_thread(check_room, target.parent, parts.size)
        async with new_file(target) as part:

            def write(stream: SavedStream) -> bytes:
                with part.open("x+b") as file:
                    archive = ArchiveFile(file)
                    config = read_parts(stream, parts, archive)
                    archive.finish(config, parts.layers, [with_tag(image)])
                    return config

            await self._read(image, parts, write)

    async def _read(self, image: str, parts: ImageParts, work: Callable[[SavedStream], bytes]) -> None:
        """:raises ImageMissing: the engine cannot give all of it."""
        try:
            await save_image(self._engine, parts.id, work)
        except (RuntimeFailed, NotFound) as error:
            if await self.names.find(parts.id) is not None:
                self._damaged.add(parts.id)
            raise ImageMissing(
                f"image {image} is damaged: {error.message}", hint="remove it and load it again"
            ) from error

    # ------------------------------------------------------------------ for the other verbs

    async def config(self, image: str) -> ImageConfig:
        """What the image starts; a burst of nodes asks the engine once.

        :raises ImageMissing: with names that look alike in the hint.
        """
        known = self._configs.get(image)
        if known is not None and time.monotonic() - known[0] < _CONFIG_FRESH_S:
            return known[1]
        found = await self._found(image)
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
        """The error that says what to do about an absent image; ``because``: what became of fetching it."""
        names = [info.name for info in await self.list()]
        near = [name for name in difflib.get_close_matches(image, names, n=3, cutoff=0.5) if name != image]
        hints = [f"did you mean {' or '.join(near)}?" if near else ""]
        hints += ["load it from a file, or correct the name"]
        hints += ["the registry may want to know who asks" if because else ""]
        return ImageMissing(
            f"cannot {because}" if because else f"the Docker engine has no image {image}",
            hint="; ".join(hint for hint in hints if hint),
            details={"image": image, "similar": near},
        )

    async def check_room(self, size: int) -> None:
        """:raises CapacityExceeded: the engine's own folder has no room; its error would be like any other."""
        if self._root is None:
            async with self._engine.calling("ask the Docker engine", CALL_S) as docker:
                self._root = Path((await docker.system.info())["DockerRootDir"])
        if self._root.is_dir():
            await asyncio.to_thread(check_room, self._root, size)

    async def to_the_end(self, work: Coroutine[Any, Any, T], stop: Callable[[], None] = lambda: None) -> T:
        """Do it all, also for a caller who leaves: the engine goes on too, and what it makes has to be taken back."""
        task = asyncio.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            stop()
            self._finishing.add(task)
            task.add_done_callback(self._finished)
            await asyncio.wait({task})
            raise

    async def finish(self) -> None:
        """Wait for work whose caller has left."""
        if self._finishing:
            await asyncio.wait(self._finishing)

    # ------------------------------------------------------------------ inside

    async def _found(self, image: str) -> dict[str, Any]:
        found = await self.names.find(image)
        if found is None:
            raise await self.missing(image)
        return found

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._finishing.discard(task)
        if not task.cancelled():
            task.exception()  # who wanted to know has left


def _info(image: str, found: dict[str, Any]) -> ImageInfo:
    return ImageInfo(name=image, digest=found["Id"], size=found["Size"])


def _refusal(told: str) -> str:
    """What the engine says went wrong in a stream of progress, or nothing."""
    for line in told.splitlines():
        said = json.loads(line) if line.strip() else {}
        if "errorDetail" in said:
            return str(said["errorDetail"].get("message") or said.get("error"))
    return ""


def _registry_auth(image: str, credentials: Credentials) -> str:
    """The header's value: the part before the first slash is a registry where it looks like a host."""
    first, slash, _ = image.partition("/")
    registry = first if slash and (first == "localhost" or {".", ":"} & set(first)) else _HUB
    told = {"username": credentials.username, "password": credentials.password, "serveraddress": registry}
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()
