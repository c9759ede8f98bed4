"""Files of images between hosts over real HTTP: served, fetched, cut off, killed in the middle, and refused."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.http import ThreadedHttp
from wireloom.agent.library.server import BlobServer, parse_address
from wireloom.agent.library.sources import Sources
from wireloom.errors import InvalidInput, Unavailable
from wireloom.fabric.image_documents import BlobSource
from wireloom.library.blobs import BlobStore

TOKEN = "among-these-hosts"  # noqa: S105 - of nobody
PROGRAM = Path(__file__).with_name("agent_fetch_process.py")
MIB = 1 << 20


class Peer:
    """A host that serves files."""

    def __init__(self, folder: Path) -> None:
        self.blobs = BlobStore(folder / "blobs")
        self.token = TOKEN
        self.server = BlobServer("127.0.0.1:0", self.blobs, lambda: self.token)

    @property
    def url(self) -> str:
        return self.server.served().url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def put(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path = self.blobs.folder.parent / "new"
        path.write_bytes(content)
        self.blobs.adopt(path, digest, move=True)
        return digest

    def source(self, token: str = TOKEN) -> BlobSource:
        return BlobSource(url=self.url, token=token, host="peer", digests=self.server.served().digests)


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    peer = Peer(tmp_path / "peer")
    running = asyncio.create_task(peer.server.run())
    async with asyncio.timeout(10):
        await peer.server.ready()
    yield peer
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture
async def fetching_http() -> AsyncIterator[ThreadedHttp]:
    http = ThreadedHttp()
    yield http
    await http.close()


def fetcher(folder: Path, http: ThreadedHttp, *sources: BlobSource) -> Fetcher:
    known = Sources("here")
    known.update(sources)
    return Fetcher(BlobStore(folder), known, http)


async def eventually(check: Callable[[], object]) -> None:
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def asked(token: str = TOKEN, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **headers}


async def test_a_file_travels_between_hosts(tmp_path: Path, peer: Peer, fetching_http: ThreadedHttp) -> None:
    content = os.urandom(9 * MIB + 17)
    digest = peer.put(content)
    assert peer.server.served().digests == {digest}
    path = await fetcher(tmp_path / "here", fetching_http, peer.source()).fetch(digest, len(content))
    assert path.read_bytes() == content


async def test_parts_are_served(peer: Peer, http: httpx.AsyncClient) -> None:
    digest = peer.put(b"0123456789")
    url = f"{peer.url}/blobs/{digest}"
    for wanted, got, range_told in (
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=2-5", b"2345", "bytes 2-5/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
    ):
        answer = await http.get(url, headers=asked(Range=wanted))
        assert (answer.status_code, answer.content) == (206, got)
        assert answer.headers["Content-Range"] == range_told
    assert (await http.get(url, headers=asked(Range="bytes=10-"))).status_code == 416
    head = await http.head(url, headers=asked())
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "10", b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/blobs/", 404),
        ("GET", "/blobs/sha256:" + "0" * 64, 404),
        ("GET", "/blobs/../blobs/sha256:" + "0" * 64, 404),
        ("GET", "/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/etc/passwd", 404),
    ],
)
async def test_nothing_else_is_served(peer: Peer, http: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    assert (await http.request(method, f"{peer.url}{path}", headers=asked())).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed(peer: Peer, http: httpx.AsyncClient, method: str) -> None:
    digest = peer.put(b"content")
    answer = await http.request(method, f"{peer.url}/blobs/{digest}", headers=asked(), content=b"x")
    assert answer.status_code == 405
    assert peer.blobs.path(digest).read_bytes() == b"content"


@pytest.mark.parametrize("shown", [None, "", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer ü{TOKEN}"])
async def test_who_has_no_token_gets_nothing(peer: Peer, http: httpx.AsyncClient, shown: str | None) -> None:
    digest = peer.put(b"content")
    headers = {} if shown is None else {"Authorization": shown.encode()}
    for path in (f"/blobs/{digest}", "/blobs/sha256:" + "0" * 64, "/"):
        answer = await http.get(f"{peer.url}{path}", headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 401
        assert answer.content in {b"", b"401: Unauthorized"}


async def test_before_the_controller_has_given_a_token_nobody_may(peer: Peer, http: httpx.AsyncClient) -> None:
    digest = peer.put(b"content")
    peer.token = ""
    assert (await http.get(f"{peer.url}/blobs/{digest}", headers={"Authorization": "Bearer"})).status_code == 401


async def test_a_host_with_an_old_token_is_told_so(tmp_path: Path, peer: Peer, fetching_http: ThreadedHttp) -> None:
    digest = peer.put(b"content")
    with pytest.raises(Unavailable, match="does not let"):
        await fetcher(tmp_path / "here", fetching_http, peer.source("old")).fetch(digest, 7)


async def test_connections_are_bounded_and_those_that_are_there_go_on(peer: Peer, http: httpx.AsyncClient) -> None:
    digest = peer.put(b"content")
    with contextlib.ExitStack() as held:
        for _ in range(80):
            held.enter_context(socket.create_connection(("127.0.0.1", peer.port), timeout=5))
        await asyncio.sleep(0.2)
        with pytest.raises(httpx.TransportError):
            await http.get(f"{peer.url}/blobs/{digest}", headers=asked())
    async with asyncio.timeout(10):
        while True:  # as soon as they have left
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(f"{peer.url}/blobs/{digest}", headers=asked())).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def test_transfers_at_the_same_time_are_bounded(peer: Peer, http: httpx.AsyncClient) -> None:
    digest = peer.put(bytes(64 * MIB))
    url = f"{peer.url}/blobs/{digest}"
    async with contextlib.AsyncExitStack() as held:
        for _ in range(8):
            answer = await held.enter_async_context(http.stream("GET", url, headers=asked()))
            assert answer.status_code == 200
        answer = await http.get(url, headers=asked())
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize("text", ["", "9090", ":9090", "host:", "host:x", "host:70000", "0.0.0.0:9090", "[::]:9090"])
def test_an_address_that_others_cannot_reach_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("192.0.2.7:90", ("192.0.2.7", 90)), ("[2001:db8::1]:90", ("2001:db8::1", 90)), ("h7.lab:90", ("h7.lab", 90))],
)
def test_addresses_are_understood(text: str, parsed: tuple[str, int]) -> None:
    assert parse_address(text) == parsed


async def test_a_port_that_is_taken_is_a_problem_and_not_an_end(tmp_path: Path, peer: Peer) -> None:
    server = BlobServer(f"127.0.0.1:{peer.port}", peer.blobs, lambda: TOKEN)
    running = asyncio.create_task(server.run())
    await eventually(lambda: server.problem)
    assert not running.done()
    assert server.served().url == ""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# -- killed in the middle --------------------------------------------------------------------------------------


class Slow:
    """Passes connections on to a peer, so slowly that there is a middle."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.pause_s = 0.002
        self.passed = 0
        self._talks: list[asyncio.StreamWriter] = []
        self._dead = False

    def die(self) -> None:
        """Break off, and answer nobody any more."""
        self._dead = True
        for talk in self._talks:
            talk.transport.abort()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talks.append(writer)
        if self._dead:
            writer.transport.abort()
            return
        back, forth = await asyncio.open_connection("127.0.0.1", self._to)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            forth.write(await reader.readuntil(b"\r\n\r\n"))
            while piece := await back.read(64 * 1024):
                writer.write(piece)
                await writer.drain()
                self.passed += len(piece)
                await asyncio.sleep(self.pause_s)
        writer.close()
        forth.close()


