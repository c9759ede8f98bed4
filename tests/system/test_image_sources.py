"""Images that come out of something else, through a whole installation: of a platform's CD, of a wrapped machine."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from image_site import converted, digest, ended, engine_id, engine_name, raw_disk, sent, without_images
from image_sources import platform, wrapped
from media_rig import write_cd

from wireloom.client import Client
from wireloom.errors import InvalidInput, NotFound
from wireloom.model.images import Choice, ImageUpdate, ImageView, ImportRequest, JobState, JobView, ServedDevice
from wireloom.testing.installation import IMAGES, Installation, run, until

SUBNET = "172.30.97.0/24"
#: Neither image nor configuration is named: devices that were made of the CD have both.
LAB = """
name: lab
nodes:
  h: {device: acme-host}
  r: {device: cml-frr}
links:
  - [h:eth1, r:eth0]
"""
NATIVE = """
name: lab
nodes:
  f: {{device: {device}, image: {image}}}
"""


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    async with without_images(SUBNET) as made:
        yield made


@pytest.fixture
def name() -> Iterator[str]:
    """Of a container's image."""
    with engine_name("frr:10-0") as made:
        yield made


@pytest.fixture
def container(tmp_path: Path, name: str) -> Path:
    """An archive of the reference router under ``name``, which the engine does not have."""
    file = tmp_path / "frr.tar"
    for command in (["tag", "wireloom/frr:latest", name], ["save", "-o", str(file), name], ["image", "rm", name]):
        subprocess.run(["docker", *command], check=True, capture_output=True, timeout=60)
    return file


@pytest.fixture
def cd(tmp_path: Path, container: Path) -> Iterator[Path]:
    small = converted(raw_disk(tmp_path / "small.img", 1 << 20))
    file = write_cd(tmp_path, platform(IMAGES / "linux.qcow2", container, small))
    container.unlink()
    yield file
    file.unlink()


async def imported(client: Client, file: Path) -> JobView:
    request = ImportRequest(upload=await sent(client, file))
    return await ended(client, await client.images.import_file(request))


async def take_away(client: Client) -> None:
    """Every image, from the library and everywhere."""
    images = await client.images.all()
    for image in images:
        await client.images.update(image.id, ImageUpdate(devices=()))
        await client.images.delete(image.id)

    async def gone() -> bool:
        return not await client.images.all()

    await until(gone, "there are images still", within_s=60)


def kept(host: Installation) -> list[str]:
    """Files of the library, and of work for it, but for logs."""
    library = host.data / "library"
    stored = [path.name for path in (library / "blobs").rglob("*") if path.is_file()]
    work = [path.name for path in (library / "jobs").rglob("*") if path.is_file() and path.name != "log"]
    return [*stored, *work, *(path.name for path in (library / "uploads").iterdir())]


async def says(host: Installation, node: str, *command: str) -> str:
    """What a command in a node prints; empty where it fails."""
    async with host.client() as client:
        answer = await client.exec("lab", node, list(command))
    return answer.stdout if answer.exit_code == 0 else ""


async def reaches(host: Installation, node: str, address: str) -> bool:
    return bool(await says(host, node, "ping", "-c", "1", "-W", "2", address))


@pytest.mark.docker
@pytest.mark.libvirt
async def test_what_is_chosen_of_a_platform_s_cd_runs(host: Installation, cd: Path, name: str) -> None:
    async with host.client() as client:
        offered = await imported(client, cd)
        assert offered.state is JobState.CHOICE, offered
        check_offers(offered)
        with pytest.raises(InvalidInput, match="a segment of the topology does what it does"):
            await client.images.choose(offered.id, Choice(keys=("device:external_connector",)))
        keys = ("image:acme-host-1-0", "image:frr-10-0", "image:iosv-159-3-m8", "image:acme-twin-2")
        done = await ended(client, await client.images.choose(offered.id, Choice(keys=keys)))
        assert done.state is JobState.DONE, done
        assert sorted(done.devices) == ["acme-host", "acme-twin", "cml-frr"]
        check_images(await client.images.all(), name)
        for line in ("device cml-frr is known now", f"image {name} is in the library, for cml-frr"):
            assert line in done.report
    await host.deploy(LAB)
    view = await host.reach(
        lambda view: view.converged and all(node.ready == "yes" for node in view.nodes),
        "the nodes are not ready", within_s=240,
    )  # fmt: skip
    assert {node.image for node in view.nodes} == {"acme-host.qcow2", name}
    await check_nodes(host)
    await host.destroy()
    async with host.client() as client:
        await take_away(client)
    assert (kept(host), engine_id(name)) == ([], "")
    assert list((host.data / "images").glob("*.qcow2")) == []


