"""An engine fetches an image by its reference from a registry that wants to know who asks."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from docker_harness import docker, harness, image_archive

from wireloom.errors import ImageMissing
from wireloom.providers.contract import Credentials
from wireloom.testing.conformance.provider import Rig, rig_for
from wireloom.testing.registry import Registry, registry

pytestmark = pytest.mark.docker

USER, PASSWORD = "me", "open sesame"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with harness() as made, rig_for(made) as found:
        yield found


@pytest.fixture(name="registry")
async def _registry() -> AsyncIterator[Registry]:
    async with registry(USER, PASSWORD) as made:
        yield made


@asynccontextmanager
async def offered(registry: Registry) -> AsyncIterator[str]:
    """A reference that nobody else uses, and which the engine forgets at the end."""
    name = f"wlt/{secrets.token_hex(4)}:1"
    try:
        yield name
    finally:
        await docker("image", "rm", "--force", f"{registry.address}/{name}")


async def test_who_says_who_he_is_gets_the_image(rig: Rig, registry: Registry) -> None:
    async with offered(registry) as name:
        content, reference = registry.put(name, b"one"), f"{registry.address}/{name}"
        info = await rig.provider.images.load(reference, credentials=Credentials(USER, PASSWORD))
        assert (info.name, info.digest) == (reference, content)
        assert registry.refused > 0, "it has to be asked"
        assert await rig.provider.images.has(reference)


@pytest.mark.parametrize("credentials", [None, Credentials(USER, "wrong words")])
async def test_who_does_not_is_told_so_without_what_was_said(
    rig: Rig, registry: Registry, credentials: Credentials | None
) -> None:
    async with offered(registry) as name:
        registry.put(name, b"one")
        reference = f"{registry.address}/{name}"
        with pytest.raises(ImageMissing) as caught:
            await rig.provider.images.load(reference, credentials=credentials)
        told = json.dumps(caught.value.to_wire())
        assert f"cannot pull image {reference}: " in told
        assert "wrong words" not in told
        assert not await rig.provider.images.has(reference)


async def test_what_the_engine_has_of_an_image_does_not_pass_for_what_could_not_be_fetched(
    rig: Rig, registry: Registry
) -> None:
    async with offered(registry) as name:
        content, reference = registry.put(name, b"one"), f"{registry.address}/{name}"
        await rig.provider.images.load(reference, credentials=Credentials(USER, PASSWORD))
        with pytest.raises(ImageMissing, match="cannot pull image"):
            await rig.provider.images.load(reference, credentials=Credentials(USER, "wrong words"))
        info = await rig.provider.images.info(reference)
        assert info is not None
        assert info.digest == content


async def test_an_image_that_the_registry_does_not_have_is_said(rig: Rig, registry: Registry) -> None:
    async with offered(registry) as name:
        reference = f"{registry.address}/{name}"
        with pytest.raises(ImageMissing, match=r"cannot pull image .*manifest unknown"):
            await rig.provider.images.load(reference, credentials=Credentials(USER, PASSWORD))


async def test_another_image_of_the_name_does_not_take_the_place_of_the_one_that_is_there(
    rig: Rig, registry: Registry
) -> None:
    credentials = Credentials(USER, PASSWORD)
    async with offered(registry) as name:
        reference, old = f"{registry.address}/{name}", registry.put(name, b"one")
        await rig.provider.images.load(reference, credentials=credentials)
        new = registry.put(name, b"two")
        other = f"sha256:{hashlib.sha256(b'a third one').hexdigest()}"
        with pytest.raises(ImageMissing, match="would be"):
            await rig.provider.images.load(reference, content=other, credentials=credentials)
        info = await rig.provider.images.info(reference)
        assert info is not None
        assert info.digest == old
        assert (await rig.provider.images.load(reference, credentials=credentials)).digest == new
        assert await listed(reference) == {new}


async def test_an_archive_that_takes_the_name_of_a_pulled_image_leaves_nothing_of_it(
    rig: Rig, registry: Registry, tmp_path: Path
) -> None:
    async with offered(registry) as name:
        pulled, reference = registry.put(name, b"one"), f"{registry.address}/{name}"
        await rig.provider.images.load(reference, credentials=Credentials(USER, PASSWORD))
        assert await listed(reference) == {pulled}
        file = tmp_path / "archive.tar"
        file.write_bytes(image_archive("another"))
        loaded = await rig.provider.images.load(reference, file)
        assert await listed(reference) == {loaded.digest}


async def listed(reference: str) -> set[str]:
    """The images that the engine knows by a name or a digest of that repository."""
    return set((await docker("images", "-q", "--no-trunc", "--digests", reference.rpartition(":")[0])).split())
