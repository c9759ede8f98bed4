"""The tus protocol as a client that knows nothing of us speaks it, over real HTTP; and stored files, by digest."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from api_rig import Api
from catalogue_rig import add, digest_of
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from wireloom.controller.library import incoming
from wireloom.errors import CapacityExceeded, FileRefused, NotFound
from wireloom.model.images import ImageView
from wireloom.testing.installation import until

#: FastAPI silences it while it builds a body's validator; ours are built later, at their first use.
pytestmark = pytest.mark.filterwarnings("ignore:The 'alias' attribute")

CONTENT = bytes(range(256)) * 16
BYTES = {"Content-Type": "application/offset+octet-stream"}


class Speaker:
    """A raw client of the protocol."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def ask(self, method: str, path: str, content: bytes | AsyncIterator[bytes] = b"", **headers: Any) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.request(method, path, content=content, headers={"Tus-Resumable": "1.0.0", **named})

    async def begin(self, **headers: Any) -> str:
        answer = await self.ask("POST", "/api/v1/uploads", **headers)
        assert (answer.status_code, answer.content) == (201, b"")
        return str(answer.headers["location"])

    async def patch(self, path: str, offset: int, content: bytes | AsyncIterator[bytes], **headers: Any) -> Any:
        return await self.ask("PATCH", path, content, Upload_Offset=str(offset), **(BYTES | headers))

    async def offset(self, path: str) -> str:
        return str((await self.ask("HEAD", path)).headers["upload-offset"])


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async for api in Api(tmp_path).run():
        yield api


@pytest.fixture
async def http(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {api.client.endpoint.token}"}
    async with httpx.AsyncClient(base_url=api.client.endpoint.url, headers=headers, timeout=10) as http:
        yield http


@pytest.fixture
def tus(http: httpx.AsyncClient) -> Speaker:
    return Speaker(http)


@pytest.fixture
async def image(api: Api, tmp_path: Path) -> ImageView:
    rig: Any = SimpleNamespace(controller=api.controller, folder=tmp_path)
    return await add(rig, "box.qcow2", CONTENT)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def refused(answer: httpx.Response, status: int) -> str:
    """The refusal's code; it has the form of every error, and of the protocol."""
    assert answer.status_code == status, answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"
    return str(answer.json()["error"]["code"])


# ---------------------------------------------------------------- the way of an upload


async def test_what_was_sent_and_never_imported_is_listed_and_can_be_removed(api: Api, tus: Speaker) -> None:
    images = api.client.images
    assert await images.uploads() == []
    path = await tus.begin(Upload_Length="4096", Upload_Metadata=f"filename {in_base64('vios.qcow2')}")
    await tus.patch(path, 0, CONTENT)
    late = await tus.begin(Upload_Defer_Length="1")
    listed = await images.uploads()
    assert [(item.file, item.size, item.offset, item.job) for item in listed] == [
        ("vios.qcow2", 4096, 4096, ""),
        ("image", None, 0, ""),
    ]
    assert path.endswith(listed[0].id)
    await images.discard_upload(listed[0].id)
    await images.discard_upload(listed[0].id)
    assert [item.id for item in await images.uploads()] == [late.rpartition("/")[2]]


async def test_the_server_says_what_it_speaks(http: httpx.AsyncClient) -> None:
    answer = await http.options("/api/v1/uploads")
    assert (answer.status_code, answer.headers["tus-version"]) == (204, "1.0.0")
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation", "creation-defer-length", "termination", "expiration", "checksum",
    }  # fmt: skip
    assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"
    assert int(answer.headers["tus-max-size"]) > 2**37


async def test_a_file_comes_in_parts(api: Api, tus: Speaker) -> None:
    metadata = f"filename {in_base64('disk é.qcow2')},sha256 {in_base64(hashlib.sha256(CONTENT).hexdigest())},marked"
    path = await tus.begin(Upload_Length=str(len(CONTENT)), Upload_Metadata=metadata)
    first = await tus.patch(path, 0, CONTENT[:1000])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "1000")
    looked = await tus.ask("HEAD", path)
    assert (looked.status_code, looked.headers["upload-offset"]) == (200, "1000")
    assert (looked.headers["upload-length"], looked.headers["cache-control"]) == (str(len(CONTENT)), "no-store")
    assert set(looked.headers["upload-metadata"].split(",")) == set(metadata.split(","))
    last = await tus.patch(path, 1000, CONTENT[1000:])
    assert last.headers["upload-offset"] == str(len(CONTENT))
    upload = await api.controller.library.uploads.complete(path.rpartition("/")[2])
    assert (upload.file, upload.offset) == ("disk é.qcow2", len(CONTENT))


