"""Disks that are full in earnest: what cannot fit is not begun, what is cut off ends and leaves nothing, and with room
it all goes on."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from image_site import Site, at_once, converted, digest, ended, imported, made, present, raw_disk, running, sent
from small_disk import SmallDisk, small_disk

from wireloom.client import Client
from wireloom.controller.library.incoming import RESERVE
from wireloom.errors import CapacityExceeded
from wireloom.model.images import AdoptRequest, ImageView, ImportRequest, JobState, JobView, PresenceState
from wireloom.testing.installation import Installation, until

SUBNET = "172.30.117.0/24"
SIZE = 64 << 20
#: What agents leave to others on a disk, and some more for three images.
ROOM = (256 << 20) + 3 * SIZE

pytestmark = [pytest.mark.kernel, pytest.mark.libvirt]


@dataclass(frozen=True)
class Crowded:
    """A site one of whose folders is a small disk."""

    site: Site
    disk: SmallDisk


@contextlib.asynccontextmanager
async def crowded(folder: str, size: int) -> AsyncIterator[Crowded]:
    """:param folder: below that of the installation."""
    disks: list[SmallDisk] = []

    @contextlib.contextmanager
    def prepare(site: Site) -> Iterator[None]:
        with small_disk(site.host.folder / folder, size) as disk:
            disks.append(disk)
            yield

    async with running(SUBNET, prepare=prepare) as site:
        yield Crowded(site, disks[0])


@pytest.fixture
async def library() -> AsyncIterator[Crowded]:
    """The controller's images have little room."""
    async with crowded("data/library", RESERVE + ROOM) as made:
        yield made


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with made(raw_disk(tmp_path_factory.mktemp("raw") / "router.img", SIZE)) as file:
        yield file


@pytest.fixture(scope="module")
def image(raw: Path) -> Iterator[Path]:
    with made(converted(raw)) as file:
        yield file


@contextlib.contextmanager
def held(host: Installation, name: str) -> Iterator[None]:
    """A process of ours does nothing meanwhile."""
    process = host.processes[name]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def is_full(error: dict[str, Any] | None, *places: str) -> bool:
    """Whether it says so, and where."""
    told = error or {}
    text = f"{told.get('message')} {told.get('hint')}"
    return told.get("code") == CapacityExceeded.code and any(place in text for place in places)


async def done(client: Client, job: JobView) -> ImageView:
    found = await ended(client, job)
    assert found.state is JobState.DONE, found
    return await client.images.get(found.images[0])


async def test_an_upload_that_cannot_fit_is_refused_before_it_starts(library: Crowded, image: Path) -> None:
    site, disk = library.site, library.disk
    disk.fill(left=RESERVE + SIZE // 2)
    async with site.client() as client:
        with pytest.raises(CapacityExceeded, match="image library has no room") as caught:
            await client.images.begin_upload(image)
        assert caught.value.details["needed"] == image.stat().st_size
        assert caught.value.details["free"] <= SIZE // 2
        assert site.work == []
        disk.make_room()
        assert (await imported(client, image, "large.qcow2")).digest == digest(image)
    assert site.work == []


async def test_an_upload_of_unknown_size_ends_when_the_disk_is_full(library: Crowded, image: Path) -> None:
    site, disk = library.site, library.disk
    shutil.copy(image, site.data / "images" / "theirs.qcow2")
    uploads = disk.place / "uploads"
    async with site.client() as client:
        job = await client.images.adopt(AdoptRequest(host="h1", provider="libvirt", image="theirs.qcow2"))
        await at_once(lambda: any(path.stat().st_size for path in uploads.iterdir()))
        with held(site.host, "controller"):
            disk.fill()
        found = await ended(client, job)
        assert found.state is JobState.FAILED, found
        assert is_full(found.error, "image library"), found
        assert site.work == []
        assert list((site.data / "cache" / "exports").iterdir()) == []
        disk.make_room()
        assert (await done(client, await client.images.retry(job.id))).digest == digest(image)
    assert site.work == []


async def test_a_conversion_ends_when_the_disk_is_full(library: Crowded, raw: Path) -> None:
    site, disk = library.site, library.disk
    async with site.client() as client:
        job = await client.images.import_file(ImportRequest(upload=await sent(client, raw), name="large.qcow2"))
        await at_once(lambda: list(disk.place.glob("jobs/*/files/work/*")))
        disk.fill()
        found = await ended(client, job)
        assert found.state is JobState.FAILED, found
        assert is_full(found.error, "image library", str(disk.place)), found
        assert [path.name for path in site.work] == ["source"], "what was uploaded is not asked for again"
        assert site.stored == []
        disk.make_room()
        made = await done(client, await client.images.retry(job.id))
    assert [f"sha256:{name}" for name in site.stored] == [made.digest]
    assert site.work == []


async def refused(client: Client, image: ImageView, *places: str) -> bool:
    """Whether the one host says that it has no room."""
    (seen,) = (await client.images.get(image.id)).presence or (None,)
    return seen is not None and seen.state is PresenceState.FAILED and is_full(seen.error, *places)


async def test_what_a_host_fetches_ends_when_its_disk_is_full(image: Path) -> None:
    async with crowded("host", ROOM) as made, made.site.client() as client:
        site, disk = made.site, made.disk
        view = await imported(client, image, "large.qcow2")
        await client.images.push(view.id)
        await at_once(lambda: site.drafts)
        with held(site.host, "agent"):
            assert site.drafts, "it is all there already"
            disk.fill()
        await until(lambda: refused(client, view, str(disk.place)), "the host does not say that its disk is full")
        assert (site.files, site.disks) == ([], [])
        disk.make_room()
        await until(lambda: present(client, view), "the image does not come", within_s=90)
        assert digest(site.data / "images" / "large.qcow2") == view.digest


async def test_an_image_for_which_a_host_s_folder_has_no_room_comes_when_it_has(image: Path) -> None:
    async with crowded("host/images", 3 * SIZE) as made, made.site.client() as client:
        site, disk = made.site, made.disk
        disk.fill(left=SIZE // 2)
        view = await imported(client, image, "large.qcow2")
        await client.images.push(view.id)
        await until(lambda: refused(client, view, str(disk.place)), "the host does not say that its disk is full")
        assert set(site.disks) == {"lost+found", "filler"}
        disk.make_room()
        await until(lambda: present(client, view), "the image does not come", within_s=90)
        assert digest(site.data / "images" / "large.qcow2") == view.digest
