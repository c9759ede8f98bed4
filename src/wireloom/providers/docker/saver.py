"""An image of a container that is down: its files, with what its image starts and nothing that we added.

The engine's commit takes over what a container was created with: our gate as its program, our labels, the node's
environment; and the places where something was mounted are empty files and folders in its layer. So the commit only
serves to get at the layer. The configuration is made of the image's own, and the layer is rid of those places.
What lies in volumes, or in folders that are shown to the node, is no part of a container's image.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from wireloom.errors import Conflict, ImageMissing, NotFound
from wireloom.model.identity import LABEL_INSTALLATION
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.gate import GATE_TARGET
from wireloom.providers.docker.images import DockerImageStore
from wireloom.providers.docker.names import CALL_S, split
from wireloom.providers.docker.saved import ArchiveFile, ImageParts, SavedStream, members_of, read_parts, save_image
from wireloom.providers.newfile import check_room, new_file

__all__ = ["ContainerSaver", "mount_points", "saved_config", "strip_layer"]

_COMMIT_S: Final = 1800.0
_COPIED: Final = 1 << 20

#: What the commit says of the container itself.
_OF_THE_CONTAINER: Final = {"config", "container", "container_config", "author"}


class ContainerSaver:
    """An :class:`~wireloom.providers.contract.ImageSaver`."""

    def __init__(self, engine: Engine, installation: str, images: DockerImageStore) -> None:
        self._engine = engine
        self._installation = installation
        self._images = images

    async def save(self, runtime_id: str, target: Path) -> None:
        facts = await self._down(runtime_id)
        await self._images.names.sweep()
        await self._images.to_the_end(self._save(facts, target))

    async def _save(self, facts: dict[str, Any], target: Path) -> None:
        own = await self._images.names.find(facts["Image"])
        if own is None:
            raise ImageMissing("the image that the container was made of is gone", hint="the container cannot be saved")
        async with self._images.names.lent("saving") as name:
            await self._commit(facts["Id"], name)
            after = await self._down(facts["Id"])
            if after["State"]["StartedAt"] != facts["State"]["StartedAt"]:
                raise Conflict("the container was started while it was saved", hint="stop it and save it again")
            found = await self._images.names.find(name)
            if found is None:
                raise NotFound("the container's copy is gone")
            parts = ImageParts.of(found)
            await self._images.check_room(parts.size)
            await asyncio.to_thread(check_room, target.parent, parts.size)
            saving = _Saving(parts, ImageParts.of(own), own.get("Config") or {}, mount_points(facts))
            async with new_file(target) as part:
                await save_image(self._engine, parts.id, lambda stream: saving.write(stream, part))

    async def _commit(self, runtime_id: str, name: str) -> None:
        repository, tag = split(name)
        async with self._engine.calling("copy a container", _COMMIT_S) as docker:
            container = docker.containers.container(runtime_id)
            await container.commit(repository=repository, tag=tag, pause=False)

    async def _down(self, runtime_id: str) -> dict[str, Any]:
        """Facts of a container of ours that does not run. :raises NotFound: :raises Conflict: it runs."""
        async with self._engine.calling("look at a container", CALL_S) as docker:
            facts: dict[str, Any] = (await docker.containers.container(runtime_id).show()) or {}
        if (facts["Config"]["Labels"] or {}).get(LABEL_INSTALLATION) != self._installation:
            raise NotFound(f"there is no container {runtime_id}")
        if facts["State"]["Running"]:
            raise Conflict("the node runs", hint="stop it, then save it")
        return facts


@dataclass(frozen=True)
class _Saving:
    """Writes the archive. Blocking.

    :ivar parts: of the copy; :ivar base: of the container's image; :ivar config: what that starts.
    """

    parts: ImageParts
    base: ImageParts
    config: dict[str, Any]
    mounts: frozenset[str]

    def write(self, stream: SavedStream, part: Path) -> bytes:
        with part.open("x+b") as file:
            archive = _NodeArchive(file, self._top, self.mounts, part.parent)
            committed = json.loads(read_parts(stream, self.parts, archive))
            layers = list(self.base.layers)
            if archive.top:
                layers.append(archive.top)
            config = json.dumps(saved_config(committed, self.config, layers, empty=not archive.top)).encode()
            archive.finish(config, layers, ())
            return config

    @property
    def _top(self) -> str:
        """The container's own layer; empty: it has written nothing."""
        return self.parts.layers[-1] if len(self.parts.layers) > len(self.base.layers) else ""


class _NodeArchive(ArchiveFile):
    """Puts the container's own layer in without the places of mounts.

    :ivar top: the layer's digest as it is in the archive; empty: nothing is left of it.
    """

    def __init__(self, file: BinaryIO, top: str, mounts: frozenset[str], folder: Path) -> None:
        super().__init__(file)
        self.top = ""
        self._theirs = top
        self._mounts = mounts
        self._folder = folder

    def keep(self, digest: str) -> None:
        if digest != self._theirs:
            super().keep(digest)
            return
        with tempfile.TemporaryFile(dir=self._folder) as stripped:
            self.file.seek(self.content_at)
            anything = strip_layer(self.file, stripped, self._mounts)
            self.drop()
            if not anything:
                return
            size = stripped.tell()
            stripped.seek(0)
            self.top = f"sha256:{hashlib.file_digest(stripped, 'sha256').hexdigest()}"
            self.begin(size)
            stripped.seek(0)
            shutil.copyfileobj(stripped, self.file, _COPIED)
            super().keep(self.top)


def strip_layer(layer: BinaryIO, target: BinaryIO, unwanted: frozenset[str]) -> bool:
    """Copy a layer's members byte by byte, but for the empty files and folders at paths that are ``unwanted``.

    :param layer: at its beginning; ends with the file. :param unwanted: without slashes at the ends.
    :returns: whether anything is left.
    """
    kept = False
    with tarfile.open(fileobj=layer, mode="r:") as archive:
        for member in members_of(archive):
            if _clean(member.name) in unwanted and (member.isdir() or member.size == 0):
                continue
            kept = True
            _copy(layer, member.offset, archive.offset - member.offset, target)
    target.write(bytes(2 * tarfile.BLOCKSIZE))
    return kept


def mount_points(facts: dict[str, Any]) -> frozenset[str]:
    """Where something of ours is mounted in an inspected container, as paths in its layer."""
    tmpfs = facts["HostConfig"].get("Tmpfs") or {}
    places = [GATE_TARGET, *(mount["Destination"] for mount in facts["Mounts"]), *tmpfs]
    return frozenset(_clean(place) for place in places)


def saved_config(
    committed: dict[str, Any], own: dict[str, Any], layers: Sequence[str], *, empty: bool
) -> dict[str, Any]:
    """The configuration of the saved image: what its image starts, on its own layers.

    :param committed: that of the engine's commit; :param empty: the container has written nothing.
    """
    made = {key: value for key, value in committed.items() if key not in _OF_THE_CONTAINER}
    step = {"created": committed.get("created"), "created_by": "wireloom: files of a node"}
    history = [*(committed.get("history") or [])[:-1], step | ({"empty_layer": True} if empty else {})]
    return made | {"config": own, "rootfs": {"type": "layers", "diff_ids": list(layers)}, "history": history}


def _copy(source: BinaryIO, start: int, size: int, target: BinaryIO) -> None:
    source.seek(start)
    while size > 0 and (chunk := source.read(min(size, _COPIED))):
        target.write(chunk)
        size -= len(chunk)


def _clean(path: str) -> str:
    return posixpath.normpath(path).strip("/")
