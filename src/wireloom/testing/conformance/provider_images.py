"""Checks of the provider suite about images: what is loaded is what was meant, whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wireloom.errors import Conflict, ImageMissing, NotFound, WireloomError
from wireloom.model.images import FORMAT_OF_PROVIDER, check_image_name
from wireloom.model.state import RuntimePhase
from wireloom.testing.conformance.provider_rig import Rig, expect

__all__ = [
    "check_image_content",
    "check_image_exported",
    "check_image_in_use",
    "check_image_load_cancelled",
    "check_image_loads_at_once",
    "check_image_refused",
    "check_image_replaced",
    "check_image_verified",
    "check_node_saved",
]

_OTHER: Final = f"sha256:{0:064x}"
_CANCEL_AFTER_S: Final = (0.0, 0.002, 0.01, 0.03, 0.1)
_WRITTEN: Final = b"before it was saved"


@dataclass(frozen=True)
class Spare:
    """An image of a check: its name, a file of it, and what the provider must say of its content."""

    name: str
    file: Path
    content: str


async def check_image_content(rig: Rig) -> None:
    """An image is loaded when its content is the one that was asked for; else all is as before. Files stay as is."""
    images = rig.provider.images
    assert FORMAT_OF_PROVIDER.get(rig.provider.name, images.format) == images.format
    async with _spares(rig, 2) as (spare, other):
        check_image_name(spare.name, images.format)
        before = _state(spare.file)
        assert await images.info(spare.name) is None
        error = await expect(ImageMissing, images.load(spare.name, spare.file, content=_OTHER))
        assert error.hint
        assert error.details == {"wanted": _OTHER, "found": spare.content}
        await _expect_no_traces(rig, spare)
        loaded = await images.load(spare.name, spare.file, content=spare.content)
        assert (loaded.name, loaded.digest) == (spare.name, spare.content)
        assert loaded.size > 0
        assert await images.info(spare.name) == loaded
        assert loaded in await images.list()
        assert await images.load(spare.name, spare.file, content=spare.content) == loaded
        assert await images.load(spare.name, spare.file) == loaded
        await expect(ImageMissing, images.load(spare.name, other.file, content=_OTHER))
        await expect(ImageMissing, images.load(spare.name, content=other.content))
        assert await images.info(spare.name) == loaded
        await _expect_no_traces(rig, other)
        async with rig.restarted() as again:
            assert await again.images.info(spare.name) == loaded
        assert _state(spare.file) == before


async def check_image_refused(rig: Rig) -> None:
    """A file that is not there, is no image, or is cut off, is refused with advice and leaves nothing."""
    images = rig.provider.images
    async with _spares(rig, 1) as (spare,):
        broken = rig.folder / f"broken-{spare.file.name}"
        await expect(ImageMissing, images.load(spare.name, broken))
        for content in rig.harness.not_images:
            broken.write_bytes(content)
            error = await expect(ImageMissing, images.load(spare.name, broken))
            assert error.hint
        whole = spare.file.read_bytes()
        for size in (len(whole) // 2, len(whole) // 8):
            broken.write_bytes(whole[:size])
            await expect(ImageMissing, images.load(spare.name, broken, content=spare.content))
        await _expect_no_traces(rig, spare)
        assert not await images.has(spare.name)


async def check_image_replaced(rig: Rig) -> None:
    """A name goes to another content when that is there and not before; what had it goes."""
    images = rig.provider.images
    async with _spares(rig, 2) as (old, new):
        await images.load(old.name, old.file, content=old.content)
        cut = rig.folder / f"cut-{new.file.name}"
        cut.write_bytes(new.file.read_bytes()[:1000])
        await expect(ImageMissing, images.load(old.name, cut, content=new.content))
        assert await _content(rig, old.name) == old.content
        loaded = await images.load(old.name, new.file, content=new.content)
        assert loaded.digest == new.content
        assert await images.info(old.name) == loaded
        assert await rig.harness.image_traces(rig.installation, [], [old.content]) == []


async def check_image_in_use(rig: Rig) -> None:
    """An image that a runtime uses is not removed, and keeps its content for it when its name goes to another."""
    images = rig.provider.images
    async with _spares(rig, 2) as (old, new):
        await images.load(old.name, old.file, content=old.content)
        async with rig.created(rig.spec(image=old.name)) as runtime_id:
            await expect(Conflict, images.remove(old.name))
            try:
                now = await images.load(old.name, new.file, content=new.content)
                assert now.digest == new.content
            except Conflict:
                assert await _content(rig, old.name) == old.content
            await rig.provider.start(runtime_id)
            await rig.expect_phase(runtime_id, RuntimePhase.GATED)
            await rig.provider.stop(runtime_id, 0)
        await images.load(old.name, new.file, content=new.content)
        await images.remove(old.name)
        await _expect_no_traces(rig, old, new)


async def check_image_exported(rig: Rig) -> None:
    """An image that is exported, removed and loaded again has the same content."""
    images = rig.provider.images
    async with _spares(rig, 1) as (spare,):
        await images.load(spare.name, spare.file, content=spare.content)
        target = rig.folder / f"exported-{spare.file.name}"
        await images.export(spare.name, target)
        assert await rig.harness.content_of(target) == spare.content
        await images.remove(spare.name)
        await _expect_no_traces(rig, spare)
        assert (await images.load(spare.name, target)).digest == spare.content
        nowhere = rig.folder / "nowhere"
        await expect(ImageMissing, images.export(rig.harness.missing_image, nowhere))
        assert not [path for path in rig.folder.iterdir() if path.name.startswith((".", "nowhere"))]


async def check_image_verified(rig: Rig) -> None:
    """An image that was damaged where it is stored is found out, and loading it again mends it."""
    images = rig.provider.images
    async with _spares(rig, 1) as (spare,):
        loaded = await images.load(spare.name, spare.file, content=spare.content)
        assert await images.verify(spare.name) == loaded
        await rig.harness.damage_image(spare.name)
        with contextlib.suppress(ImageMissing):
            assert (await images.verify(spare.name)).digest != spare.content, "the damage was not found"
        assert await images.load(spare.name, spare.file, content=spare.content) == loaded
        assert await images.verify(spare.name) == loaded
    await expect(ImageMissing, images.verify(rig.harness.missing_image))


async def check_image_loads_at_once(rig: Rig) -> None:
    """One image that is loaded several times at once, under one name and under two, is there under both."""
    images = rig.provider.images
    async with _spares(rig, 2) as (spare, other):
        names = [spare.name, other.name, spare.name, other.name]
        loaded = await asyncio.gather(*(images.load(name, spare.file, content=spare.content) for name in names))
        assert {(info.name, info.digest) for info in loaded} == {(name, spare.content) for name in names}
        await images.remove(other.name)
        assert (await images.verify(spare.name)).digest == spare.content


async def check_image_load_cancelled(rig: Rig) -> None:
    """A load that is given up at any moment leaves all or nothing, and can be done again."""
    async with _spares(rig, 1) as (spare,), rig.restarted() as provider:
        for after_s in _CANCEL_AFTER_S:
            work = asyncio.create_task(provider.images.load(spare.name, spare.file, content=spare.content))
            await asyncio.sleep(after_s)
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, WireloomError):
                await work
            found = await provider.images.load(spare.name, spare.file, content=spare.content)
            assert found.digest == spare.content
            await provider.images.remove(spare.name)
            await _expect_no_traces(rig, spare)


async def check_node_saved(rig: Rig) -> None:
    """A node that is down becomes an image: what was written in it is there in nodes made of that."""
    saver = rig.provider.abilities.saver
    if saver is None:
        return
    target = rig.folder / "saved-node"
    async with _spares(rig, 1) as (spare,):
        async with rig.created(rig.spec()) as runtime_id:
            await saver.save(runtime_id, target)
            target.unlink()
            await rig.boot(runtime_id)
            await expect(Conflict, saver.save(runtime_id, target))
            assert not target.exists()
            await rig.harness.write_file(rig.provider, runtime_id, "written", _WRITTEN)
            await rig.provider.stop(runtime_id, 5)
            await saver.save(runtime_id, target)
            await rig.expect_phase(runtime_id, RuntimePhase.EXITED)
        await expect(NotFound, saver.save(runtime_id, rig.folder / "gone"))
        content = await rig.harness.content_of(target)
        try:
            await rig.provider.images.load(spare.name, target, content=content)
            target.unlink()
            async with rig.booted(rig.spec("n2", image=spare.name)) as other:
                assert await rig.harness.read_file(rig.provider, other, "written") == _WRITTEN
        finally:
            await rig.provider.images.remove(spare.name)
        assert await rig.harness.image_traces(rig.installation, [spare.name], [content]) == []


@asynccontextmanager
async def _spares(rig: Rig, count: int) -> AsyncIterator[tuple[Spare, ...]]:
    """Images of contents that nobody has; at the end nothing is left of them."""
    marks = [f"{number}-{secrets.token_hex(4)}" for number in range(count)]
    files = [await rig.harness.image_file(rig.folder, mark) for mark in marks]
    contents = [await rig.harness.content_of(file) for file in files]
    assert len(set(contents)) == count
    names = [rig.harness.spare_image(mark) for mark in marks]
    spares = tuple(map(Spare, names, files, contents))
    try:
        yield spares
    finally:
        for spare in spares:
            await rig.provider.images.remove(spare.name)
    await _expect_no_traces(rig, *spares)


async def _expect_no_traces(rig: Rig, *spares: Spare) -> None:
    names = [spare.name for spare in spares]
    left = await rig.harness.image_traces(rig.installation, names, [spare.content for spare in spares])
    assert left == [], f"left behind: {left}"


async def _content(rig: Rig, name: str) -> str:
    found = await rig.provider.images.info(name)
    return "" if found is None else found.digest


def _state(file: Path) -> tuple[bytes, int, int]:
    """What must stay of a file that others own; that it has links is no change."""
    facts = file.stat()
    return hashlib.sha256(file.read_bytes()).digest(), facts.st_mode, facts.st_uid
