"""Reading a file of a container, running or not, by the engine's archive of it.

The engine looks names up inside the container's own root, so that no link leads out of it. It gives a link itself and
not what it points to, so links are followed here, one by one.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import posixpath
import tarfile
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from wireloom.errors import GuestFailed, InvalidInput, NotFound, RuntimeFailed
from wireloom.providers.contract import GUEST_FILE_MOST
from wireloom.providers.docker.engine import Engine

__all__ = ["ContainerFiles", "Entry"]

_READ_S: Final = 30.0
_LINKS_MOST: Final = 16
_STAT_HEADER: Final = "X-Docker-Container-Path-Stat"
#: Headers and padding around the one file in the archive.
_ARCHIVE_MOST: Final = GUEST_FILE_MOST + (64 << 10)
#: Bits of a mode as the engine's language writes it.
_NOT_REGULAR: Final = 0b1000_1111_0010_1000 << 16
_LINK: Final = 1 << 27


@dataclass(frozen=True)
class Entry:
    """What the engine says of a path before its content comes."""

    size: int
    mode: int
    target: str

    @classmethod
    def of(cls, header: str) -> Entry:
        facts: dict[str, Any] = json.loads(base64.b64decode(header))
        return cls(int(facts["size"]), int(facts["mode"]), str(facts.get("linkTarget") or ""))

    @property
    def is_link(self) -> bool:
        return bool(self.mode & _LINK)

    @property
    def is_regular(self) -> bool:
        return not self.mode & _NOT_REGULAR


class ContainerFiles:
    """A :class:`~wireloom.providers.contract.FileAccess`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def read(self, runtime_id: str, path: str) -> bytes:
        if not path.startswith("/") or "\0" in path:
            raise InvalidInput(f"{path!r} is no absolute path in the guest")
        where = path
        for _ in range(_LINKS_MOST):
            found = await self._read_or_link(runtime_id, where)
            if isinstance(found, bytes):
                return found
            where = posixpath.normpath(posixpath.join(posixpath.dirname(where), found))
        raise InvalidInput(f"{path} leads through too many links")

    async def _read_or_link(self, runtime_id: str, path: str) -> bytes | str:
        """The content of a file, or the target of a link."""
        async with self._engine.request(
            f"read {path}", "GET", f"/containers/{runtime_id}/archive", timeout_s=_READ_S, params={"path": path}
        ) as response:
            entry = Entry.of(response.headers[_STAT_HEADER])
            if entry.is_link:
                return entry.target
            if not entry.is_regular:
                raise InvalidInput(f"{path} is no regular file")
            if entry.size > GUEST_FILE_MOST:
                raise _too_large(path)
            archive = await _bounded(response, path)
        return await asyncio.to_thread(_only_file, archive, path)


async def _bounded(response: aiohttp.ClientResponse, path: str) -> bytes:
    """The body; a file may have grown since its size was told."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _ARCHIVE_MOST:
            raise _too_large(path)
    return bytes(body)


def _only_file(archive: bytes, path: str) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            member = tar.next()
            content = tar.extractfile(member) if member is not None and member.isreg() else None
            if content is None:
                raise NotFound(f"there is no file {path} in the guest")
            return content.read(GUEST_FILE_MOST)
    except tarfile.TarError as error:
        raise RuntimeFailed(f"the engine's archive of {path} cannot be read: {error}") from error


def _too_large(path: str) -> GuestFailed:
    return GuestFailed(f"{path} is larger than {GUEST_FILE_MOST >> 20} MiB")
