"""Images of the library on real engines: brought over HTTP, drifted, damaged, mended, killed in the middle, removed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wireloom.agent.library.fetcher import Fetcher
from wireloom.agent.library.http import ThreadedHttp
from wireloom.agent.library.ledger import Ledger
from wireloom.agent.library.server import BlobServer
from wireloom.agent.library.sources import Sources
from wireloom.agent.library.stock import Stock
from wireloom.agent.reporter import untold
from wireloom.errors import Conflict, ImageMissing
from wireloom.fabric.image_documents import BlobSource
from wireloom.library.blobs import BlobStore
from wireloom.model.images import ImagePin
from wireloom.model.runtime import ImageInfo
from wireloom.providers.contract import Provider
from wireloom.testing.conformance.provider import ProviderHarness

TOKEN = "among-these-hosts"  # noqa: S105 - of nobody
INSTALLATION = "agent-library"
PROGRAM = Path(__file__).with_name("agent_bring_process.py")
HARNESSES = [
    pytest.param("docker_harness", marks=pytest.mark.docker, id="docker"),
    pytest.param("libvirt_harness", marks=pytest.mark.libvirt, id="libvirt"),
]


@dataclass
class Place:
    """A host with a real engine, and another one that has the files."""

    harness: ProviderHarness
    technology: str
    provider: Provider
    folder: Path
    peer: BlobStore
    source: BlobSource
    stock: Stock
    blobs: BlobStore

    async def pin(self, mark: str, *, named: str = "") -> ImagePin:
        """An image that the other host has the file of."""
        file = await self.harness.image_file(self.folder, mark)
        digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
        content, size = await self.harness.content_of(file), file.stat().st_size
        self.peer.adopt(file, digest, move=True)
        return ImagePin(
            provider=self.technology,
            name=self.harness.spare_image(f"{INSTALLATION}-{named or mark}"),
            format=self.provider.images.format,
            digest=digest,
            size=size,
            content=content,
        )

    async def content(self, pin: ImagePin) -> str | None:
        info: ImageInfo | None = await self.provider.images.info(pin.name)
        return info.digest if info is not None else None


@pytest.fixture(params=HARNESSES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    module = importlib.import_module(request.param)
    peer = BlobStore(tmp_path / "peer")
    server = BlobServer("127.0.0.1:0", peer, lambda: TOKEN)
    serving = asyncio.create_task(server.run())
    http, blobs, sources = ThreadedHttp(), BlobStore(tmp_path / "here"), Sources("here")
    async with asyncio.timeout(10):
        await server.ready()
    source = BlobSource(url=server.served().url, token=TOKEN)
    sources.update((source,))
    async with module.harness() as harness:
        provider = await harness.provider(INSTALLATION)
        technology = request.param.removesuffix("_harness")
        stock = Stock(
            {technology: provider},
            Fetcher(blobs, sources, http),
            Ledger(tmp_path / "ledger.json"),
            keeps_files=False,
            tell=untold,
        )
        try:
            yield Place(harness, technology, provider, tmp_path, peer, source, stock, blobs)
        finally:
            prefix = harness.spare_image(INSTALLATION).removesuffix(".qcow2")
            for info in await provider.images.list():
                if info.name.startswith(prefix):
                    await provider.images.remove(info.name)
            await provider.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await http.close()


async def test_an_image_comes_is_exactly_that_and_goes(place: Place) -> None:
    pin = await place.pin("comes")
    await asyncio.gather(*(place.stock.bring(pin) for _ in range(5)))
    assert await place.content(pin) == pin.content
    assert not list(place.blobs.all())
    await place.stock.verify(pin)
    assert await place.stock.remove(pin)
    assert await place.content(pin) is None
    assert not await place.harness.image_traces(INSTALLATION, [pin.name], [pin.content])


async def test_what_somebody_put_in_its_place_gives_way_and_is_not_removed_for_it(place: Place) -> None:
    pin, other = await place.pin("drift"), await place.pin("other", named="drift")
    await place.stock.bring(other)
    assert not await place.stock.remove(pin)
    assert await place.content(pin) == other.content
    await place.stock.bring(pin)
    assert await place.content(pin) == pin.content


async def test_somebody_s_own_image_is_not_lost_with_its_name(place: Place) -> None:
    pin, images = await place.pin("library"), place.provider.images
    own = await images.load(pin.name, await place.harness.image_file(place.folder, "own"))
    if pin.format == "qcow2":  # a file has one name
        with pytest.raises(Conflict, match="would be lost"):
            await place.stock.bring(pin)
        assert await place.content(pin) == own.digest
        return
    await place.stock.bring(pin)
    assert await place.content(pin) == pin.content
    kept = [info.name for info in await images.list() if info.digest == own.digest]
    for name in kept:
        await images.remove(name)
    assert [name.startswith("wireloom-kept/") for name in kept] == [True]


async def test_damage_is_found_and_mended(place: Place) -> None:
    pin = await place.pin("damage")
    await place.stock.bring(pin)
    await place.harness.damage_image(pin.name)
    with pytest.raises(ImageMissing):
        await place.stock.verify(pin)
    await place.stock.bring(pin)
    await place.stock.verify(pin)
    assert await place.content(pin) == pin.content


async def test_a_file_that_is_another_image_than_was_said_does_not_stay(place: Place) -> None:
    pin = await place.pin("lies")
    lie = pin.model_copy(update={"content": "sha256:" + "0" * 64})
    with pytest.raises(ImageMissing):
        await place.stock.bring(lie)
    assert await place.content(lie) is None
    assert not await place.harness.image_traces(INSTALLATION, [pin.name], [pin.content])


async def test_kill_9_while_it_loads_leaves_nothing_that_is_used(place: Place) -> None:
    pin = await place.pin("killed")
    for delay_s in (0.0, 0.02, 0.1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), place.technology, str(place.folder / "here"), place.source.url, TOKEN,
            pin.model_dump_json(), stdout=PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"loading\n"
            await asyncio.sleep(delay_s)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        assert await place.content(pin) in {None, pin.content}  # whole, or not there
        await place.stock.bring(pin)
        assert await place.content(pin) == pin.content
        await place.stock.verify(pin)
        assert await place.stock.remove(pin)
    assert not await place.harness.image_traces(INSTALLATION, [pin.name], [pin.content])
