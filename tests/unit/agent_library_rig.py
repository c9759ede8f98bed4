"""Files of images and where they come from, without sockets: HTTP is answered in the same process."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.http import LostError
from wireloom.agent.library.sources import Sources
from wireloom.fabric.image_documents import BlobSource
from wireloom.library.blobs import BlobStore
from wireloom.model.images import ImageFormat, ImagePin

TOKEN = "shown-to-whoever-asks"  # noqa: S105 - of nobody
_PIECE = 1000


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def make_pin(
    content: bytes, name: str = "vendor/router:1", provider: str = "alpha", image_format: ImageFormat = "docker-archive"
) -> ImagePin:
    """The image of a simulated engine that is made of a file with that content."""
    digest = digest_of(content)
    return ImagePin(provider=provider, name=name, format=image_format, digest=digest, size=len(content), content=digest)


@dataclass
class Request:
    """What a depot was asked for: ``start`` is the first byte."""

    digest: str
    start: int


@dataclass
class Depot:
    """One source of files.

    :ivar cuts: after how many bytes each of the next answers breaks off. :ivar statuses: what the next answers are.
    :ivar ranges: whether it sends parts. :ivar gate: what answers wait for.
    """

    name: str = "depot"
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    gate: asyncio.Event | None = None
    running: int = 0
    most: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    def source(self, host: str = "", digests: frozenset[str] | None = None) -> BlobSource:
        return BlobSource(url=self.url, token=TOKEN, host=host, digests=digests)

    def put(self, content: bytes) -> str:
        digest = digest_of(content)
        self.files[digest] = content
        return digest

    def answer(self, url: str, headers: Mapping[str, str]) -> Given:
        """What it says to a request."""
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return Given(401)
        digest = url.rpartition("/")[2]
        found = re.fullmatch(r"bytes=(\d+)-", headers.get("Range", "")) if self.ranges else None
        start = int(found[1]) if found else 0
        self.requests.append(Request(digest, start))
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return Given(status)
        content = self.files.get(digest)
        if content is None:
            return Given(404)
        told = {"Content-Length": str(len(content) - start)}
        if found:
            told["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.cuts.pop(0) if self.cuts else len(content)
        return Given(206 if found else 200, told, self, content[start:], cut)


@dataclass
class Given:
    """An answer; what it is of breaks off after ``cut`` bytes."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    depot: Depot | None = None
    content: bytes = b""
    cut: int = 0
    kept: bytes = b""
    coming: AsyncGenerator[bytes, None] | None = None

    async def read(self, buffer: memoryview) -> int:
        self.coming = self.coming or self._pieces()
        self.kept = self.kept or await anext(self.coming, b"")
        count = min(len(self.kept), len(buffer))
        buffer[:count], self.kept = self.kept[:count], self.kept[count:]
        return count

    async def close(self) -> None:
        if self.coming is not None:
            await self.coming.aclose()

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        assert self.depot is not None
        depot = self.depot
        depot.running += 1
        depot.most = max(depot.most, depot.running)
        try:
            for begin in range(0, len(self.content), _PIECE):
                if begin >= self.cut:
                    raise LostError("cut off")
                yield self.content[begin : begin + _PIECE]
                if depot.gate is not None:
                    await depot.gate.wait()
                await asyncio.sleep(0)
        finally:
            depot.running -= 1


class Network:
    """Reaches some depots, and nobody else."""

    def __init__(self, *depots: Depot) -> None:
        self._depots = {depot.url: depot for depot in depots}

    @contextlib.asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Given]:
        depot = next((depot for at, depot in self._depots.items() if url.startswith(f"{at}/blobs/")), None)
        if depot is None:
            raise LostError("there is nobody")
        given = depot.answer(url, headers)
        try:
            yield given
        finally:
            await given.close()
            given.depot = None


class Warehouse:
    """A host's own files, and a fetcher for them."""

    def __init__(
        self,
        folder: Path,
        *depots: Depot,
        sources: tuple[BlobSource, ...] | None = None,
        near: Path | None = None,
        most: int = 2,
        free: Callable[[], int] | None = None,
    ) -> None:
        self.blobs = BlobStore(folder / "blobs")
        self.sources = Sources("here")
        self.sources.update(tuple(depot.source() for depot in depots) if sources is None else sources)
        self.fetcher = Fetcher(self.blobs, self.sources, Network(*depots), near=near, most=most, free=free)

    def draft(self, digest: str) -> Path:
        """Where half a file is."""
        return self.blobs.draft(digest.replace(":", "-")).path

    def has_drafts(self) -> bool:
        return bool(list(self.blobs.drafts()))


async def eventually(check: Callable[[], object]) -> None:
    for _ in range(5000):
        if check():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError
