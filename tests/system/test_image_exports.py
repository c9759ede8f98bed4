"""Images that hosts have, and nodes that were stopped, come into the library; whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from image_site import ended, engine_name

from wireloom.client import Client
from wireloom.model.images import AdoptRequest, ImageView, JobState, JobView, SaveRequest
from wireloom.testing.installation import IMAGES, Installation, installed, own_folder, until

SUBNET = "172.30.96.0/24"
LAB = "name: lab\nnodes:\n  a: {{device: linux, provider: {provider}}}\n"
AGAIN = "name: again\nnodes:\n  b: {{device: linux, provider: {provider}, image: {image}}}\n"
MARK = "made-by-a-user"


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET=SUBNET) as made:
            yield made


@pytest.fixture
def name() -> Iterator[str]:
    """Of a container's image."""
    with engine_name("golden:1") as made:
        yield made


@pytest.fixture
def disk() -> Iterator[str]:
    """Name of a machine's image, for which the same holds: installations of tests share the folder of images."""
    made = f"wlt-{uuid.uuid4().hex[:8]}.qcow2"
    yield made
    (IMAGES / made).unlink(missing_ok=True)


@pytest.fixture
def tagged(name: str) -> str:
    """An image that the engine has and the library knows nothing of."""
    subprocess.run(["docker", "tag", "wireloom/linux:latest", name], check=True, timeout=30)
    return name


async def done(client: Client, job: JobView) -> ImageView:
    found = await ended(client, job)
    assert found.state is JobState.DONE, found
    return await client.images.get(found.images[0])


async def in_guest(host: Installation, node: str, command: str, *, lab: str = "lab") -> str:
    async with host.client() as client:
        answer = await client.exec(lab, node, ["sh", "-c", command])
        assert answer.exit_code == 0, answer
        return answer.stdout


async def marked(host: Installation) -> bool:
    await in_guest(host, "a", f"echo {MARK} >/root/mark && sync")
    return True


async def has_mark(host: Installation) -> bool:
    return (await in_guest(host, "b", "cat /root/mark", lab="again")).strip() == MARK


async def stopped(host: Installation) -> None:
    async with host.client() as client:
        await client.wait(await client.stop("lab", ["a"]), timeout_s=60)


def leftovers(host: Installation) -> list[str]:
    """Files of exports that are still on their way, or should be."""
    return [path.name for path in (host.data / "cache" / "exports").iterdir()]


@pytest.mark.docker
async def test_what_an_engine_has_comes_into_the_library(host: Installation, tagged: str) -> None:
    async with host.client() as client:
        engine = {item.name: item for item in await client.images.engine()}
        assert engine[tagged].provider == "docker"
        request = AdoptRequest(host=engine[tagged].host, provider="docker", image=tagged)
        image = await done(client, await client.images.adopt(request))
        assert (image.name, image.provenance.origin) == (tagged, "engine")
    assert leftovers(host) == []


@pytest.mark.docker
async def test_a_container_that_was_stopped_becomes_an_image_of_nodes(host: Installation, name: str) -> None:
    await host.deploy(LAB.format(provider="docker"))
    await host.wired()
    await in_guest(host, "a", f"echo {MARK} >/root/mark")
    await stopped(host)
    async with host.client() as client:
        job = await client.images.save(SaveRequest(lab="lab", node="a", name=name))
        image = await done(client, job)
    assert (image.provenance.origin, image.provenance.source) == ("node", "lab/a")
    await host.deploy(AGAIN.format(provider="docker", image=name))
    await host.wired(lab="again")
    assert (await in_guest(host, "b", "cat /root/mark", lab="again")).strip() == MARK
    await host.destroy("again")
    assert leftovers(host) == []


@pytest.mark.libvirt
async def test_a_machine_that_was_stopped_becomes_an_image_of_nodes(host: Installation, disk: str) -> None:
    await host.deploy(LAB.format(provider="libvirt"))
    await host.wired(within_s=240)
    await until(lambda: marked(host), "the machine lets nobody in", within_s=120)
    await stopped(host)
    async with host.client() as client:
        job = await client.images.save(SaveRequest(lab="lab", node="a", name=disk))
        image = await done(client, job)
        assert (image.provider, image.content) == ("libvirt", image.digest)
        assert image.provenance.origin == "node"
    await host.destroy()  # what is made of the image stands on it alone
    await host.deploy(AGAIN.format(provider="libvirt", image=image.name))
    await host.wired(lab="again", within_s=240)
    await until(lambda: has_mark(host), "the machine is not what was saved", within_s=120)
    await host.destroy("again")
    assert leftovers(host) == []


@pytest.mark.docker
async def test_kill_9_of_the_agent_in_the_middle_leaves_nothing_half(host: Installation, tagged: str) -> None:
    async with host.client() as client:
        engine = next(item for item in await client.images.engine() if item.name == tagged)
        request = AdoptRequest(host=engine.host, provider="docker", image=tagged)
        job = await client.images.adopt(request)
        await asyncio.sleep(0.2)
        await host.kill("agent")
        await host.start("agent")
        await host.answering()
        found = await ended(client, job)
        if found.state is not JobState.DONE:  # its host went away: that is what it says, and it can be tried again
            found = await ended(client, await client.images.retry(job.id))
        assert found.state is JobState.DONE, found
        assert [image.name for image in await client.images.all()] == [tagged]
    assert leftovers(host) == []
