"""Sends files by the tus protocol, version 1.0.0, over lost connections and restarts of the far end.

Knows HTTP and files, and nothing of images, labs or hosts. Both the command line and agents send with it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import httpx
import structlog

from wireloom.errors import (
    CapacityExceeded,
    InternalError,
    InvalidInput,
    NotFound,
    NotPermitted,
    Unauthenticated,
    Unavailable,
    WireloomError,
    from_wire,
)

__all__ = ["TUS_VERSION", "Progress", "Sent", "TusClient"]

log = structlog.get_logger(__name__)

TUS_VERSION: Final = "1.0.0"

#: Told bytes that the far end has, or is being sent, and bytes in all.
Progress = Callable[[int, int], None]

#: One PATCH carries so much: what a lost connection may cost, where the far end keeps only whole requests.
_PART: Final = 256 << 20
_BLOCK: Final = 1 << 20
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 8.0
#: The far end may have to write out a whole part before it answers.
_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0, read=300.0)
#: It restarts, another request of ours is not over for it, or it has another offset than we think: look again.
_LOOK_AGAIN: Final = frozenset({408, 409, 423, 425, 429, 460, 500, 502, 503, 504})
_GONE: Final = frozenset({404, 410})
_NO_ROOM: Final = frozenset({413, 507})


@dataclass(frozen=True)
class Sent:
    """A file that has arrived whole: its ``size`` in bytes, and ``sha256:…`` of what was sent."""

    size: int
    sha256: str


class _InterruptedError(Exception):
    """What was sent may have arrived or not: ask for the offset, and go on from there."""

    def __init__(self, cause: WireloomError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class TusClient:
    """Uploads to one far end.

    :param http: used as it is; closed by whoever made it. :param headers: of every request, such as ``Authorization``.
    :param patience_s: for so long nothing may get through before an upload is given up. It can be resumed even then.
    :param interrupted: told why whenever an upload is cut off, and will be gone on with.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        headers: Mapping[str, str] | None = None,
        patience_s: float = 120.0,
        interrupted: Callable[[WireloomError], None] | None = None,
    ) -> None:
        self._http = http
        self._headers = {"Tus-Resumable": TUS_VERSION, **(headers or {})}
        self._patience_s = patience_s
        self._interrupted = interrupted or _log

    async def create(self, url: str, *, size: int | None, metadata: Mapping[str, str] | None = None) -> str:
        """Begin an upload at the collection ``url``; its own URL.

        :param size: in bytes; ``None``: said later. :param metadata: e.g. ``filename``.
        :raises CapacityExceeded: there is no room for it. :raises WireloomError: as the far end says.
        """
        headers = {"Upload-Defer-Length": "1"} if size is None else {"Upload-Length": str(size)}
        if metadata:
            headers["Upload-Metadata"] = ",".join(
                f"{key} {base64.b64encode(value.encode()).decode()}".rstrip() for key, value in metadata.items()
            )
        try:
            answer = await self._ask("POST", url, headers)
        except _InterruptedError as error:
            raise error.cause from error
        location = answer.headers.get("Location")
        if not location:
            raise InternalError(f"{url} took an upload and did not say where it is")
        return str(answer.url.join(location))

    async def offset(self, upload: str) -> int:
        """How many bytes of ``upload`` have arrived. :raises NotFound: there is no such upload (any more)."""
        try:
            offset, _ = await self._look(upload)
        except _InterruptedError as error:
            raise error.cause from error
        return offset

    async def discard(self, upload: str) -> None:
        """End ``upload``, and have what has arrived thrown away; idempotent."""
        try:
            await self._ask("DELETE", upload, {})
        except NotFound:
            return
        except _InterruptedError as error:
            raise error.cause from error

    async def send(self, upload: str, file: Path, progress: Progress | None = None) -> Sent:
        """Send what of ``file`` has not arrived yet, and return when all of it has.

        :raises Unavailable: nothing got through for too long. :raises NotFound: there is no such upload.
        :raises CapacityExceeded: it does not fit. :raises InvalidInput: the file changes while it is sent.
        """
        patience = _Patience(self._patience_s)
        async with _Source(file) as source:
            while True:
                try:
                    await self._send_rest(upload, source, patience, progress or _nobody)
                    return Sent(source.size, await source.sha256())
                except _InterruptedError as error:
                    self._interrupted(error.cause)
                    await patience.wait(error.cause)

    async def _send_rest(self, upload: str, source: _Source, patience: _Patience, progress: Progress) -> None:
        offset, length = await self._look(upload)
        if offset > source.size or length not in {None, source.size}:
            raise InvalidInput(
                f"{source.name} has {source.size} bytes, and the upload is of another size", hint="begin it anew"
            )
        patience.reached(offset)
        progress(offset, source.size)
        while offset < source.size or length is None:
            offset = await self._send_part(upload, source, offset, progress, tell_length=length is None)
            length = source.size
            patience.reached(offset)

    async def _send_part(
        self, upload: str, source: _Source, offset: int, progress: Progress, *, tell_length: bool
    ) -> int:
        part = min(_PART, source.size - offset)
        headers = {
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(part),
            "Upload-Offset": str(offset),
        }
        if tell_length:
            headers["Upload-Length"] = str(source.size)
        answer = await self._ask("PATCH", upload, headers, source.blocks(offset, part, progress))
        if answer.headers.get("Upload-Offset") != str(offset + part):
            raise _InterruptedError(Unavailable("the far end took less than it was sent"))
        return offset + part

    async def _look(self, upload: str) -> tuple[int, int | None]:
        """Bytes that have arrived, and bytes in all; ``None``: that was not said yet."""
        headers = (await self._ask("HEAD", upload, {})).headers
        try:
            length = headers.get("Upload-Length")
            return int(headers["Upload-Offset"]), None if length is None else int(length)
        except (KeyError, ValueError):
            raise InternalError(f"{upload} does not answer as tus {TUS_VERSION} says") from None

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], content: AsyncIterator[bytes] | None = None
    ) -> httpx.Response:
        try:
            answer = await self._http.request(
                method, url, headers={**self._headers, **headers}, content=content, timeout=_TIMEOUT
            )
        except httpx.TransportError as error:
            raise _InterruptedError(
                Unavailable(f"{httpx.URL(url).host} does not answer: {error or type(error).__name__}")
            ) from error
        if answer.is_success:
            return answer
        told = _error_of(answer)
        if answer.status_code in _LOOK_AGAIN and (told.retryable or answer.status_code < 500):
            raise _InterruptedError(told)
        raise told


