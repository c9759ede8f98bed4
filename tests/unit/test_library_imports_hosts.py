"""What hosts send becomes an image: pulled by their engines, adopted, saved of a node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from library_imports_rig import ARCHIVE, DISK, digest, imported
from library_rig import Rig, make_library, until_quietly

from wireloom.controller.library import imports
from wireloom.errors import Conflict, InvalidInput, NotFound, Unavailable
from wireloom.fabric.image_documents import ExportMessage
from wireloom.fabric.methods import EXPORT
from wireloom.model.images import (
    AdoptRequest,
    JobState,
    PullRequest,
    SaveRequest,
)
from wireloom.testing.memory_fabric import MemoryStream


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_library(tmp_path) as made:
        yield made


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
    rig.let_wait()
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
    assert await rig.store.image_work.uploads() == [], "another attempt begins anew, and the disk may be full"
    assert rig.debris() == []


async def test_a_host_that_goes_for_good_and_one_that_lies(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "PAUSE_S", 0)
    asked = await rig.sends(ARCHIVE, ExportMessage(stage="send"))
    job = await rig.ended(await rig.imports.pull(PullRequest(reference="ceos:1")))
    assert (job.error or {})["code"] == "unavailable"
    assert len(asked) == imports.SENDS
    assert sum("asked again when it is back" in line for line in job.report) == imports.SENDS - 1
    await rig.sends(ARCHIVE, ExportMessage(stage="done", sha256=digest(b"other")))
    await rig.jobs.retry(job.id)
    assert ((await rig.ended(job)).error or {})["details"] == {"reason": "digest"}

    async def nonsense(question: object) -> MemoryStream:
        return MemoryStream(b"nonsense\n", ends=True)

    await rig.fabric.serve_stream("h1", EXPORT, nonsense)
    job = await rig.ended(await rig.imports.pull(PullRequest(reference="ceos:1")))
    assert (job.error or {})["code"] == "internal"


async def test_a_host_that_is_lost_while_it_sends_is_asked_again_when_it_is_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "PAUSE_S", 0)
    monkeypatch.setattr(imports, "_LOOK_S", 0.01)
    rig.at_once["network"] = 1
    await rig.restart()

    async def breaks(question: object) -> MemoryStream:
        rig.hosts.there.discard("h1")
        stream = MemoryStream(ExportMessage(stage="send").model_dump_json().encode() + b"\n")
        stream.feed(Unavailable("the other end of the stream went away"))
        return stream

    await rig.fabric.serve_stream("h1", EXPORT, breaks)
    job = await rig.imports.adopt(AdoptRequest(host="h1", provider="libvirt", image="vios.qcow2"))
    await until_quietly(lambda: rig.jobs.get(job.id).report[1:])
    assert "(2 of 5 times)" in rig.jobs.get(job.id).report[-1]
    # While the host is away another one sends, though one place is all there is.
    rig.hosts.there.add("h2")
    await rig.sends(DISK + b"other", host="h2")
    other = await rig.ended(await rig.imports.adopt(AdoptRequest(host="h2", provider="libvirt", image="vios2.qcow2")))
    assert other.state is JobState.DONE, other.error
    await rig.sends(DISK)
    rig.hosts.there.add("h1")
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error
    assert rig.debris() == []


@pytest.mark.parametrize(
    ("name", "borrowed"), [("", False), ("docker.io/library/ceos:latest", False), ("mine:2", True)]
)
async def test_a_host_keeps_no_name_that_the_image_does_not_have_in_the_library(
    rig: Rig, name: str, borrowed: bool
) -> None:
    asked = await rig.sends(ARCHIVE)
    job = await rig.ended(await rig.imports.pull(PullRequest(reference="ceos", name=name)))
    assert job.state is JobState.DONE, job.error
    assert asked[0].borrow is borrowed