def check_offers(job: JobView) -> None:
    """Known kinds of node are ours, others become devices, and what is no machine cannot be had."""
    assert job.choices is not None
    offers = {offer.key: offer for offer in job.choices.offers}
    assert {key: (offer.device, offer.needs) for key, offer in offers.items() if not offer.problem} == {
        "device:acme-host": ("", ()),
        "device:acme-twin": ("", ()),
        "device:frr": ("", ()),
        "device:iosv": ("cisco_iosv", ()),
        "image:acme-host-1-0": ("", ("device:acme-host",)),
        "image:acme-twin-2": ("", ("device:acme-twin",)),
        "image:frr-10-0": ("", ("device:frr",)),
        "image:iosv-159-3-m8": ("cisco_iosv", ()),
    }
    assert [key for key, offer in offers.items() if offer.problem] == ["device:external_connector"]
    assert offers["image:acme-host-1-0"].size == (IMAGES / "linux.qcow2").stat().st_size


def check_images(images: list[ImageView], container: str) -> None:
    """Each is the default of what it is for; a disk that two kinds of node boot is one image."""
    small = "vios-adventerprisek9-m.spa.159-3.m8.qcow2"
    found = {image.name: tuple((item.device, item.default) for item in image.devices) for image in images}
    two = (("acme-twin", True), ("cisco_iosv", True))
    other = next(iter({"twin.qcow2", small} & found.keys()))  # whichever came first
    assert found == {"acme-host.qcow2": (("acme-host", True),), container: (("cml-frr", True),), other: two}
    assert {image.provenance.origin for image in images} == {"iso"}


async def check_nodes(host: Installation) -> None:
    """Both have the configuration that their definitions bring, and the wire between them carries."""

    async def named() -> bool:
        return (await says(host, "h", "hostname")).strip() == "h"

    await until(named, "the machine lets nobody in, or has not read its CD", within_s=120)
    assert "hostname r" in await says(host, "r", "vtysh", "-c", "show running-config")
    assert (await says(host, "r", "cat", "/root/begun")).strip() == "begun"
    await until(lambda: reaches(host, "h", "10.1.1.2"), "the machine does not reach the container")
    await until(lambda: reaches(host, "r", "10.1.1.1"), "the container does not reach the machine")


@pytest.mark.libvirt
async def test_a_machine_in_a_container_runs_without_it(host: Installation, tmp_path: Path) -> None:
    """Its launcher would need KVM and all rights; its disk needs neither, and runs as the vendor's device."""
    disk = IMAGES / "linux.qcow2"
    tag = f"wlt-{uuid.uuid4().hex[:8]}/vr-fortios:7.0.14"
    archive = wrapped(tmp_path, disk, "fortios-v7.0.14.qcow2", tag=tag)
    async with host.client() as client:
        job = await imported(client, archive)
        assert job.state is JobState.DONE, job
        container = await client.images.get(job.images[0])
        assert (container.name, container.provider, container.needs) == (tag, "docker", ("privileged", "kvm"))
        job = await ended(client, await client.images.extract(container.id))
        assert job.state is JobState.DONE, job
        image = await client.images.get(job.images[0])
        assert (image.provider, image.provenance.origin, image.provenance.parents) == (
            "libvirt", "extract", (container.id,),
        )  # fmt: skip
        assert (image.version, image.devices) == ("7.0.14", (ServedDevice(device="fortinet_fortigate"),))
        assert image.digest == digest(disk)
        await client.images.delete(container.id)
    await host.deploy(NATIVE.format(device="fortinet_fortigate", image=image.name))
    await host.reach(
        lambda view: view.converged and all(node.ready == "yes" for node in view.nodes),
        "the machine did not start", within_s=240,
    )  # fmt: skip
    (domain,) = host.domains()
    shown = await asyncio.to_thread(run, "virsh", "-c", host.libvirt_uri(), "dumpxml", domain)
    assert f"{host.data}/images/{image.name}" in shown
    await host.destroy()
    async with host.client() as client:
        with pytest.raises(NotFound):
            await client.images.get(container.id)
        await take_away(client)
    assert kept(host) == []
