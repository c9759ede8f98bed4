"""Binaries that build themselves, disks in containers, images read again, media of which a user chooses."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from library_imports_rig import ARCHIVE, DISK, a_medium, imported
from library_rig import TOOLS, Rig, build_iol, make_library

from wireloom.errors import RuntimeFailed, Unavailable, Unsupported
from wireloom.fabric.image_documents import VerifyAnswer, VerifyQuestion
from wireloom.fabric.methods import VERIFY_IMAGES
from wireloom.library.archives import InnerDisk
from wireloom.library.media import Appliance, ApplianceImage
from wireloom.model.images import (
    Choice,
    ExtractRequest,
    ImageUpdate,
    JobState,
    Presence,
    PresenceState,
    ServedDevice,
)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_library(tmp_path) as made:
        yield made


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


async def wraps(rig: Rig, name: str) -> None:
    """Containers have a disk of that name in them from now on, and one that does not stand alone."""

    def inside(archive: Path, limits: object, progress: object) -> tuple[InnerDisk, ...]:
        return (
            InnerDisk(f"/{name}", "qcow2", len(DISK), 0, 0),
            InnerDisk("/overlay.qcow2", "qcow2", 10, 0, 0, backed=True),
        )

    def extract(archive: Path, inner: InnerDisk, target: Path, limits: object, progress: object) -> Path:
        target.write_bytes(DISK)
        return target

    rig.tools = type(TOOLS)(**{**vars(TOOLS), "disks_inside": inside, "extract_disk": extract})
    await rig.restart()


async def test_a_disk_that_says_nothing_is_for_the_device_that_its_container_was_for(rig: Rig) -> None:
    await wraps(rig, "sda.qcow2")
    container = rig.catalogue.get((await imported(rig, ARCHIVE, "vrnetlab.tar")).images[0])
    await rig.catalogue.update(container.id, ImageUpdate(devices=(ServedDevice(device="vios"),)))
    job = await rig.ended(await rig.imports.extract(container.id, ExtractRequest()))
    assert job.state is JobState.DONE, job.error
    assert [item.device for item in rig.catalogue.get(job.images[0]).devices] == ["vios"]


async def test_a_disk_that_says_nothing_is_what_the_name_of_its_container_says(rig: Rig) -> None:
    await wraps(rig, "sda.qcow2")
    container = await imported(rig, ARCHIVE, "vrnetlab.tar", name="vr-vios:15")
    assert rig.catalogue.get(container.images[0]).devices == ()  # it does not run as a container
    job = await rig.ended(await rig.imports.extract(container.images[0], ExtractRequest()))
    assert job.state is JobState.DONE, job.error
    assert [item.device for item in rig.catalogue.get(job.images[0]).devices] == ["vios"]


async def test_the_disk_in_a_container_becomes_an_image(rig: Rig) -> None:
    await wraps(rig, "vios-15.qcow2")
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
    there = (Presence(host="h1", state=PresenceState.PRESENT), Presence(host="h2", state=PresenceState.AWAY))
    rig.catalogue.images[image.id] = image.model_copy(update={"presence": there})
    asked: list[VerifyQuestion] = []
    answer = [VerifyAnswer()]

    async def verify(question: VerifyQuestion) -> VerifyAnswer:
        asked.append(question)
        return answer[0]

    await rig.fabric.serve("h1", VERIFY_IMAGES, verify)
    job = await rig.ended(await rig.imports.verify(image.id))
    assert (job.state, asked[0].images) == (JobState.DONE, (image.pin,))
    assert job.report[-2:] == ("h1 has what it should have", "h2 is away, and was not asked")
    answer[0] = VerifyAnswer(damaged={image.name: RuntimeFailed("it was changed").to_wire()})
    rig.sound = False
    job = await rig.ended(await rig.imports.verify(image.id))
    assert job.state is JobState.FAILED
    assert (job.error or {})["details"]["problems"] == [
        "the library: its file is not what it was",
        "host h1: it was changed",
    ]


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
