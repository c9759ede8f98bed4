"""An engine fetches an image by its reference from a registry that wants to know who asks."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import secrets
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from docker_harness import docker, harness

from wireloom.errors import ImageMissing
from wireloom.providers.contract import Credentials
from wireloom.testing.conformance.provider import Rig, rig_for

pytestmark = pytest.mark.docker

USER, PASSWORD = "me", "open sesame"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """Images of one file each, by repository and tag; asks for a user and a password.

    :ivar refused: requests of who did not say who they are, or lied.
    """

    def __init__(self) -> None:
        self.address = ""
        self.refused = 0
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[str, bytes] = {}

    def put(self, name: str, content: bytes) -> str:
        """Have an image of that name; the engine's id of it."""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            member = tarfile.TarInfo("content")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        layer, packed = file.getvalue(), gzip.compress(file.getvalue(), mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/content"]},
                "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {**self._blob(config), "mediaType": "application/vnd.docker.container.image.v1+json"},
            "layers": [{**self._blob(packed), "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}],
        }
        self._manifests[name] = json.dumps(manifest).encode()
        return sha256(config)

    def _blob(self, data: bytes) -> dict[str, object]:
        self._blobs[sha256(data)] = data
        return {"digest": sha256(data), "size": len(data)}

    async def answer(self, request: web.BaseRequest) -> web.Response:
        shown = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {shown}":
            self.refused += 1
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="test"'})
        version = {"Docker-Distribution-Api-Version": "registry/2.0"}
        repository, kind, wanted = ("", *request.path.rsplit("/", 2))[-3:]
        name = repository.removeprefix("/v2/")
        if kind == "manifests":
            found = self._manifests.get(f"{name}:{wanted}") or next(
                (data for data in self._manifests.values() if sha256(data) == wanted), None
            )
            if found is not None:
                headers = {**version, "Content-Type": MANIFEST, "Docker-Content-Digest": sha256(found)}
                return web.Response(body=found, headers=headers)
        if kind == "blobs" and wanted in self._blobs:
            return web.Response(body=self._blobs[wanted], headers=version)
        if request.path == "/v2/":
            return web.Response(headers=version)
        error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
        return web.json_response(error, status=404, headers=version)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with harness() as made, rig_for(made) as found:
        yield found


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    made = Registry()
    runner = web.ServerRunner(web.Server(made.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.address = "{}:{}".format(*runner.addresses[0])
    try:
        yield made
    finally:
        await runner.cleanup()


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
        assert "pulling failed" in told
        assert "wrong words" not in told
        assert not await rig.provider.images.has(reference)


async def test_an_image_that_the_registry_does_not_have_is_said(rig: Rig, registry: Registry) -> None:
    async with offered(registry) as name:
        reference = f"{registry.address}/{name}"
        with pytest.raises(ImageMissing, match="has no image"):
            await rig.provider.images.load(reference, credentials=Credentials(USER, PASSWORD))


async def test_another_image_of_the_name_does_not_take_the_place_of_the_one_that_is_there(
    rig: Rig, registry: Registry
) -> None:
    credentials = Credentials(USER, PASSWORD)
    async with offered(registry) as name:
        reference, old = f"{registry.address}/{name}", registry.put(name, b"one")
        await rig.provider.images.load(reference, credentials=credentials)
        new = registry.put(name, b"two")
        with pytest.raises(ImageMissing, match="would be"):
            await rig.provider.images.load(reference, content=sha256(b"a third one"), credentials=credentials)
        info = await rig.provider.images.info(reference)
        assert info is not None
        assert info.digest == old
        assert (await rig.provider.images.load(reference, credentials=credentials)).digest == new
