"""A file is sent once, whole, over whatever happens on the way."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from tus_rig import COLLECTION, FarEnd

from wireloom import uploading
from wireloom.errors import CapacityExceeded, Conflict, InvalidInput, NotFound, Unauthenticated, Unavailable
from wireloom.uploading import Sent, TusClient

CONTENT = os.urandom(50_000)
SENT = Sent(len(CONTENT), f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "_FIRST_PAUSE_S", 0)
    monkeypatch.setattr(uploading, "_PART", 20_000)
    monkeypatch.setattr(uploading, "_BLOCK", 3_000)


@pytest.fixture
def far() -> FarEnd:
    return FarEnd()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "vendor image.qcow2"
    path.write_bytes(CONTENT)
    return path


async def test_a_file_is_sent_in_parts_and_its_digest_told(far: FarEnd, file: Path) -> None:
    client, told = TusClient(far.client()), []
    upload = await client.create(COLLECTION, size=len(CONTENT), metadata={"filename": file.name, "empty": ""})
    assert await client.send(upload, file, lambda done, total: told.append((done, total))) == SENT
    found = far.uploads["1"]
    assert (bytes(found.content), found.length) == (CONTENT, len(CONTENT))
    assert found.metadata == {"filename": "vendor image.qcow2", "empty": ""}
    assert (told[0], told[-1]) == ((0, len(CONTENT)), (len(CONTENT), len(CONTENT)))
    assert [method for method, _ in far.requests] == ["POST", "HEAD", "PATCH", "PATCH", "PATCH"]


async def test_an_upload_of_unknown_length_is_told_it_with_the_first_bytes(far: FarEnd, file: Path) -> None:
    assert await TusClient(far.client()).send(far.begin(), file) == SENT
    assert far.uploads["1"].length == len(CONTENT)
    assert [("upload-length" in headers) for method, headers in far.requests if method == "PATCH"] == [
        True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("length", [None, 0])
async def test_an_empty_file_is_sent_too(far: FarEnd, tmp_path: Path, length: int | None) -> None:
    (tmp_path / "empty").touch()
    sent = await TusClient(far.client()).send(far.begin(length), tmp_path / "empty")
    assert sent.size == 0
    assert far.uploads["1"].length == 0


async def test_it_goes_on_after_lost_connections(far: FarEnd, file: Path) -> None:
    far.cuts = [1, 4_000, 7_000, 3_000]
    assert await TusClient(far.client()).send(far.begin(), file) == SENT
    assert bytes(far.uploads["1"].content) == CONTENT


async def test_it_goes_on_where_another_process_ended(far: FarEnd, file: Path) -> None:
    upload = far.begin(len(CONTENT), CONTENT[:33_333])
    assert await TusClient(far.client()).send(upload, file) == SENT
    sent = sum(int(headers["content-length"]) for method, headers in far.requests if method == "PATCH")
    assert sent == len(CONTENT) - 33_333


async def test_it_waits_for_a_far_end_that_is_restarted(far: FarEnd, file: Path) -> None:
    far.down = 5
    assert await TusClient(far.client()).send(far.begin(), file) == SENT


@pytest.mark.parametrize("status", [409, 423, 429, 460, 500, 502, 503])
async def test_it_looks_again_where_the_far_end_is_not_ready(far: FarEnd, file: Path, status: int) -> None:
    far.refusals = [httpx.Response(status)]
    if status == 500:
        far.refusals = [httpx.Response(500, json={"error": Unavailable("restarting").to_wire()})]
    assert await TusClient(far.client()).send(far.begin(), file) == SENT


async def test_it_gives_up_when_nothing_gets_through_for_too_long(far: FarEnd, file: Path) -> None:
    far.down = 10**9
    with pytest.raises(Unavailable, match="does not answer"):
        await TusClient(far.client(), patience_s=0).send(far.begin(), file)


async def test_a_connection_that_is_lost_late_in_a_slow_part_is_taken_up_again(
    far: FarEnd, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(uploading, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def slowly() -> None:
        now[0] += 100  # a part takes longer than patience lasts

    far.cuts, far.on_bytes = [15_000, 1_000], slowly
    assert await TusClient(far.client(), patience_s=60).send(far.begin(), file) == SENT


async def test_the_last_word_of_the_far_end_is_what_is_told(far: FarEnd, file: Path) -> None:
    far.refusals = [httpx.Response(409, json={"error": Conflict("somebody else writes").to_wire()})] * 9
    with pytest.raises(Conflict, match="somebody else"):
        await TusClient(far.client(), patience_s=0).send(far.begin(), file)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(404), NotFound),
        (httpx.Response(410), NotFound),
        (httpx.Response(413), CapacityExceeded),
        (httpx.Response(507), CapacityExceeded),
        (httpx.Response(507, json={"error": CapacityExceeded("the disk is full").to_wire()}), CapacityExceeded),
        (httpx.Response(422, json={"error": InvalidInput("no").to_wire()}), InvalidInput),
    ],
)
async def test_what_does_not_pass_by_itself_is_told_at_once(
    far: FarEnd, file: Path, answer: httpx.Response, error: type[Exception]
) -> None:
    far.refusals = [answer]
    with pytest.raises(error):
        await TusClient(far.client()).send(far.begin(), file)
    assert [method for method, _ in far.requests] == ["HEAD", "PATCH"]


async def test_the_token_is_shown(far: FarEnd, file: Path) -> None:
    far.token = "secret"  # noqa: S105 - of nobody
    with pytest.raises(Unauthenticated):
        await TusClient(far.client()).send(far.begin(), file)
    assert await TusClient(far.client(), headers={"Authorization": "Bearer secret"}).send(far.begin(), file) == SENT


async def test_an_upload_of_another_size_is_refused(far: FarEnd, file: Path) -> None:
    with pytest.raises(InvalidInput, match="another size"):
        await TusClient(far.client()).send(far.begin(7), file)
    with pytest.raises(InvalidInput, match="another size"):
        await TusClient(far.client()).send(far.begin(None, bytes(len(CONTENT) + 1)), file)


async def test_a_file_that_becomes_shorter_is_found_out(far: FarEnd, file: Path) -> None:
    far.on_bytes = lambda: os.truncate(file, 10_000)
    with pytest.raises(InvalidInput, match="shorter"):
        await TusClient(far.client()).send(far.begin(), file)


async def test_a_file_that_is_not_there_is_said(far: FarEnd, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read"):
        await TusClient(far.client()).send(far.begin(), tmp_path / "nothing")


async def test_an_upload_can_be_looked_at_and_thrown_away(far: FarEnd) -> None:
    client = TusClient(far.client())
    upload = far.begin(9, b"four")
    assert await client.offset(upload) == 4
    await client.discard(upload)
    await client.discard(upload)
    with pytest.raises(NotFound):
        await client.offset(upload)
