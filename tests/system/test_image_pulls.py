"""``wireloom images pull`` the whole way: from a registry that wants to know who asks, to a node; nobody overhears."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from image_site import without_images

from wireloom.errors import NotFound
from wireloom.model.images import ImageState, ImageView
from wireloom.testing.installation import IMAGES, WIRELOOM, Installation, until
from wireloom.testing.registry import Registry, registry

SUBNET = "172.30.115.0/24"
LAB = "name: lab\nnodes:\n  a: {{device: linux, provider: docker, image: '{image}'}}\n"
USER = "me"
#: Found nowhere by chance.
PASSWORD = f"sesame{secrets.token_hex(8)}"
WRONG = f"barley{secrets.token_hex(8)}"

pytestmark = pytest.mark.docker


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    told: str


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    async with without_images(SUBNET) as made:
        yield made


@pytest.fixture
async def shop() -> AsyncIterator[Registry]:
    async with registry(USER, PASSWORD) as made:
        yield made


@pytest.fixture
def reference(shop: Registry) -> Iterator[str]:
    """Of an image that nobody else has; a test that failed leaves none of it."""
    made = f"{shop.address}/wlt/{secrets.token_hex(4)}:1"
    yield made
    subprocess.run(["docker", "image", "rm", made], capture_output=True, timeout=30, check=False)


async def offered(shop: Registry, reference: str) -> str:
    """Have the registry offer the reference image with a mark of its own; the engine's id of that."""
    name = reference.removeprefix(f"{shop.address}/")
    return await asyncio.to_thread(shop.put_saved, name, IMAGES / "linux.tar", labels={"wlt": name})


async def command(host: Installation, *words: str, given: str = "") -> Ended:
    """Run ``wireloom`` as a user does who types ``given``."""
    pipe = asyncio.subprocess.PIPE
    environment = {**host.environment, "XDG_CACHE_HOME": str(host.folder / "cache")}
    process = await asyncio.create_subprocess_exec(
        str(WIRELOOM), *words, env=environment, stdout=pipe, stderr=pipe, stdin=pipe
    )
    try:
        out, told = await asyncio.wait_for(process.communicate(f"{given}\n".encode()), 120)
    except BaseException:
        process.kill()
        raise
    return Ended(process.returncode or 0, out.decode(), told.decode())


async def pulled(host: Installation, reference: str, password: str) -> Ended:
    words = ("images", "pull", reference, "--username", USER, "--password-stdin", "--device", "linux")
    return await command(host, *words, given=password)


def disguises(secret: str) -> set[bytes]:
    """``secret`` as it is, and as it looks in whatever is written in Base64, wherever it stands in that."""
    found = {secret.encode()}
    for before in range(3):
        written = base64.b64encode(bytes(before) + secret.encode())
        core = written[(8 * before + 5) // 6 : -4]  # what is before and after it has no part in these digits
        found |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def holds(content: bytes, secret: str) -> bool:
    return any(form in content for form in disguises(secret))


def processes_with(secret: str) -> list[str]:
    """Processes whose command line or environment shows it."""
    found = []
    for entry in Path("/proc").iterdir():
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and holds((entry / name).read_bytes(), secret):
                    found.append(f"{entry.name} {name}")
    return found


def files_with(secret: str, folder: Path) -> list[Path]:
    """Files of an installation that have it: the database, logs, what the fabric keeps, images."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it was somebody's for a moment
            if path.is_file() and holds(path.read_bytes(), secret):
                found.append(path)
    return found


async def shown_of_jobs(host: Installation) -> str:
    """All that the API says of jobs."""
    async with host.client() as client:
        told = []
        for job in await client.images.jobs():
            told.append(job.model_dump_json())
            told += [piece.decode() async for piece in client.images.log(job.id)]
        return "".join(told)


def engine_has(name: str) -> bool:
    asked = ["docker", "image", "inspect", name]
    return subprocess.run(asked, capture_output=True, timeout=30, check=False).returncode == 0


async def gone(host: Installation, image: ImageView) -> bool:
    async with host.client() as client:
        try:
            await client.images.get(image.id)
        except NotFound:
            return True
        return False


def test_a_secret_is_found_in_whatever_it_is_wrapped_in() -> None:
    for before in range(4):
        wrapped = json.dumps({"x" * before: PASSWORD, "then": "more"}).encode()
        assert holds(wrapped, PASSWORD)
        assert holds(base64.b64encode(wrapped), PASSWORD)
        assert holds(base64.urlsafe_b64encode(wrapped), PASSWORD)
        assert not holds(base64.b64encode(wrapped), WRONG)


async def test_a_pulled_image_is_deployed_and_its_password_is_kept_nowhere(
    host: Installation, shop: Registry, reference: str
) -> None:
    content = await offered(shop, reference)
    shop.gate.clear()
    pulling = asyncio.create_task(pulled(host, reference, PASSWORD))
    await asyncio.wait_for(shop.asked.wait(), 60)
    assert processes_with(PASSWORD) == []
    assert files_with(PASSWORD, host.folder) == []
    shop.gate.set()
    ended = await pulling
    assert (ended.code, ended.out) == (0, f"image {reference}\n"), ended
    assert shop.refused > 0, "it has to be asked"
    async with host.client() as client:
        (image,) = await client.images.all()
    assert (image.name, image.content, image.state) == (reference, content, ImageState.READY)
    assert (image.provenance.origin, image.provenance.source) == ("pull", reference)

    await host.deploy(LAB.format(image=reference))
    assert (await host.wired()).nodes[0].image == reference
    assert not holds((ended.told + await shown_of_jobs(host)).encode(), PASSWORD)
    assert files_with(PASSWORD, host.folder) == []
    await host.destroy()

    removed = await command(host, "images", "rm", reference)
    assert removed.code == 0, removed
    await until(lambda: gone(host, image), "the image is still there")
    assert not engine_has(reference)
    assert not engine_has(content)


async def test_a_wrong_password_is_told_and_the_right_one_helps(
    host: Installation, shop: Registry, reference: str
) -> None:
    content = await offered(shop, reference)
    ended = await pulled(host, reference, WRONG)
    assert (ended.code, ended.out) == (1, ""), ended
    told = next(line for line in ended.told.splitlines() if line.startswith("error: "))
    assert told.startswith(f"error: cannot pull image {reference}: "), ended
    assert "the registry may want to know who asks" in ended.told
    assert not holds((ended.told + await shown_of_jobs(host)).encode(), WRONG)
    assert files_with(WRONG, host.folder) == []
    assert not engine_has(reference)
    async with host.client() as client:
        assert await client.images.all() == []
    library = host.data / "library"
    left = [path for path in library.rglob("*") if path.is_file() and path.name not in {"log", "secret"}]
    assert left == []

    ended = await pulled(host, reference, PASSWORD)
    assert (ended.code, ended.out) == (0, f"image {reference}\n"), ended
    async with host.client() as client:
        (image,) = await client.images.all()
        assert image.content == content
    assert (await command(host, "images", "rm", reference)).code == 0
    await until(lambda: gone(host, image), "the image is still there")
    assert not engine_has(reference)