@contextlib.asynccontextmanager
async def fetching(folder: Path, url: str, digest: str, size: int) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(folder), url, TOKEN, digest, str(size), stdout=PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def told(process: Process, least: int) -> int:
    """How many bytes there are, as soon as they are so many; -1: it is done."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        async for line in process.stdout:
            word, _, count = line.decode().strip().partition(" ")
            if word == "done":
                return -1
            if int(count) >= least:
                return int(count)
    raise AssertionError("it ended")


async def test_kill_9_while_it_fetches_loses_nothing_and_leaves_nothing_half(tmp_path: Path, peer: Peer) -> None:
    content = os.urandom(48 * MIB)
    digest, folder = peer.put(content), tmp_path / "here"
    slow = Slow(peer.port)
    async with slow.listening() as url:
        for kill_at in (9 * MIB, 21 * MIB):
            async with fetching(folder, url, digest, len(content)) as process:
                assert await told(process, kill_at) >= kill_at
                process.kill()
            blobs = BlobStore(folder)
            assert not blobs.has(digest)
            assert list(blobs.drafts())
        slow.pause_s = 0
        async with fetching(folder, url, digest, len(content)) as process:
            assert await told(process, len(content) + 1) == -1
    blobs = BlobStore(folder)
    assert blobs.path(digest).read_bytes() == content
    assert not list(blobs.drafts())
    assert slow.passed < 1.5 * len(content)  # what had come was not sent again


async def test_a_peer_that_dies_in_the_middle_is_taken_over_from_by_another(
    tmp_path: Path, peer: Peer, fetching_http: ThreadedHttp
) -> None:
    content = os.urandom(24 * MIB)
    digest = peer.put(content)
    slow = Slow(peer.port)
    async with slow.listening() as url:
        dying = BlobSource(url=url, token=TOKEN, host="dying", digests=frozenset({digest}))
        other = peer.source().model_copy(update={"host": "other"})
        coming = asyncio.create_task(
            fetcher(tmp_path / "here", fetching_http, dying, other).fetch(digest, len(content))
        )
        await eventually(lambda: slow.passed > 5 * MIB)
        slow.die()
        path = await coming
    assert path.read_bytes() == content
