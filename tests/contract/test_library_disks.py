"""Disks as QEMU's own program makes them, through the whole course; and the hostile ones that it would follow."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import disk_files as disks
import pytest

from wireloom.library.bounded import Bounds, run_bounded
from wireloom.library.confine import landlock_version
from wireloom.library.disks import accept, disk_labels, stands_alone
from wireloom.library.unpack import unpack
from wireloom.library.values import Accepted, ImageRefused, Limits

MIB = disks.MIB
LIMITS = Limits(virtual_size=1 << 40)
#: A disk with labels, data, and a gap.
CONTENT = bytearray(disks.gpt_disk(("vios-boot", "bootflash"), ("vios-data", "")))
CONTENT[5 * MIB : 6 * MIB] = os.urandom(MIB)


def qemu_img(*arguments: str | Path) -> str:
    return subprocess.run(
        ["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "job"
    path.mkdir()
    return path


def made(raw: Path, driver: str, *options: str) -> Path:
    path = raw.with_name(f"disk.{driver}")
    qemu_img("convert", "-O", driver, *options, raw, path)
    return path


def content(disk: Path) -> bytes:
    """What a guest sees."""
    out = disk.with_name("guest.raw")
    qemu_img("convert", "-O", "raw", disk, out)
    found = out.read_bytes()
    out.unlink()
    return found


def accepted(path: Path, folder: Path, limits: Limits = LIMITS) -> Accepted:
    before = hashlib.sha256(path.read_bytes()).digest()
    done = accept(path, path.name, folder, limits)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert list(folder.iterdir()) == ([] if done.file == path else [done.file])
    return done


def reason(path: Path, folder: Path, limits: Limits = LIMITS) -> str:
    """Why it is refused; nothing may be left."""
    with pytest.raises(ImageRefused) as refusal:
        accept(path, path.name, folder, limits)
    assert list(folder.iterdir()) == []
    assert str(folder.parent) not in refusal.value.message
    return str(refusal.value.details["reason"])


# --- what comes in -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-o", "compat=0.10"),
        ("-c",),
        ("-c", "-o", "compression_type=zstd"),
        ("-o", "cluster_size=512"),
        ("-o", "cluster_size=2M"),
        ("-o", "extended_l2=on"),
        ("-o", "refcount_bits=1"),
        ("-o", "lazy_refcounts=on"),
    ],
)
def test_a_clean_qcow2_file_stays_as_it_is(options: Sequence[str], raw: Path, folder: Path) -> None:
    path = made(raw, "qcow2", *options)
    done = accepted(path, folder)
    assert (done.file, done.notes, done.warnings) == (path, (), ())
    assert (done.kind, done.format, done.name, done.virtual_size) == ("qcow2", "qcow2", "disk.qcow2", len(CONTENT))


@pytest.mark.parametrize(
    ("driver", "options", "kind"),
    [
        ("vmdk", (), "vmdk"),
        ("vmdk", ("-o", "subformat=streamOptimized"), "vmdk"),
        ("vpc", ("-o", "force_size=on"), "vhd"),
        ("vpc", ("-o", "subformat=fixed,force_size=on"), "vhd"),
        ("vhdx", (), "vhdx"),
        ("vhdx", ("-o", "subformat=fixed"), "vhdx"),
        ("raw", (), "raw"),
    ],
)
def test_other_formats_become_qcow2(driver: str, options: Sequence[str], kind: str, raw: Path, folder: Path) -> None:
    done = accepted(made(raw, driver, *options), folder)
    assert (done.kind, done.virtual_size, done.facts.volumes) == (
        kind,
        len(CONTENT),
        ("vios-boot", "bootflash", "vios-data"),
    )
    assert done.notes == (f"converted from {kind} to qcow2",)
    assert content(done.file) == CONTENT
    assert stands_alone(done.file, LIMITS) == len(CONTENT)
    assert json.loads(qemu_img("info", "--output=json", done.file))["format"] == "qcow2"


def test_labels_are_told_of_compressed_disks_too(raw: Path) -> None:
    assert disk_labels(made(raw, "qcow2", "-c"), LIMITS) == ("vios-boot", "bootflash", "vios-data")


def test_progress_is_told_and_a_cancel_leaves_nothing(raw: Path, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    accept(raw, raw.name, folder, LIMITS, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    (folder / "disk.qcow2").unlink()

    def cancel(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        accept(raw, raw.name, folder, LIMITS, cancel)
    assert list(folder.iterdir()) == []


def test_what_an_attempt_left_that_was_killed_is_no_obstacle(raw: Path, folder: Path) -> None:
    for name in (".disk.qcow2.part", ".disk", "disk.qcow2"):
        (folder / name).write_bytes(b"half")
    assert content(accept(raw, raw.name, folder, LIMITS).file) == CONTENT
    ova = raw.with_name("machine.ova")
    disk = made(raw, "vmdk", "-o", "subformat=streamOptimized").read_bytes()
    ova.write_bytes(disks.tar_of(("vm.ovf", disks.description("d.vmdk")), ("d.vmdk", disk)))
    (folder / ".disk").write_bytes(b"half")
    assert content(accept(ova, ova.name, folder, LIMITS).file) == CONTENT


def test_snapshots_inside_are_left_out_and_told(raw: Path, folder: Path) -> None:
    path = made(raw, "qcow2")
    qemu_img("snapshot", "-c", "before", path)
    done = accepted(path, folder)
    assert "snapshots" in done.notes[0]
    assert "1 snapshots" in done.warnings[0]
    assert content(done.file) == CONTENT
    assert not qemu_img("snapshot", "-l", done.file)


def test_a_disk_that_was_not_closed_is_mended_by_conversion(raw: Path, folder: Path) -> None:
    path = made(raw, "qcow2")
    _poke(path, 72, struct.pack(">Q", 1))
    done = accepted(path, folder)
    assert "not closed" in done.notes[0]
    assert content(done.file) == CONTENT


def test_a_disk_whose_references_were_not_counted_is_mended_by_conversion(tmp_path: Path, folder: Path) -> None:
    """As lazy counting leaves it when its machine is killed."""
    source = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", source, "64M")
    writes = ["-c", "write -P 7 0 1M", "-c", "abort"]
    subprocess.run(["qemu-io", *writes, str(source)], capture_output=True, check=False, timeout=60)
    assert struct.unpack_from(">Q", source.read_bytes(), 72)[0] == 1  # dirty
    accepted = accept(source, source.name, folder, LIMITS)
    assert accepted.notes == ("converted from qcow2 to qcow2, because of it was not closed",)
    assert accepted.warnings == ("it was not closed: what was written last may be missing",)
    assert content(accepted.file)[: 2 * MIB] == b"\7" * MIB + bytes(MIB)
    with source.open("r+b") as file:
        file.truncate(source.stat().st_size - MIB)
    with pytest.raises(ImageRefused) as refusal:
        accept(source, source.name, folder, LIMITS)
    assert refusal.value.details["reason"] == "truncated"


def test_clusters_that_are_lost_are_mended_by_conversion(raw: Path, folder: Path) -> None:
    path = made(raw, "qcow2")
    end = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate((end + 0xFFFF) // 0x10000 * 0x10000 + 0x10000)
    block = _table(path, 48)
    _poke(path, block + 2 * (path.stat().st_size // 0x10000 - 1), struct.pack(">H", 1))
    done = accepted(path, folder)
    assert "used for nothing" in done.notes[0]


def test_a_disk_in_an_ova_comes_in(raw: Path, folder: Path) -> None:
    for subformat in ("streamOptimized", "monolithicSparse"):
        disk = made(raw, "vmdk", "-o", f"subformat={subformat}").read_bytes()
        path = raw.with_name("vEOS 4.32.ova")
        path.write_bytes(disks.tar_of(("vm.ovf", disks.description("d.vmdk")), ("d.vmdk", disk)))
        done = accepted(path, folder)
        assert (done.kind, done.name, done.facts.text) == ("ova", "vEOS-4.32.qcow2", ("Router", "7.1"))
        assert done.notes[1] == "converted from vmdk to qcow2"
        assert content(done.file) == CONTENT
        done.file.unlink()


def test_a_qcow2_file_in_an_ova_comes_in_packed_or_not(raw: Path, folder: Path) -> None:
    disk = made(raw, "qcow2").read_bytes()
    for packed in (disk, gzip.compress(disk, 1)):
        path = raw.with_name("machine.ova")
        path.write_bytes(disks.tar_of(("vm.ovf", disks.description("d.qcow2")), ("d.qcow2", packed)))
        done = accepted(path, folder)
        assert content(done.file) == CONTENT
        done.file.unlink()


def test_a_packed_disk_goes_from_the_one_to_the_other(raw: Path, folder: Path) -> None:
    packed = raw.with_name("disk.img.zst")
    subprocess.run(["zstd", "-q", str(raw), "-o", str(packed)], check=True, timeout=60)
    done = accept(unpack(packed, folder, LIMITS), packed.name, folder, LIMITS)
    assert (done.name, content(done.file)) == ("disk.qcow2", CONTENT)


# --- what must not -----------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"secret of the host".ljust(4 * MIB, b"!"))
    return path


def test_a_file_of_the_host_below_a_disk_is_not_read(secret: Path, folder: Path) -> None:
    path = secret.with_name("evil.qcow2")
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", path)
    assert content(path).startswith(b"secret")  # QEMU itself would
    assert reason(path, folder) == "backing-file"


def test_a_file_of_the_host_as_a_disks_data_is_not_read(secret: Path, folder: Path) -> None:
    path = secret.with_name("evil.qcow2")
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={secret},data_file_raw=on", path, "4M")
    assert reason(path, folder) == "data-file"


def test_a_vmdk_that_describes_a_file_of_the_host_is_not_followed(secret: Path, folder: Path) -> None:
    text = '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n\n'
    text += f'RW 8192 FLAT "{secret}" 0\n'
    path = secret.with_name("evil.vmdk")
    path.write_text(text)
    assert content(path).startswith(b"secret")  # QEMU itself would
    assert reason(path, folder) == "data-file"
    # The same text within a file that begins as a sparse one, whose own size is none.
    header = struct.pack("<4sIIQQQQIQQQ?4sH", b"KDMV", 1, 3, 0, 128, 1, 20, 512, 21, 30, 128, False, b"\n \r\n", 0)
    path.write_bytes(header.ljust(512, b"\0") + text.encode().ljust(20 * 512, b"\0"))
    assert content(path).startswith(b"secret")
    assert reason(path, folder) == "data-file"


def test_a_vmdk_on_a_file_of_the_host_is_not_followed(secret: Path, folder: Path) -> None:
    parent = secret.with_name("parent.vmdk")
    qemu_img("convert", "-O", "vmdk", secret, parent)
    path = secret.with_name("evil.vmdk")
    qemu_img("create", "-f", "vmdk", "-b", parent, "-F", "vmdk", path)
    assert content(path).startswith(b"secret")  # QEMU itself would
    assert reason(path, folder) == "backing-file"


def test_split_disks_are_refused(raw: Path, folder: Path) -> None:
    for subformat in ("twoGbMaxExtentSparse", "monolithicFlat", "twoGbMaxExtentFlat"):
        path = made(raw, "vmdk", "-o", f"subformat={subformat}")
        assert reason(path, folder) == "data-file"


def test_an_encrypted_disk_is_refused(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "evil.qcow2"
    key = ("--object", "secret,id=key,data=word", "-o", "encrypt.format=aes,encrypt.key-secret=key")
    qemu_img("create", "-f", "qcow2", *key, path, "4M")
    assert reason(path, folder) == "encrypted"
    _poke(path, 32, struct.pack(">I", 2))  # LUKS
    assert reason(path, folder) == "encrypted"


def test_a_disk_of_exabytes_is_refused(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "evil.qcow2"
    qemu_img("create", "-f", "qcow2", path, "2T")
    assert reason(path, folder) == "virtual-size"


@pytest.mark.parametrize("driver", ["qcow2", "vmdk", "vhdx"])
def test_a_disk_that_is_cut_is_refused(driver: str, raw: Path, folder: Path) -> None:
    path = made(raw, driver)
    whole = path.read_bytes()
    for length in (len(whole) // 2, len(whole) // 4, 100_000, 600, 20):
        path.write_bytes(whole[:length])
        assert reason(path, folder) in {"truncated", "corrupt", "format"}


def test_a_qcow2_file_without_its_last_clusters_is_cut(raw: Path, folder: Path) -> None:
    path = made(raw, "qcow2")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3 * disks.CLUSTER)
    assert reason(path, folder) == "truncated"


def test_a_raw_disk_that_may_be_cut_has_a_warning(raw: Path, folder: Path) -> None:
    with raw.open("r+b") as file:
        file.truncate(5 * MIB)
    assert "may be cut" in accepted(raw, folder).warnings[0]


def test_a_raw_disk_that_ends_within_a_partition_is_refused(raw: Path, folder: Path) -> None:
    with raw.open("r+b") as file:
        file.truncate(2 * MIB + 512)
    assert reason(raw, folder) == "truncated"


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_a_vhd_file_that_is_cut_is_refused(subformat: str, raw: Path, folder: Path) -> None:
    path = made(raw, "vpc", "-o", f"subformat={subformat},force_size=on")
    path.write_bytes(path.read_bytes()[: -6 * MIB])
    assert reason(path, folder) in {"truncated", "corrupt", "format"}


def test_flipped_bits_in_the_tables_are_found(raw: Path, folder: Path) -> None:
    path = made(raw, "qcow2")
    whole = path.read_bytes()
    blocks, l2 = _table(path, 48), _table(path, 40)
    for place, bit in ((blocks + 1, 1), (blocks + 9, 1), (l2 + 8 * 80 + 2, 2), (l2 + 8 * 80 + 5, 2)):
        path.write_bytes(whole)
        _poke(path, place, bytes([whole[place] ^ bit]))
        assert reason(path, folder) in {"corrupt", "truncated"}


def test_flipped_bits_in_the_header_never_do_harm(raw: Path, folder: Path) -> None:
    path = made(raw, "qcow2")
    whole = path.read_bytes()
    for place in (5, 8, 15, 19, 23, 24, 35, 39, 40, 46, 48, 54, 59, 63, 71, 79, 103):
        path.write_bytes(whole)
        _poke(path, place, bytes([whole[place] ^ 0x40]))
        try:
            done = accept(path, path.name, folder, LIMITS)
        except ImageRefused:
            assert list(folder.iterdir()) == []
        else:
            # A table that is longer than it need be, say: nothing that a guest would see.
            assert content(done.file) == CONTENT


def test_one_table_for_all_clusters_is_found(raw: Path, folder: Path) -> None:
    """Clusters that are used twice would let a small file become a large disk."""
    path = made(raw, "qcow2")
    l2 = _table(path, 40)
    entry = path.read_bytes()[l2 + 8 * 80 : l2 + 8 * 81]
    _poke(path, l2 + 8 * 100, entry * 100)
    assert reason(path, folder) == "corrupt"


def test_an_image_in_an_ova_is_held_to_the_same(secret: Path, folder: Path) -> None:
    path = secret.with_name("evil.qcow2")
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", path)
    ova = secret.with_name("evil.ova")
    ova.write_bytes(disks.tar_of(("vm.ovf", disks.description("d.vmdk")), ("d.vmdk", path.read_bytes())))
    assert reason(ova, folder) == "backing-file"


def test_a_conversion_writes_no_more_than_may_come_in(raw: Path, folder: Path) -> None:
    packed = made(raw, "vmdk", "-o", "subformat=streamOptimized")
    size = packed.stat().st_size
    limits = Limits(size=size + 1000, virtual_size=1 << 40)
    assert reason(packed, folder, limits) == "size"


def test_a_small_file_does_not_become_a_large_disk(tmp_path: Path, folder: Path) -> None:
    """One cluster stands for all the others, and the references say so: the tables hold together."""
    whole = bytearray(disks.qcow2(32 * MIB, clusters={0: os.urandom(disks.CLUSTER)}, snapshots=0, features=1))
    struct.pack_into(">512Q", whole, 4 * disks.CLUSTER, *[5 * disks.CLUSTER] * 512)
    struct.pack_into(">H", whole, 2 * disks.CLUSTER + 10, 512)
    path = tmp_path / "evil.qcow2"
    path.write_bytes(whole)
    assert reason(path, folder, Limits(free=MIB, ratio=4)) == "bomb"
    assert content(accepted(path, folder).file) == whole[5 * disks.CLUSTER : 6 * disks.CLUSTER] * 512


@pytest.mark.parametrize("name", ["disk.qcow2", ".disk", ".disk.qcow2.part"])
def test_a_file_in_the_folder_itself_is_never_in_the_way(name: str, raw: Path, folder: Path) -> None:
    path = raw.rename(folder / name)
    assert content(accept(path, "a.raw", folder, LIMITS).file) == CONTENT
    assert path.read_bytes() == CONTENT


@pytest.mark.skipif(not landlock_version(), reason="the kernel declares no Landlock")
def test_even_qemu_img_cannot_open_what_is_not_named(secret: Path) -> None:
    """Should a header ever slip through our own readers: the kernel keeps the file closed."""
    path = secret.with_name("evil.qcow2")
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", path)
    out = secret.with_name("out")
    out.mkdir()
    done = run_bounded(
        ("qemu-img", "convert", "-O", "raw", str(path), str(out / "raw")),
        bounds=Bounds.to_convert(LIMITS, path, folder=out),
    )
    assert done.code != 0
    assert not (out / "raw").exists() or b"secret" not in (out / "raw").read_bytes()


def _poke(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def _table(path: Path, field: int) -> int:
    """Where the first entry of the table that a field of the header names leads to."""
    whole = path.read_bytes()
    table = int.from_bytes(whole[field : field + 8], "big")
    return int.from_bytes(whole[table : table + 8], "big") & 0x00FFFFFFFFFFFE00
