"""A disk of the library that is damaged comes back from a host that has it, through the way in that images take."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from catalogue_rig import BOTH, add, entry, tell
from controller_rig import Rig, make_rig, until

from wireloom.fabric.image_documents import ExportMessage, ExportOpen
from wireloom.fabric.methods import EXPORT
from wireloom.model.images import ImageState, JobState
from wireloom.providers.contract import ByteStream
from wireloom.testing.memory_fabric import MemoryStream


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as made:
        made.controller.library.distribution.serve_at("http://controller/api/v1")
        await made.add_host("h1", providers=BOTH)
        yield made


def disk(folder: Path) -> bytes:
    file = folder / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(file), "4M"], check=True, timeout=30)
    return file.read_bytes()


async def sends(rig: Rig, data: bytes) -> list[ExportOpen]:
    """``h1`` sends ``data`` when it is asked for an image; what it was asked."""
    asked: list[ExportOpen] = []

    async def answer(question: ExportOpen) -> ByteStream:
        asked.append(question)
        uploads, upload = rig.controller.library.uploads, question.upload.rpartition("/")[2]

        async def pieces() -> AsyncIterator[bytes]:
            yield data

        await uploads.write(upload, 0, pieces())
        await uploads.finish_length(upload, len(data))
        done = ExportMessage(stage="done", sha256=hashlib.sha256(data).hexdigest())
        return MemoryStream(done.model_dump_json().encode() + b"\n", ends=True)

    await rig.fabric.serve_stream("h1", EXPORT, answer)
    return asked


async def test_a_damaged_disk_is_sent_back_by_a_host_and_is_the_image_that_it_was(rig: Rig) -> None:
    library, data = rig.controller.library, disk(rig.folder)
    image = await add(rig, "box.qcow2", data, device="generic", default=True)
    await tell(rig, "h1", entry(image))
    asked = await sends(rig, data)
    file = library.blobs.path(image.digest)
    file.chmod(0o644)
    with file.open("r+b") as stored:
        stored.seek(len(data) // 2)
        stored.write(b"other")
    assert not await library.verifier.check(image.id)
    assert library.catalogue.get(image.id).state is ImageState.DAMAGED
    async with asyncio.timeout(60):
        while library.catalogue.get(image.id).state is not ImageState.READY:
            await asyncio.sleep(0.05)
            assert all(job.state is not JobState.FAILED for job in library.jobs.all()), library.jobs.all()
    assert [(question.provider, question.image) for question in asked] == [("libvirt", "box.qcow2")]
    again = library.catalogue.get(image.id)
    assert (again.digest, again.content, again.devices) == (image.digest, image.content, image.devices)
    assert library.blobs.path(image.digest).read_bytes() == data
    await until(lambda: library.jobs.all()[0].state is JobState.DONE)
