"""What comes in by upload, address or host becomes an image once, with its history, and nothing half is left."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from library_rig import TOOLS, Rig, build_iol, make_library, until_quietly
from test_library_urls import Body

from wireloom.controller.library import incoming
from wireloom.errors import CapacityExceeded, Conflict, InvalidInput, NotFound, RuntimeFailed, Unavailable, Unsupported
from wireloom.fabric.image_documents import ExportMessage, VerifyAnswer, VerifyQuestion
from wireloom.fabric.methods import EXPORT, VERIFY_IMAGES
from wireloom.library.archives import InnerDisk
from wireloom.library.media import Appliance, ApplianceImage, MediumImage
from wireloom.model.images import (
    AdoptRequest,
    Choice,
    ExtractRequest,
    ImageState,
    ImportRequest,
    JobChoices,
    JobState,
    JobView,
    Offer,
    Presence,
    PresenceState,
    PullRequest,
    SaveRequest,
)
from wireloom.testing.memory_fabric import MemoryStream

DISK = b"qcow2 clean\n" + bytes(range(256)) * 10
ARCHIVE = b"docker-archive ceos:4.32\n" + bytes(range(256)) * 10


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_library(tmp_path) as made:
        yield made


async def imported(rig: Rig, content: bytes, file: str = "vios.qcow2", **wish: object) -> JobView:
    """The import of an upload, ended."""
    upload = await rig.uploaded(content, file)
    request = ImportRequest.model_validate({"upload": upload, **wish})
    return await rig.ended(await rig.imports.import_file(request))


# -------------------------------------------------------------------- uploads


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
    rig.jobs._at_once = 0
    upload = await rig.uploaded(DISK)
    job = await rig.imports.import_file(ImportRequest(upload=upload))
    await rig.jobs.cancel(job.id)
    assert rig.debris() == []
    assert await rig.store.image_work.uploads() == []


# -------------------------------------------------------------------- kills


@pytest.mark.parametrize("at", ["commit", "sniff", "accept_disk", "identify", "adopt", "add"])
async def test_a_kill_anywhere_is_made_good(tmp_path: Path, at: str) -> None:
    """The controller goes while it is at ``at``; the next one ends the job, and once."""
    rig = Rig(tmp_path)
    await rig.up()
    reached, go = asyncio.Event(), asyncio.Event()
    _hold(rig, at, reached, go)
    upload = await rig.uploaded(b"gzip\n" + DISK, "vios.qcow2.gz")
    job = await rig.imports.import_file(ImportRequest(upload=upload))
    async with asyncio.timeout(5):
        await reached.wait()
    _unhold(rig)
    killing = asyncio.create_task(rig.kill())
    await asyncio.sleep(0.02)
    go.set()
    await killing
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error
    assert ended.attempts == 2
    assert len(rig.catalogue.images) == 1
    assert [found for found, _, _ in rig.blobs.all()] == [digest(DISK)]
    assert rig.debris() == []
    assert await rig.store.image_work.uploads() == []
    await rig.down()


def _hold(rig: Rig, at: str, reached: asyncio.Event, go: asyncio.Event) -> None:
    """Have the step ``at`` wait at its end."""
    loop = asyncio.get_running_loop()

    def held(real):  # type: ignore[no-untyped-def]
        def step(*args: object, **kwargs: object) -> object:
            result = real(*args, **kwargs)
            loop.call_soon_threadsafe(reached.set)
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result(5)
            return result

        return step

    def held_async(real):  # type: ignore[no-untyped-def]
        async def step(*args: object, **kwargs: object) -> object:
            result = await real(*args, **kwargs)
            reached.set()
            await go.wait()
            return result

        return step

    intake = rig.imports._intake
    if at == "commit":
        rig.uploads.commit = held_async(rig.uploads.commit)  # type: ignore[method-assign]
    elif at == "add":
        rig.catalogue.add = held_async(rig.catalogue.add)  # type: ignore[method-assign]
    elif at == "adopt":
        rig.blobs.adopt = held(rig.blobs.adopt)  # type: ignore[method-assign]
    else:
        tools = intake._tools
        intake._tools = type(tools)(**{**vars(tools), at: held(getattr(tools, at))})


def _unhold(rig: Rig) -> None:
    for thing, name in ((rig.catalogue, "add"), (rig.blobs, "adopt")):
        thing.__dict__.pop(name, None)


# -------------------------------------------------------------------- addresses


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
    rig.jobs._at_once = 0
    url = "https://me:hunter2@files.example/vios.qcow2"
    job = await rig.imports.import_file(ImportRequest(url=url))
    serve(rig, DISK)
    await rig.restart()
    ended = await rig.ended(job)
    assert (ended.state, (ended.error or {})["code"]) == (JobState.FAILED, "unavailable")
    assert "memory" in (ended.error or {})["message"]


async def test_a_download_goes_on_after_a_kill(rig: Rig) -> None:
    go = asyncio.Event()

    class Stalls(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield DISK[:1000]
            await go.wait()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        told = {"ETag": '"one"', "Content-Length": str(len(DISK))}
        if len(asked) == 1:
            return httpx.Response(200, headers=told, stream=Stalls())
        first = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
        told = {"ETag": '"one"', "Content-Range": f"bytes {first}-{len(DISK) - 1}/{len(DISK)}"}
        return httpx.Response(206, headers=told, stream=Body(DISK[first:]))

    asked: list[httpx.Request] = []
    rig.web = httpx.MockTransport(answer)
    await rig.restart()
    job = await rig.imports.import_file(ImportRequest(url="http://files.example/vios.qcow2"))
    await until_quietly(lambda: asked)
    await asyncio.sleep(0.02)
    await rig.kill()
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error
    assert asked[1].headers["Range"] == "bytes=1000-"
    assert rig.catalogue.get(ended.images[0]).digest == digest(DISK)


# -------------------------------------------------------------------- hosts


async def test_an_image_is_pulled_by_a_host_and_credentials_are_kept_nowhere(rig: Rig) -> None:
    asked = await rig.sends(ARCHIVE)
    request = PullRequest(reference="vendor/ceos:4.32", username="me", password="hunter2", device="ceos")  # noqa: S106
    job = await rig.ended(await rig.imports.pull(request))
    assert job.state is JobState.DONE, job.error
    assert (asked[0].image, asked[0].pull, asked[0].username, asked[0].password) == (
        "vendor/ceos:4.32",
        True,
        "me",
        "hunter2",
    )
    assert asked[0].upload.startswith("http://127.0.0.1:7430/api/v1/uploads/")
    image = rig.catalogue.get(job.images[0])
    assert (image.name, image.provenance.origin, image.provenance.source) == (
        "vendor/ceos:4.32",
        "pull",
        "vendor/ceos:4.32",
    )
    stored = str(await rig.store.image_work.jobs()) + str(await rig.store.image_work.uploads())
    assert "hunter2" not in stored
    assert asked[0].token not in stored
    assert rig.debris() == []


async def test_references_are_completed(rig: Rig) -> None:
    rig.jobs._at_once = 0
    await rig.imports.pull(PullRequest(reference="alpine"))
    await rig.imports.pull(PullRequest(reference=f"alpine@sha256:{'ab' * 32}"))
    requests = [record.request for record in await rig.store.image_work.jobs()]
    assert {item["reference"]: item["name"] for item in requests} == {
        "alpine:latest": "alpine:latest",
        f"alpine@sha256:{'ab' * 32}": "alpine:abababababab",
    }
    for wrong in ("", "UPPER", "a b", "alpine@sha256:12", "-x:1"):
        with pytest.raises(InvalidInput):
            await rig.imports.pull(PullRequest(reference=wrong))


async def test_an_image_of_a_host_is_adopted(rig: Rig) -> None:
    asked = await rig.sends(DISK)
    job = await rig.ended(await rig.imports.adopt(AdoptRequest(host="h1", provider="libvirt", image="vios.qcow2")))
    assert job.state is JobState.DONE, job.error
    assert (asked[0].provider, asked[0].image, asked[0].pull) == ("libvirt", "vios.qcow2", False)
    image = rig.catalogue.get(job.images[0])
    assert (image.name, image.provenance.source) == ("vios.qcow2", "h1: vios.qcow2")
    with pytest.raises(NotFound):
        await rig.imports.adopt(AdoptRequest(host="h9", provider="libvirt", image="x"))
    with pytest.raises(InvalidInput):
        await rig.imports.adopt(AdoptRequest(host="h1", provider="simulated", image="x"))


async def test_a_stopped_node_becomes_an_image_with_its_history(rig: Rig) -> None:
    base = rig.catalogue.get((await imported(rig, DISK, version="15.9")).images[0])
    await rig.sends(DISK + b"configured")
    request = SaveRequest(lab="lab", node="r1", name="golden", default=True)
    job = await rig.ended(await rig.imports.save(request))
    assert job.state is JobState.DONE, job.error
    image = rig.catalogue.get(job.images[0])
    assert (image.name, image.version, image.provenance.origin) == ("golden.qcow2", "15.9", "node")
    assert (image.provenance.source, image.provenance.kind, image.provenance.parents) == ("lab/r1", "node", (base.id,))
    assert [(item.device, item.default) for item in image.devices] == [("vios", True)]
    with pytest.raises(Conflict, match="there is an image"):
        await rig.imports.save(request)


async def test_what_a_host_says_is_what_the_job_says(rig: Rig) -> None:
    refused = ExportMessage(stage="pull", error=Unavailable("the registry does not answer").to_wire())
    await rig.sends(b"", refused)
    job = await rig.ended(await rig.imports.pull(PullRequest(reference="ceos:1", host="h1")))
    assert (job.error or {})["message"] == "the registry does not answer"
    assert [record.id for record in await rig.store.image_work.uploads()] != []
    await rig.jobs.cancel(job.id)
    assert await rig.store.image_work.uploads() == []
    assert rig.debris() == []


async def test_a_host_that_goes_and_one_that_lies(rig: Rig) -> None:
    await rig.sends(ARCHIVE, ExportMessage(stage="send"))
    job = await rig.ended(await rig.imports.pull(PullRequest(reference="ceos:1")))
    assert (job.error or {})["code"] == "unavailable"
    await rig.sends(ARCHIVE, ExportMessage(stage="done", sha256=digest(b"other")))
    await rig.jobs.retry(job.id)
    assert ((await rig.ended(job)).error or {})["details"] == {"reason": "digest"}

    async def nonsense(question: object) -> MemoryStream:
        return MemoryStream(b"nonsense\n", ends=True)

    await rig.fabric.serve_stream("h1", EXPORT, nonsense)
    job = await rig.ended(await rig.imports.pull(PullRequest(reference="ceos:1")))
    assert (job.error or {})["code"] == "internal"


async def test_an_export_that_is_cut_off_by_a_kill_is_asked_for_again(rig: Rig) -> None:
    streams: list[MemoryStream] = []

    async def waits(question: object) -> MemoryStream:
        streams.append(MemoryStream())
        return streams[-1]

    await rig.fabric.serve_stream("h1", EXPORT, waits)
    job = await rig.imports.pull(PullRequest(reference="ceos:1"))
    await until_quietly(lambda: streams)
    await rig.kill()
    assert streams[0].closed.is_set()
    await until_quietly(lambda: len(streams) == 2)
    assert len(await rig.store.image_work.uploads()) == 1
    await rig.jobs.cancel(job.id)
    assert streams[1].closed.is_set()
    assert rig.debris() == []


# -------------------------------------------------------------------- IOL, extraction, verification


async def test_an_iol_binary_builds_itself(rig: Rig) -> None:
    job = await imported(rig, b"iol x86\n", "x86_64_crb_linux-adventerprisek9-ms.bin")
    image = rig.catalogue.get(job.images[0])
    assert (image.name, [item.device for item in image.devices], image.provenance.kind) == ("iol:17", ["iol-xe"], "iol")
    assert "built" in job.report


async def test_an_iol_binary_waits_to_be_built_when_told_to(rig: Rig) -> None:
    job = await imported(rig, b"iol x86\n", "iol.bin", auto_build=False)
    assert job.state is JobState.CHOICE
    await rig.restart()
    await rig.jobs.choose(job.id, Choice(keys=("build",)))
    assert (await rig.ended(job)).state is JobState.DONE


async def test_a_build_that_fails_is_tried_again(rig: Rig) -> None:
    broken = [True]

    def build(*args: Path, **wish: object) -> object:
        if broken:
            broken.clear()
            raise Unavailable("there is no iol-base.tar")
        return build_iol(*args, **wish)

    rig.tools = type(TOOLS)(**{**vars(TOOLS), "build_iol": build})
    await rig.restart()
    job = await imported(rig, b"iol x86\n", "iol.bin")
    assert job.state is JobState.FAILED
    await rig.jobs.retry(job.id)
    assert (await rig.ended(job)).state is JobState.DONE
    assert rig.debris() == []


async def test_the_disk_in_a_container_becomes_an_image(rig: Rig) -> None:
    def inside(archive: Path, limits: object, progress: object) -> tuple[InnerDisk, ...]:
        return (
            InnerDisk("/vios-15.qcow2", "qcow2", len(DISK), 0, 0),
            InnerDisk("/overlay.qcow2", "qcow2", 10, 0, 0, backed=True),
        )

    def extract(archive: Path, inner: InnerDisk, target: Path, limits: object, progress: object) -> Path:
        target.write_bytes(DISK)
        return target

    rig.tools = type(TOOLS)(**{**vars(TOOLS), "disks_inside": inside, "extract_disk": extract})
    await rig.restart()
    container = rig.catalogue.get((await imported(rig, ARCHIVE, "vrnetlab.tar")).images[0])
    job = await rig.ended(await rig.imports.extract(container.id, ExtractRequest()))
    assert job.state is JobState.DONE, job.error
    image = rig.catalogue.get(job.images[0])
    assert (image.name, image.format, image.provenance.origin) == ("vios-15.qcow2", "qcow2", "extract")
    assert image.provenance.parents == (container.id,)
    assert [item.device for item in image.devices] == ["vios"]
    with pytest.raises(Unsupported):
        await rig.imports.extract(image.id, ExtractRequest())


async def test_verification_reads_the_file_and_asks_the_hosts(rig: Rig) -> None:
    image = rig.catalogue.get((await imported(rig, DISK)).images[0])
    there = (Presence(host="h1", state=PresenceState.PRESENT), Presence(host="h2", state=PresenceState.PRESENT))
    rig.catalogue.images[image.id] = image.model_copy(update={"presence": there})
    asked: list[VerifyQuestion] = []
    answer = [VerifyAnswer()]

    async def verify(question: VerifyQuestion) -> VerifyAnswer:
        asked.append(question)
        return answer[0]

    await rig.fabric.serve("h1", VERIFY_IMAGES, verify)
    job = await rig.ended(await rig.imports.verify(image.id))
    assert (job.state, asked[0].images) == (JobState.DONE, (image.pin,))
    answer[0] = VerifyAnswer(damaged={image.name: RuntimeFailed("it was changed").to_wire()})
    rig.sound = False
    job = await rig.ended(await rig.imports.verify(image.id))
    assert job.state is JobState.FAILED
    assert (job.error or {})["details"]["problems"] == [
        "the library: its file is not what it was",
        "host h1: it was changed",
    ]


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


# -------------------------------------------------------------------- media


def a_medium(rig: Rig) -> None:
    medium = rig.medium
    medium.choices = JobChoices(
        title="Reference platform",
        offers=(
            Offer(key="image:a", kind="image", title="A 1", size=len(DISK), needs=("device:a",)),
            Offer(key="image:bad", kind="image", title="Bad", size=10),
            Offer(key="device:a", kind="device", title="Router A"),
        ),
    )
    medium.files = {"image:a": ("a-1.qcow2", DISK), "image:bad": ("bad.qcow2", b"qcow2 bad\n")}
    medium.images = {
        key: MediumImage(key=key, title=key, file=key, device="vios" if key == "image:a" else "", version="1", size=1)
        for key in medium.files
    }
    medium.devices = {"device:a": "name: router-a"}


async def test_what_is_chosen_of_an_iso_comes_in_with_its_device(rig: Rig) -> None:
    a_medium(rig)
    job = await imported(rig, b"iso\n", "refplat.iso")
    assert job.state is JobState.CHOICE
    await rig.restart()
    await rig.jobs.choose(job.id, Choice(keys=("image:a",)))
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error
    assert (ended.devices, rig.device_files) == (("router-a",), {"router-a": "name: router-a"})
    image = rig.catalogue.get(ended.images[0])
    assert (image.name, image.version, image.provenance.origin) == ("a-1.qcow2", "1", "iso")
    assert [(item.device, item.default) for item in image.devices] == [("vios", True)]
    assert rig.debris() == []
    again = await imported(rig, b"iso\n", "refplat.iso")
    assert again.choices is not None
    assert [offer.exists for offer in again.choices.offers] == [image.id, "", ""]


async def test_one_item_that_is_refused_keeps_no_other_out(rig: Rig) -> None:
    a_medium(rig)
    job = await imported(rig, b"iso\n", "refplat.iso")
    await rig.jobs.choose(job.id, Choice(everything=True))
    ended = await rig.ended(job)
    assert ended.state is JobState.FAILED
    items = (ended.error or {})["details"]["items"]
    assert [(item["title"], item["details"]) for item in items] == [("Bad", {"reason": "backing-file"})]
    assert (len(ended.images), ended.devices) == (1, ("router-a",))


async def test_an_iso_goes_on_with_what_is_left_after_a_kill(rig: Rig) -> None:
    a_medium(rig)
    rig.medium.files["image:bad"] = ("b.qcow2", DISK + b"b")
    job = await imported(rig, b"iso\n", "refplat.iso")
    reached, go = asyncio.Event(), asyncio.Event()
    _hold(rig, "add", reached, go)
    await rig.jobs.choose(job.id, Choice(everything=True))
    async with asyncio.timeout(5):
        await reached.wait()
    _unhold(rig)
    killing = asyncio.create_task(rig.kill())
    await asyncio.sleep(0.02)
    go.set()
    await killing
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error
    assert len(rig.catalogue.images) == 2
    assert rig.debris() == []


async def test_an_appliance_file_finds_its_images_by_checksum_and_makes_its_device(rig: Rig) -> None:
    image = rig.catalogue.get((await imported(rig, DISK, "something.qcow2")).images[0])
    md5 = hashlib.md5(DISK, usedforsecurity=False).hexdigest()
    wanted = (
        ApplianceImage(name="a.qcow2", version="1", md5=md5, size=len(DISK), boots=True),
        ApplianceImage(name="b.qcow2", version="2", md5="0" * 32, size=len(DISK), boots=True),
    )
    rig.medium.appliance = Appliance("A", "gns3-a", "", "name: gns3-a", wanted)
    job = await imported(rig, b"gns3a {}\n", "a.gns3a")
    assert job.state is JobState.DONE, job.error
    assert job.devices == ("gns3-a",)
    served = rig.catalogue.get(image.id).devices
    assert [(item.device, item.default) for item in served] == [("gns3-a", True)]
    assert any(line.startswith("a.qcow2 is image something.qcow2") for line in job.report)
    assert any(line.startswith("b.qcow2") and line.endswith("is not in the library") for line in job.report)
