"""What comes in by upload or address becomes an image once, with its history, and nothing half is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from library_imports_rig import ARCHIVE, DISK, digest, imported
from library_rig import Rig, make_library
from test_library_urls import Body

from wireloom.controller.library import incoming
from wireloom.controller.library.records import NewImage
from wireloom.errors import CapacityExceeded, Conflict, InvalidInput, NotFound
from wireloom.model.images import (
    ImageState,
    ImageView,
    ImportRequest,
    JobState,
    JobView,
)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_library(tmp_path) as made:
        yield made


async def test_a_disk_is_stored_as_it_came_and_known_for_what_it_is(rig: Rig) -> None:
    job = await imported(rig, DISK)
    assert job.state is JobState.DONE, job.error
    image = rig.catalogue.get(job.images[0])
    assert (image.name, image.provider, image.digest, image.content) == (
        "vios.qcow2",
        "libvirt",
        digest(DISK),
        digest(DISK),
    )
    assert ([item.device for item in image.devices], image.version) == (["vios"], "15.9")
    assert image.provenance.model_dump(include={"origin", "source", "kind", "sha256", "size", "notes"}) == {
        "origin": "upload",
        "source": "vios.qcow2",
        "kind": "qcow2",
        "sha256": digest(DISK).removeprefix("sha256:"),
        "size": len(DISK),
        "notes": ("accepted",),
    }
    assert rig.blobs.path(image.digest).read_bytes() == DISK
    assert rig.blobs.path(image.digest).stat().st_nlink == 1
    assert rig.debris() == []
    assert await rig.store.image_work.uploads() == []


async def test_what_is_converted_has_both_digests(rig: Rig) -> None:
    raw = b"raw disk\n" + b"x" * 100
    image = rig.catalogue.get((await imported(rig, raw, "router.img")).images[0])
    assert image.digest == digest(b"qcow2 of " + raw)
    assert image.provenance.sha256 == digest(raw).removeprefix("sha256:")
    assert (image.provenance.kind, image.devices) == ("raw", ())
    assert image.proposals[0].device == "vios"


async def test_what_is_compressed_is_unpacked_once(rig: Rig) -> None:
    image = rig.catalogue.get((await imported(rig, b"gzip\n" + ARCHIVE, "ceos.tar.gz")).images[0])
    assert (image.name, image.provider, image.format) == ("ceos:4.32", "docker", "docker-archive")
    assert image.provenance.notes == ("unpacked (gzip)",)
    job = await imported(rig, b"gzip\ngzip\n" + DISK, "twice.gz")
    assert (job.error or {})["details"] == {"reason": "compressed-twice"}
    assert rig.debris() == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"qcow2 bad\n", "backing-file"), (b"something else", "format"), (b"", "format"), (b"gzip\n", "format")],
)
async def test_what_must_not_come_in_leaves_nothing(rig: Rig, content: bytes, reason: str) -> None:
    job = await imported(rig, content)
    assert job.state is JobState.FAILED
    assert (job.error or {})["code"] == "image-refused"
    assert (job.error or {})["details"] == {"reason": reason}
    assert rig.debris() == []
    assert list(rig.blobs.all()) == []
    assert rig.catalogue.images == {}
    assert await rig.store.image_work.uploads() == []


async def test_the_digest_that_is_expected_is_compared(rig: Rig) -> None:
    job = await imported(rig, DISK, sha256=digest(DISK))
    assert job.state is JobState.DONE
    job = await imported(rig, DISK + b"x", sha256=digest(DISK))
    assert (job.error or {})["details"] == {"reason": "digest"}
    with pytest.raises(InvalidInput):
        await imported(rig, DISK, sha256="12")


async def test_a_user_says_what_it_is_and_how_it_is_called(rig: Rig) -> None:
    job = await imported(rig, DISK, "x.img", name="my-router", device="vios", version="1", default=True)
    image = rig.catalogue.get(job.images[0])
    assert (image.name, image.version) == ("my-router.qcow2", "1")
    assert [(item.device, item.default) for item in image.devices] == [("vios", True)]


async def test_a_device_that_cannot_have_it_keeps_no_image_out(rig: Rig) -> None:
    job = await imported(rig, DISK, device="ceos", default=True)
    assert job.state is JobState.DONE
    assert rig.catalogue.get(job.images[0]).devices == ()
    assert any("does not run on libvirt" in line for line in job.report)


async def test_the_same_content_is_one_image_and_one_file(rig: Rig) -> None:
    first = await imported(rig, DISK)
    again = await imported(rig, DISK, "copy.qcow2")
    assert first.images == again.images
    named = await imported(rig, DISK, "copy.qcow2", name="another")
    assert rig.catalogue.get(named.images[0]).name == "another.qcow2"
    assert len(list(rig.blobs.all())) == 1


async def test_a_proposed_name_that_is_taken_is_made_another_and_a_wished_one_is_not(rig: Rig) -> None:
    await imported(rig, DISK)
    other = DISK + b"other"
    image = rig.catalogue.get((await imported(rig, other)).images[0])
    assert image.name == f"vios-{digest(other)[7:15]}.qcow2"
    third = DISK + b"third"
    job = await imported(rig, third, name="vios.qcow2")
    assert (job.state, (job.error or {})["code"]) == (JobState.FAILED, "conflict")
    assert not rig.blobs.has(digest(third))
    rig.catalogue.images.clear()
    await rig.jobs.retry(job.id)
    again = await rig.ended(job)
    assert again.state is JobState.DONE, again.error
    assert rig.catalogue.get(again.images[0]).digest == digest(third)
    assert rig.debris() == []


async def test_a_stored_file_that_is_damaged_is_replaced(rig: Rig) -> None:
    job = await imported(rig, DISK)
    image = rig.catalogue.get(job.images[0])
    path = rig.blobs.path(image.digest)
    path.chmod(0o600)
    path.write_bytes(b"rotten")
    rig.catalogue.images[image.id] = image.model_copy(update={"state": ImageState.DAMAGED})
    await imported(rig, DISK)
    assert path.read_bytes() == DISK


async def test_an_upload_belongs_to_one_job(rig: Rig) -> None:
    upload = await rig.uploaded(b"qcow2 bad\n")
    half = await rig.uploads.create(10, {})
    request = ImportRequest(upload=upload)
    jobs = await asyncio.gather(*(rig.imports.import_file(request) for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(job, JobView) for job in jobs) == 1
    assert sum(isinstance(job, Conflict | NotFound) for job in jobs) == 2
    with pytest.raises(Conflict, match="not complete"):
        await rig.imports.import_file(ImportRequest(upload=half))
    with pytest.raises(NotFound):
        await rig.imports.import_file(ImportRequest(upload="0" * 32))


@pytest.mark.parametrize(
    "request_",
    [
        ImportRequest(),
        ImportRequest(upload="x", url="http://files.example/x"),
        ImportRequest(url="file:///etc/passwd"),
        ImportRequest(url="http://files.example/x", name="a b\n"),
    ],
)
async def test_requests_that_make_no_sense_make_no_job(rig: Rig, request_: ImportRequest) -> None:
    with pytest.raises(InvalidInput):
        await rig.imports.import_file(request_)
    assert rig.jobs.all() == []


async def test_cancelling_an_import_that_waits_takes_its_upload_along(rig: Rig) -> None:
    rig.let_wait()
    upload = await rig.uploaded(DISK)
    job = await rig.imports.import_file(ImportRequest(upload=upload))
    await rig.jobs.cancel(job.id)
    assert rig.debris() == []
    assert await rig.store.image_work.uploads() == []


async def test_a_disk_without_room_ends_a_job_cleanly_and_it_can_be_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await rig.uploaded(b"gzip\n" + DISK, "vios.qcow2.gz")
    with monkeypatch.context() as full:
        full.setattr(incoming, "free_bytes", lambda folder: 1)
        job = await rig.ended(await rig.imports.import_file(ImportRequest(upload=upload)))
    assert (job.error or {})["code"] == CapacityExceeded.code
    await rig.jobs.retry(job.id)
    assert (await rig.ended(job)).state is JobState.DONE


async def test_a_disk_is_not_converted_where_there_is_no_room_for_the_new_file(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"raw disk\n" + bytes(range(256)) * 64
    upload = await rig.uploaded(content, "vios.img")
    with monkeypatch.context() as full:
        full.setattr(incoming, "free_bytes", lambda folder: len(content) - 1)
        job = await rig.ended(await rig.imports.import_file(ImportRequest(upload=upload)))
    assert (job.error or {})["code"] == CapacityExceeded.code
    await rig.jobs.retry(job.id)
    assert (await rig.ended(job)).state is JobState.DONE


async def test_a_name_that_another_job_was_faster_to_get_costs_no_import(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = rig.catalogue.add
    others: list[str] = []

    async def late(new: NewImage) -> ImageView:
        if not others:  # another job is done just now
            others.append("")
            others.append((await imported(rig, DISK + b"other")).images[0])
        return await add(new)

    monkeypatch.setattr(rig.catalogue, "add", late)
    job = await imported(rig, DISK)
    assert job.state is JobState.DONE, job.error
    assert rig.catalogue.get(others[1]).name == "vios.qcow2"
    assert rig.catalogue.get(job.images[0]).name == f"vios-{digest(DISK).removeprefix('sha256:')[:8]}.qcow2"
    asked = await imported(rig, DISK + b"third", name="vios.qcow2")
    assert (asked.error or {})["code"] == Conflict.code


def serve(rig: Rig, content: bytes, **headers: str) -> list[httpx.Request]:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, headers=headers, stream=Body(content))

    rig.web = httpx.MockTransport(answer)
    return asked


async def test_a_file_of_the_web_comes_in_without_what_is_secret_of_its_address(rig: Rig) -> None:
    asked = serve(rig, DISK)
    await rig.restart()
    url = "https://me:hunter2@files.example/pub/vios.qcow2?signature=geheim"
    job = await rig.ended(await rig.imports.import_file(ImportRequest(url=url)))
    assert job.state is JobState.DONE, job.error
    assert (asked[0].url.query, asked[0].headers["Authorization"][:5]) == (b"signature=geheim", "Basic")
    image = rig.catalogue.get(job.images[0])
    assert (image.provenance.origin, image.provenance.source) == ("url", "https://files.example/pub/vios.qcow2")
    stored = str(await rig.store.image_work.jobs()) + str(job) + str(image)
    assert "hunter2" not in stored
    assert "geheim" not in stored
    assert rig.debris() == []


async def test_a_download_whose_address_was_secret_says_so_after_a_restart(rig: Rig) -> None:
    rig.let_wait()
    url = "https://me:hunter2@files.example/vios.qcow2"
    job = await rig.imports.import_file(ImportRequest(url=url))
    serve(rig, DISK)
    await rig.restart()
    ended = await rig.ended(job)
    assert (ended.state, (ended.error or {})["code"]) == (JobState.FAILED, "unavailable")
    assert "memory" in (ended.error or {})["message"]


async def test_slow_downloads_hold_up_no_upload_and_wait_for_a_place_to_convert(rig: Rig) -> None:
    go = asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        await go.wait()
        return httpx.Response(200, stream=Body(DISK + request.url.path.encode()))

    rig.web = httpx.MockTransport(slow)
    await rig.restart()
    requests = [ImportRequest(url=f"http://files.example/vios{number}.qcow2") for number in range(3)]
    fetched = [await rig.imports.import_file(request) for request in requests]
    assert (await imported(rig, DISK)).state is JobState.DONE
    assert [rig.jobs.get(job.id).state.value for job in fetched] == ["running", "running", "waiting"]
    go.set()
    assert [(await rig.ended(job)).state.value for job in fetched] == ["done"] * 3
    assert rig.debris() == []
