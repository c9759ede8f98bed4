"""Reading over real connections, of servers that cut off, fall silent, lie about lengths, send elsewhere, speak TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import pytest

from wireloom.agent.library import http as reading
from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.http import LostError, ThreadedHttp
from wireloom.agent.library.sources import Sources
from wireloom.errors import InvalidInput, Unavailable
from wireloom.fabric.image_documents import BlobSource
from wireloom.library.blobs import BlobStore

MIB = 1 << 20
TOKEN = "for-the-one-who-was-named"  # noqa: S105 - of nobody
Play = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Does what it is told to when it is asked for something. ``heads``: what it was asked; ``left``: who has gone."""

    play: Play
    url: str = ""
    heads: list[str] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            playing = asyncio.ensure_future(self.play(writer))
            with contextlib.suppress(ConnectionError):
                await reader.read()
                self.left.set()
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(play: Play, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    server = Server(play)
    listener = await asyncio.start_server(server.answer, host, 0, ssl=tls)
    named = f"[{host}]" if ":" in host else host
    server.url = f"http{'s' if tls else ''}://{named}:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()


def saying(*parts: bytes, then: Play | None = None) -> Play:
    """Sends that, and goes, unless there is something to do ``then``."""

    async def play(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then is not None:
            await then(writer)
        writer.close()

    return play


async def silence(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def head(length: int | None, *lines: str, status: str = "200 OK") -> bytes:
    told = [f"HTTP/1.1 {status}", *lines]
    if length is not None:
        told.append(f"Content-Length: {length}")
    return "\r\n".join([*told, "", ""]).encode("latin-1")


@pytest.fixture
async def http() -> AsyncIterator[ThreadedHttp]:
    http = ThreadedHttp()
    yield http
    await http.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SILENCE_S", 0.2)


async def read_all(http: ThreadedHttp, url: str, room: int = 64 * 1024) -> bytes:
    content, buffer = bytearray(), memoryview(bytearray(room))
    async with asyncio.timeout(20), http.get(f"{url}/blob", {"Authorization": f"Bearer {TOKEN}"}) as answer:
        while count := await answer.read(buffer):
            content += buffer[:count]
    return bytes(content)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("fetch")}


async def eventually(check: Callable[[], object]) -> None:
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


@pytest.mark.parametrize("room", [1, 1000, 4 * MIB])
async def test_a_body_comes_whole_whatever_room_there_is(http: ThreadedHttp, room: int) -> None:
    content = os.urandom(3000 if room == 1 else MIB + 17)
    async with serving(saying(head(len(content)), content, b"more than was announced")) as server:
        assert await read_all(http, server.url, room) == content
    assert f"Bearer {TOKEN}" in server.heads[0]
    assert "Accept-Encoding: identity" in server.heads[0]


async def test_what_nobody_said_the_length_of_is_over_when_the_server_goes(http: ThreadedHttp) -> None:
    async with serving(saying(head(None), b"abc", b"def")) as server:
        assert await read_all(http, server.url, 4) == b"abcdef"


async def test_a_body_in_chunks_is_put_together(http: ThreadedHttp) -> None:
    chunked = head(None, "Transfer-Encoding: chunked")
    async with serving(saying(chunked, b"3\r\nabc\r\n", b"4;x=y\r\ndefg\r\n0\r\nA: b\r\n\r\n")) as server:
        assert await read_all(http, server.url, 2) == b"abcdefg"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff not HTTP at all\r\n\r\n",
        head(10) + b"short",
        head(None, "Transfer-Encoding: chunked") + b"a\r\nshort",
        head(None, "Transfer-Encoding: chunked") + b"no number\r\nabc",
        head(None, "Transfer-Encoding: chunked") + b"-7\r\n" + b"x" * 20_000,
        head(None, *(f"X-{number}: y" for number in range(200))) + b"many headers",
        head(None, "X: " + "y" * 70_000) + b"a long header",
    ],
    ids=["nothing", "no-http", "short", "half-a-chunk", "no-length", "negative", "headers", "header"],
)
async def test_an_answer_that_is_none_or_ends_too_early_is_a_lost_connection(http: ThreadedHttp, answer: bytes) -> None:
    async with serving(saying(answer)) as server:
        with pytest.raises(LostError):
            await read_all(http, server.url, 5000)


async def test_what_came_before_a_connection_was_lost_is_given(http: ThreadedHttp) -> None:
    buffer = memoryview(bytearray(100))
    async with serving(saying(head(10), b"short")) as server, http.get(server.url, {}) as answer:
        assert await answer.read(buffer) == 5
        assert bytes(buffer[:5]) == b"short"
        with pytest.raises(LostError, match="too early"):
            await answer.read(buffer)
        with pytest.raises(LostError, match="too early"):
            await answer.read(buffer)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", head(10)], ids=["nothing", "half-a-head", "no-body"])
async def test_silence_is_a_lost_connection(http: ThreadedHttp, said: bytes) -> None:
    async with serving(saying(said, then=silence)) as server:
        with pytest.raises(LostError, match="timed out"):
            await read_all(http, server.url)
        await asyncio.wait_for(server.left.wait(), 5)


