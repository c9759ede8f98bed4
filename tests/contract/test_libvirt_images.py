"""What only images of virtual machines have: one file under several names, links, files of others."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from libvirt_harness import LibvirtHarness, run
from small_disk import small_disk

from wireloom.errors import CapacityExceeded, Conflict, ImageMissing, InvalidInput
from wireloom.model.identity import short_hash
from wireloom.providers import newfile
from wireloom.providers.contract import Provider
from wireloom.providers.libvirt import LibvirtProvider
from wireloom.providers.libvirt import images as images_module
from wireloom.testing.conformance.provider import Rig, rig_for

pytestmark = pytest.mark.libvirt

NAME = "tiny.qcow2"

#: Loads an image and is killed meanwhile.
LOADER = """
import asyncio, sys
from pathlib import Path
from wireloom.providers.libvirt import LibvirtProvider

async def main(installation, folder, file):
    provider = LibvirtProvider(installation, image_folder=Path(folder))
    print("begins", flush=True)
    await provider.images.load("tiny.qcow2", Path(file))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not ``tmp_path``, which lets no other user in."""
    with tempfile.TemporaryDirectory(prefix="wl-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def images(folder: Path) -> Path:
    return folder / "images"


@asynccontextmanager
async def provider_of(images: Path, installation: str = "") -> AsyncIterator[Provider]:
    made = LibvirtProvider(installation or f"t-{secrets.token_hex(4)}", image_folder=images)
    try:
        yield made
    finally:
        await made.close()


class OwnFolder(LibvirtHarness):
    """The same, with a folder of images of its own."""

    def __init__(self, images: Path) -> None:
        self.images = images

    async def provider(self, installation: str) -> Provider:
        return LibvirtProvider(installation, image_folder=self.images)


@pytest.fixture
async def rig(images: Path) -> AsyncIterator[Rig]:
    async with rig_for(OwnFolder(images)) as made:
        yield made


async def disk(path: Path, mark: str, mode: int = 0o444) -> Path:
    """A small stand-alone qcow2 file."""
    made = await LibvirtHarness().image_file(path.parent, mark)
    made.rename(path)
    path.chmod(mode)
    return path


def left_in(images: Path) -> set[str]:
    return {path.name for path in images.iterdir()} - {".digests.json"}


async def test_a_file_that_nobody_changes_is_linked_and_one_that_may_change_is_copied(
    folder: Path, images: Path
) -> None:
    stored, own = await disk(folder / "stored", "1"), await disk(folder / "own", "2", 0o644)
    async with provider_of(images) as provider:
        await provider.images.load("stored.qcow2", stored)
        await provider.images.load("own.qcow2", own)
        assert (images / "stored.qcow2").samefile(stored)
        assert not (images / "own.qcow2").samefile(own)
        assert own.stat().st_mode & 0o777 == 0o644
        assert {path.stat().st_mode & 0o777 for path in images.glob("*.qcow2")} == {0o444}
        await provider.images.remove("stored.qcow2")
        assert stored.exists()


async def test_the_base_of_a_disk_stays_its_owners(rig: Rig, folder: Path, images: Path) -> None:
    stored = await disk(folder / "stored", "1")
    await rig.provider.images.load(NAME, stored)
    before = stored.stat()
    async with rig.created(rig.spec(image=NAME)) as runtime_id:
        await rig.provider.start(runtime_id)
        assert (images / NAME).stat().st_uid == before.st_uid == os.geteuid()
        (system,) = [path for path in rig.spec(image=NAME).storage.iterdir() if path.name.startswith("system-")]
        assert system.stat().st_uid != before.st_uid, "the emulator has another user"
    assert stored.stat().st_mtime_ns == before.st_mtime_ns


async def test_an_image_that_only_its_owner_reads_still_boots(rig: Rig, folder: Path, images: Path) -> None:
    await rig.provider.images.load(NAME, await disk(folder / "stored", "1", 0o600))
    (images / NAME).chmod(0o400)
    async with rig.created(rig.spec(image=NAME)) as runtime_id:
        await rig.provider.start(runtime_id)


async def test_an_image_in_use_is_not_replaced(rig: Rig, folder: Path) -> None:
    loaded = await rig.provider.images.load(NAME, await disk(folder / "a", "1"))
    other = await disk(folder / "b", "2")
    async with rig.created(rig.spec(image=NAME)):
        with pytest.raises(Conflict) as caught:
            await rig.provider.images.load(NAME, other)
        assert caught.value.hint
        assert await rig.provider.images.info(NAME) == loaded
    assert (await rig.provider.images.load(NAME, other)).digest != loaded.digest


async def test_a_file_elsewhere_is_used_and_never_touched(folder: Path, images: Path) -> None:
    theirs = await disk(folder / "theirs.qcow2", "1", 0o644)
    content = theirs.read_bytes()
    async with provider_of(images) as provider:
        info = await provider.images.load(str(theirs))
        assert (await provider.images.verify(str(theirs))).digest == info.digest
        for attempt in (
            provider.images.load(str(theirs), await disk(folder / "b", "2")),
            provider.images.remove(str(theirs)),
        ):
            with pytest.raises(InvalidInput):
                await attempt
        assert theirs.read_bytes() == content
        assert await provider.images.list() == []


async def test_a_link_that_is_replaced_takes_its_file_with_it_unless_another_leads_there(
    folder: Path, images: Path
) -> None:
    images.mkdir()
    for number in (1, 2):
        await disk(images / f"built-{number}.qcow2", str(number))
        (images / f"name-{number}.qcow2").symlink_to(f"built-{number}.qcow2")
    (images / "also.qcow2").symlink_to("built-2.qcow2")
    async with provider_of(images) as provider:
        for number in (1, 2):
            await provider.images.load(f"name-{number}.qcow2", await disk(folder / f"n{number}", f"new-{number}"))
    assert left_in(images) == {"name-1.qcow2", "name-2.qcow2", "built-2.qcow2", "also.qcow2"}


@pytest.mark.parametrize("below", ["backing", "data-file"])
async def test_a_file_that_leads_to_another_is_not_loaded(folder: Path, images: Path, below: str) -> None:
    file, secret = folder / "overlay.qcow2", folder / "secret"
    secret.write_bytes(bytes(1 << 20))
    options = {
        "backing": ["-u", "-b", str(secret), "-F", "raw"],
        "data-file": ["-o", f"data_file={folder / 'data.raw'}"],
    }[below]
    await run("qemu-img", "create", "-q", "-f", "qcow2", *options, str(file), "1M")
    async with provider_of(images) as provider:
        with pytest.raises(ImageMissing) as caught:
            await provider.images.load(NAME, file)
        assert caught.value.hint
        assert left_in(images) == set()


async def test_damaged_tables_are_found(folder: Path, images: Path) -> None:
    file = await disk(folder / "a", "1", 0o644)
    async with provider_of(images) as provider:
        await provider.images.load(NAME, file)
        content = bytearray((images / NAME).read_bytes())
        table = int.from_bytes(content[40:48], "big")  # of the first level: docs/interop/qcow2.txt
        content[table : table + 8] = (1 << 63 | 1 << 40).to_bytes(8, "big")
        (images / NAME).chmod(0o644)
        (images / NAME).write_bytes(content)
        with pytest.raises(ImageMissing, match="damaged"):
            await provider.images.verify(NAME)


async def test_what_does_not_fit_is_refused(folder: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newfile, "_SPARE", 1 << 60)
    async with provider_of(images) as provider:
        with pytest.raises(CapacityExceeded):
            await provider.images.load(NAME, await disk(folder / "a", "1", 0o644))
        assert left_in(images) == set()


async def test_a_raw_image_is_exported_as_qcow2(folder: Path, images: Path) -> None:
    images.mkdir()
    (images / "old.img").write_bytes(b"raw" + bytes(1 << 20))
    async with provider_of(images) as provider:
        await provider.images.export("old.img", folder / "out")
        info = json.loads(await run("qemu-img", "info", "--output=json", str(folder / "out")))
        assert info["format"] == "qcow2"
        assert (folder / "out").stat().st_mode & 0o777 == 0o600


async def test_a_saved_disk_stands_alone_and_is_as_large(rig: Rig, folder: Path) -> None:
    await rig.provider.images.load(NAME, await disk(folder / "a", "1"))
    saver = rig.provider.abilities.saver
    assert saver is not None
    async with rig.created(rig.spec(image=NAME, disk_gb=0.01)) as runtime_id:
        await saver.save(runtime_id, folder / "saved")
        await rig.provider.start(runtime_id)
        with pytest.raises(Conflict):
            await saver.save(runtime_id, folder / "again")
    info = json.loads(await run("qemu-img", "info", "--output=json", str(folder / "saved")))
    assert "backing-filename" not in info
    assert info["virtual-size"] >= 0.01 * (1 << 30)
    assert {path.name for path in folder.iterdir()} == {"a", "saved", "images"}


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3])
async def test_a_load_whose_process_is_killed_leaves_what_the_next_one_removes(
    folder: Path, images: Path, after_s: float
) -> None:
    file = await disk(folder / "a", "1", 0o644)
    with file.open("ab") as more:
        more.write(secrets.token_bytes(64 << 20))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOADER, "t-killed", str(images), str(file), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begins\n"
    await asyncio.sleep(after_s)
    if process.returncode is None:
        os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    images.mkdir(exist_ok=True)
    theirs = images / f".x.qcow2.{short_hash('images', 'other')}-0.new"
    theirs.touch()
    async with provider_of(images, "t-killed") as provider:
        loaded = await provider.images.load(NAME, file)
        assert loaded.digest == await LibvirtHarness().content_of(file)
        assert left_in(images) == {NAME, theirs.name}


@pytest.mark.kernel
async def test_a_disk_that_others_fill_while_an_image_is_copied_is_told_as_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / NAME
    file.write_bytes(os.urandom(24 << 20))
    with small_disk(folder / "images", 64 << 20) as disk:

        def room_for_now(place: Path, size: int) -> None:
            newfile.check_room(place, size)
            disk.fill()
            monkeypatch.setattr(images_module, "check_room", newfile.check_room)

        monkeypatch.setattr(images_module, "check_room", room_for_now)
        async with provider_of(disk.place) as provider:
            with pytest.raises(CapacityExceeded, match=f"{disk.place} has 0 MiB left"):
                await provider.images.load(NAME, file)
        assert sorted(path.name for path in disk.place.iterdir()) == ["filler", "lost+found"]