class _Patience:
    """Pauses that grow while nothing gets through, and an end to them.

    Time counts from the first interruption: before it bytes were on their way, however long one request took.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._pause_s = _FIRST_PAUSE_S
        self._furthest = -1
        self._interrupted_at: float | None = None

    def reached(self, offset: int) -> None:
        """So many bytes have arrived."""
        if offset > self._furthest:
            self._furthest = offset
            self._pause_s = _FIRST_PAUSE_S
            self._interrupted_at = None

    async def wait(self, cause: WireloomError) -> None:
        """:raises WireloomError: ``cause``, where it has taken too long."""
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = now
        if now - self._interrupted_at > self._longest_s:
            raise cause
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)


class _Source:
    """A file that is read in order, and hashed on the way."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name
        self.size = 0
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._file: BinaryIO | None = None
        self._ahead: asyncio.Future[bytes] | None = None

    async def __aenter__(self) -> _Source:
        try:
            self._file = await asyncio.to_thread(self._path.open, "rb")
            self.size = (await asyncio.to_thread(self._path.stat)).st_size
        except OSError as error:
            raise InvalidInput(f"cannot read {self._path}: {error.strerror}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._settle()
        if self._file is not None:
            self._file.close()

    async def blocks(self, offset: int, count: int, progress: Progress) -> AsyncIterator[bytes]:
        """``count`` bytes from ``offset`` on; each block is read and hashed while the one before it is sent."""
        await self._hash_up_to(offset)
        end = offset + count
        coming = self._read_ahead(offset, end)
        while offset < end:
            block = await asyncio.shield(coming)
            offset += len(block)
            coming = self._read_ahead(offset, end)
            yield block
            progress(offset, self.size)

    def _read_ahead(self, offset: int, end: int) -> asyncio.Future[bytes]:
        self._ahead = asyncio.ensure_future(asyncio.to_thread(self._block, offset, min(_BLOCK, end - offset)))
        return self._ahead

    async def _settle(self) -> None:
        """Wait for what is read for nobody any more, since what it was for was cut off."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await asyncio.wait({ahead})
            if not ahead.cancelled():
                ahead.exception()  # whoever reads there again meets it again

    async def sha256(self) -> str:
        """Of all of it."""
        await self._hash_up_to(self.size)
        return f"sha256:{self._digest.hexdigest()}"

    async def _hash_up_to(self, offset: int) -> None:
        await self._settle()
        while self._hashed < offset:  # what had arrived before this process began
            await asyncio.to_thread(self._block, self._hashed, min(_BLOCK, offset - self._hashed))

    def _block(self, offset: int, size: int) -> bytes:
        assert self._file is not None, "it is open"  # noqa: S101 - a defect of ours, not input
        self._file.seek(offset)
        block = self._file.read(size)
        if len(block) != size:
            raise InvalidInput(f"{self.name} became shorter while it was sent", hint="begin the upload anew")
        if self._hashed in range(offset, offset + size):
            self._digest.update(block[self._hashed - offset :])
            self._hashed = offset + size
        return block


def _log(cause: WireloomError) -> None:
    log.info("upload.interrupted", error=cause.to_wire())


def _nobody(done: int, total: int) -> None:
    """Nobody wants to know."""


def _error_of(answer: httpx.Response) -> WireloomError:
    """What the far end says is wrong; by its status alone, where it says nothing that we understand."""
    try:
        return from_wire(json.loads(answer.content)["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    status = answer.status_code
    if status in _GONE:
        return NotFound("there is no such upload (any more)", hint="begin it anew")
    if status in _NO_ROOM:
        return CapacityExceeded("the far end has no room for it")
    if status == 401:
        return Unauthenticated("the upload's token is not accepted")
    if status == 403:
        return NotPermitted("the far end does not let us upload")
    if status in _LOOK_AGAIN:
        return Unavailable(f"the far end answered {status}")
    return InternalError(f"the far end answered {status}", hint="is this address really a Wireloom controller?")