async def test_what_came_before_the_connection_was_lost_is_there(tus: Speaker) -> None:
    path = await tus.begin(Upload_Length=str(len(CONTENT)))

    async def cut_off() -> AsyncIterator[bytes]:
        yield CONTENT[:700]
        await asyncio.sleep(0.05)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await tus.patch(path, 0, cut_off(), Content_Length=str(len(CONTENT)))

    async def kept() -> bool:
        return await tus.offset(path) == "700"

    await until(kept, "what came is not there", within_s=5)
    assert (await tus.patch(path, 700, CONTENT[700:])).status_code == 204


async def test_a_controller_that_stops_in_the_midst_does_not_wait_and_keeps_what_it_has_told(
    api: Api, tus: Speaker
) -> None:
    path = await tus.begin(Upload_Length=str(len(CONTENT)))
    await tus.patch(path, 0, CONTENT[:700])
    sent, never = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield CONTENT[700:900]
        sent.set()
        await never.wait()
        yield b""

    sending = asyncio.create_task(tus.patch(path, 700, slow()))
    await sent.wait()
    async with asyncio.timeout(10):
        await api.service.stop()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    kept = (api.settings.paths.library_folder / "uploads" / path.rpartition("/")[2]).read_bytes()
    assert len(kept) >= 700
    assert CONTENT.startswith(kept)


async def test_the_length_may_be_said_later(tus: Speaker) -> None:
    path = await tus.begin(Upload_Defer_Length="1")
    assert (await tus.ask("HEAD", path)).headers["upload-defer-length"] == "1"
    assert (await tus.patch(path, 0, b"12345")).status_code == 204
    assert (await tus.patch(path, 5, b"678", Upload_Length="8")).headers["upload-offset"] == "8"
    looked = await tus.ask("HEAD", path)
    assert (looked.headers["upload-length"], "upload-defer-length" in looked.headers) == ("8", False)
    assert refused(await tus.patch(path, 8, b"", Upload_Length="9"), 409) == "conflict"


async def test_an_empty_file_is_complete_at_once(api: Api, tus: Speaker) -> None:
    path = await tus.begin(Upload_Length="0")
    assert await tus.offset(path) == "0"
    assert (await api.controller.library.uploads.complete(path.rpartition("/")[2])).complete


async def test_an_upload_is_dropped(api: Api, tus: Speaker) -> None:
    path = await tus.begin(Upload_Length="10")
    assert (await tus.ask("DELETE", path)).status_code == 204
    assert refused(await tus.ask("DELETE", path), 404) == "not-found"
    assert (await tus.ask("HEAD", path)).status_code == 404
    assert not list((api.settings.paths.library_folder / "uploads").iterdir())


