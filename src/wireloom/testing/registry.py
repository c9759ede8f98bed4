"""A registry of container images for tests: it wants to know who asks, and can be made to wait."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp import web

__all__ = ["Registry", "registry"]

_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
#: Packing takes longer than anything else here.
_QUICKLY: Final = 1


class Registry:
    """Images by repository and tag, for one user.

    :ivar address: host and port. :ivar refused: requests of who did not say who they are, or lied.
    :ivar asked: set once a part of an image was asked for. :ivar gate: while it is clear, none is given.
    """

    def __init__(self, user: str, password: str) -> None:
        self.address = ""
        self.refused = 0
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self._expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[str, bytes] = {}

    def put(self, name: str, content: bytes) -> str:
        """Have an image of that name with one file; the engine's id of it."""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            member = tarfile.TarInfo("content")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/content"]}}
        return self._add(name, config, [file.getvalue()])

    def put_saved(self, name: str, archive: Path, *, labels: Mapping[str, str]) -> str:
        """Have the image of that name that an engine has saved, with more labels; the engine's id of it. Blocking."""
        with tarfile.open(archive) as saved:

            def read(member: str) -> bytes:
                file = saved.extractfile(member)
                assert file is not None, f"{archive} has no {member}"
                with file:
                    return file.read()

            (manifest,) = json.loads(read("manifest.json"))
            config = json.loads(read(manifest["Config"]))
            layers = [read(layer) for layer in manifest["Layers"]]
        known = config["config"].get("Labels") or {}
        config["config"]["Labels"] = {**known, **labels}
        return self._add(name, config, layers)

    def _add(self, name: str, config: dict[str, Any], layers: list[bytes]) -> str:
        config["rootfs"] = {"type": "layers", "diff_ids": [_sha256(layer) for layer in layers]}
        config.pop("history", None)
        packed = json.dumps(config).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {**self._blob(packed), "mediaType": _CONFIG},
            "layers": [
                {**self._blob(gzip.compress(layer, _QUICKLY, mtime=0)), "mediaType": _LAYER} for layer in layers
            ],
        }
        self._manifests[name] = json.dumps(manifest).encode()
        return _sha256(packed)

    def _blob(self, data: bytes) -> dict[str, object]:
        self._blobs[_sha256(data)] = data
        return {"digest": _sha256(data), "size": len(data)}

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """What the registry's protocol (version 2) says to a request."""
        if request.headers.get("Authorization") != self._expected:
            self.refused += 1
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="test"'})
        version = {"Docker-Distribution-Api-Version": "registry/2.0"}
        repository, kind, wanted = ("", *request.path.rsplit("/", 2))[-3:]
        if kind == "manifests":
            found = self._manifest(repository.removeprefix("/v2/"), wanted)
            if found is not None:
                headers = {**version, "Content-Type": _MANIFEST, "Docker-Content-Digest": _sha256(found)}
                return web.Response(body=found, headers=headers)
        if kind == "blobs" and wanted in self._blobs:
            self.asked.set()
            await self.gate.wait()
            return web.Response(body=self._blobs[wanted], headers=version)
        if request.path == "/v2/":
            return web.Response(headers=version)
        error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
        return web.json_response(error, status=404, headers=version)

    def _manifest(self, name: str, wanted: str) -> bytes | None:
        """By tag, or by digest."""
        by_digest = (data for data in self._manifests.values() if _sha256(data) == wanted)
        return self._manifests.get(f"{name}:{wanted}") or next(by_digest, None)


@asynccontextmanager
async def registry(user: str, password: str) -> AsyncIterator[Registry]:
    """A registry on a free port of this machine, which engines use without TLS."""
    made = Registry(user, password)
    runner = web.ServerRunner(web.Server(made.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.address = "{}:{}".format(*runner.addresses[0])
    try:
        yield made
    finally:
        made.gate.set()
        await runner.cleanup()


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
