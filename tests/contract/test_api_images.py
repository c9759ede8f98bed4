"""Every route on images through the SDK, over real HTTP; a host that is played by the test."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from api_rig import Api
from catalogue_rig import DOCKER, LIBVIRT, add, entry, tell
from controller_rig import until
from disk_files import qcow2

from wireloom.client.images import ENDED
from wireloom.errors import Conflict, InvalidInput, NotFound, Unavailable, Unsupported
from wireloom.fabric.image_documents import (
    ExportMessage,
    ExportOpen,
    HostImage,
    HostImagesAnswer,
    HostImagesQuestion,
    HostLibrary,
    VerifyAnswer,
    VerifyQuestion,
)
from wireloom.fabric.methods import EXPORT, HOST_IMAGES, VERIFY_IMAGES
from wireloom.model.images import (
    AdoptRequest,
    Choice,
    ImageState,
    ImageUpdate,
    ImageView,
    ImportRequest,
    JobChoices,
    JobState,
    JobView,
    Offer,
    PullRequest,
    SaveRequest,
    ServedDevice,
)
from wireloom.model.views import DeployRequest
from wireloom.testing.memory_fabric import MemoryStream
from wireloom.uploading import TusClient

#: FastAPI silences it while it builds a body's validator; ours are built later, at their first use.
pytestmark = pytest.mark.filterwarnings("ignore:The 'alias' attribute")

DISK = qcow2()
LAB = "name: lab\nnodes: {a: {device: generic, provider: libvirt, image: box.qcow2}}\n"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = Api(tmp_path)
    made.host.facts = made.host.facts.model_copy(update={"providers": (DOCKER, LIBVIRT)})
    async for api in made.run():
        yield api


@pytest.fixture
def take(api: Api, tmp_path: Path) -> Callable[..., Awaitable[ImageView]]:
    """Puts an image into the catalogue."""
    rig: Any = SimpleNamespace(controller=api.controller, folder=tmp_path)
    return lambda *facts, **more: add(rig, *facts, **more)


async def uploaded(api: Api, folder: Path, name: str, content: bytes) -> str:
    """Id of an upload of that content."""
    (folder / name).write_bytes(content)
    upload = await api.client.images.begin_upload(folder / name, sha256=hashlib.sha256(content).hexdigest())
    await api.client.images.send(upload, folder / name)
    return upload.rpartition("/")[2]


async def ended(api: Api, job: JobView) -> JobView:
    async with asyncio.timeout(30), aclosing(api.client.images.log(job.id, follow=True)) as pieces:
        async for _ in pieces:
            pass
    await until(lambda: api.controller.library.jobs.get(job.id).state in ENDED)
    return await api.client.images.job(job.id)


# ---------------------------------------------------------------- images


async def test_images_are_listed_described_and_told_of(api: Api, take: Callable[..., Awaitable[ImageView]]) -> None:
    images = api.client.images
    assert await images.all() == []
    box = await take("box.qcow2", b"one")
    other = await take("vendor/app:1", b"two")
    assert [image.name for image in await images.all()] == ["box.qcow2", "vendor/app:1"]
    assert (await images.get(other.id)).provenance.source == "vendor/app:1"
    served = (ServedDevice(device="linux", default=True),)
    changed = await images.update(box.id, ImageUpdate(devices=served, version="2"))
    assert (changed.devices, changed.version) == (served, "2")
    assert [use.kind for use in changed.used_by] == ["device"]
    with pytest.raises(NotFound, match="device"):
        await images.update(box.id, ImageUpdate(devices=(ServedDevice(device="nothing"),)))
    with pytest.raises(Unsupported):
        await images.update(other.id, ImageUpdate(devices=(ServedDevice(device="iosv"),)))
    for verb in (images.get, images.delete, images.verify, images.push, images.unpush, images.extract):
        with pytest.raises(NotFound):
            await verb("vendor/app:1")  # the name is not the id


async def test_an_image_that_is_used_stays_and_one_that_is_not_goes(
    api: Api, take: Callable[..., Awaitable[ImageView]]
) -> None:
    box = await take("box.qcow2")
    await api.client.wait(await api.client.deploy(DeployRequest(topology=LAB)), timeout_s=5)
    with pytest.raises(Conflict, match="used by node a of lab lab") as refused:
        await api.client.images.delete(box.id)
    assert refused.value.details["used_by"][0]["name"] == "a"
    await api.client.wait(await api.client.destroy("lab"), timeout_s=5)
    assert (await api.client.images.delete(box.id)).state is ImageState.DELETING
    assert (await api.client.images.get(box.id)).presence[0].host == "h1"  # it has not said that it is gone


async def test_hosts_are_told_to_fetch(api: Api, take: Callable[..., Awaitable[ImageView]]) -> None:
    box = await take("box.qcow2")
    assert (await api.client.images.push(box.id)).name == "box.qcow2"

    def told() -> HostLibrary:
        document = api.fabric.library("h1")
        assert document is not None
        return document

    await until(lambda: told().wanted == (box.pin,))
    source = told().sources[0]
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {source.token}"}) as http:
        assert (await http.get(f"{source.url}/blobs/{box.digest}")).content == b"content"
    with pytest.raises(NotFound):
        await api.client.images.push(box.id, ["nowhere"])
    assert (await api.client.images.unpush(box.id)).name == "box.qcow2"
    await until(lambda: told().wanted == ())
    with pytest.raises(NotFound):
        await api.client.images.unpush(box.id, ["nowhere"])


async def test_what_hosts_have_is_told_with_what_of_it_is_the_library_s(
    api: Api, take: Callable[..., Awaitable[ImageView]]
) -> None:
    box = await take("box.qcow2")
    answer = HostImagesAnswer(
        images=(
            HostImage(provider="libvirt", name="box.qcow2", content=box.content, size=7),
            HostImage(provider="docker", name="box.qcow2", content="sha256:other", size=8),
            HostImage(provider="docker", name="alpine:3", content="sha256:abc", size=9),
        ),
        problems={"simulated": Unavailable("it sleeps").to_wire()},
    )

    async def tell(_question: HostImagesQuestion) -> HostImagesAnswer:
        return answer

    await api.fabric.serve("h1", HOST_IMAGES, tell)
    found = await api.client.images.engine()
    assert [(item.name, item.provider, item.library) for item in found] == [
        ("alpine:3", "docker", ""),
        ("box.qcow2", "docker", ""),
        ("box.qcow2", "libvirt", box.id),
    ]
    assert await api.client.images.engine("h1") == found
    with pytest.raises(NotFound, match="no host h2"):
        await api.client.images.engine("h2")
    answer = HostImagesAnswer(problems={"docker": Unavailable("the engine does not answer").to_wire()})
    with pytest.raises(Unavailable, match="the engine does not answer"):
        await api.client.images.engine("h1")


async def test_a_host_that_does_not_answer_is_said_when_it_is_asked_alone(api: Api) -> None:
    with pytest.raises(Unavailable):
        await api.client.images.engine("h1")


async def test_files_of_no_image_are_collected(api: Api) -> None:
    blobs = api.controller.library.blobs
    digest = f"sha256:{hashlib.sha256(b'left').hexdigest()}"
    file = blobs.path(digest)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"left")
    os.utime(file, (1, 1))
    assert (await api.client.images.collect()).removed == (digest,)
    assert file.exists()
    gone = await api.client.images.collect(dry_run=False)
    assert (gone.removed, gone.size, file.exists()) == ((digest,), 4, False)


# ---------------------------------------------------------------- what brings images in


async def test_an_upload_becomes_an_image(api: Api, tmp_path: Path) -> None:
    images = api.client.images
    request = ImportRequest(upload=await uploaded(api, tmp_path, "vios-159.qcow2", DISK), version="15.9")
    job = await ended(api, await images.import_file(request))
    assert (job.state, job.error) == (JobState.DONE, None)
    image = await images.get(job.images[0])
    assert (image.name, image.format, image.provenance.origin) == ("vios-159.qcow2", "qcow2", "upload")
    assert (await images.jobs())[0] == job
    async with aclosing(images.log(job.id)) as pieces:
        lines = b"".join([piece async for piece in pieces]).decode().splitlines()
    assert lines[-1].endswith("done")
    verified = await ended(api, await images.verify(image.id))
    assert (verified.state, verified.report) == (JobState.DONE, ("the library's file is what it was",))


async def test_a_file_that_must_not_come_in_is_refused_with_its_reason(api: Api, tmp_path: Path) -> None:
    upload = await uploaded(api, tmp_path, "bad.qcow2", qcow2(backing="/etc/passwd"))
    job = await ended(api, await api.client.images.import_file(ImportRequest(upload=upload)))
    assert job.state is JobState.FAILED
    assert (job.error or {})["code"] == "image-refused"
    assert (job.error or {})["details"] == {"reason": "backing-file"}
    assert await api.client.images.all() == []
    with pytest.raises(NotFound):
        await api.client.images.import_file(ImportRequest(upload=upload))


async def test_imports_that_make_no_sense_are_refused_before_a_job_is_made(api: Api, tmp_path: Path) -> None:
    images = api.client.images
    (tmp_path / "part").write_bytes(b"all of it")
    part = (await images.begin_upload(tmp_path / "part")).rpartition("/")[2]
    for request, error in (
        (ImportRequest(), InvalidInput),
        (ImportRequest(upload=part, url="http://x/y"), InvalidInput),
        (ImportRequest(upload=part), Conflict),
        (ImportRequest(upload="0" * 32), NotFound),
        (ImportRequest(url="file:///etc/passwd"), InvalidInput),
        (ImportRequest(upload=part, sha256="12"), InvalidInput),
        (ImportRequest(upload=part, name="../x"), InvalidInput),
        (ImportRequest(upload=part, device="nothing"), NotFound),
    ):
        with pytest.raises(error):
            await images.import_file(request)
    for asked in (
        images.pull(PullRequest(reference="not a reference")),
        images.adopt(AdoptRequest(host="h1", provider="simulated", image="x")),
        images.save(SaveRequest(lab="lab", node="a", name="../x")),
    ):
        with pytest.raises((InvalidInput, NotFound)):
            await asked
    assert await images.jobs() == []


async def test_a_host_sends_what_is_pulled_and_adopted_with_a_token_of_its_own(api: Api, tmp_path: Path) -> None:
    asked: list[ExportOpen] = []
    (tmp_path / "disk").write_bytes(DISK)

    async def send(question: ExportOpen) -> MemoryStream:
        asked.append(question)
        async with httpx.AsyncClient() as http:
            far = TusClient(http, headers={"Authorization": f"Bearer {question.token}"})
            sent = await far.send(question.upload, tmp_path / "disk")
        last = ExportMessage(stage="done", done=sent.size, total=sent.size, sha256=sent.sha256)
        return MemoryStream(last.model_dump_json().encode() + b"\n", ends=True)

    await api.fabric.serve_stream("h1", EXPORT, send)
    request = AdoptRequest(host="h1", provider="libvirt", image="box.qcow2")
    job = await ended(api, await api.client.images.adopt(request))
    assert (job.state, job.error) == (JobState.DONE, None)
    assert (await api.client.images.get(job.images[0])).name == "box.qcow2"
    request_to_pull = PullRequest(reference="vendor/ceos:1", username="me", password="hunter2")  # noqa: S106
    pulled = await ended(api, await api.client.images.pull(request_to_pull))
    assert asked[1].password == "hunter2"  # noqa: S105
    assert pulled.state is JobState.FAILED  # a disk is no container's image
    assert "hunter2" not in pulled.model_dump_json()


async def test_a_damaged_copy_on_a_host_is_found(api: Api, take: Callable[..., Awaitable[ImageView]]) -> None:
    box = await take("box.qcow2")
    rig: Any = SimpleNamespace(controller=api.controller, fabric=api.fabric)
    await tell(rig, "h1", entry(box))

    async def look(question: VerifyQuestion) -> VerifyAnswer:
        return VerifyAnswer(damaged={question.images[0].name: Unavailable("a bit is wrong").to_wire()})

    await api.fabric.serve("h1", VERIFY_IMAGES, look)
    job = await ended(api, await api.client.images.verify(box.id))
    assert job.state is JobState.FAILED
    assert "host h1: a bit is wrong" in str(job.error)


async def test_an_extraction_wants_a_container_s_image(api: Api, take: Callable[..., Awaitable[ImageView]]) -> None:
    box, wrapped = await take("box.qcow2", b"one"), await take("vrnetlab/x:1", b"two")
    with pytest.raises(Unsupported, match="disk already"):
        await api.client.images.extract(box.id)
    with pytest.raises(Conflict):
        await api.client.images.extract(wrapped.id, name="box")
    assert (await ended(api, await api.client.images.extract(wrapped.id, name="other"))).state is JobState.FAILED


# ---------------------------------------------------------------- work


async def test_a_job_is_cancelled_tried_again_and_chosen_for(
    api: Api, take: Callable[..., Awaitable[ImageView]]
) -> None:
    images, jobs = api.client.images, api.controller.library.jobs
    box = await take("box.qcow2")
    offer = Offer(key="one", kind="image", title="the one")
    chosen: list[object] = []

    async def work(job: Any) -> None:
        chosen.append(await job.choose(JobChoices(title="a medium", offers=(offer,))))

    jobs.serve("verify", work)
    job = await images.verify(box.id)
    await until(lambda: jobs.get(job.id).state is JobState.CHOICE)
    assert (await images.job(job.id)).choices == JobChoices(title="a medium", offers=(offer,))
    for wrong in (Choice(), Choice(keys=("two",))):
        with pytest.raises(InvalidInput):
            await images.choose(job.id, wrong)
    assert (await images.cancel(job.id)).state is JobState.CANCELLED
    with pytest.raises(Conflict):
        await images.choose(job.id, Choice(everything=True))
    await images.retry(job.id)
    await until(lambda: jobs.get(job.id).state is JobState.CHOICE)
    await images.choose(job.id, Choice(everything=True))
    assert (await ended(api, job)).state is JobState.DONE
    assert chosen == [("one",)]
    for verb in (images.cancel, images.retry):
        with pytest.raises(Conflict):
            await verb(job.id)


async def test_jobs_that_are_not_there_are_not_found(api: Api) -> None:
    images = api.client.images
    for verb in (images.job, images.cancel, images.retry):
        with pytest.raises(NotFound):
            await verb("nothing")
    with pytest.raises(NotFound):
        await images.choose("nothing", Choice(everything=True))
    with pytest.raises(NotFound):
        await anext(images.log("nothing"))


async def test_the_stream_tells_of_images_and_jobs(api: Api, take: Callable[..., Awaitable[ImageView]]) -> None:
    box = await take("box.qcow2")
    seen: list[tuple[str, object]] = []
    async with asyncio.timeout(10), aclosing(api.client.stream()) as messages:
        async for message in messages:
            if message.type in {"image", "job", "image-removed"}:
                seen.append((message.type, message.data.get("state") or message.data.get("name")))
            if seen == [("image", "ready")]:
                await api.client.images.verify(box.id)
            if ("job", "done") in seen:
                break
    assert ("job", "waiting") in seen


# ---------------------------------------------------------------- secrets


async def test_secrets_are_kept_and_never_told(api: Api) -> None:
    images = api.client.images
    await images.put_secret("iol-licence", b"[license]\nr1 = 0123;\n\xff")
    assert await images.secrets() == ["iol-licence"]
    kept = api.settings.paths.data_dir / "secrets" / "iol-licence"
    assert kept.read_bytes() == b"[license]\nr1 = 0123;\n\xff"
    assert kept.stat().st_mode & 0o777 == 0o600
    for name, content in (("Bad Name", b"x"), ("../x", b"x"), ("empty", b""), ("large", bytes(64 * 1024 + 1))):
        with pytest.raises((InvalidInput, NotFound)):
            await images.put_secret(name, content)
    await images.delete_secret("iol-licence")
    assert (await images.secrets(), kept.exists()) == ([], False)
    with pytest.raises(NotFound):
        await images.delete_secret("iol-licence")
