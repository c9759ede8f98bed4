"""Files that the controller fetches by HTTP: resumable, bounded, and without anything secret in what is stored.

What may be fetched. Whoever has the API's token administers the installation and may name any address that the
controller reaches, private ones and its own machine included: that is where many keep their images. Refused are
addresses at which no file server is and where asking does harm: link-local ones (there the metadata services of clouds
answer with credentials), multicast, and the unspecified one. A *redirect* is not the user's word, so it may not lead
from a public address to a private one. The controller's own API answers nothing without its token, also on loopback.
Proxies and ``.netrc`` of the environment are not used: the address that was looked at is the one that is asked.

Credentials in an address (``https://user:secret@host/``) and queries, which often hold signatures, stay in memory: a
download that needs them cannot go on after a restart of the controller and says so.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import httpx

from wireloom.controller.library.incoming import RESERVE, Incoming, need_room, plain_name
from wireloom.controller.library.pinned import PinnedTransport, pinned_to
from wireloom.controller.library.threads import Threads
from wireloom.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    NotPermitted,
    RuntimeFailed,
    Unavailable,
    WireloomError,
)
from wireloom.library.values import ImageRefused, Limits, Progress, no_progress

__all__ = ["Fetched", "UrlFetcher", "WebAddress", "read_address"]

CONNECT_S: Final = 15.0
READ_S: Final = 60.0
LOOKUP_S: Final = 10.0
MOST_REDIRECTS: Final = 5
#: Tries in a row that brought nothing; between them, a pause that grows to the longest one.
MOST_TRIES: Final = 6
LONGEST_PAUSE_S: Final = 30.0
_LONGEST_ADDRESS: Final = 4096
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ONE_USE: Final = httpx.Limits(max_keepalive_connections=0)
_RANGE: Final = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Remember = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class WebAddress:
    """An address, and what of it may be shown.

    :ivar plain: without credentials, query and fragment: for people, provenance and the database.
    :ivar secret: all of it, where it is more than ``plain``; empty: ``plain`` is all. :ivar password: within it.
    """

    plain: str
    secret: str = ""
    password: str = ""


def read_address(text: str) -> WebAddress:
    """:raises InvalidInput: no address of a file on the web; the text is not repeated, it may hold a secret."""
    if len(text) > _LONGEST_ADDRESS or not text.isprintable():
        raise InvalidInput("the address is too long, or has control characters in it")
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL:
        raise InvalidInput("that is no address of a file on the web") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidInput("files are fetched by http and https alone", hint="upload the file instead")
    whole = url.copy_with(fragment=None)
    plain = whole.copy_with(username=None, password=None, query=None)
    return WebAddress(str(plain), "" if plain == whole else str(whole), url.password)


@dataclass(frozen=True)
class Fetched:
    """A file that was fetched: ``name`` as its server has it, ``digest`` ``sha256:…``."""

    name: str
    digest: str
    size: int


@dataclass
class _Download:
    """One file on its way. ``validator``: what tells whether the server still has the same bytes."""

    file: Incoming
    validator: str
    remember: Remember
    progress: Progress
    name: str = ""
    total: int = 0


@dataclass(frozen=True)
class _Addresses:
    """Of a host. ``local``: to the controller or its network."""

    all: tuple[str, ...]
    local: bool


class UrlFetcher:
    """:param resolve: addresses of a host; ``pause`` waits between tries; ``transport`` speaks HTTP."""

    def __init__(
        self,
        threads: Threads,
        *,
        limits: Limits | None = None,
        reserve: int = RESERVE,
        resolve: Resolve | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._threads = threads
        self._limits = limits or Limits()
        self._reserve = reserve
        self._resolve = resolve or _resolve
        self._transport = transport
        self._pause = pause

    async def fetch(
        self,
        url: str,
        target: Path,
        *,
        validator: str = "",
        remember: Remember,
        progress: Progress = no_progress,
        told: Callable[[str], None] = lambda line: None,
    ) -> Fetched:
        """Fetch ``url`` into ``target``, going on with what is there of it.

        :param validator: what ``remember`` was last called with, when the bytes in ``target`` came.
        :param told: a line on each try that is made again.
        :raises NotFound: :raises NotPermitted: the server refuses, or the address is none to be asked.
        :raises ImageRefused: it is too large. :raises CapacityExceeded: the disk has no room for it.
        :raises Unavailable: the server does not answer, after several tries. :raises RuntimeFailed: it fails.
        """
        file = Incoming(target, self._threads, reserve=self._reserve)
        if not validator or not target.exists():
            file.empty()
        download = _Download(file, validator, remember, progress)
        tries = 0
        async with self._client() as client:
            while True:
                before = file.length()
                try:
                    await self._attempt(client, httpx.URL(url), download)
                    break
                except (Unavailable, DeadlineExceeded) as error:
                    tries = 1 if file.length() > before else tries + 1
                    if tries >= MOST_TRIES:
                        raise
                    told(f"{error.message}; trying again at byte {file.length()}")
                    await self._pause(min(2.0**tries, LONGEST_PAUSE_S))
        digest = await self._threads.run(file.digest)
        return Fetched(download.name or plain_name(unquote(httpx.URL(url).path)), digest, file.length())

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            # No connection is kept: another name at the same address must not be asked by it.
            transport=self._transport or PinnedTransport(httpx.AsyncHTTPTransport(trust_env=False, limits=_ONE_USE)),
            headers={"Accept-Encoding": "identity", "User-Agent": "wireloom"},
        )

    async def _attempt(self, client: httpx.AsyncClient, url: httpx.URL, download: _Download) -> None:
        """Bring the rest of the file, all of it."""
        file = download.file
        if file.length() and not download.validator:
            file.empty()  # nobody could tell whether it is still the same file
        async with self._answer(client, url, download) as answer:
            if answer.status_code == 416 and _announced(answer) == file.length():
                return  # it was all there already
            if answer.status_code == 416:
                file.empty()
                raise Unavailable("the file has changed on its server")
            _refuse(answer)
            await self._begin(answer, download)
            await file.append(
                answer.aiter_raw(),
                most=download.total or self._limits.size,
                idle_s=READ_S,
                told=lambda length: download.progress(length, download.total),
            )
        if download.total and file.length() < download.total:
            raise Unavailable(f"the server of the file ended after {file.length()} of {download.total} bytes")

    async def _begin(self, answer: httpx.Response, download: _Download) -> None:
        """Go on where it stopped, or at the beginning when the server sends all of it. Room is asked for first."""
        file = download.file
        if answer.status_code == 206 and _first_byte(answer) != file.length():
            file.empty()
            raise Unavailable("the server of the file sent another part than was asked for")
        if answer.status_code != 206:
            file.empty()
        download.total = _announced(answer)
        if download.total > self._limits.size:
            raise ImageRefused("size", f"{download.total} bytes are more than the {self._limits.size} that are allowed")
        rest = max(0, download.total - file.length())
        await self._threads.run(need_room, file.path.parent, rest, reserve=self._reserve)
        download.name = _name_of(answer) or download.name
        validator = _validator(answer)
        if validator != download.validator:
            download.validator = validator
            await download.remember(validator)

    @asynccontextmanager
    async def _answer(
        self, client: httpx.AsyncClient, url: httpx.URL, download: _Download
    ) -> AsyncIterator[httpx.Response]:
        """The server's answer, after redirects. :raises NotPermitted: an address is none to be asked."""
        headers = {}
        if there := download.file.length():
            headers = {"Range": f"bytes={there}-", "If-Range": download.validator}
        auth, origin = _credentials(url), url
        addresses = await self._look(url)
        local = addresses.local
        for _ in range(MOST_REDIRECTS + 1):
            bare = url.copy_with(username=None, password=None, fragment=None)
            there_alone = pinned_to(addresses.all)
            with _translated(url):
                async with client.stream("GET", bare, headers=headers, auth=auth, extensions=there_alone) as answer:
                    if answer.status_code not in _REDIRECTS:
                        yield answer
                        return
                    target = answer.headers.get("Location", "")
            url = _next(url, target)
            if (url.scheme, url.host, url.port) != (origin.scheme, origin.host, origin.port):
                auth = None  # they were meant for the first server alone
            addresses = await self._look(url)
            if addresses.local and not local:
                raise NotPermitted(f"{origin.host} sends us on to an address that is not public")
        raise RuntimeFailed(f"{origin.host} sends us on too often")

    async def _look(self, url: httpx.URL) -> _Addresses:
        """Where a host is.

        :raises NotPermitted: it is none to be asked. :raises Unavailable: nobody knows it.
        """
        found = await self._resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
        plain = tuple(text.partition("%")[0] for text in found)
        kinds = {_is_local(ipaddress.ip_address(text), url.host) for text in plain}
        return _Addresses(plain, True in kinds)


