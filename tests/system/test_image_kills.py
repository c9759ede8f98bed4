"""kill -9 of a controller or an agent while an image is on its way: it goes on, or nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from image_site import (
    Site,
    archive_of,
    at_once,
    converted,
    digest,
    ended,
    engine_id,
    engine_name,
    gone,
    imported,
    made,
    present,
    raw_disk,
    running,
    sent,
    start_agent,
)

from wireloom.client import Client
from wireloom.model.images import AdoptRequest, ImageState, ImageView, ImportRequest, JobState, PresenceState
from wireloom.testing.installation import until

SUBNET = "172.30.80.0/24"
SIZE = 96 << 20


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running(SUBNET) as made:
        yield made


@pytest.fixture
def name() -> Iterator[str]:
    """Of a container's image."""
    with engine_name("large:1") as made:
        yield made


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with made(raw_disk(tmp_path_factory.mktemp("raw") / "router.img", SIZE)) as file:
        yield file


@pytest.fixture(scope="module")
def disk(raw: Path) -> Iterator[Path]:
    with made(converted(raw)) as file:
        yield file


@pytest.fixture(scope="module")
def archive(raw: Path) -> Iterator[Path]:
    with made(archive_of(raw)) as file:
        yield file


def unfinished(name: str) -> list[str]:
    """Names under which the engine keeps what is not finished of the image ``name``."""
    listed = subprocess.run(
        ["docker", "image", "ls", "--format", "{{json .}}", "wireloom-work/*"],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    wanted = engine_id(name).removeprefix("sha256:")
    return [line for line in listed.splitlines() if wanted.startswith(json.loads(line)["ID"])]


async def test_an_upload_goes_on_when_the_controller_is_killed_in_the_middle_of_it(site: Site, disk: Path) -> None:
    reached = asyncio.Event()

    def progress(done: int, total: int) -> None:
        if done > total // 3:
            reached.set()

    async with site.client() as client:
        upload = await client.images.begin_upload(disk)
        sending = asyncio.create_task(client.images.send(upload, disk, progress))
        await reached.wait()
        assert not sending.done()
        await site.host.replace("controller")
        await sending
        request = ImportRequest(upload=upload.rpartition("/")[2], name="large.qcow2")
        found = await ended(client, await client.images.import_file(request))
        assert found.state is JobState.DONE, found
        assert (await client.images.get(found.images[0])).digest == digest(disk)
    assert site.work == []


@pytest.mark.parametrize("grows", ["jobs/*/files/work/*", "blobs/sha256/*/.new-*"], ids=["converted", "stored"])
async def test_an_import_goes_on_when_the_controller_is_killed_in_the_middle_of_it(
    site: Site, raw: Path, grows: str
) -> None:
    library = site.host.data / "library"
    async with site.client() as client:
        job = await client.images.import_file(ImportRequest(upload=await sent(client, raw), name="large.qcow2"))
        await at_once(lambda: list(library.glob(grows)))
        await site.host.replace("controller")
        found = await ended(client, job)
        assert (found.state, found.attempts) == (JobState.DONE, 2), found
        (image,) = await client.images.all()
    assert [f"sha256:{name}" for name in site.stored] == [image.digest]
    assert site.work == []


@pytest.mark.docker
@pytest.mark.parametrize("killed", ["agent", "controller"])
async def test_a_container_s_image_goes_on_to_its_host_after_a_kill(
    site: Site, archive: Path, name: str, killed: str
) -> None:
    async with site.client() as client:
        image = await imported(client, archive, name)
        await client.images.push(image.id)
        await at_once(lambda: site.drafts)
        await kill(site, killed)
        await until(lambda: present(client, image), "the image is not on the host", within_s=120)
        assert engine_id(name) == image.content
        await client.images.delete(image.id)
        await until(lambda: gone(client, image), "the image is still there")
    assert (engine_id(name), site.files, site.stored) == ("", [], [])


@pytest.mark.libvirt
@pytest.mark.parametrize("killed", ["agent", "controller"])
async def test_a_disk_goes_on_to_its_host_after_a_kill(site: Site, disk: Path, killed: str) -> None:
    async with site.client() as client:
        image = await imported(client, disk, "large.qcow2")
        await client.images.push(image.id)
        await at_once(lambda: site.drafts)
        await kill(site, killed)
        await until(lambda: present(client, image), "the image is not on the host", within_s=120)
        assert digest(site.data / "images" / "large.qcow2") == image.digest
        assert site.disks == ["large.qcow2"]
        await client.images.delete(image.id)
        await until(lambda: gone(client, image), "the image is still there")
    assert (site.disks, site.files, site.stored) == ([], [], [])


async def kill(site: Site, name: str) -> None:
    """kill -9, and a new life."""
    await site.host.kill(name)
    if name == "agent":
        await start_agent(site)
    else:
        await site.host.start(name)
    await site.host.answering()


@pytest.mark.docker
async def test_an_engine_has_an_image_whole_after_its_agent_was_killed_while_it_loaded_it(
    site: Site, archive: Path, name: str
) -> None:
    async with site.client() as client:
        image = await imported(client, archive, name)
        whole = site.data / "cache" / "blobs" / "sha256"
        await client.images.push(image.id)
        await at_once(lambda: list(whole.glob("*/[0-9a-f]*")))
        await asyncio.sleep(0.1)
        await kill(site, "agent")
        await until(lambda: present(client, image), "the image is not on the host", within_s=120)
        assert engine_id(name) == image.content
        await until(lambda: nothing_half(name), "the engine keeps something half", within_s=90)
        await client.images.delete(image.id)
        await until(lambda: gone(client, image), "the image is still there")
    assert (engine_id(name), site.files) == ("", [])


async def nothing_half(name: str) -> bool:
    return unfinished(name) == []


@pytest.mark.libvirt
async def test_a_disk_is_whole_after_its_agent_was_killed_while_it_took_it_over(site: Site, disk: Path) -> None:
    async with site.client() as client:
        image = await imported(client, disk, "large.qcow2")
        await client.images.push(image.id)
        await at_once(lambda: site.disks)
        await kill(site, "agent")
        await until(lambda: present(client, image), "the image is not on the host", within_s=120)
    assert digest(site.data / "images" / "large.qcow2") == image.digest
    assert site.disks == ["large.qcow2"]


@pytest.mark.libvirt
async def test_what_a_host_sends_is_asked_for_again_when_the_controller_was_killed(site: Site, disk: Path) -> None:
    shutil.copy(disk, site.data / "images" / "theirs.qcow2")
    async with site.client() as client:
        job = await client.images.adopt(AdoptRequest(host="h1", provider="libvirt", image="theirs.qcow2"))
        exports = site.data / "cache" / "exports"
        await at_once(lambda: list(exports.iterdir()))
        await site.host.replace("controller")
        found = await ended(client, job)
        assert (found.state, found.attempts) == (JobState.DONE, 2), found
        (image,) = await client.images.all()
        assert (image.name, image.digest) == ("theirs.qcow2", digest(disk))
        await until(lambda: empty(exports), "the host has files of an export that nobody wants any more")
    assert site.work == []


async def empty(folder: Path) -> bool:
    return not any(folder.iterdir())


@pytest.mark.libvirt
async def test_an_image_is_deleted_when_it_is_gone_from_each_of_several_hosts(site: Site, disk: Path) -> None:
    host, other = site.host, site.other

    async def start_other() -> None:
        run_dir = str(host.folder / "other-run")
        await start_agent(
            site, "other", WIRELOOM_DATA_DIR=str(other), WIRELOOM_RUN_DIR=run_dir, WIRELOOM_HOST="h2",
            WIRELOOM_DOCKER_URL=f"unix://{other}/no-engine",
        )  # fmt: skip

    async def states(client: Client, image: ImageView) -> dict[str, PresenceState]:
        return {item.host: item.state for item in (await client.images.get(image.id)).presence}

    async def stand(client: Client, image: ImageView, wanted: dict[str, PresenceState]) -> bool:
        return await states(client, image) == wanted

    async def two(client: Client) -> bool:
        return len([item for item in (await client.status()).hosts if item.alive and item.facts]) == 2

    await start_other()
    async with site.client() as client:
        await until(lambda: two(client), "the other host did not come", within_s=40)
        image = await imported(client, disk, "large.qcow2")
        await client.images.push(image.id)
        both = {"h1": PresenceState.PRESENT, "h2": PresenceState.PRESENT}
        await until(lambda: stand(client, image, both), "the image is not on both hosts", within_s=60)
        await host.kill("other")
        away = {"h1": PresenceState.PRESENT, "h2": PresenceState.AWAY}
        await until(lambda: stand(client, image, away), "the other host is still there")
        assert (await client.images.delete(image.id)).state is ImageState.DELETING
        left = {"h2": PresenceState.AWAY}
        await until(lambda: stand(client, image, left), "the image is still on the first host")
        assert (site.disks, len(list((other / "images").glob("*.qcow2")))) == ([], 1)
        await host.replace("controller")
        await host.answering()
        await start_other()
        await until(lambda: gone(client, image), "the image is still there", within_s=60)
    assert list((other / "images").glob("*.qcow2")) == []
    assert [path for path in (other / "cache" / "blobs").rglob("*") if path.is_file()] == []
    assert site.stored == []