async def test_an_upload_tells_when_its_time_is_over_and_is_gone_then(
    api: Api, tus: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await tus.ask("POST", "/api/v1/uploads", Upload_Length="10")
    days = (parsedate_to_datetime(answer.headers["upload-expires"]).timestamp() - time.time()) / 86400
    assert days == pytest.approx(7, abs=0.01)
    path = str(answer.headers["location"])
    monkeypatch.setattr(api.controller.library.uploads, "_clock", lambda: time.time() + 8 * 86400)
    assert (await tus.ask("HEAD", path)).status_code == 404
    assert refused(await tus.patch(path, 0, b"late"), 404) == "not-found"


async def test_those_who_can_only_post_say_the_method_in_a_header(tus: Speaker) -> None:
    path = await tus.begin(Upload_Length="3")
    headers = {"Upload_Offset": "0", "X_HTTP_Method_Override": "PATCH", **BYTES}
    assert (await tus.ask("POST", path, b"abc", **headers)).headers["upload-offset"] == "3"
    assert refused(await tus.ask("POST", path, b""), 400) == "invalid-input"
    assert (await tus.ask("POST", path, X_HTTP_Method_Override="DELETE")).status_code == 204
    assert (await tus.ask("HEAD", path)).status_code == 404


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("version", ["", "0.2.2", "1.0"])
async def test_another_version_is_refused_and_nothing_happens(tus: Speaker, version: str) -> None:
    path = await tus.begin(Upload_Length="3")
    for method, where in (("POST", "/api/v1/uploads"), ("PATCH", path), ("DELETE", path)):
        answer = await tus.ask(method, where, Tus_Resumable=version, Upload_Length="3")
        assert refused(answer, 412) == "invalid-input"
        assert answer.headers["tus-version"] == "1.0.0"
    assert (await tus.ask("HEAD", path, Tus_Resumable=version)).status_code == 412
    assert await tus.offset(path) == "0"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload_Length": "3", "Upload_Defer_Length": "1"},
        {"Upload_Defer_Length": "2"},
        {"Upload_Length": "-1"},
        {"Upload_Length": "1e3"},
        {"Upload_Length": "9" * 30},
        {"Upload_Length": "3", "Upload_Metadata": "filename not-base64!"},
        {"Upload_Length": "3", "Upload_Metadata": "filename /w=="},
        {"Upload_Length": "3", "Upload_Metadata": b"filename caf\xe9"},
        {"Upload_Length": "3", "Upload_Metadata": "a YQ==,a Yg=="},
        {"Upload_Length": "3", "Upload_Metadata": f"filename {in_base64('x' * 5000)}"},
        {"Upload_Length": "3", "Upload_Metadata": f"sha256 {in_base64('abc')}"},
    ],
)
async def test_what_makes_no_upload_is_refused(api: Api, tus: Speaker, headers: dict[str, Any]) -> None:
    assert refused(await tus.ask("POST", "/api/v1/uploads", **headers), 400) == "invalid-input"
    assert not list((api.settings.paths.library_folder / "uploads").iterdir())


async def test_names_of_files_are_made_harmless(api: Api, tus: Speaker) -> None:
    name = in_base64("../../etc/pass\nwd")
    path = await tus.begin(Upload_Length="3", Upload_Metadata=f"filename {name}")
    assert (await api.controller.library.uploads.get(path.rpartition("/")[2])).file == "pass_wd"


async def test_bytes_have_to_say_that_they_are(tus: Speaker) -> None:
    path = await tus.begin(Upload_Length="3")
    answer = await tus.ask("PATCH", path, b"abc", Upload_Offset="0", Content_Type="application/json")
    assert refused(answer, 415) == "invalid-input"
    assert refused(await tus.ask("PATCH", path, b"abc", **BYTES), 400) == "invalid-input"
    assert refused(await tus.ask("PATCH", path, b"abc", Upload_Offset="zero", **BYTES), 400) == "invalid-input"
    assert await tus.offset(path) == "0"


async def test_bytes_go_where_it_ends_and_nowhere_else(tus: Speaker) -> None:
    path = await tus.begin(Upload_Length="10")
    await tus.patch(path, 0, b"12345")
    for offset in (0, 4, 6):
        assert refused(await tus.patch(path, offset, b"x"), 409) == "conflict"
    assert refused(await tus.patch(path, 5, b"6789 and more"), 400) == "invalid-input"
    assert await tus.offset(path) == "5"


async def test_two_do_not_write_at_once(tus: Speaker) -> None:
    path = await tus.begin(Upload_Length="10")
    go = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"12345"
        await go.wait()
        yield b"67890"

    slow_one = asyncio.create_task(tus.patch(path, 0, slow()))

    async def held() -> bool:
        answer = await tus.patch(path, 0, b"")
        return answer.status_code == 409 and refused(answer, 409) == "conflict"

    await until(held, "nobody writes", within_s=5)
    go.set()
    assert (await slow_one).headers["upload-offset"] == "10"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_bytes_with_another_checksum_are_dropped(tus: Speaker, algorithm: str) -> None:
    path = await tus.begin(Upload_Length="10")
    right = base64.b64encode(hashlib.new(algorithm, b"12345").digest()).decode()
    assert (await tus.patch(path, 0, b"12345", Upload_Checksum=f"{algorithm} {right}")).status_code == 204
    wrong = await tus.patch(path, 5, b"67890", Upload_Checksum=f"{algorithm} {right}")
    assert refused(wrong, 460) == "checksum-mismatch"
    assert wrong.json()["error"]["retryable"]
    for nonsense in ("md5 YQ==", "sha1 nonsense!", "sha1", b"sha1 caf\xe9"):
        assert (await tus.patch(path, 5, b"67890", Upload_Checksum=nonsense)).status_code in {400, 460}
    assert await tus.offset(path) == "5"


