"""Uploads: nothing is lost by a lost connection or a kill, nothing comes in that does not fit, nothing stays behind."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from library_rig import Rig, make_library, pieces, until_quietly

from wireloom.controller.library import incoming
from wireloom.controller.library.incoming import Incoming, plain_name
from wireloom.controller.library.threads import Threads
from wireloom.controller.library.uploads import Checksum, ChecksumMismatch
from wireloom.errors import CapacityExceeded, Conflict, DeadlineExceeded, InvalidInput, NotFound
from wireloom.library.values import ImageRefused

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_library(tmp_path) as made:
        yield made


async def cut_off(content: bytes) -> AsyncIterator[bytes]:
    """A sender that is lost after ``content``."""
    yield content
    raise ConnectionResetError


async def held(content: bytes, go: asyncio.Event) -> AsyncIterator[bytes]:
    """A sender that waits after ``content``."""
    yield content
    await go.wait()


async def test_an_upload_comes_in_parts_and_becomes_a_file(rig: Rig, tmp_path: Path) -> None:
    upload = await rig.uploads.create(len(CONTENT), {"filename": "C:\\images\\vios.qcow2", "sha256": SHA256})
    assert await rig.uploads.offset(upload) == 0
    assert await rig.uploads.write(upload, 0, pieces(CONTENT[:1000])) == 1000
    assert await rig.uploads.write(upload, 1000, pieces(CONTENT[1000:])) == len(CONTENT)
    known = await rig.uploads.get(upload)
    assert (known.file, known.complete) == ("vios.qcow2", True)
    committed = await rig.uploads.commit(upload, tmp_path / "there" / "file")
    assert (committed.name, committed.digest, committed.size) == ("vios.qcow2", f"sha256:{SHA256}", len(CONTENT))
    assert (tmp_path / "there" / "file").read_bytes() == CONTENT
    with pytest.raises(NotFound):
        await rig.uploads.offset(upload)
    assert rig.debris() == []


async def test_what_came_before_the_connection_was_lost_is_kept(rig: Rig) -> None:
    upload = await rig.uploads.create(len(CONTENT), {})
    with pytest.raises(ConnectionResetError):
        await rig.uploads.write(upload, 0, cut_off(CONTENT[:300]))
    assert await rig.uploads.offset(upload) == 300
    writing = asyncio.create_task(rig.uploads.write(upload, 300, held(CONTENT[300:400], asyncio.Event())))
    await asyncio.sleep(0.01)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert await rig.uploads.offset(upload) == 400


async def test_a_kill_loses_nothing_and_the_digest_catches_up(rig: Rig, tmp_path: Path) -> None:
    upload = await rig.uploads.create(len(CONTENT), {"filename": "x"})
    await rig.uploads.write(upload, 0, pieces(CONTENT[:5000]))
    await rig.kill()
    assert await rig.uploads.offset(upload) == 5000
    await rig.uploads.write(upload, 5000, pieces(CONTENT[5000:]))
    told: list[tuple[int, int]] = []
    committed = await rig.uploads.commit(upload, tmp_path / "file", lambda done, total: told.append((done, total)))
    assert committed.digest == f"sha256:{SHA256}"
    assert told[-1] == (len(CONTENT), len(CONTENT))


async def test_only_one_writes_and_only_at_the_end(rig: Rig) -> None:
    upload = await rig.uploads.create(len(CONTENT), {})
    go = asyncio.Event()
    first = asyncio.create_task(rig.uploads.write(upload, 0, held(CONTENT[:100], go)))
    await asyncio.sleep(0.01)
    with pytest.raises(Conflict, match="somebody writes"):
        await rig.uploads.write(upload, 0, pieces(CONTENT))
    go.set()
    assert await first == 100
    with pytest.raises(Conflict) as caught:
        await rig.uploads.write(upload, 99, pieces(CONTENT))
    assert caught.value.details == {"offset": 100}
    with pytest.raises(Conflict):
        await rig.uploads.complete(upload)


async def test_a_silent_sender_makes_way(rig: Rig) -> None:
    rig.uploads._idle_s = 0.01
    upload = await rig.uploads.create(10, {})
    with pytest.raises(DeadlineExceeded):
        await rig.uploads.write(upload, 0, held(b"12345", asyncio.Event()))
    assert await rig.uploads.write(upload, 5, pieces(b"67890")) == 10


async def test_more_than_was_announced_is_refused(rig: Rig) -> None:
    upload = await rig.uploads.create(10, {})
    with pytest.raises(InvalidInput):
        await rig.uploads.write(upload, 0, pieces(b"12345678901"))
    assert await rig.uploads.offset(upload) == 0


async def test_a_length_can_be_said_later_and_once(rig: Rig) -> None:
    upload = await rig.uploads.create(None, {})
    await rig.uploads.write(upload, 0, pieces(b"12345"))
    assert not (await rig.uploads.get(upload)).complete
    with pytest.raises(Conflict):
        await rig.uploads.finish_length(upload, 4)
    assert (await rig.uploads.finish_length(upload, 5)).complete
    assert (await rig.uploads.finish_length(upload, 5)).complete
    with pytest.raises(Conflict):
        await rig.uploads.finish_length(upload, 6)


async def test_an_empty_upload_is_complete_at_once(rig: Rig, tmp_path: Path) -> None:
    upload = await rig.uploads.create(0, {})
    assert (await rig.uploads.commit(upload, tmp_path / "file")).size == 0


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_checked_bytes_are_kept_all_or_not_at_all(rig: Rig, tmp_path: Path, algorithm: str) -> None:
    def checksum(content: bytes) -> Checksum:
        return Checksum(algorithm, hashlib.new(algorithm, content).digest())  # type: ignore[arg-type]

    upload = await rig.uploads.create(len(CONTENT), {})
    assert await rig.uploads.write(upload, 0, pieces(CONTENT[:500]), checksum=checksum(CONTENT[:500])) == 500
    with pytest.raises(ChecksumMismatch):
        await rig.uploads.write(upload, 500, pieces(CONTENT[500:900]), checksum=checksum(b"other"))
    with pytest.raises(ConnectionResetError):
        await rig.uploads.write(upload, 500, cut_off(CONTENT[500:900]), checksum=checksum(CONTENT[500:]))
    assert await rig.uploads.offset(upload) == 500
    await rig.uploads.write(upload, 500, pieces(CONTENT[500:]), checksum=checksum(CONTENT[500:]))
    assert (await rig.uploads.commit(upload, tmp_path / "file")).digest == f"sha256:{SHA256}"


async def test_another_digest_than_announced_is_refused(rig: Rig, tmp_path: Path) -> None:
    upload = await rig.uploaded(b"other", sha256=SHA256)
    with pytest.raises(ImageRefused) as caught:
        await rig.uploads.commit(upload, tmp_path / "file")
    assert caught.value.details == {"reason": "digest"}


@pytest.mark.parametrize(
    "metadata",
    [{"sha256": "nonsense"}, {str(number): "" for number in range(40)}, {"filename": "x" * 5000}],
)
async def test_wrong_metadata_is_refused(rig: Rig, metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        await rig.uploads.create(5, metadata)
    assert rig.debris() == []


async def test_what_is_too_large_is_refused_before_it_begins(rig: Rig) -> None:
    with pytest.raises(ImageRefused) as caught:
        await rig.uploads.create(rig.limits.size + 1, {})
    assert caught.value.details == {"reason": "size"}
    with pytest.raises(ImageRefused):
        await rig.uploads.create(-1, {})


async def test_room_is_promised_to_one_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "free_bytes", lambda folder: 1000)
    first = await rig.uploads.create(600, {})
    with pytest.raises(CapacityExceeded) as caught:
        await rig.uploads.create(600, {})
    assert caught.value.details == {"needed": 600, "free": 400}
    later = await rig.uploads.create(None, {})
    with pytest.raises(CapacityExceeded):
        await rig.uploads.finish_length(later, 401)
    await rig.uploads.delete(first)
    await rig.uploads.create(600, {})


async def test_a_disk_that_fills_up_ends_an_upload_which_goes_on_once_there_is_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await rig.uploads.create(10, {})
    await rig.uploads.write(upload, 0, pieces(b"12345"))
    with monkeypatch.context() as full:
        full.setattr(incoming, "free_bytes", lambda folder: 4)
        with pytest.raises(CapacityExceeded):
            await rig.uploads.write(upload, 5, pieces(b"67890"))
    assert await rig.uploads.offset(upload) == 5
    assert await rig.uploads.write(upload, 5, pieces(b"67890")) == 10


async def test_no_space_left_in_the_midst_of_a_piece_is_said_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await rig.uploads.create(10, {})

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(incoming.os, "write", full)
        with pytest.raises(CapacityExceeded):
            await rig.uploads.write(upload, 0, pieces(b"1234567890"))
    assert await rig.uploads.write(upload, 0, pieces(b"1234567890")) == 10


async def test_a_token_opens_its_own_upload_and_its_hash_alone_is_stored(rig: Rig) -> None:
    upload = await rig.uploads.create(5, {}, "a token")
    open_to_all = await rig.uploads.create(5, {})
    assert await rig.uploads.may_write(upload, "a token")
    for wrong in ("", "another", hashlib.sha256(b"a token").hexdigest()):
        assert not await rig.uploads.may_write(upload, wrong)
    assert not await rig.uploads.may_write(open_to_all, "")
    assert not await rig.uploads.may_write("0" * 32, "a token")
    assert "a token" not in str(await rig.store.image_work.uploads())


async def test_uploads_that_nobody_goes_on_with_expire(rig: Rig) -> None:
    old = await rig.uploads.create(10, {})
    rig.now += 6 * 24 * 3600
    await rig.uploads.write(old, 0, pieces(b"123"))
    rig.now += 6 * 24 * 3600
    await rig.uploads.expire()
    assert await rig.uploads.offset(old) == 3
    rig.now += 2 * 24 * 3600
    with pytest.raises(NotFound):
        await rig.uploads.offset(old)
    await rig.uploads.expire()
    assert rig.debris() == []
    assert await rig.store.image_work.uploads() == []


async def test_deleting_takes_the_file_from_under_its_writer(rig: Rig) -> None:
    upload = await rig.uploads.create(10, {})
    go = asyncio.Event()
    writing = asyncio.create_task(rig.uploads.write(upload, 0, held(b"12345", go)))
    await asyncio.sleep(0.01)
    await rig.uploads.delete(upload)
    go.set()
    with pytest.raises(NotFound):
        await writing
    assert rig.debris() == []


async def test_files_of_unknown_uploads_go_at_the_start(rig: Rig) -> None:
    (rig.folder / "uploads" / ("e" * 32)).write_bytes(b"left")
    await rig.restart()
    assert rig.debris() == []


@pytest.mark.parametrize("upload", ["../../etc/passwd", "", "x" * 32, "0" * 32])
async def test_an_id_is_no_path(rig: Rig, upload: str) -> None:
    with pytest.raises(NotFound):
        await rig.uploads.offset(upload)
    with pytest.raises(NotFound):
        await rig.uploads.delete(upload)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("/a/b/vios.qcow2", "vios.qcow2"),
        ("..\\..\\evil.img", "evil.img"),
        ("..", "image"),
        ("", "image"),
        ("a\nb\x00c\u202ed.qcow2", "a_b_c_d.qcow2"),
        (".hidden", "hidden"),
        ("ä" * 300 + ".qcow2", "ä" * 97 + ".qcow2"),
    ],
)
def test_names_of_files_are_without_surprises(given: str, plain: str) -> None:
    assert plain_name(given) == plain


async def test_memory_stays_flat_and_order_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "_BATCH", 1000)
    waiting: list[int] = []
    file = Incoming(tmp_path / "file", Threads(2), reserve=0)
    file.empty()
    real: Callable[[bytearray, int], int] = file._write

    def slow(batch: bytearray, most: int) -> int:
        waiting.append(len(batch))
        return real(batch, most)

    monkeypatch.setattr(file, "_write", slow)
    lengths: list[int] = []
    assert await file.append(pieces(CONTENT, 300), most=1 << 20, idle_s=5, told=lengths.append) == len(CONTENT)
    assert max(waiting) < 1300
    assert lengths == sorted(lengths)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert file.digest() == f"sha256:{SHA256}"


async def test_an_upload_of_a_job_goes_with_it(rig: Rig) -> None:
    upload = await rig.uploads.create(5, {}, "token", job_id="gone00000000")
    rig.now += 30 * 24 * 3600
    assert await rig.uploads.offset(upload) == 0
    with pytest.raises(Conflict):
        await rig.uploads.delete(upload)
    await rig.uploads.expire()
    await until_quietly(lambda: rig.debris() == [])
    assert await rig.store.image_work.uploads() == []
