"""The way in with the real readers of formats: what tools of the trade make comes in, what hides something does not."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from archive_rig import BASE, entry, gzipped, oci_archive, tar
from library_rig import Rig, make_library
from media_rig import PLATFORM, build_cd

from wireloom.controller.library import incoming
from wireloom.controller.library.tools import Tools
from wireloom.devices import DeviceFolder
from wireloom.errors import CapacityExceeded
from wireloom.library.values import Limits
from wireloom.model.images import Choice, ExtractRequest, ImportRequest, JobState, JobView


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_library(tmp_path / "library") as made:
        made.tools = Tools()
        await made.restart()
        yield made


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, timeout=30)


def a_disk(folder: Path, name: str = "disk.qcow2") -> Path:
    """A qcow2 file with a partition table in it."""
    raw = folder / "raw"
    raw.write_bytes(
        bytes(446) + bytes([0x80, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]) + bytes(48) + b"\x55\xaa"
    )
    with raw.open("ab") as file:
        file.truncate(1 << 20)
    qemu_img("convert", "-O", "qcow2", raw, folder / name)
    return folder / name


def an_archive(*files: tuple[str, bytes]) -> bytes:
    """What ``docker save`` makes of one layer with these files."""
    layer = _tar(*files)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["test/router:1"], "Layers": ["layer.tar"]}]).encode()
    return _tar((name, config), ("layer.tar", layer), ("manifest.json", manifest))


def _tar(*files: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


async def imported(rig: Rig, content: bytes, file: str) -> JobView:
    upload = await rig.uploaded(content, file)
    return await rig.ended(await rig.imports.import_file(ImportRequest(upload=upload)))


async def test_a_disk_comes_in_as_it_is_and_out_of_what_it_is_packed_in(rig: Rig, tmp_path: Path) -> None:
    content = a_disk(tmp_path).read_bytes()
    plain = await imported(rig, content, "router-1.qcow2")
    assert plain.state is JobState.DONE, plain.error
    packed = await imported(rig, gzip.compress(content), "router-1.qcow2.gz")
    assert packed.images == plain.images
    image = rig.catalogue.get(plain.images[0])
    assert (image.name, image.virtual_size, image.size) == ("router-1.qcow2", 1 << 20, len(content))
    assert rig.debris() == []


async def test_a_raw_disk_is_converted(rig: Rig, tmp_path: Path) -> None:
    a_disk(tmp_path)
    job = await imported(rig, (tmp_path / "raw").read_bytes(), "router.img")
    assert job.state is JobState.DONE, job.error
    image = rig.catalogue.get(job.images[0])
    assert (image.name, image.format, image.provenance.kind) == ("router.qcow2", "qcow2", "raw")
    assert rig.blobs.verify(image.digest)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("router.qcow2.gz", gzip.compress(b"QFI\xfb\0\0\0\3" + b"abcdefgh" * MIB)),
        ("router.oci.tar", oci_archive([BASE, tar(entry("large", b"abcdefgh" * MIB))], pack=gzipped)),
    ],
    ids=["unpacked", "rewritten"],
)
async def test_what_becomes_large_on_the_way_leaves_the_room_that_stays_free(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, file: str, content: bytes
) -> None:
    """A few bytes that become many are within the ratio; what else is on that disk must not feel them."""
    rig.reserve, most = 3 * MIB, 6 * MIB
    await rig.restart()
    left: list[int] = []

    def free_bytes(folder: Path) -> int:
        used = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
        left.append(most - used)
        return left[-1]

    with monkeypatch.context() as small:
        small.setattr(incoming, "free_bytes", free_bytes)
        job = await imported(rig, content, file)
    assert (job.error or {})["code"] == CapacityExceeded.code, job.error
    assert min(left) > 0
    await rig.jobs.cancel(job.id)
    assert rig.debris() == []
    assert list(rig.blobs.all()) == []


async def test_a_bundle_of_a_vendor_is_opened_down_to_the_image(rig: Rig) -> None:
    """As XR routers come: a packed bundle with the image, packed once more, its signature, and how to check that."""
    image = gzip.compress(an_archive(("bin/sh", b"#!")))
    bundle = _tar(("README", b"read"), ("xrd.dockerv1.tgz-7.8.1", image), ("xrd.dockerv1.tgz-7.8.1.signature", b"s"))
    job = await imported(rig, gzip.compress(bundle), "xrd-control-plane-container-x64.7.8.1.tgz")
    assert job.state is JobState.DONE, job.error
    found = rig.catalogue.get(job.images[0])
    assert (found.name, found.provenance.kind) == ("test/router:1", "docker-archive")
    assert found.provenance.notes == (
        "unpacked (gzip)",
        "taken out of xrd-control-plane-container-x64.7.8.1.tar",
        "unpacked (gzip)",
    )
    assert rig.debris() == []


async def test_a_bomb_in_a_bundle_is_measured_by_what_came(rig: Rig) -> None:
    """Each layer alone is within the ratio."""
    rig.limits = Limits(free=MIB, ratio=1000)
    await rig.restart()
    inner = gzip.compress(b"abcdefgh" * MIB)
    job = await imported(rig, gzip.compress(_tar(("image.gz", inner))), "bundle.tgz")
    assert (job.error or {})["details"]["reason"] == "size"
    assert rig.debris() == []


async def test_a_disk_that_points_at_a_file_of_the_host_is_refused(rig: Rig, tmp_path: Path) -> None:
    base = a_disk(tmp_path)
    qemu_img("create", "-f", "qcow2", "-b", base, "-F", "qcow2", tmp_path / "overlay.qcow2")
    job = await imported(rig, (tmp_path / "overlay.qcow2").read_bytes(), "innocent.qcow2")
    assert (job.error or {})["details"] == {"reason": "backing-file"}
    assert rig.debris() == []
    assert list(rig.blobs.all()) == []


async def test_an_archive_comes_in_and_the_disk_in_it_out(rig: Rig, tmp_path: Path) -> None:
    disk = a_disk(tmp_path).read_bytes()
    content = an_archive(("vios-15.qcow2", disk), ("bin/sh", b"#!"))
    job = await imported(rig, gzip.compress(content), "router.tar.gz")
    assert job.state is JobState.DONE, job.error
    image = rig.catalogue.get(job.images[0])
    assert (image.name, image.format, image.architecture) == ("test/router:1", "docker-archive", "amd64")
    taken = await rig.ended(await rig.imports.extract(image.id, ExtractRequest()))
    assert taken.state is JobState.DONE, taken.error
    out = rig.catalogue.get(taken.images[0])
    assert (out.name, out.provenance.parents) == ("vios-15.qcow2", (image.id,))
    assert rig.blobs.path(out.digest).read_bytes() == disk
    assert rig.debris() == []


@pytest.mark.parametrize(
    ("content", "file"),
    [(b"", "empty"), (b"\x1f\x8b" + b"x" * 100, "x.gz"), (b"{}", "x.gns3a"), (b"\x7fELF" + b"x" * 100, "x.bin")],
)
async def test_what_is_nothing_is_refused_and_leaves_nothing(rig: Rig, content: bytes, file: str) -> None:
    job = await imported(rig, content, file)
    assert (job.state, (job.error or {})["code"]) == (JobState.FAILED, "image-refused")
    assert rig.debris() == []


async def test_a_reference_platform_brings_images_and_the_devices_that_they_need(rig: Rig, tmp_path: Path) -> None:
    rig.use_devices(DeviceFolder(tmp_path / "devices"))
    await rig.restart()
    disk, other = a_disk(tmp_path).read_bytes(), a_disk(tmp_path, "other.qcow2").read_bytes()
    files = {
        **PLATFORM,
        "virl-base-images/iosv-159-3-m8/vios-adventerprisek9-m.spa.159-3.m8.qcow2": disk,
        "virl-base-images/acme-router-2-1/acme.qcow2": other + bytes(512),
    }
    job = await imported(rig, build_cd(files), "refplat.iso")
    assert job.state is JobState.CHOICE, job.error
    await rig.jobs.choose(job.id, Choice(keys=("image:iosv-159-3-m8", "image:acme-router-2-1", "device:iosv")))
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error
    assert ended.devices == ("acme-router",)
    images = {image.name: image for image in rig.catalogue.all()}
    vios, acme = images["vios-adventerprisek9-m.spa.159-3.m8.qcow2"], images["acme.qcow2"]
    assert [(item.device, item.default) for item in vios.devices] == [("cisco_iosv", True)]
    assert [(item.device, item.default) for item in acme.devices] == [("acme-router", True)]
    assert acme.version == "2-1"
    assert vios.provenance.origin == "iso"
    assert rig.debris() == []


async def test_an_appliance_file_finds_its_image_and_makes_its_device(rig: Rig, tmp_path: Path) -> None:
    rig.use_devices(DeviceFolder(tmp_path / "devices"))
    await rig.restart()
    disk = a_disk(tmp_path).read_bytes()
    image = (await imported(rig, disk, "whatever.qcow2")).images[0]
    file = {
        "filename": "acme-gw.qcow2",
        "version": "2.1",
        "md5sum": hashlib.md5(disk, usedforsecurity=False).hexdigest(),
        "filesize": len(disk),
    }
    appliance = {
        "name": "Acme Gateway",
        "category": "firewall",
        "vendor_name": "Acme",
        "registry_version": 4,
        "qemu": {"adapter_type": "e1000", "adapters": 4, "ram": 512, "hda_disk_interface": "ide"},
        "images": [file],
        "versions": [{"name": "2.1", "images": {"hda_disk_image": "acme-gw.qcow2"}}],
    }
    job = await imported(rig, json.dumps(appliance).encode(), "acme.gns3a")
    assert job.state is JobState.DONE, job.error
    served = rig.catalogue.get(image).devices
    assert [(item.device, item.default) for item in served] == [(job.devices[0], True)]