async def test_what_is_too_large_or_has_no_room_is_refused_before_it_comes(
    api: Api, tus: Speaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(await tus.ask("POST", "/api/v1/uploads", Upload_Length=str(2**50)), 413) == "image-refused"
    path = await tus.begin(Upload_Defer_Length="1")
    monkeypatch.setattr(incoming, "free_bytes", lambda _folder: incoming.RESERVE + 1000)
    answer = await tus.ask("POST", "/api/v1/uploads", Upload_Length="1001")
    assert refused(answer, 507) == "capacity-exceeded"
    assert answer.json()["error"]["details"] == {"needed": 1001, "free": 1000}
    assert refused(await tus.patch(path, 0, b"", Upload_Length="1001"), 507) == "capacity-exceeded"
    (tmp_path / "file").write_bytes(bytes(1001))
    with pytest.raises(CapacityExceeded, match="no room"):
        await api.client.images.begin_upload(tmp_path / "file")


async def test_a_disk_that_is_full_in_the_midst_ends_it_cleanly_and_it_goes_on_later(
    tus: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await tus.begin(Upload_Length=str(len(CONTENT)))
    await tus.patch(path, 0, CONTENT[:1000])
    with monkeypatch.context() as patch:
        patch.setattr(incoming, "free_bytes", lambda _folder: incoming.RESERVE)
        assert refused(await tus.patch(path, 1000, CONTENT[1000:]), 507) == "capacity-exceeded"
    assert await tus.offset(path) == "1000"
    assert (await tus.patch(path, 1000, CONTENT[1000:])).status_code == 204


async def test_an_upload_that_a_job_has_is_left_alone(api: Api, tus: Speaker) -> None:
    uploads = api.controller.library.uploads
    upload = await uploads.create(10, {}, "token", job_id="job")
    assert refused(await tus.ask("DELETE", f"/api/v1/uploads/{upload}"), 409) == "conflict"


@pytest.mark.parametrize("name", ["0" * 32, "x", "%2e%2e", "0" * 31 + "%0a"])
async def test_what_is_no_upload_is_not_found(tus: Speaker, name: str) -> None:
    assert refused(await tus.patch(f"/api/v1/uploads/{name}", 0, b""), 404) == "not-found"


async def test_codes_of_refusals_survive_the_client(api: Api, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FileRefused) as found:
        await api.client.images.begin_upload(tmp_path / "large")
    assert (found.value.code, found.value.details) == ("image-refused", {"reason": "size"})
    with pytest.raises(NotFound):
        await api.client.images.send(f"{api.client.endpoint.url}/api/v1/uploads/{'0' * 32}", tmp_path / "large")
    await api.client.images.discard_upload(f"{api.client.endpoint.url}/api/v1/uploads/{'0' * 32}")


# ---------------------------------------------------------------- stored files


async def test_a_stored_file_is_read_from_any_byte(http: httpx.AsyncClient, image: ImageView) -> None:
    path = f"/api/v1/blobs/{image.digest}"
    whole = await http.get(path)
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, CONTENT, "bytes")
    assert whole.headers["etag"] == f'"{image.digest}"'
    for asked, part in (("0-9", CONTENT[:10]), ("4000-", CONTENT[4000:]), ("-16", CONTENT[-16:])):
        answer = await http.get(path, headers={"Range": f"bytes={asked}"})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"].endswith(f"/{len(CONTENT)}")
    for name, status in ((whole.headers["etag"], 206), ('"another"', 200)):
        assert (await http.get(path, headers={"Range": "bytes=5-", "If-Range": name})).status_code == status
    beyond = await http.get(path, headers={"Range": f"bytes={len(CONTENT)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
    head = await http.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(CONTENT)), b"")


@pytest.mark.parametrize(
    ("digest", "status"),
    [
        (digest_of(b"absent"), 404),
        ("sha256:12", 422),
        ("..", 404),
        ("sha256:" + "A" * 64, 422),
        ("%2e%2e%2fsecret", 404),
    ],
)
async def test_what_is_not_stored_is_not_found(http: httpx.AsyncClient, digest: str, status: int) -> None:
    assert (await http.get(f"/api/v1/blobs/{digest}")).status_code == status


# ---------------------------------------------------------------- tokens of hosts


async def test_a_host_reads_stored_files_and_nothing_else(api: Api, http: httpx.AsyncClient, image: ImageView) -> None:
    host = {"Authorization": f"Bearer {api.controller.library.distribution.host_token('h1')}"}
    path = f"/api/v1/blobs/{image.digest}"
    assert (await http.get(path, headers={**host, "Range": "bytes=-3"})).content == CONTENT[-3:]
    assert (await http.head(path, headers=host)).status_code == 200
    upload = await api.controller.library.uploads.create(10, {}, "upload-token")
    for method, where in (
        ("DELETE", path),
        ("POST", path),
        ("GET", "/api/v1/images"),
        ("GET", f"/api/v1/images/{image.id}"),
        ("GET", f"{path}/../../status"),
        ("GET", f"{path}%0a"),
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/api/v1/image-secrets"),
        ("POST", "/api/v1/tickets"),
        ("POST", "/api/v1/uploads"),
        ("HEAD", f"/api/v1/uploads/{upload}"),
    ):
        assert (await http.request(method, where, headers=host)).status_code == 401, (method, where)


async def test_tokens_that_are_made_up_or_of_strangers_open_nothing(
    api: Api, http: httpx.AsyncClient, image: ImageView
) -> None:
    library = api.controller.library
    own = library.distribution.host_token("h1")
    for token in (
        "h1",
        "h1.",
        f"h2.{own.partition('.')[2]}",
        library.distribution.host_token("h2"),
        library.distribution._tokens.serve_token("h1"),
        f"h1.{library.distribution._tokens.serve_token('h1')}",
        f"{own}x",
        "h\u00e9.\u00e9",
    ):
        bearer = f"Bearer {token}".encode()
        answer = await http.get(f"/api/v1/blobs/{image.digest}", headers={b"Authorization": bearer})
        assert answer.status_code == 401, token


async def test_a_host_continues_its_upload_and_nothing_else(
    api: Api, http: httpx.AsyncClient, image: ImageView
) -> None:
    uploads = api.controller.library.uploads
    own, other = await uploads.create(None, {}, "own-token"), await uploads.create(None, {}, "other-token")
    users = await uploads.create(10, {})
    http.headers["Authorization"] = "Bearer own-token"
    tus = Speaker(http)
    path = f"/api/v1/uploads/{own}"
    assert (await tus.patch(path, 0, b"12345", Upload_Length="5")).status_code == 204
    assert await tus.offset(path) == "5"
    for method, where in (
        ("DELETE", path),
        ("POST", path),
        ("HEAD", f"/api/v1/uploads/{other}"),
        ("PATCH", f"/api/v1/uploads/{other}"),
        ("HEAD", f"/api/v1/uploads/{users}"),
        ("PATCH", f"/api/v1/uploads/{users}"),
        ("HEAD", f"/api/v1/uploads/{'0' * 32}"),
        ("POST", "/api/v1/uploads"),
        ("OPTIONS", "/api/v1/uploads"),
        ("GET", f"/api/v1/blobs/{image.digest}"),
        ("POST", "/api/v1/images/imports"),
        ("GET", "/api/v1/status"),
    ):
        answer = await tus.ask(method, where, X_HTTP_Method_Override="PATCH")
        assert answer.status_code == 401, (method, where)
    assert await uploads.offset(own) == 5


async def test_tokens_of_hosts_open_no_websocket(api: Api) -> None:
    await api.controller.library.uploads.create(None, {}, "own-token")
    address = f"ws{api.client.endpoint.url.removeprefix('http')}/api/v1/stream"
    for token in (api.controller.library.distribution.host_token("h1"), "own-token"):
        with pytest.raises(InvalidStatus) as found:
            async with connect(address, additional_headers={"Authorization": f"Bearer {token}"}):
                raise AssertionError
        assert found.value.response.status_code == 401
    async with connect(address, additional_headers={"Authorization": f"Bearer {api.client.endpoint.token}"}) as socket:
        assert await socket.recv()
