"""What files are, by their content."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
from pathlib import Path

import disk_files as disks
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.library.sniff import sniff
from wireloom.library.tarheads import tar_members
from wireloom.library.values import ImageRefused

ELF = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")


def zip_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def iso() -> bytes:
    medium = bytearray(disks.mbr_disk(size=1 << 20))  # also a stick, as vendors ship them
    medium[0x8000:0x8006] = b"\x01CD001"
    return bytes(medium)


KNOWN = {
    "gzip": gzip.compress(b"x"),
    "xz": lzma.compress(b"x"),
    "zstd": b"\x28\xb5\x2f\xfd\x04\x00",
    "bzip2": bz2.compress(b"x"),
    "zip": zip_of(a=b"x"),
    "qcow2": disks.qcow2(),
    "vmdk": disks.vmdk(),
    "vhd": disks.vhd(),
    "vhdx": disks.vhdx(),
    "ova": disks.tar_of(("vm.ovf", b"<Envelope/>"), ("disk.vmdk", b"x")),
    "docker-archive": disks.tar_of(("layer/layer.tar", b"x"), ("./manifest.json", b"[]")),
    "oci-archive": disks.tar_of(("oci-layout", b"{}"), ("index.json", b"{}"), ("blobs/sha256/00", b"")),
    "rootfs": disks.tar_of(("./etc/passwd", b""), ("usr/bin/sh", b"")),
    "tar": disks.tar_of(("notes.txt", b"x")),
    "iso": iso(),
    "iol": ELF + struct.pack("<HHI", 2, 3, 1),
    "gns3a": json.dumps({"name": "Router", "registry_version": 4}).encode(),
    "raw": disks.gpt_disk(("boot", "")),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_a_file_is_known_by_its_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpeg"
    path.write_bytes(KNOWN[kind])
    assert (sniff(path).kind, sniff(path).size) == (kind, len(KNOWN[kind]))


@pytest.mark.parametrize(
    ("content", "kind", "detail"),
    [
        (disks.vhd(kind=3), "vhd", "dynamic"),
        (b"# Disk DescriptorFile\nversion=1\n", "vmdk", "a descriptor that names other files"),
        (disks.mbr_disk(), "raw", "a partition table (MBR)"),
        (bytes(1080) + b"\x53\xef" + bytes(5000), "raw", "a file system (ext)"),
        (b"XFSB" + bytes(5000), "raw", "a file system (XFS)"),
        (ELF + struct.pack("<HHI", 2, 62, 1), "iol", "x86_64"),
        (ELF + struct.pack("<HHI", 2, 8, 1), "unknown", "a program for another processor, or a library"),
        (b"QFI\xfb\0\0\0\1" + bytes(100), "unknown", "a disk in the first qcow format"),
        (b"LUKS\xba\xbe" + bytes(600), "unknown", "an encrypted disk (LUKS)"),
        (b"\x50\x2a\x4d\x18\x04\0\0\0note\x28\xb5\x2f\xfd", "zstd", ""),
        (b"", "unknown", "an empty file"),
        (b"\0" * 100_000, "unknown", ""),
        (b"just words\n" * 1000, "unknown", ""),
        (bytes(510) + b"\x55\xaa" + bytes(9000), "unknown", ""),
        (b'{"some": "json"}', "unknown", ""),
        (b"{" * 100_000, "unknown", ""),
        (b"PKx", "unknown", ""),
        (b"BZh9 is a good story", "unknown", ""),
    ],
)
def test_more_is_said_where_more_is_known(content: bytes, kind: str, detail: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert (sniff(path).kind, sniff(path).detail) == (kind, detail)


def test_a_partition_beyond_the_file_makes_no_disk(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(disks.mbr_disk()[:4096])
    assert sniff(path).kind == "unknown"


@given(st.binary(max_size=2000), st.sampled_from([*KNOWN.values()]), st.integers(0, 3000))
def test_no_content_is_too_strange(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, file: bytes, at: int
) -> None:
    path = tmp_path_factory.mktemp("sniff") / "file"
    path.write_bytes((file[:at] + noise + file[at + len(noise) :])[:20_000])
    sniff(path)
    path.unlink()
    path.parent.rmdir()


# --- headers of tar files ----------------------------------------------------------------------


def walk(content: bytes, tmp_path: Path, *, entries: int = 100, name: int = 300) -> list[tuple[str, str, int]]:
    path = tmp_path / "file.tar"
    path.write_bytes(content)
    with path.open("rb", buffering=0) as file:
        return [(each.name, each.kind, each.size) for each in tar_members(file, entries=entries, name=name)]


LONG = "folder/" * 20 + "ä-name"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_all_formats_are_read(form: int, tmp_path: Path) -> None:
    name = LONG if form != tarfile.USTAR_FORMAT else "folder/" * 20 + "name"
    content = disks.tar_of((name, b"x" * 700), disks.member("link", tarfile.SYMTYPE, "to"), ("last", b""), form=form)
    assert walk(content, tmp_path) == [(name, "file", 700), ("link", "link", 0), ("last", "file", 0)]


def test_the_size_of_a_large_member_is_in_its_record_alone(tmp_path: Path) -> None:
    """As Go and Python write members of more than 8 GiB, with 0 in the header."""
    record = b"12 size=700\n"
    extended, member = tarfile.TarInfo("pax"), tarfile.TarInfo("disk.vmdk")
    extended.type, extended.size = tarfile.XHDTYPE, len(record)
    heads = extended.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + member.tobuf(tarfile.USTAR_FORMAT)
    content = heads + (b"x" * 700).ljust(1024, b"\0") + disks.tar_of(("last", b"y"))
    assert walk(content, tmp_path) == [("disk.vmdk", "file", 700), ("last", "file", 1)]


def reason_of(content: bytes, tmp_path: Path, **limits: int) -> str:
    with pytest.raises(ImageRefused) as refusal:
        walk(content, tmp_path, **limits)
    return str(refusal.value.details["reason"])


def test_an_archive_is_refused_for_what_is_wrong_with_it(tmp_path: Path) -> None:
    content = disks.tar_of(("first", b"x" * 700), ("second", b"y" * 700))
    assert reason_of(content[:700], tmp_path) == "truncated"
    assert reason_of(content[: 512 + 1024 + 100], tmp_path) == "truncated"
    assert reason_of(content[:1536] + b"\xff" + content[1537:], tmp_path) == "corrupt"
    assert reason_of(content, tmp_path, entries=1) == "unbounded"
    assert reason_of(content, tmp_path, name=5) == "name"


def test_a_header_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type = tarfile.XHDTYPE
    info.size = 1 << 30
    assert reason_of(info.tobuf(tarfile.USTAR_FORMAT), tmp_path) == "name"


@pytest.mark.parametrize("record", [b"99 path=x\n", b"x path=y\n", b"10 path=xy", b"\xff\xff 1=\n", b"4 a\n"])
def test_records_that_do_not_hold_together_are_refused(record: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type = tarfile.XHDTYPE
    info.size = len(record)
    content = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + disks.tar_of(("file", b""))
    assert reason_of(content, tmp_path) == "corrupt"


def test_sparse_members_are_told(tmp_path: Path) -> None:
    old = disks.member("old", tarfile.GNUTYPE_SPARSE)
    new = tarfile.TarInfo("new")
    new.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "99999999"}
    content = disks.tar_of(old, new, form=tarfile.PAX_FORMAT)
    assert [each[1] for each in walk(content, tmp_path)] == ["sparse", "sparse"]
