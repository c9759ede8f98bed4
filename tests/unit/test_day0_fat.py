"""FAT disks and archives: equal bytes for equal content, and what they refuse. Other programs read them in
``tests/contract/test_day0_media.py``."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.day0 import build_fat
from wireloom.day0.archive import build_tar_gz
from wireloom.errors import InvalidInput

FILES = {"ios_config.txt": b"hostname r1\n", "conf/vswitch.xml": b"<x/>" * 1000, "empty": b""}

#: SHA-256 of a disk with :data:`FILES`: the bytes are the same on every machine and in every year.
GOLDEN = {
    (1, False): "d4cc767c28999947f2d0bfc0ab41b014f625194183e10c834f41ca588c699ec9",
    (32, False): "aa8d3297cc294caaf0ec3469ec0875f14d0012a65d976f9a91250908d44e1131",
    (32, True): "efadcacb3184629e59dabd14f8a6c2186b29782aba111e0ca44e625484207d6b",
    (512, False): "963aaebae34a3983d1b5bc68fcb8faeb22272b0ba717a4cb12c4074f0d9deb61",
}


@pytest.mark.parametrize(("size_mb", "partition"), GOLDEN)
def test_equal_content_gives_equal_bytes(size_mb: int, *, partition: bool) -> None:
    image = build_fat("vmm-data", dict(reversed(FILES.items())), size_mb=size_mb, partition=partition)
    assert image.digest() == GOLDEN[size_mb, partition]


@pytest.mark.parametrize(("size_mb", "kind"), [(1, b"FAT12"), (15, b"FAT12"), (16, b"FAT16"), (511, b"FAT16")])
def test_kind_follows_from_size(size_mb: int, kind: bytes) -> None:
    assert build_fat("x", {}, size_mb=size_mb).pieces[0][1][54:59] == kind


def test_large_disks_are_fat32() -> None:
    assert build_fat("x", {}, size_mb=512).pieces[0][1][82:87] == b"FAT32"


def test_other_content_gives_another_volume_number() -> None:
    first, second = (build_fat("x", {"a": content}, size_mb=1).pieces[0][1] for content in (b"1", b"2"))
    assert first[39:43] != second[39:43]


def test_a_partition_begins_at_one_mebibyte() -> None:
    image = build_fat("x", {}, size_mb=32, partition=True).to_bytes()
    kind, start, sectors = struct.unpack_from("<4xB3xII", image, 446)
    assert (kind, start, sectors) == (0x0E, 2048, 31 * 2048)
    assert image[2048 * 512 + 3 : 2048 * 512 + 11] == b"WIRELOOM"


def test_a_large_disk_is_written_with_holes(tmp_path: Path) -> None:
    image = build_fat("x", FILES, size_mb=2048)
    assert sum(len(content) for _, content in image.pieces) < 100_000
    with (tmp_path / "large").open("wb") as stream:
        image.write(stream)
    facts = (tmp_path / "large").stat()
    assert (facts.st_size, facts.st_blocks * 512 < 10 << 20) == (2 << 30, True)


def test_what_is_written_is_the_image(tmp_path: Path) -> None:
    image = build_fat("x", FILES, size_mb=1)
    with (tmp_path / "small").open("wb") as stream:
        image.write(stream)
    content = (tmp_path / "small").read_bytes()
    assert content == image.to_bytes()
    assert hashlib.sha256(content).hexdigest() == image.digest()


@pytest.mark.parametrize("label", ["", "x" * 12, "döner", "a/b", "a.b", "a\tb", " a"])
def test_impossible_labels_are_refused(label: str) -> None:
    with pytest.raises(InvalidInput):
        build_fat(label, {}, size_mb=1)


@pytest.mark.parametrize(
    "path",
    ["", "/", "../x", "a/../b", "a:b", "a*", 'a"b', "a\nb", "a.", "a ", " a", "x" * 256, "\udc80", "\U00010000"],
)
def test_impossible_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        build_fat("x", {path: b""}, size_mb=1)


@pytest.mark.parametrize("paths", [("a", "A"), ("a/x", "A/y"), ("a", "a/b")])
def test_names_that_fat_cannot_tell_apart_are_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput):
        build_fat("x", dict.fromkeys(paths, b""), size_mb=1)


def test_too_little_room_is_said_with_the_numbers() -> None:
    with pytest.raises(InvalidInput, match=r"take 10\d+ bytes, and the FAT disk has room for 10\d+"):
        build_fat("x", {"a": bytes(1 << 20)}, size_mb=1)
    with pytest.raises(InvalidInput, match="at least 1 MiB"):
        build_fat("x", {}, size_mb=1, partition=True)
    with pytest.raises(InvalidInput, match="root folder"):
        build_fat("x", {f"file number {number}": b"" for number in range(300)}, size_mb=32)


# ------------------------------------------------------------------ archives


def test_an_archive_is_the_same_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_tar_gz(FILES)
    assert hashlib.sha256(first).hexdigest() == "f31f672d155209dc3c5ef1f60f0029fa55fc423b1cdd44909710a2f02b9ddf00"
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert build_tar_gz(dict(reversed(FILES.items()))) == first


PATHS = st.from_regex(r"[a-z]{1,8}(/[A-Z]{1,8}){0,3}\.x", fullmatch=True)


@given(st.dictionaries(PATHS, st.binary(max_size=200), max_size=5))
def test_an_archive_holds_what_was_put_in(files: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(build_tar_gz(files))) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        found = {}
        for member in members:
            stream = archive.extractfile(member)
            assert stream is not None
            found[member.name] = stream.read()
    assert found == files


def test_an_archive_longer_than_a_block_is_whole() -> None:
    content = bytes(range(256)) * 1000
    with tarfile.open(fileobj=io.BytesIO(build_tar_gz({"a": content}))) as archive:
        stream = archive.extractfile("a")
        assert stream is not None
        assert stream.read() == content


def test_an_archive_cannot_leave_its_folder() -> None:
    with pytest.raises(InvalidInput):
        build_tar_gz({"../etc/passwd": b""})