@pytest.mark.parametrize(
    "said",
    [b"HTTP/1.1 200 OK\r\nX: ", head(None, "Transfer-Encoding: chunked") + b"1;"],
    ids=["head", "length-of-a-chunk"],
)
async def test_what_comes_byte_by_byte_and_never_ends_is_given_up(
    http: ThreadedHttp, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"y")
            await writer.drain()
            await asyncio.sleep(0.01)

    monkeypatch.setattr(reading, "_PATIENCE_S", 0.3)
    async with serving(saying(said, then=drip)) as server:
        with pytest.raises(LostError, match=r"longer than 0\.3 s"):
            await read_all(http, server.url)
        await asyncio.wait_for(server.left.wait(), 5)  # and its thread is free again


async def test_where_nobody_listens_a_connection_is_lost(http: ThreadedHttp) -> None:
    async with serving(silence) as server:
        url = server.url
    with pytest.raises(LostError):
        await read_all(http, url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host/path",
        "file:///etc/passwd",
        "ftp://host/x",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
        "http://a b/",
        "http://host/a b",
        "http://127.0.0.1:9/ü",
        f"http://{'x' * 70}.example/",
    ],
)
async def test_what_is_no_address_is_told_apart_from_a_lost_connection(http: ThreadedHttp, url: str) -> None:
    with pytest.raises(InvalidInput):
        await read_all(http, url)


def test_an_address_of_ip_6_needs_no_port() -> None:
    connection = reading._parse("http://[2001:db8::1]/api").connection()
    assert (connection.host, connection.port) == ("2001:db8::1", 80)


async def test_headers_may_have_any_byte(http: ThreadedHttp) -> None:
    odd = saying(head(0, "Server: Ünïcode", "X-Length: 7"))
    async with serving(odd) as server, http.get(server.url, {}) as answer:
        assert (answer.status, answer.headers["x-length"]) == (200, "7")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_nobody_is_led_elsewhere_with_the_token(tmp_path: Path, http: ThreadedHttp, status: str) -> None:
    digest = f"sha256:{hashlib.sha256(b'content').hexdigest()}"
    async with (
        serving(saying(head(7), b"content")) as elsewhere,
        serving(saying(head(0, f"Location: {elsewhere.url}/blobs/{digest}", status=status))) as server,
    ):
        with pytest.raises(Unavailable, match=status[:3]):
            await fetcher(tmp_path, http, server.url).fetch(digest, 7)
        assert not elsewhere.heads


