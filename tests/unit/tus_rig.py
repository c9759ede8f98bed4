"""A far end of the tus protocol in memory, and what can go wrong on the way to it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httpx

from wireloom.uploading import TUS_VERSION

COLLECTION = "http://far/api/v1/uploads"


@dataclass
class Upload:
    """What has arrived; ``length`` ``None``: not said yet."""

    length: int | None
    metadata: dict[str, str] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)


@dataclass
class FarEnd:
    """Uploads by name.

    :ivar cuts: after how many bytes the next requests break off. :ivar refusals: answers to the next requests that
        bring bytes. :ivar token: what has to be shown; empty: nothing. :ivar down: nobody answers for so many requests.
    """

    uploads: dict[str, Upload] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    refusals: list[httpx.Response] = field(default_factory=list)
    token: str = ""
    down: int = 0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    on_bytes: Callable[[], None] = lambda: None

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def begin(self, length: int | None = None, content: bytes = b"") -> str:
        """URL of an upload that somebody else began."""
        name = str(len(self.uploads) + 1)
        self.uploads[name] = Upload(length, content=bytearray(content))
        return f"{COLLECTION}/{name}"

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((request.method, dict(request.headers)))
        if self.down:
            self.down -= 1
            raise httpx.ConnectError("nobody answers", request=request)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return httpx.Response(401)
        assert request.headers["Tus-Resumable"] == TUS_VERSION
        if request.method == "POST":
            return self._create(request)
        upload = self.uploads.get(request.url.path.rpartition("/")[2])
        if upload is None:
            return httpx.Response(404)
        if request.method == "HEAD":
            return httpx.Response(200, headers=_state(upload))
        if request.method == "DELETE":
            del self.uploads[request.url.path.rpartition("/")[2]]
            return httpx.Response(204)
        return await self._append(request, upload)

    def _create(self, request: httpx.Request) -> httpx.Response:
        told = request.headers.get("Upload-Metadata", "")
        pairs = (pair.partition(" ") for pair in told.split(",") if pair)
        length = request.headers.get("Upload-Length")
        name = str(len(self.uploads) + 1)
        metadata = {key: base64.b64decode(value).decode() for key, _, value in pairs}
        self.uploads[name] = Upload(None if length is None else int(length), metadata)
        return httpx.Response(201, headers={"Location": f"/api/v1/uploads/{name}"})

    async def _append(self, request: httpx.Request, upload: Upload) -> httpx.Response:
        if self.refusals:
            return self.refusals.pop(0)
        if int(request.headers["Upload-Offset"]) != len(upload.content):
            return httpx.Response(409)
        if "Upload-Length" in request.headers:
            upload.length = int(request.headers["Upload-Length"])
        cut = self.cuts.pop(0) if self.cuts else None
        came = 0
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for piece in _pieces(request.stream):
            taken = piece if cut is None else piece[: cut - came]
            upload.content += taken
            came += len(taken)
            self.on_bytes()
            if cut is not None and came >= cut:
                raise httpx.WriteError("cut off", request=request)
        assert came == int(request.headers["Content-Length"])
        return httpx.Response(204, headers=_state(upload))


async def _pieces(stream: httpx.AsyncByteStream) -> AsyncIterator[bytes]:
    async for piece in stream:
        yield piece


def _state(upload: Upload) -> dict[str, str]:
    length = {"Upload-Defer-Length": "1"} if upload.length is None else {"Upload-Length": str(upload.length)}
    return {"Upload-Offset": str(len(upload.content)), **length}
