"""What a container keeps, for another host: its volumes, and the files that it has written into its own layer.

All of it becomes one archive with paths as the guest sees them, which the engine over there unpacks into a container of
the same image before that is started. Files of the image that were deleted come back; host folders that are shown to
the guest stay where they are.
"""

from __future__ import annotations

import asyncio
import posixpath
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from wireloom.errors import Conflict, NotFound
from wireloom.model.identity import LABEL_INSTALLATION
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.names import CALL_S
from wireloom.providers.docker.saver import mount_points
from wireloom.providers.newfile import new_file

__all__ = ["ContainerPorter", "topmost"]

_FILE: Final = "carried.tar"
_ARCHIVE_S: Final = 1800.0
_PIECE: Final = 1 << 20
#: What the engine says of a path that differs from the image's.
_DELETED: Final = 2
_ADDED: Final = 1


class ContainerPorter:
    """A :class:`~wireloom.providers.contract.StoragePorter`."""

    def __init__(self, engine: Engine, installation: str) -> None:
        self._engine = engine
        self._installation = installation

    async def pack(self, runtime_id: str | None, folder: Path) -> Mapping[str, str]:
        target = folder / "storage" / _FILE
        if runtime_id is None:
            return {}
        facts = await self._down(runtime_id)
        if facts["State"]["StartedAt"].startswith("0001") and target.exists():
            return {}  # it came from elsewhere itself, and was never started: what it is to be given is that
        changes = await self._changes(runtime_id)
        volumes = [mount["Destination"] for mount in facts["Mounts"] if mount["Type"] == "volume"]
        paths = [*topmost(changes, mount_points(facts)), *volumes]
        target.parent.mkdir(parents=True, exist_ok=True)
        async with new_file(target) as part:
            with closing(tarfile.open(part, "w")) as archive:
                for path in paths:
                    await self._add(runtime_id, path, archive, target.with_name(f".{_FILE}.piece"))
        return {}

    async def settle(self, folder: Path, image: str, facts: Mapping[str, str]) -> None:
        """Nothing in the files is true of one host only."""

    async def unpack(self, runtime_id: str, folder: Path) -> None:
        source = folder / "storage" / _FILE
        if not source.exists():
            return
        with source.open("rb") as file:
            async with self._engine.request(
                "unpack what a container keeps",
                "PUT",
                f"/containers/{runtime_id}/archive",
                timeout_s=_ARCHIVE_S,
                params={"path": "/", "copyUIDGID": "true"},
                headers={"Content-Type": "application/x-tar"},
                data=file,
            ) as response:
                await response.read()
        await asyncio.to_thread(source.unlink)

    async def _changes(self, runtime_id: str) -> list[dict[str, Any]]:
        async with self._engine.request(
            "see what a container has written", "GET", f"/containers/{runtime_id}/changes", timeout_s=_ARCHIVE_S
        ) as response:
            return await response.json() or []

    async def _add(self, runtime_id: str, path: str, archive: tarfile.TarFile, piece: Path) -> None:
        """Add what is at ``path`` in the container, under its full path."""
        try:
            async with self._engine.request(
                f"pack {path}",
                "GET",
                f"/containers/{runtime_id}/archive",
                timeout_s=_ARCHIVE_S,
                params={"path": path},
            ) as response:
                with piece.open("wb") as file:
                    async for chunk in response.content.iter_chunked(_PIECE):
                        await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_append, piece, posixpath.dirname(path).strip("/"), archive)
        finally:
            piece.unlink(missing_ok=True)

    async def _down(self, runtime_id: str) -> dict[str, Any]:
        async with self._engine.calling("look at a container", CALL_S) as docker:
            facts: dict[str, Any] = (await docker.containers.container(runtime_id).show(size=True)) or {}
        if (facts["Config"]["Labels"] or {}).get(LABEL_INSTALLATION) != self._installation:
            raise NotFound(f"there is no container {runtime_id}")
        if facts["State"]["Running"]:
            raise Conflict("the node runs", hint="stop it first")
        return facts


def topmost(changes: Iterable[Mapping[str, Any]], mounts: frozenset[str]) -> list[str]:
    """Paths that hold all that a container has written: a new folder stands for what is in it.

    :param changes: as the engine tells them. :param mounts: places of mounts, without slashes at the ends.
    """
    found: list[str] = []
    wanted = sorted((item for item in changes if item["Kind"] != _DELETED), key=lambda item: str(item["Path"]))
    parents = {posixpath.dirname(str(item["Path"])) for item in wanted}
    for item in wanted:
        path = str(item["Path"])
        if path.strip("/") in mounts or any(path.startswith(f"{above}/") for above in found):
            continue
        if item["Kind"] != _ADDED and path in parents:
            continue  # a folder of the image with something changed in it
        if any(mount.startswith(f"{path.strip('/')}/") for mount in mounts):
            continue  # made for a mount
        found.append(path)
    return found


def _append(piece: Path, above: str, archive: tarfile.TarFile) -> None:
    """Copy the members of one archive into the other, below ``above``."""
    with tarfile.open(piece) as source:
        for member in source:
            content = source.extractfile(member) if member.isreg() else None
            member.name = posixpath.join(above, member.name.strip("/")) if above else member.name.strip("/")
            if member.islnk():
                member.linkname = posixpath.join(above, member.linkname.strip("/"))
            archive.addfile(member, content)
