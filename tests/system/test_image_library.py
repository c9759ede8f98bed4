"""Images of each technology from upload to end: deployed, kept while they are used, then gone from everywhere."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from image_site import engine_name, gone, without_images

from wireloom.client import Client
from wireloom.client.images import ENDED
from wireloom.errors import Conflict
from wireloom.model.images import (
    ImageState,
    ImageUpdate,
    ImageView,
    ImportRequest,
    JobState,
    PresenceState,
    ServedDevice,
)
from wireloom.testing.installation import IMAGES, Installation, until

SUBNET = "172.30.112.0/24"
LAB = "name: lab\nnodes:\n  a: {{device: linux, provider: {provider}}}\n"


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    async with without_images(SUBNET) as made:
        yield made


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """An archive of an image that the engine has under another name, which is none of the library's business."""
    file = tmp_path / "linux.tar"
    subprocess.run(["docker", "save", "-o", str(file), "wireloom/linux:latest"], check=True, timeout=60)
    return file


@pytest.fixture
def name() -> Iterator[str]:
    """Of a container's image."""
    with engine_name("linux:1") as made:
        yield made


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return Path(shutil.copy(IMAGES / "linux.qcow2", tmp_path / "linux.qcow2"))


async def imported(client: Client, file: Path, name: str) -> ImageView:
    url = await client.images.begin_upload(file)
    await client.images.send(url, file)
    request = ImportRequest(upload=url.rpartition("/")[2], name=name, device="linux", default=True)
    job = await client.images.import_file(request)

    async def ended() -> bool:
        return (await client.images.job(job.id)).state in ENDED

    await until(ended, "the import has not ended", within_s=120)
    job = await client.images.job(job.id)
    assert job.state is JobState.DONE, job
    return await client.images.get(job.images[0])


async def present(client: Client, image: ImageView, *states: PresenceState) -> bool:
    return [item.state for item in (await client.images.get(image.id)).presence] == list(states)


async def is_deleting(host: Installation, image: ImageView) -> bool:
    async with host.client() as client:
        return (await client.images.get(image.id)).state is ImageState.DELETING


def engine_has(name: str) -> bool:
    command = ["docker", "image", "inspect", name]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


async def lives_and_goes(host: Installation, image: ImageView, provider: str, *, within_s: float) -> None:
    """Deploy a node of the device's default, find that the image cannot go, and then that it can."""
    await host.deploy(LAB.format(provider=provider))
    view = await host.wired(within_s=within_s)
    assert view.nodes[0].image == image.name
    async with host.client() as client:
        assert await present(client, image, PresenceState.PRESENT)
        with pytest.raises(Conflict, match="used by node a of lab lab, device linux, whose default it is"):
            await client.images.delete(image.id)
        await host.destroy()
        await client.images.update(image.id, ImageUpdate(devices=(ServedDevice(device="linux"),)))
        assert (await client.images.delete(image.id)).state is ImageState.DELETING
        await until(lambda: gone(client, image), "the image is still there", within_s=30)
        assert (await client.images.collect()).removed == ()
    stored = [path for path in (host.data / "library" / "blobs" / "sha256").rglob("*") if path.is_file()]
    kept = [path for path in (host.data / "cache").rglob("*") if path.is_file() and path.stat().st_size >= image.size]
    assert (stored, kept) == ([], [])


@pytest.mark.docker
async def test_a_container_s_image_from_upload_to_its_end(host: Installation, container: Path, name: str) -> None:
    async with host.client() as client:
        image = await imported(client, container, name)
        assert (image.name, image.provider, image.state) == (name, "docker", ImageState.READY)
        await client.images.push(image.id)
        await until(lambda: present(client, image, PresenceState.PRESENT), "the image is not on the host", within_s=60)
    assert engine_has(name)
    await lives_and_goes(host, image, "docker", within_s=60)
    assert not engine_has(name)
    assert engine_has("wireloom/linux:latest")  # the same content, under a name that is not the library's


@pytest.mark.docker
async def test_a_host_that_is_away_drops_a_deleted_image_when_it_comes_back(
    host: Installation, container: Path, name: str
) -> None:
    async with host.client() as client:
        image = await imported(client, container, name)
        await client.images.push(image.id)
        await until(lambda: present(client, image, PresenceState.PRESENT), "the image is not on the host", within_s=60)
        await host.kill("agent")
        await until(lambda: present(client, image, PresenceState.AWAY), "the host is still there", within_s=30)
        await client.images.update(image.id, ImageUpdate(devices=()))
        await client.images.delete(image.id)
    await host.replace("controller")
    await until(lambda: is_deleting(host, image), "the controller forgot what it had to remove", within_s=40)
    assert engine_has(name)
    await host.start("agent")
    await host.answering()
    async with host.client() as client:
        await until(lambda: gone(client, image), "the image is still there", within_s=60)
    assert not engine_has(name)


@pytest.mark.libvirt
async def test_a_disk_from_upload_to_its_end(host: Installation, disk: Path) -> None:
    async with host.client() as client:
        image = await imported(client, disk, "wlt-linux.qcow2")
        assert (image.provider, image.content) == ("libvirt", image.digest)
    await lives_and_goes(host, image, "libvirt", within_s=240)
    assert list((host.data / "images").glob("*.qcow2")) == []
