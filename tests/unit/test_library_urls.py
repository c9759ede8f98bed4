"""Files fetched by HTTP: they go on where they stopped, are bounded, and nothing secret of an address is shown."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import httpx
import pytest

from wireloom.controller.library import incoming
from wireloom.controller.library.threads import Threads
from wireloom.controller.library.urls import UrlFetcher, read_address
from wireloom.errors import (
    CapacityExceeded,
    InvalidInput,
    NotFound,
    NotPermitted,
    RuntimeFailed,
    Unavailable,
    WireloomError,
)
from wireloom.library.values import ImageRefused, Limits

CONTENT = bytes(range(256)) * 100
URL = "http://files.example/images/vios%20159.qcow2"
TAG = {"ETag": '"one"'}


class Body(httpx.AsyncByteStream):
    """Gives ``content``, then fails when it is told to."""

    def __init__(self, content: bytes, error: Exception | None = None) -> None:
        self.content = content
        self.error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for place in range(0, len(self.content), 1000):
            yield self.content[place : place + 1000]
        if self.error is not None:
            raise self.error


class Server:
    """Answers one after the other; the last one again and again. ``asked`` is what came."""

    def __init__(self, *answers: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)


def whole(content: bytes = CONTENT, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    told = {"Content-Length": str(len(content)), **TAG, **headers}
    return lambda request: httpx.Response(200, headers=told, stream=Body(content))


def broken(count: int, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    """All was announced, and so many bytes come."""
    told = {"Content-Length": str(len(CONTENT)), **TAG, **headers}
    return lambda request: httpx.Response(200, headers=told, stream=Body(CONTENT[:count], httpx.ReadError("secret")))


def rest(request: httpx.Request) -> httpx.Response:
    first = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
    told = {"Content-Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}", **TAG}
    return httpx.Response(206, headers=told, stream=Body(CONTENT[first:]))


def status(code: int, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(code, headers=headers)


class Fetch:
    """A fetcher of a test, and what it remembers."""

    def __init__(self, folder: Path, server: Server, addresses: dict[str, str] | None = None, size: int = 1 << 20):
        self.server = server
        self.target = folder / "file"
        self.addresses = addresses or {}
        self.remembered: list[str] = []
        self.told: list[str] = []
        self.progress: list[tuple[int, int]] = []
        self.pauses: list[float] = []
        self.fetcher = UrlFetcher(
            Threads(2),
            limits=Limits(size=size),
            reserve=0,
            resolve=self.resolve,
            transport=httpx.MockTransport(server),
            pause=self.pause,
        )

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        return [self.addresses.get(host, "8.8.8.8")]

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def remember(self, validator: str) -> None:
        self.remembered.append(validator)

    async def __call__(self, url: str = URL, validator: str = "") -> str:
        fetched = await self.fetcher.fetch(
            url,
            self.target,
            validator=validator,
            remember=self.remember,
            progress=lambda done, total: self.progress.append((done, total)),
            told=self.told.append,
        )
        assert fetched.digest == f"sha256:{hashlib.sha256(self.target.read_bytes()).hexdigest()}"
        assert fetched.size == self.target.stat().st_size
        return fetched.name


async def test_a_file_comes_with_its_name_and_digest(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(whole()))
    assert await fetch() == "vios 159.qcow2"
    assert fetch.target.read_bytes() == CONTENT
    assert fetch.remembered == ['"one"']
    assert fetch.progress[-1] == (len(CONTENT), len(CONTENT))
    assert fetch.server.asked[0].headers["Accept-Encoding"] == "identity"


async def test_the_server_may_say_the_name(tmp_path: Path) -> None:
    header = {"Content-Disposition": 'attachment; filename="../../x\\evil.img"'}
    assert await Fetch(tmp_path, Server(whole(**header)))() == "evil.img"


async def test_what_breaks_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(broken(3000), rest))
    await fetch()
    assert fetch.target.read_bytes() == CONTENT
    again = fetch.server.asked[1].headers
    assert (again["Range"], again["If-Range"]) == ("bytes=3000-", '"one"')
    assert "secret" not in "".join(fetch.told)
    assert len(fetch.told) == 1


async def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(rest))
    fetch.target.write_bytes(CONTENT[:5000])
    await fetch(validator='"one"')
    assert fetch.target.read_bytes() == CONTENT


async def test_it_begins_anew_when_nobody_can_tell_whether_it_is_the_same_file(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(whole(ETag='W/"weak"')))
    fetch.target.write_bytes(b"something else")
    await fetch()
    assert "Range" not in fetch.server.asked[0].headers
    assert fetch.target.read_bytes() == CONTENT


async def test_it_begins_anew_when_the_server_sends_all_of_another_file(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(whole(b"new content", ETag='"two"')))
    fetch.target.write_bytes(CONTENT[:5000])
    await fetch(validator='"one"')
    assert fetch.target.read_bytes() == b"new content"
    assert fetch.remembered == ['"two"']


async def test_what_is_all_there_is_not_fetched_again(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(status(416, **{"Content-Range": f"bytes */{len(CONTENT)}"})))
    fetch.target.write_bytes(CONTENT)
    await fetch(validator='"one"')
    assert fetch.target.read_bytes() == CONTENT


async def test_a_part_that_was_not_asked_for_is_not_taken(tmp_path: Path) -> None:
    def wrong(request: httpx.Request) -> httpx.Response:
        told = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}", **TAG}
        return httpx.Response(206, headers=told, stream=Body(CONTENT))

    fetch = Fetch(tmp_path, Server(wrong, whole()))
    fetch.target.write_bytes(CONTENT[:5000])
    await fetch(validator='"one"')
    assert fetch.target.read_bytes() == CONTENT


async def test_it_gives_up_after_some_tries_that_bring_nothing(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(status(503)))
    with pytest.raises(Unavailable):
        await fetch()
    assert len(fetch.server.asked) == 6
    assert fetch.pauses == [2, 4, 8, 16, 30]


@pytest.mark.parametrize(
    ("code", "error"),
    [(404, NotFound), (410, NotFound), (401, NotPermitted), (403, NotPermitted), (418, RuntimeFailed)],
)
async def test_what_the_server_refuses_is_not_asked_again(
    tmp_path: Path, code: int, error: type[WireloomError]
) -> None:
    fetch = Fetch(tmp_path, Server(status(code)))
    with pytest.raises(error):
        await fetch()
    assert len(fetch.server.asked) == 1


async def test_what_is_too_large_is_refused_before_it_begins(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(whole()), size=1000)
    with pytest.raises(ImageRefused) as caught:
        await fetch()
    assert caught.value.details == {"reason": "size"}
    assert fetch.target.stat().st_size == 0


async def test_a_stream_without_an_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "_BATCH", 1000)
    endless = Server(lambda request: httpx.Response(200, stream=Body(CONTENT)))
    fetch = Fetch(tmp_path, endless, size=3000)
    with pytest.raises(InvalidInput):
        await fetch()
    assert fetch.target.stat().st_size <= 3000


async def test_a_disk_without_room_is_told_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "free_bytes", lambda folder: 10)
    with pytest.raises(CapacityExceeded):
        await Fetch(tmp_path, Server(whole()))()


async def test_redirects_are_followed_and_credentials_stay_with_their_server(tmp_path: Path) -> None:
    away = status(302, Location="https://mirror.example/other.qcow2")
    fetch = Fetch(tmp_path, Server(away, whole()))
    await fetch("http://user:secret@files.example/x.qcow2")
    first, second = fetch.server.asked
    assert "Authorization" in first.headers
    assert "Authorization" not in second.headers
    assert str(first.url) == "http://files.example/x.qcow2"


async def test_redirects_without_end_are_not_followed(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(status(302, Location="/again")))
    with pytest.raises(RuntimeFailed):
        await fetch()
    assert len(fetch.server.asked) == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://files.example/x", "http://", "//[nonsense"])
async def test_redirects_lead_to_files_on_the_web_alone(tmp_path: Path, target: str) -> None:
    with pytest.raises((RuntimeFailed, Unavailable)):
        await Fetch(tmp_path, Server(status(302, Location=target)))()


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "224.0.0.1", "::", "::ffff:169.254.169.254"])
async def test_addresses_where_no_file_server_is_are_not_asked(tmp_path: Path, address: str) -> None:
    fetch = Fetch(tmp_path, Server(whole()), {"files.example": address})
    with pytest.raises(NotPermitted):
        await fetch()
    assert fetch.server.asked == []


async def test_a_public_server_cannot_send_us_to_a_private_address(tmp_path: Path) -> None:
    away = status(302, Location="http://inside.example/x")
    fetch = Fetch(tmp_path, Server(away, whole()), {"inside.example": "127.0.0.1"})
    with pytest.raises(NotPermitted):
        await fetch()
    assert len(fetch.server.asked) == 1


async def test_a_private_address_that_the_user_names_is_asked(tmp_path: Path) -> None:
    fetch = Fetch(tmp_path, Server(whole()), {"files.example": "192.168.1.5"})
    await fetch()
    assert fetch.target.read_bytes() == CONTENT


def test_what_of_an_address_is_secret() -> None:
    plain = read_address("https://files.example:8443/a/b.qcow2#part")
    assert (plain.plain, plain.secret) == ("https://files.example:8443/a/b.qcow2", "")
    whole = "https://me:hunter2@files.example/b.qcow2?signature=abc"
    signed = read_address(whole)
    assert signed.plain == "https://files.example/b.qcow2"
    assert (signed.secret, signed.password) == (whole, "hunter2")


@pytest.mark.parametrize(
    "text", ["file:///etc/passwd", "ftp://x/y", "x.qcow2", "http://", "http://a\nb/", "http://x/" + "y" * 5000]
)
def test_what_is_no_address_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_address(text)
    assert text not in str(caught.value)