async def _resolve(host: str, port: int) -> Sequence[str]:
    try:
        async with asyncio.timeout(LOOKUP_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise Unavailable(f"{host} is not known", hint="check the address, and the controller's name servers") from None
    return [str(entry[4][0]) for entry in found]


def _is_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address, host: str) -> bool:
    """Whether it is not public. :raises NotPermitted: it is none to be asked."""
    plain = getattr(address, "ipv4_mapped", None) or address
    if plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        raise NotPermitted(f"{host} is at {plain}, where no files are fetched", hint="upload the file instead")
    return not plain.is_global


def _credentials(url: httpx.URL) -> tuple[str, str] | None:
    return (url.username, url.password) if url.username or url.password else None


def _next(url: httpx.URL, target: str) -> httpx.URL:
    try:
        found = url.copy_with(username=None, password=None).join(target)
    except httpx.InvalidURL:
        found = httpx.URL("")
    if found.scheme not in {"http", "https"} or not found.host:
        raise RuntimeFailed(f"{url.host} sends us on to nowhere")
    return found


def _refuse(answer: httpx.Response) -> None:
    """Raise what an answer without a file means."""
    status, host = answer.status_code, answer.request.url.host
    if status in {200, 206}:
        return
    error: WireloomError
    if status in {401, 403, 407}:
        error = NotPermitted(f"{host} refuses to hand out the file (HTTP {status})", hint="give credentials in the URL")
    elif status in {404, 410}:
        error = NotFound(f"{host} has no such file (HTTP {status})")
    elif status in {408, 425, 429} or status >= 500:
        error = Unavailable(f"{host} cannot hand out the file now (HTTP {status})")
    else:
        error = RuntimeFailed(f"{host} answered with HTTP {status}")
    raise error


@contextmanager
def _translated(url: httpx.URL) -> Iterator[None]:
    """Errors of HTTP as ours. Their texts are not repeated: they may name the whole address."""
    try:
        yield
    except httpx.TimeoutException:
        raise DeadlineExceeded(f"{url.host} did not answer in time") from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise Unavailable(f"the connection to {url.host} failed ({type(error).__name__})") from None


def _announced(answer: httpx.Response) -> int:
    """Bytes of the whole file; 0: not said."""
    if answer.status_code in {206, 416}:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        return int(found[3]) if found and found[3] != "*" else 0
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) <= 18 else 0


def _first_byte(answer: httpx.Response) -> int | None:
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(found[1]) if found and found[1] is not None else None


def _validator(answer: httpx.Response) -> str:
    """What ``If-Range`` can be asked with; empty: the server says nothing that would do."""
    tag: str = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else str(answer.headers.get("Last-Modified", ""))


def _name_of(answer: httpx.Response) -> str:
    """The file's name as the server says it; empty: it does not."""
    header = answer.headers.get("Content-Disposition", "")
    if not header:
        return ""
    message = Message()
    message["Content-Disposition"] = "".join(sign for sign in header if sign.isprintable())
    found = message.get_filename()
    return plain_name(found) if found else ""
