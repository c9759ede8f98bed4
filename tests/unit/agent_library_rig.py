"""Files of images and where they come from, without sockets: HTTP is answered in the same process."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from wireloom.agent.library.fetcher import Fetcher
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

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return httpx.Response(401)
        digest = request.url.path.rpartition("/")[2]
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")) if self.ranges else None
        start = int(found[1]) if found else 0
        self.requests.append(Request(digest, start))
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return httpx.Response(status)
        content = self.files.get(digest)
        if content is None:
            return httpx.Response(404)
        headers = {"Content-Length": str(len(content) - start)}
        if found:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.cuts.pop(0) if self.cuts else len(content)
        return httpx.Response(206 if found else 200, headers=headers, stream=_Stream(self, content[start:], cut))


class _Stream(httpx.AsyncByteStream):
    def __init__(self, depot: Depot, content: bytes, cut: int) -> None:
        self._depot = depot
        self._content = content
        self._cut = cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        depot = self._depot
        depot.running += 1
        depot.most = max(depot.most, depot.running)
        try:
            for begin in range(0, len(self._content), _PIECE):
                if begin >= self._cut:
                    raise httpx.ReadError("cut off")
                yield self._content[begin : begin + _PIECE]
                if depot.gate is not None:
                    await depot.gate.wait()
                await asyncio.sleep(0)
        finally:
            depot.running -= 1


def client(*depots: Depot) -> httpx.AsyncClient:
    """Reaches these depots, and nobody else."""
    by_name = {depot.name: depot for depot in depots}

    async def answer(request: httpx.Request) -> httpx.Response:
        depot = by_name.get(request.url.host)
        if depot is None:
            raise httpx.ConnectError("there is nobody", request=request)
        return await depot.answer(request)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


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
        http = client(*depots)
        self.fetcher = Fetcher(self.blobs, self.sources, lambda: http, near=near, most=most, free=free)

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
