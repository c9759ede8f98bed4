"""kill -9 of the controller while images come out of a platform's CD, or are built: it goes on, nothing is half."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from image_site import Site, at_once, digest, ended, raw_disk, running, sent
from image_sources import one_machine
from iol_binaries import program
from media_rig import write_cd

from wireloom.library.iol import BASE_ARCHIVE, build
from wireloom.model.images import Choice, ImportRequest, JobState
from wireloom.testing.installation import IMAGES

SUBNET = "172.30.81.0/24"
SIZE = 96 << 20


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running(SUBNET) as made:
        yield made


@pytest.fixture(scope="module")
def cd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A reference platform's, with a disk that is converted on its way in."""
    folder = tmp_path_factory.mktemp("cd")
    raw = raw_disk(folder / "acme-host.img", SIZE)
    file = write_cd(folder, one_machine(raw))
    raw.unlink()
    yield file
    file.unlink()


@pytest.mark.parametrize("grows", ["copies/.*.part", "item/*"], ids=["copied", "converted"])
async def test_what_was_chosen_of_a_cd_comes_in_when_the_controller_is_killed_in_the_middle_of_it(
    site: Site, cd: Path, grows: str
) -> None:
    async with site.client() as client:
        job = await client.images.import_file(ImportRequest(upload=await sent(client, cd)))
        offered = await ended(client, job)
        assert offered.state is JobState.CHOICE, offered
        await client.images.choose(job.id, Choice(everything=True))
        await at_once(lambda: list((site.host.data / "library" / "jobs").glob(f"*/files/{grows}")))
        await site.host.replace("controller")
        found = await ended(client, job)
        assert (found.state, found.attempts, found.devices) == (JobState.DONE, 2, ("acme-host",)), found
        (image,) = await client.images.all()
        assert [(item.device, item.default) for item in image.devices] == [("acme-host", True)]
        assert "acme-host" in {device.name for device in await client.devices()}
    assert [f"sha256:{name}" for name in site.stored] == [image.digest]
    assert site.work == []


@pytest.mark.parametrize("grows", ["base/*", ".archive.tar.part"])
async def test_iol_is_built_when_the_controller_is_killed_in_the_middle_of_it(
    site: Site, tmp_path: Path, grows: str
) -> None:
    binary = tmp_path / "x86_64_crb_linux-adventerprisek9-ms.bin"
    binary.write_bytes(program())
    async with site.client() as client:
        job = await client.images.import_file(ImportRequest(upload=await sent(client, binary)))
        await at_once(lambda: list((site.host.data / "library" / "jobs").glob(f"*/files/work/iol-build/{grows}")))
        await site.host.replace("controller")
        found = await ended(client, job)
        assert (found.state, found.attempts) == (JobState.DONE, 2), found
        (image,) = await client.images.all()
    undisturbed = build(binary, IMAGES / BASE_ARCHIVE, tmp_path)
    assert (image.content, image.digest) == (undisturbed.content, digest(undisturbed.file))
    undisturbed.file.unlink()
    assert [f"sha256:{name}" for name in site.stored] == [image.digest]
    assert site.work == []
