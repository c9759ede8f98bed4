"""One layer of compression, whole or not there."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from wireloom.errors import CapacityExceeded
from wireloom.library.unpack import unpack
from wireloom.library.values import ImageRefused, Limits

MIB = 1 << 20
#: Does not shrink, has runs of zeros, and ends with one.
CONTENT = os.urandom(300_000) + bytes(3 * MIB) + os.urandom(70_000) + bytes(100_000)


def zstd(content: bytes) -> bytes:
    program = shutil.which("zstd")
    assert program, "install the package zstd"
    return subprocess.run([program, "-q", "-c"], input=content, capture_output=True, check=True).stdout


def zipped(content: bytes, *, name: str = "disk.img", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr(name, content)
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstd,
    "zip": zipped,
}
#: Formats whose streams may follow each other in one file.
STREAMS = ["gzip", "xz", "bzip2", "zstd"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def unpacked(content: bytes, folder: Path, limits: Limits | None = None) -> Path:
    path = folder.parent / "packed"
    path.write_bytes(content)
    return unpack(path, folder, limits or Limits())


def reason(content: bytes, folder: Path, limits: Limits | None = None) -> str:
    """Why it is refused; nothing may be left."""
    with pytest.raises(ImageRefused) as refusal:
        unpacked(content, folder, limits)
    assert list(folder.iterdir()) == []
    return str(refusal.value.details["reason"])


@pytest.mark.parametrize("kind", PACKERS)
def test_what_was_packed_comes_out(kind: str, folder: Path) -> None:
    assert unpacked(PACKERS[kind](CONTENT), folder).read_bytes() == CONTENT
    assert len(list(folder.iterdir())) == 1


def test_zeros_become_holes(folder: Path) -> None:
    path = unpacked(gzip.compress(bytes(32 * MIB) + b"end"), folder)
    assert path.stat().st_size == 32 * MIB + 3
    assert path.stat().st_blocks * 512 < 8 * MIB


@pytest.mark.parametrize("kind", PACKERS)
def test_nothing_packed_is_an_empty_file(kind: str, folder: Path) -> None:
    assert unpacked(PACKERS[kind](b""), folder).read_bytes() == b""


@pytest.mark.parametrize("kind", STREAMS)
def test_streams_that_follow_each_other_are_one(kind: str, folder: Path) -> None:
    pack = PACKERS[kind]
    assert unpacked(pack(b"one") + pack(b"") + pack(b"two"), folder).read_bytes() == b"onetwo"


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_padding_with_zeros_is_no_damage(kind: str, folder: Path) -> None:
    assert unpacked(PACKERS[kind](b"one") + bytes(700_000), folder).read_bytes() == b"one"


@pytest.mark.parametrize("kind", PACKERS)
def test_progress_ends_at_the_end(kind: str, folder: Path) -> None:
    path = folder.parent / "packed"
    path.write_bytes(PACKERS[kind](CONTENT))
    told: list[tuple[int, int]] = []
    unpack(path, folder, Limits(), lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0


# --- what must not come in ---------------------------------------------------------------------

SMALL = Limits(free=MIB, ratio=10)


@pytest.mark.parametrize("kind", PACKERS)
def test_bombs_are_refused_before_they_fill_the_disk(kind: str, folder: Path) -> None:
    assert reason(PACKERS[kind](bytes(20 * MIB)), folder, SMALL) == "bomb"


@pytest.mark.parametrize("kind", PACKERS)
def test_more_than_may_come_in_is_refused(kind: str, folder: Path) -> None:
    assert reason(PACKERS[kind](CONTENT), folder, Limits(size=1000)) == "size"


@pytest.mark.parametrize("kind", PACKERS)
def test_a_file_that_is_cut_is_refused(kind: str, folder: Path) -> None:
    packed = PACKERS[kind](CONTENT)
    for length in (len(packed) // 2, len(packed) - 3):
        assert reason(packed[:length], folder) == "truncated"


@pytest.mark.parametrize("kind", PACKERS)
def test_a_changed_byte_is_found(kind: str, folder: Path) -> None:
    packed = bytearray(PACKERS[kind](CONTENT))
    packed[len(packed) // 3] ^= 0x10
    assert reason(bytes(packed), folder) == "corrupt"


@pytest.mark.parametrize("kind", sorted(set(STREAMS) - {"gzip"}))
def test_something_behind_the_end_is_refused(kind: str, folder: Path) -> None:
    assert reason(PACKERS[kind](b"one") + b"and more of it", folder) == "corrupt"


@pytest.mark.parametrize("inner", PACKERS)
@pytest.mark.parametrize("outer", PACKERS)
def test_what_is_compressed_twice_is_refused(outer: str, inner: str, folder: Path) -> None:
    for content in (b"x", CONTENT):
        assert reason(PACKERS[outer](PACKERS[inner](content)), folder) == "compressed-twice"


def test_a_full_disk_is_told_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wireloom.library import unpack as module

    def full(*_arguments: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(module._Writer, "_put", full)
    with pytest.raises(CapacityExceeded):
        unpacked(gzip.compress(CONTENT), folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", PACKERS)
def test_a_cancel_leaves_nothing(kind: str, folder: Path) -> None:
    def cancel(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    path = folder.parent / "packed"
    path.write_bytes(PACKERS[kind](CONTENT))
    with pytest.raises(KeyboardInterrupt):
        unpack(path, folder, Limits(), cancel)
    assert list(folder.iterdir()) == []


def test_what_is_not_compressed_is_refused(folder: Path) -> None:
    assert reason(b"plain words", folder) == "format"


# --- zip archives ------------------------------------------------------------------------------


def archive(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    return out.getvalue()


def test_notes_beside_the_image_do_not_count_and_its_name_is_kept(folder: Path) -> None:
    content = archive(
        ("router/", b""),
        ("router/vios-159.qcow2", b"disk"),
        ("router/README.txt", b"read me"),
        ("router/vios-159.qcow2.sha256", b"00"),
        ("__MACOSX/router/._vios-159.qcow2", b"x"),
        ("router/.DS_Store", b"x"),
    )
    path = unpacked(content, folder)
    assert (path.name, path.read_bytes()) == ("vios-159.qcow2", b"disk")


def test_a_member_with_the_name_of_its_archive_does_not_take_its_place(folder: Path) -> None:
    path = folder / "disk.img"
    path.write_bytes(zipped(b"inside", name="disk.img"))
    assert unpack(path, folder, Limits()).read_bytes() == b"inside"
    assert path.read_bytes().startswith(b"PK")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_usual_methods_are_read(method: int, folder: Path) -> None:
    assert unpacked(zipped(CONTENT, method=method), folder).read_bytes() == CONTENT


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def with_flag(content: bytes, bit: int) -> bytes:
    """With a flag set in the list and in the file's own header."""
    made = bytearray(content)
    listed = content.index(b"PK\x01\x02")
    for place in (6, listed + 8):
        made[place : place + 2] = struct.pack("<H", struct.unpack_from("<H", made, place)[0] | bit)
    return bytes(made)


