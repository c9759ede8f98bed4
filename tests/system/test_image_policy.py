"""A host that is to have every image: they come without a node, come back when somebody takes them, and go for good."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from image_site import archive_of, converted, digest, engine_id, gone, imported, present, raw_disk, without_images

from wireloom.client import Client
from wireloom.model.images import ImageView
from wireloom.testing.installation import Installation, until

SUBNET = "172.30.116.0/24"
SIZE = 2 << 20
#: A host looks at all its images once a minute.
LOOKED_S = 90

pytestmark = [pytest.mark.docker, pytest.mark.libvirt]


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    async with without_images(SUBNET, WIRELOOM_IMAGE_POLICY="everywhere") as made:
        yield made


@pytest.fixture
def repository() -> Iterator[str]:
    """Of containers' images; nobody else has it, and a test that failed leaves none of it."""
    made = f"wlt-{uuid.uuid4().hex[:8]}"
    yield made
    for name in (f"{made}/removed:1", f"{made}/replaced:1"):
        subprocess.run(["docker", "image", "rm", name], capture_output=True, timeout=30, check=False)


def docker(*words: str) -> None:
    subprocess.run(["docker", *words], check=True, capture_output=True, timeout=30)


async def images_of(client: Client, folder: Path, repository: str) -> dict[str, ImageView]:
    """Two images of each technology, each of a content of its own."""
    found = {}
    for what in ("removed", "replaced"):
        raw = raw_disk(folder / f"{what}.img", SIZE)
        found[f"{what} disk"] = await imported(client, converted(raw), f"wlt-{what}.qcow2")
        found[f"{what} container"] = await imported(client, archive_of(raw), f"{repository}/{what}:1")
    return found


async def all_there(client: Client, images: dict[str, ImageView]) -> bool:
    return all([await present(client, image) for image in images.values()])


async def as_they_should_be(host: Installation, images: dict[str, ImageView]) -> bool:
    """Whether engine and disk have all of them, whatever is told."""
    return all([await asyncio.to_thread(is_there, host, image) for image in images.values()])


def is_there(host: Installation, image: ImageView) -> bool:
    if image.provider == "docker":
        return engine_id(image.name) == image.content
    file = host.data / "images" / image.name
    return file.exists() and digest(file) == image.digest


async def test_a_host_gets_keeps_and_loses_what_the_library_has(
    host: Installation, tmp_path: Path, repository: str
) -> None:
    folder = host.data / "images"
    async with host.client() as client:
        images = await images_of(client, tmp_path, repository)
        await until(lambda: all_there(client, images), "not all images came by themselves", within_s=60)
        assert await as_they_should_be(host, images)

        docker("image", "rm", images["removed container"].name)
        docker("tag", "wireloom/linux:latest", images["replaced container"].name)
        (folder / images["removed disk"].name).unlink()
        (folder / images["replaced disk"].name).unlink()
        (folder / images["replaced disk"].name).write_bytes(converted(raw_disk(tmp_path / "x.img", SIZE)).read_bytes())
        assert not await as_they_should_be(host, images)
        await until(lambda: as_they_should_be(host, images), "the host was not mended", within_s=LOOKED_S)
        await until(lambda: all_there(client, images), "the host does not say that it is mended")

        for image in images.values():
            await client.images.delete(image.id)
        for image in images.values():
            await until(lambda image=image: gone(client, image), f"{image.name} is still there")
    assert [engine_id(image.content) for image in images.values() if image.provider == "docker"] == ["", ""]
    assert list(folder.glob("*.qcow2")) == []
    kept = [path for path in (host.data / "library" / "blobs").rglob("*") if path.is_file()]
    kept += [path for path in (host.data / "cache" / "blobs").rglob("*") if path.is_file()]
    assert kept == []
