"""Headers of disks, labels and archives of machines, read by our own readers alone."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import tarfile
import zlib
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import disk_files as disks
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.library.disks import accept, disk_labels
from wireloom.library.disks.ova import Ova, extract, read_ova
from wireloom.library.disks.qcow2 import read_guest, read_qcow2
from wireloom.library.disks.reading import Header
from wireloom.library.disks.vhd import read_vhd
from wireloom.library.disks.vhdx import read_vhdx
from wireloom.library.disks.vmdk import read_vmdk
from wireloom.library.names import check_file_name, disk_name, inner_name
from wireloom.library.values import ImageRefused, Limits, no_progress
from wireloom.model.images import check_image_name

MIB = disks.MIB
LIMITS = Limits(virtual_size=64 * MIB)
Reader = Callable[[FileIO, Limits], Header]


def read(reader: Reader, content: bytes, tmp_path: Path) -> Header:
    path = tmp_path / "disk"
    path.write_bytes(content)
    with path.open("rb", buffering=0) as file:
        return reader(file, LIMITS)


def poke(content: bytes, place: int, form: str, value: int) -> bytes:
    made = bytearray(content)
    struct.pack_into(form, made, place, value)
    return bytes(made)


# --- qcow2 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_a_clean_disk_can_stay_as_it_is(version: int, tmp_path: Path) -> None:
    header = read(read_qcow2, disks.qcow2(version=version), tmp_path)
    assert (header.virtual_size, header.unclean, header.warnings) == (4 * MIB, (), ())


@pytest.mark.parametrize(
    ("content", "unclean"),
    [
        (disks.qcow2(features=1), ("it was not closed",)),
        (disks.qcow2(snapshots=2, clusters={0: b""}), ("snapshots",)),
        (disks.qcow2(extensions=[(0xE2792ACA, b"raw")]), ("extensions of its header",)),
        (disks.qcow2(extensions=[(0x23852875, bytes(24))]), ("bitmaps",)),
        (disks.qcow2(extensions=[(0x6803F857, bytes(48))]), ()),
    ],
)
def test_what_conversion_mends_is_told(content: bytes, unclean: tuple[str, ...], tmp_path: Path) -> None:
    assert read(read_qcow2, content, tmp_path).unclean == unclean


def test_snapshots_inside_are_left_out_with_a_warning(tmp_path: Path) -> None:
    header = read(read_qcow2, disks.qcow2(snapshots=2, clusters={0: b""}), tmp_path)
    assert "2 snapshots" in header.warnings[0]


QCOW2 = {
    "a backing file": (disks.qcow2(backing="/etc/shadow"), "backing-file"),
    "a backing file of no length": (poke(disks.qcow2(), 8, ">Q", 4096), "backing-file"),
    "a backing file at no place": (poke(disks.qcow2(), 16, ">I", 11), "backing-file"),
    "a backing file over the network": (disks.qcow2(backing="json:{'driver':'nbd','host':'10.0.0.1'}"), "backing-file"),
    "a data file": (disks.qcow2(features=4), "data-file"),
    "a data file's name": (disks.qcow2(extensions=[(0x44415441, b"/etc/shadow")]), "data-file"),
    "a data file's name further on": (
        disks.qcow2(extensions=[(0x6803F857, bytes(48)), (0x44415441, b"/etc/shadow")]),
        "data-file",
    ),
    "encryption of old (AES)": (disks.qcow2(encryption=1), "encrypted"),
    "encryption (LUKS)": (disks.qcow2(encryption=2), "encrypted"),
    "a header of encryption": (disks.qcow2(extensions=[(0x0537BE77, bytes(16))]), "encrypted"),
    "a size beyond all": (disks.qcow2(1 << 62), "virtual-size"),
    "a size beyond the limit": (disks.qcow2(65 * MIB), "virtual-size"),
    "no size": (disks.qcow2(0), "virtual-size"),
    "marked as damaged": (disks.qcow2(features=2), "corrupt"),
    "unknown features": (disks.qcow2(features=1 << 9), "format"),
    "an unknown version": (disks.qcow2(version=4), "format"),
    "clusters of no size": (disks.qcow2(cluster_bits=3), "corrupt"),
    "clusters of gigabytes": (disks.qcow2(cluster_bits=40), "corrupt"),
    "a table beyond the end": (disks.qcow2(l1_offset=1 << 40), "truncated"),
    "a table in the middle of a cluster": (disks.qcow2(l1_offset=7), "corrupt"),
    "a table of references beyond the end": (disks.qcow2(refcounts_offset=1 << 40), "truncated"),
    "a table of gigabytes": (poke(disks.qcow2(), 36, ">I", 0xFFFFFFFF), "corrupt"),
    "a table that is too small": (poke(disks.qcow2(), 36, ">I", 0), "corrupt"),
    "references of gigabytes": (poke(disks.qcow2(), 56, ">I", 0xFFFFFFFF), "corrupt"),
    "no references": (poke(disks.qcow2(), 56, ">I", 0), "corrupt"),
    "snapshots beyond the end": (disks.qcow2(snapshots=1), "truncated"),
    "a million snapshots": (disks.qcow2(snapshots=1 << 20), "corrupt"),
    "a header of gigabytes": (poke(disks.qcow2(), 100, ">I", 1 << 30), "corrupt"),
    "an extension of gigabytes": (poke(disks.qcow2(extensions=[(1, b"")]), 108, ">I", 1 << 31), "corrupt"),
    "extensions without end": (disks.qcow2(extensions=[(7, b"")] * 100), "corrupt"),
    "half a header": (disks.qcow2()[:80], "truncated"),
    "a magic alone": (b"QFI\xfb", "truncated"),
}


@pytest.mark.parametrize("what", QCOW2)
def test_a_qcow2_file_is_refused_for(what: str, tmp_path: Path) -> None:
    content, why = QCOW2[what]
    with pytest.raises(ImageRefused) as refusal:
        read(read_qcow2, content, tmp_path)
    assert refusal.value.details["reason"] == why


def test_a_guest_reads_what_is_in_its_clusters(tmp_path: Path) -> None:
    packed = zlib.compressobj(wbits=-12)
    squeezed = packed.compress(b"squeezed".ljust(disks.CLUSTER, b".")) + packed.flush()
    content = bytearray(disks.qcow2(clusters={0: b"first", 2: b"third", 3: squeezed}))
    # The fourth cluster is compressed: its entry tells where, and how many sectors more than one.
    entry = 7 * disks.CLUSTER | (len(squeezed) // 512) << 54 | 1 << 62
    struct.pack_into(">Q", content, 4 * disks.CLUSTER + 24, entry)
    path = tmp_path / "disk"
    path.write_bytes(content)
    with path.open("rb", buffering=0) as file:
        disk = read_qcow2(file, LIMITS)
        assert read_guest(file, disk, 0, 6) == b"first\0"
        assert read_guest(file, disk, disks.CLUSTER, 4) == bytes(4)
        assert read_guest(file, disk, 2 * disks.CLUSTER - 2, 7) == b"\0\0third"
        assert read_guest(file, disk, 3 * disks.CLUSTER + 5, 5) == b"zed.."
        assert read_guest(file, disk, 4 * MIB - 2, 100) == bytes(2)
        assert read_guest(file, disk, 1 << 50, 100) == b""


# --- other formats -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reader", "content"),
    [
        (read_vmdk, disks.vmdk()),
        (read_vhd, disks.vhd()),
        (read_vhd, disks.vhd(kind=3)),
        (read_vhdx, disks.vhdx()),
    ],
)
def test_a_disk_that_stands_alone_is_read(reader: Reader, content: bytes, tmp_path: Path) -> None:
    assert read(reader, content, tmp_path).virtual_size == 4 * MIB


FLAT = 'RW 8192 FLAT "/etc/shadow" 0'
OTHERS: dict[str, tuple[Reader, bytes, str]] = {
    "vmdk: a descriptor alone": (read_vmdk, f"# Disk DescriptorFile\n{FLAT}\n".encode().ljust(512), "data-file"),
    "vmdk: no data of its own": (read_vmdk, disks.vmdk(capacity=0), "data-file"),
    "vmdk: a flat part": (read_vmdk, disks.vmdk(extents=FLAT), "data-file"),
    "vmdk: a second part": (read_vmdk, disks.vmdk(extents=disks.SPARSE + "\n" + FLAT), "data-file"),
    "vmdk: two sparse parts": (read_vmdk, disks.vmdk(extents="\n".join([disks.SPARSE] * 2)), "data-file"),
    "vmdk: a device": (read_vmdk, disks.vmdk(extents='RW 8192 VMFSRDM "/dev/sda"'), "data-file"),
    "vmdk: flat by its kind": (read_vmdk, disks.vmdk(kind="monolithicFlat"), "format"),
    "vmdk: a parent": (read_vmdk, disks.vmdk(parent="87654321"), "backing-file"),
    "vmdk: a parent's name": (read_vmdk, disks.vmdk(more='parentFileNameHint="/etc/shadow"'), "backing-file"),
    "vmdk: a parent's name behind a zero": (
        read_vmdk,
        disks.vmdk(more='\0\nparentFileNameHint="/etc/shadow"'),
        "backing-file",
    ),
    "vmdk: a parent's name where only QEMU looks": (
        read_vmdk,
        poke(disks.vmdk(more="x" * 4000 + '\nparentFileNameHint="/etc/shadow"'), 36, "<Q", 2),
        "backing-file",
    ),
    "vmdk: a size beyond all": (read_vmdk, disks.vmdk(capacity=1 << 50), "virtual-size"),
    "vmdk: a descriptor of gigabytes": (read_vmdk, poke(disks.vmdk(), 36, "<Q", 1 << 40), "corrupt"),
    "vmdk: an unknown version": (read_vmdk, poke(disks.vmdk(), 4, "<I", 9), "format"),
    "vmdk: no footer": (read_vmdk, poke(disks.vmdk(), 56, "<Q", (1 << 64) - 1), "truncated"),
    "vmdk: cut": (read_vmdk, disks.vmdk()[:5000], "truncated"),
    "vhd: differs from another": (read_vhd, disks.vhd(kind=4), "backing-file"),
    "vhd: a parent's name": (read_vhd, disks.vhd(kind=3, parent_name="C:\\base".encode("utf-16-be")), "backing-file"),
    "vhd: a size beyond all": (read_vhd, disks.vhd(kind=3, size=1 << 50), "virtual-size"),
    "vhd: an unknown type": (read_vhd, disks.vhd(kind=9), "format"),
    "vhd: a wrong sum": (read_vhd, disks.vhd(break_sum=True), "corrupt"),
    "vhd: cut at its end": (read_vhd, disks.vhd(kind=3)[:-100], "truncated"),
    "vhd: cut in its middle": (read_vhd, disks.vhd()[MIB:], "truncated"),
    "vhdx: has a parent": (read_vhdx, disks.vhdx(parent=True), "backing-file"),
    "vhdx: names a parent": (read_vhdx, disks.vhdx(locator=True), "backing-file"),
    "vhdx: a size beyond all": (read_vhdx, disks.vhdx(size=1 << 60), "virtual-size"),
    "vhdx: not closed": (read_vhdx, disks.vhdx(log=True), "corrupt"),
    "vhdx: cut": (read_vhdx, disks.vhdx()[:MIB], "truncated"),
    "vhdx: no tables": (read_vhdx, poke(poke(disks.vhdx(), 192 << 10, "<I", 0), 256 << 10, "<I", 0), "corrupt"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_disk_is_refused_for(what: str, tmp_path: Path) -> None:
    reader, content, why = OTHERS[what]
    with pytest.raises(ImageRefused) as refusal:
        read(reader, content, tmp_path)
    assert refusal.value.details["reason"] == why


SEEDS: list[tuple[Reader, bytes]] = [
    (read_qcow2, disks.qcow2()[: 5 * disks.CLUSTER]),
    (read_vmdk, disks.vmdk()),
    (read_vhd, disks.vhd(kind=3)),
]


@given(st.sampled_from(SEEDS), st.integers(0, 2000), st.binary(min_size=1, max_size=16))
def test_no_header_is_too_strange(
    tmp_path_factory: pytest.TempPathFactory, seed: tuple[Reader, bytes], at: int, noise: bytes
) -> None:
    reader, content = seed
    path = tmp_path_factory.mktemp("disk") / "file"
    path.write_bytes(content[:at] + noise + content[at + len(noise) :])
    with path.open("rb", buffering=0) as file, contextlib.suppress(ImageRefused):
        reader(file, LIMITS)
    path.unlink()


# --- labels ------------------------------------------------------------------------------------


def labels_of(content: bytes, tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "disk"
    path.write_bytes(content)
    return disk_labels(path, LIMITS)


def test_names_of_partitions_and_file_systems_are_told(tmp_path: Path) -> None:
    disk = disks.gpt_disk(("EFI System", ""), ("vios-root", "rootfs"), ("rootfs", ""))
    assert labels_of(disk, tmp_path) == ("EFI System", "vios-root", "rootfs")


def test_labels_within_a_qcow2_file_are_told(tmp_path: Path) -> None:
    disk = disks.gpt_disk(("nxos", "bootflash"))
    pieces = {at // disks.CLUSTER: disk[at : at + disks.CLUSTER] for at in range(0, 4 * MIB, disks.CLUSTER)}
    content = disks.qcow2(8 * MIB, clusters={at: piece for at, piece in pieces.items() if any(piece)})
    assert labels_of(content, tmp_path) == ("nxos", "bootflash")


def test_a_fat_label_of_a_simple_partition_is_told(tmp_path: Path) -> None:
    assert labels_of(disks.mbr_disk("VMM-DATA"), tmp_path) == ("VMM-DATA",)
    assert labels_of(disks.mbr_disk("NO NAME"), tmp_path) == ()


def test_labels_are_text_that_can_be_shown(tmp_path: Path) -> None:
    assert labels_of(disks.gpt_disk(("a\nb\x1b[31m", "x" * 16)), tmp_path) == ("ab[31m", "x" * 16)


def test_a_chain_of_partitions_that_bites_its_tail_ends(tmp_path: Path) -> None:
    disk = bytearray(MIB)
    for at in (0, 2048 * 128):
        struct.pack_into("<B3xB3xII", disk, at + 462, 0, 0x05, 512 if not at else 0, 100)
        disk[at + 510 : at + 512] = b"\x55\xaa"
    assert labels_of(bytes(disk), tmp_path) == ()


@given(st.integers(0, 20_000), st.binary(min_size=1, max_size=64))
def test_no_disk_is_too_strange_for_labels(tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes) -> None:
    disk = disks.gpt_disk(("one", "two"), size=3 * MIB)
    path = tmp_path_factory.mktemp("labels") / "disk"
    path.write_bytes(disk[:at] + noise + disk[at + len(noise) :])
    disk_labels(path, LIMITS)
    path.unlink()


# --- OVA ---------------------------------------------------------------------------------------

DISK = disks.vmdk()
OVF = disks.description("disk.vmdk")


def ova(content: bytes, tmp_path: Path) -> Ova:
    path = tmp_path / "machine.ova"
    path.write_bytes(content)
    with path.open("rb", buffering=0) as file:
        found = read_ova(file, Limits())
        extract(file, found, tmp_path / "out", no_progress)
    return found


def listed(*names: tuple[str, bytes], algorithm: str = "SHA256") -> bytes:
    return "".join(
        f"{algorithm}({name})= {hashlib.new(algorithm, data).hexdigest()}\n" for name, data in names
    ).encode()


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_the_disk_of_a_machine_is_taken_out(algorithm: str, tmp_path: Path) -> None:
    digests = listed(("vm.ovf", OVF), ("disk.vmdk", DISK), algorithm=algorithm)
    content = disks.tar_of(("vm.ovf", OVF), ("vm.mf", digests), ("disk.vmdk", DISK), ("day0.iso", b"x"))
    found = ova(content, tmp_path)
    assert (tmp_path / "out").read_bytes() == DISK
    assert found.text == ("Router", "7.1")
    assert "day0.iso" in found.warnings[0]


def test_empty_disks_beside_it_are_told(tmp_path: Path) -> None:
    text = disks.description("disk.vmdk", more='<Disk ovf:diskId="empty" ovf:capacity="20"/>')
    assert "1 empty" in ova(disks.tar_of(("vm.ovf", text), ("disk.vmdk", DISK)), tmp_path).warnings[0]


def machine(*members: tuple[str, bytes] | tarfile.TarInfo, text: bytes = OVF) -> bytes:
    return disks.tar_of(("vm.ovf", text), *members)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
FILE = ("disk.vmdk", DISK)
OVAS = {
    "a name that leads up": (machine(FILE, ("../../etc/cron.d/x", b"x")), "path"),
    "an absolute name": (machine(FILE, ("/etc/cron.d/x", b"x")), "path"),
    "a line break in a name": (machine(FILE, ("a\nb", b"x")), "name"),
    "a soft link": (machine(FILE, disks.member("disk2.vmdk", tarfile.SYMTYPE, "/etc/shadow")), "link"),
    "a hard link": (machine(FILE, disks.member("disk2.vmdk", tarfile.LNKTYPE, "/etc/shadow")), "link"),
    "a device": (machine(FILE, disks.member("disk2.vmdk", tarfile.BLKTYPE)), "device-node"),
    "a pipe": (machine(FILE, disks.member("disk2.vmdk", tarfile.FIFOTYPE)), "device-node"),
    "a sparse member": (machine(FILE, disks.member("disk2.vmdk", tarfile.GNUTYPE_SPARSE)), "sparse"),
    "a name twice": (machine(FILE, FILE), "duplicate"),
    "a name twice in disguise": (machine(FILE, ("./disk.vmdk", DISK)), "duplicate"),
    "two descriptions": (machine(FILE, ("b.ovf", OVF)), "manifest"),
    "a disk that is not there": (machine(), "manifest"),
    "several disks": (machine(FILE, ("b.vmdk", DISK), text=disks.description("disk.vmdk", "b.vmdk")), "format"),
    "no disk": (machine(FILE, text=disks.description()), "format"),
    "a disk of a host": (machine(text=disks.description("/etc/shadow")), "path"),
    "a disk over the network": (machine(text=disks.description("http://10.0.0.1/disk.vmdk")), "path"),
    "a disk whose file it does not name": (machine(text=disks.description("disk.vmdk", references=())), "manifest"),
    "a disk on another": (
        machine(FILE, text=disks.description(more='<Disk ovf:fileRef="f0" ovf:parentRef="d1"/>')),
        "backing-file",
    ),
    "entities": (machine(FILE, text=disks.description("disk.vmdk", head=BOMB)), "manifest"),
    "a description that is cut": (machine(FILE, text=OVF[:200]), "manifest"),
    "another document": (machine(FILE, text=b"<html/>"), "manifest"),
    "a description without end": (machine(FILE, text=b"<Envelope>" * 100), "manifest"),
    "another digest of the disk": (machine(("vm.mf", listed(("disk.vmdk", b"other"))), FILE), "digest"),
    "another digest of the description": (machine(("vm.mf", listed(("vm.ovf", b"other"))), FILE), "digest"),
    "cut": (machine(FILE)[:6000], "truncated"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", OVAS)
def test_a_machine_is_refused_for(what: str, tmp_path: Path) -> None:
    content, why = OVAS[what]
    with pytest.raises(ImageRefused) as refusal:
        ova(content, tmp_path)
    assert refusal.value.details["reason"] == why


# --- names, and what is no disk ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("vios-adventerprisek9-m.SPA.159-3.M6.qcow2", "vios-adventerprisek9-m.SPA.159-3.M6.qcow2"),
        ("vEOS-lab-4.32.0F.vmdk", "vEOS-lab-4.32.0F.qcow2"),
        ("openwrt-24.10.0-x86-64.img.gz", "openwrt-24.10.0-x86-64.qcow2"),
        ("ArubaOS CX (10.13).OVA", "ArubaOS-CX-10.13.qcow2"),
        ("….qcow2", "disk.qcow2"),
        ("-rf.raw", "rf.qcow2"),
        ("ü" * 100 + "x" * 200, f"{'x' * 115}.qcow2"),
        (".qcow2", "qcow2.qcow2"),
    ],
)
def test_an_image_is_called_as_its_file(file_name: str, name: str) -> None:
    assert check_image_name(disk_name(file_name), "qcow2") == name


def test_the_name_inside_is_the_one_without_the_packing() -> None:
    assert [inner_name(each) for each in ("a.qcow2.xz", "b.tgz", "c.img")] == ["a.qcow2", "b.tar", "c.img"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../a.qcow2", "path"),
        ("/a.qcow2", "path"),
        ("a\\b", "path"),
        ("..", "path"),
        ("", "name"),
        ("x" * 256, "name"),
        ("a\nb.qcow2", "name"),
        ("a\0b", "name"),
        ("a\x1b[31m", "name"),
        ("a\u202egpj.2wocq", "name"),
        ("a\udcff", "name"),
    ],
)
def test_names_that_hide_something_are_refused(name: str, why: str) -> None:
    with pytest.raises(ImageRefused) as refusal:
        check_file_name(name)
    assert refusal.value.details["reason"] == why
    assert refusal.value.message.isprintable()


@pytest.mark.parametrize("content", [b"", b"words", bytes(9000), b"\x7fELF" + bytes(100), b"\x1f\x8b\x08 packed"])
def test_what_is_no_disk_is_refused_without_any_program(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ImageRefused) as refusal:
        accept(path, "router.qcow2", tmp_path, Limits())
    assert refusal.value.details["reason"] == "format"


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(disks.qcow2())
    with pytest.raises(ImageRefused) as refusal:
        accept(path, "router.qcow2", tmp_path, Limits(size=1000))
    assert refusal.value.details["reason"] == "size"
