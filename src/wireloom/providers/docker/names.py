"""Names of the engine's images: moved from content to content, and names of ours for what is under way.

The engine keeps a content for as long as it has a name or a container uses it. So whatever is loaded, or loses its
name, has one of our own names meanwhile: nothing is ever without a name, and what a killed agent has left is found
by it and removed. The names hold a mark of the installation, because several may share an engine.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from wireloom.errors import Conflict, NotFound
from wireloom.model.identity import short_hash
from wireloom.model.images import engine_name
from wireloom.model.orphans import Leftover
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.inspection import query

__all__ = ["CALL_S", "WORK", "ImageNames", "split", "with_tag"]

CALL_S: Final = 60.0

#: The repository of our own names; it is listed nowhere.
WORK: Final = "wireloom-work"


class ImageNames:
    """Questions and requests about images by name or id, on one engine."""

    def __init__(self, engine: Engine, installation: str) -> None:
        self._engine = engine
        self._mark = short_hash("images", installation)
        self._busy: set[str] = set()
        self._kept = True  # who was here before us may have left some

    async def find(self, reference: str) -> dict[str, Any] | None:
        """The engine's facts of an image; ``None``: there is none."""
        try:
            async with self._engine.calling(f"look at image {reference}", CALL_S) as docker:
                return await docker.images.inspect(reference)
        except NotFound:
            return None

    async def give(self, reference: str, name: str) -> None:
        """Let ``name`` be that of the image ``reference``, whatever had it before."""
        repository, tag = split(name)
        async with self._engine.calling(f"name image {name}", CALL_S) as docker:
            await docker.images.tag(reference, repository, tag=tag)

    async def take(self, name: str) -> None:
        """Take a name away; what has no other one goes. Idempotent.

        :raises Conflict: it is the only name of an image that is used.
        """
        with contextlib.suppress(NotFound):
            async with self._engine.calling(f"remove image {name}", CALL_S) as docker:
                await docker.images.delete(name)

    async def move(self, name: str, image_id: str) -> None:
        """Give ``name`` to that image; what had it goes when nothing uses it."""
        old = await self.find(name)
        if old is not None and old["Id"] == image_id:
            return
        async with self.keeping("" if old is None else old["Id"], name):
            await self.give(image_id, name)

    @asynccontextmanager
    async def lent(self, kind: Literal["loading", "replaced", "saving"]) -> AsyncIterator[str]:
        """A name of ours; what has it at the end loses it."""
        name = f"{WORK}/{kind}:{self._mark}-{secrets.token_hex(6)}"
        self._busy.add(name)
        try:
            yield name
        finally:
            try:
                await self._give_up(name)
            finally:
                self._busy.discard(name)

    @asynccontextmanager
    async def keeping(self, image_id: str, name: str) -> AsyncIterator[None]:
        """An image (or none) that may lose ``name`` within, and shall not lie about without one."""
        if not image_id:
            yield
            return
        async with self.lent("replaced") as ours:
            await self.give(image_id, ours)
            try:
                yield
            finally:
                await self._forget_digests(image_id, split(name)[0])

    async def _forget_digests(self, image_id: str, repository: str) -> None:
        """Forget by which digests an image of ours was pulled, once no name of that repository is left to it.

        The engine does so with the last name that is taken away, but not with one that another image was given.
        """
        found = await self.find(image_id)
        if found is None or any(split(tag)[0] == repository for tag in found.get("RepoTags") or ()):
            return
        for digest in found.get("RepoDigests") or ():
            if digest.partition("@")[0] == repository:
                await self.take(digest)

    async def sweep_kept(self) -> None:
        """The same, where we know of something that was kept for its users."""
        if self._kept:
            await self.sweep()

    async def sweep(self) -> None:
        """Remove what an agent before us has left, and what was replaced while it was used.

        The engine may still be at what a killed agent has asked for, so one look is never the last.
        """
        self._kept = False
        filters = {"reference": [f"{WORK}/*"]}
        async with self._engine.request(
            "list images", "GET", "/images/json", timeout_s=CALL_S, params=query(filters=filters)
        ) as response:
            found = await response.json()
        for name in [tag for item in found for tag in item.get("RepoTags") or ()]:
            if split(name)[1].startswith(f"{self._mark}-") and name not in self._busy:
                await self._give_up(name)

    async def abandoned(self) -> list[Leftover]:
        """Images under names of ours that nobody is at work with."""
        filters = {"reference": [f"{WORK}/*"]}
        async with self._engine.request(
            "list images", "GET", "/images/json", timeout_s=CALL_S, params=query(filters=filters)
        ) as response:
            found = await response.json()
        return [
            Leftover(id=tag, kind="image", name=tag, size=item["Size"], detail="left by an interrupted step")
            for item in found
            for tag in item.get("RepoTags") or ()
            if split(tag)[1].startswith(f"{self._mark}-") and not self.is_busy(tag)
        ]

    def is_busy(self, name: str) -> bool:
        """Whether a step that goes on has lent the name."""
        return name in self._busy

    async def users(self, image_id: str, name: str = "") -> list[str]:
        """Names of containers, running or not, made of that image; with ``name``: made of it by that name."""
        filters = {"ancestor": [image_id]}
        async with self._engine.request(
            "list containers", "GET", "/containers/json", timeout_s=CALL_S, params=query(all=True, filters=filters)
        ) as response:
            found = await response.json()
        return [
            item["Names"][0].removeprefix("/")
            for item in found
            if item["ImageID"] == image_id and (not name or _same(item["Image"], name))
        ]

    async def _give_up(self, name: str) -> None:
        try:
            await self.take(name)
        except Conflict:  # a container uses it: it goes when that has gone
            self._kept = True


def _same(one: str, other: str) -> bool:
    return engine_name("docker", one) == engine_name("docker", other)


def split(image: str) -> tuple[str, str]:
    """Repository and tag of a reference; a colon before the last slash belongs to a port."""
    head, slash, last = image.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag or "latest"


def with_tag(image: str) -> str:
    """A reference with its tag: without one the engine would mean all of them."""
    return ":".join(split(image))