async def test_no_proxy_of_the_environment_is_asked(http: ThreadedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(saying(head(3), b"own")) as server, serving(saying(head(5), b"proxy")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert await read_all(http, server.url) == b"own"
        assert not proxy.heads


# -- cancelled, closed, and many -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [b"", head(MIB) + b"x", head(MIB, "Connection: close") + b"x", b"HTTP/1.0 200 OK\r\n\r\nx"],
    ids=["head", "body", "last-of-its-connection", "without-length"],
)
async def test_who_is_cancelled_waits_for_nobody_and_the_connection_ends(http: ThreadedHttp, said: bytes) -> None:
    async with serving(saying(said, then=silence)) as server:
        waiting = asyncio.create_task(read_all(http, server.url))
        await eventually(lambda: server.heads)
        await asyncio.sleep(0.1)  # it waits for more by now
        began = time.monotonic()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(server.left.wait(), 5)
        assert time.monotonic() - began < 2  # and not after the silence that is allowed


async def test_a_thread_that_comes_too_late_asks_for_nothing(
    http: ThreadedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    connect = HTTPConnection.connect

    def slowly(connection: HTTPConnection) -> None:
        connect(connection)
        reached.set()
        assert go_on.wait(10)

    monkeypatch.setattr(HTTPConnection, "connect", slowly)
    async with serving(saying(head(3), b"abc")) as server:
        waiting = asyncio.create_task(read_all(http, server.url))
        await eventually(reached.is_set)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        await asyncio.wait_for(server.left.wait(), 5)
        assert not server.heads


async def test_closed_it_lets_go_of_who_reads_and_asks_nobody_any_more(http: ThreadedHttp) -> None:
    before = threads()
    async with serving(saying(head(10), b"12345", then=silence)) as server:
        waiting = asyncio.create_task(read_all(http, server.url))
        await eventually(lambda: server.heads)
        await http.close()
        await http.close()
        with pytest.raises(LostError):
            await waiting
        with pytest.raises(LostError):
            await read_all(http, server.url)
        assert len(server.heads) == 1
    await eventually(lambda: threads() <= before)


async def test_those_that_hang_keep_nobody_else_from_reading() -> None:
    http = ThreadedHttp(2)
    async with serving(silence) as stuck, serving(saying(head(3), b"abc")) as server:
        for _ in range(40):
            waiting = asyncio.create_task(read_all(http, stuck.url))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        both = [asyncio.create_task(read_all(http, stuck.url)) for _ in range(2)]
        assert await read_all(http, server.url) == b"abc"
        for waiting in both:
            waiting.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        await http.close()


# -- through the fetcher -------------------------------------------------------------------------------------------


def fetcher(folder: Path, http: ThreadedHttp, url: str) -> Fetcher:
    known = Sources("here")
    known.update((BlobSource(url=url, token=TOKEN),))
    return Fetcher(BlobStore(folder / "blobs"), known, http)


class Half:
    """Has a file, and breaks off in the middle of it as long as ``cut`` says so; ``then`` does what comes then."""

    def __init__(self, content: bytes, then: Play | None = None) -> None:
        self.content = content
        self.then = then
        self.cut = True
        self.server: Server | None = None

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        assert self.server is not None
        asked = self.server.heads[-1].lower().partition("range: bytes=")[2].partition("-")[0]
        start = int(asked or 0)
        part, size = self.content[start:], len(self.content)
        told = f"Content-Range: bytes {start}-{size - 1}/{size}"
        answer = head(len(part), told, status="206 Partial") if start else head(size)
        half = part[: len(part) // 2] if self.cut else part
        await saying(answer, half, then=self.then if self.cut else None)(writer)


@contextlib.asynccontextmanager
async def giving(half: Half) -> AsyncIterator[Server]:
    async with serving(half) as server:
        half.server = server
        yield server


async def test_cancelled_in_the_middle_all_that_came_is_kept_and_nothing_else(
    tmp_path: Path, http: ThreadedHttp
) -> None:
    content = os.urandom(22 * MIB)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    half = Half(content, silence)
    async with giving(half) as server:
        fetching = fetcher(tmp_path, http, server.url)
        waiting = asyncio.create_task(fetching.fetch(digest, len(content)))
        draft = fetching.blobs.draft(digest.replace(":", "-")).path
        await eventually(lambda: draft.exists() and draft.stat().st_size >= 8 * MIB)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        kept = draft.read_bytes()
        assert kept == content[: len(kept)]
        assert len(kept) >= 8 * MIB
        await asyncio.wait_for(server.left.wait(), 5)
        half.cut = False
        path = await fetching.fetch(digest, len(content))
        assert f"bytes={len(kept)}-" in server.heads[-1]
    assert path.read_bytes() == content
    assert not list(fetching.blobs.drafts())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("then", [None, silence], ids=["cut-off", "silent"])
async def test_what_breaks_off_again_and_again_comes_whole_in_the_end(
    tmp_path: Path, http: ThreadedHttp, monkeypatch: pytest.MonkeyPatch, then: Play | None
) -> None:
    monkeypatch.setattr("wireloom.agent.library.download._FIRST_PAUSE_S", 0.01)
    content = os.urandom(9 * MIB + 5)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    half = Half(content, then)
    async with giving(half) as server:
        waiting = asyncio.create_task(fetcher(tmp_path, http, server.url).fetch(digest, len(content)))
        await eventually(lambda: len(server.heads) >= 4)
        half.cut = False
        path = await waiting
    assert path.read_bytes() == content


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate of 127.0.0.1, signed by itself."""
    file = tmp_path / "server.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=here"
    ours = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "keyUsage=digitalSignature,keyCertSign",
        "-keyout",
        str(file),
        "-out",
        f"{file}.crt",
    ]
    subprocess.run([*request.split(), *ours], check=True, capture_output=True, timeout=20)
    with file.open("ab") as both:
        both.write(Path(f"{file}.crt").read_bytes())
    return file


def speaking_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_tls_is_read_from_who_is_trusted(
    http: ThreadedHttp, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    content = os.urandom(3 * MIB)
    async with serving(saying(head(len(content)), content), tls=speaking_tls(certificate)) as server:
        assert await read_all(http, server.url, MIB) == content


async def test_the_token_is_not_for_who_is_not_trusted(http: ThreadedHttp, certificate: Path) -> None:
    async with serving(saying(head(3), b"abc"), tls=speaking_tls(certificate)) as server:
        with pytest.raises(LostError, match="certificate"):
            await read_all(http, server.url)
        assert not server.heads


async def test_the_token_is_not_for_who_has_another_name(
    http: ThreadedHttp, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    async with serving(saying(head(3), b"abc"), tls=speaking_tls(certificate)) as server:
        with pytest.raises(LostError, match="certificate"):
            await read_all(http, server.url.replace("127.0.0.1", "localhost"))
        assert not server.heads


async def test_a_server_without_tls_is_no_server_with_it(http: ThreadedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_CONNECT_S", 0.3)
    async with serving(saying(head(3), b"abc")) as server:
        with pytest.raises(LostError):
            await read_all(http, server.url.replace("http:", "https:"))


async def test_cancelled_while_tls_is_read_the_connection_ends(
    http: ThreadedHttp, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    async with serving(saying(head(MIB), b"x", then=silence), tls=speaking_tls(certificate)) as server:
        waiting = asyncio.create_task(read_all(http, server.url))
        await eventually(lambda: server.heads)
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(server.left.wait(), 5)
