"""Files are fetched from the addresses that were looked at, whatever a host's name means a moment later."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest

from wireloom.controller.library.pinned import PinnedTransport, pinned_to
from wireloom.controller.library.threads import Threads
from wireloom.controller.library.urls import UrlFetcher
from wireloom.errors import Unavailable

CONTENT = b"an image"


class Server:
    """Answers every request with :data:`CONTENT`."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(CONTENT), CONTENT))
        await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield made


async def fetch(url: str, target: Path, *addresses: str) -> str:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    async def remember(validator: str) -> None:
        pass

    async def pause(seconds: float) -> None:
        pass

    fetcher = UrlFetcher(Threads(1), reserve=0, resolve=resolve, pause=pause)
    return (await fetcher.fetch(url, target, remember=remember)).digest


async def test_a_name_is_asked_at_the_address_that_was_looked_at(server: Server, tmp_path: Path) -> None:
    """The name itself is known to nobody else: only the address can have led there."""
    digest = await fetch(f"http://files.invalid:{server.port}/disk.qcow2", tmp_path / "file", "127.0.0.1")
    assert digest == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert f"\r\nhost: files.invalid:{server.port}\r\n".encode() in server.asked[0].lower()


async def test_the_next_address_is_asked_where_one_does_not_answer(server: Server, tmp_path: Path) -> None:
    await fetch(f"http://files.invalid:{server.port}/disk.qcow2", tmp_path / "file", "127.0.0.77", "127.0.0.1")
    assert len(server.asked) == 1


async def test_a_host_that_cannot_be_connected_to_is_unavailable(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"files\.invalid"):
        await fetch(f"http://files.invalid:{server.port}/disk.qcow2", tmp_path / "file", "127.0.0.77")


async def test_a_certificate_must_be_of_the_name_and_not_of_the_address() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    async with httpx.AsyncClient(transport=PinnedTransport(httpx.MockTransport(answer))) as client:
        reply = await client.get("https://files.example/disk", extensions=pinned_to(["2001:db8::1"]))
    assert (seen[0].url.host, seen[0].extensions["sni_hostname"]) == ("2001:db8::1", "files.example")
    assert seen[0].headers["host"] == "files.example"
    assert reply.request.url.host == "files.example"