def patched(content: bytes, place: int, form: str, value: int) -> bytes:
    """With a field of the list changed."""
    made = bytearray(content)
    struct.pack_into(form, made, content.index(b"PK\x01\x02") + place, value)
    return bytes(made)


LIES = {
    "several images": (archive(("a.img", b"1"), ("b.img", b"2")), "format"),
    "no image": (archive(("README.txt", b"1")), "format"),
    "nothing": (archive(), "format"),
    "a name that leads up": (archive(("../a.img", b"1")), "path"),
    "an absolute name": (archive(("/etc/a.img", b"1")), "path"),
    "a name of another system": (archive(("C:\\a.img", b"1")), "path"),
    "a line break in a name": (archive(("a\nb.img", b"1")), "name"),
    "a zero byte in a name": (archive(("a.img", b"1")).replace(b"a.img", b"a\0img"), "name"),
    "a link": (archive((special("a.img", stat.S_IFLNK | 0o777), b"/etc/passwd")), "link"),
    "a device": (archive((special("a.img", stat.S_IFBLK | 0o600), b"")), "device-node"),
    "encrypted": (with_flag(zipped(b"x"), 1), "encrypted"),
    "strongly encrypted": (with_flag(zipped(b"x"), 0x40), "encrypted"),
    "an unusual method": (zipped(CONTENT, method=zipfile.ZIP_LZMA), "format"),
    "a later version": (patched(zipped(CONTENT), 6, "<H", 99), "format"),
    "a size that is too small": (patched(zipped(CONTENT), 24, "<I", 1000), "size"),
    "a size that is too large": (patched(zipped(CONTENT), 24, "<I", len(CONTENT) + 1), "size"),
    "a size beyond all": (patched(zipped(CONTENT), 24, "<I", 0xFFFFFFF0), "bomb"),
    "another checksum": (patched(zipped(CONTENT), 16, "<I", 1), "corrupt"),
    "another method in the list": (patched(zipped(CONTENT), 10, "<H", 0), "corrupt"),
    "a place that is none": (patched(zipped(CONTENT), 42, "<I", 5), "corrupt"),
    "a longer stream": (patched(zipped(CONTENT), 20, "<I", len(zipped(CONTENT)) + 99), "truncated"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    assert reason(archive(("a.img", b"1"), ("a.img", b"2")), folder) == "duplicate"


@pytest.mark.parametrize("lie", LIES)
def test_archives_that_lie_are_refused(lie: str, folder: Path) -> None:
    content, why = LIES[lie]
    assert reason(content, folder) == why


def test_a_list_of_millions_is_not_read(folder: Path) -> None:
    made = bytearray(zipped(b"x"))
    end = made.index(b"PK\x05\x06")
    struct.pack_into("<HHI", made, end + 8, 0xFFFF, 0xFFFF, 0xFFFFFF00)
    assert reason(bytes(made), folder) == "unbounded"


# --- what vendors do ---------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 100])
def test_a_signature_behind_what_gzip_packed_is_passed_over(padding: int, folder: Path) -> None:
    """As images of OpenWrt have it; gzip(1) passes over it, too."""
    packed = gzip.compress(CONTENT) + bytes(padding) + b'{"metadata_version": "1.1"}FWx0'
    assert unpacked(packed, folder).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "tail", [os.urandom(70_000).replace(b"\x1f", b" "), gzip.compress(b"x")[:10], b"\x1f rubbish"], ids=len
)
def test_more_than_a_signature_behind_what_gzip_packed_is_damage(tail: bytes, folder: Path) -> None:
    assert reason(gzip.compress(CONTENT) + tail, folder) in {"corrupt", "truncated"}


@pytest.mark.parametrize("name", ["packed", ".unpacked.part"])
def test_the_name_in_an_archive_is_never_in_the_way(name: str, folder: Path) -> None:
    assert unpacked(zipped(CONTENT, name=name), folder).read_bytes() == CONTENT
