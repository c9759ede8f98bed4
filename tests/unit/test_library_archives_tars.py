"""The strict reader of tar files, held against Python's own on files that are well made."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from archive_rig import END, entry, folder, link, pax_member, pax_record, raw_header, tar
from hypothesis import given, settings
from hypothesis import strategies as st

from wireloom.library.archives.streams import Stream, Window
from wireloom.library.archives.tars import Kind, Member, TarReader
from wireloom.library.values import ImageRefused, Limits

FORMS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]
LIMITS = Limits(entries=1000)


def in_chunks(data: bytes, size: int) -> Stream:
    return Stream(data[at : at + size] for at in range(0, len(data), size))


def read(data: bytes, size: int = 1 << 16, *, open_end: bool = False) -> list[tuple[Member, bytes]]:
    reader = TarReader(in_chunks(data, size), LIMITS, "the archive", open_end=open_end)
    return [(member, reader.head(member.size)) for member in reader]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 100, 512, 1 << 20])
def test_members_come_as_they_were_put_in(form: int, size: int) -> None:
    data = tar(
        folder("./usr/"),
        entry("./usr/x", b"a" * 700, mtime=1234, mode=0o4755),
        entry("./empty"),
        link("l", "usr/x"),
        link("h", "usr/x", hard=True),
        entry("dev/null", kind=b"3", devmajor=1, devminor=3),
        form=form,
    )
    members = read(data, size)
    assert [(member.path, member.kind) for member, _ in members] == [
        ("usr", Kind.FOLDER),
        ("usr/x", Kind.FILE),
        ("empty", Kind.FILE),
        ("l", Kind.SYMLINK),
        ("h", Kind.HARD_LINK),
        ("dev/null", Kind.CHARACTER),
    ]
    file, content = members[1]
    assert (file.size, file.mode, file.mtime, content) == (700, 0o4755, 1234, b"a" * 700)
    assert data[file.offset : file.offset + 700] == content
    assert members[3][0].target == "usr/x"
    assert members[5][0].device == (1, 3)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_targets_come_whole(form: int) -> None:
    name, target = "folder/" * 40 + "Ünïcode", "elsewhere/" * 40
    members = read(tar(entry(name, b"x"), link("l", target), form=form))
    assert members[0][0].path == name
    assert members[1][0].target == target


def test_a_prefix_belongs_to_the_name() -> None:
    name = "p" * 120 + "/" + "n" * 90
    assert read(tar(entry(name), form=tarfile.USTAR_FORMAT))[0][0].path == name


def test_large_sizes_are_read_in_all_their_forms() -> None:
    size = 9 << 30
    for header in (
        raw_header(b"x", at_124=b"\x80" + size.to_bytes(11, "big")),
        pax_member(pax_record("size", str(size).encode())) + raw_header(b"x"),
    ):
        member = next(iter(TarReader(in_chunks(header + END, 512), LIMITS, "it")))
        assert member.size == size


def test_a_file_whose_name_ends_in_a_slash_is_a_folder_of_old() -> None:
    assert read(raw_header(b"old/", b"\x00", magic=bytes(8)) + END)[0][0].kind is Kind.FOLDER


def test_an_open_end_is_for_layers_only() -> None:
    cut = raw_header(b"x")
    assert len(read(cut, open_end=True)) == 1
    with pytest.raises(ImageRefused):
        read(cut)
    with pytest.raises(ImageRefused):
        read(cut + bytes(100), open_end=True)


def test_content_is_passed_over_whether_it_was_looked_at_or_not() -> None:
    data = tar(entry("a", b"a" * 5000), entry("b", b"b" * 5000), entry("c", b"c" * 5000))
    reader = TarReader(in_chunks(data, 100), LIMITS, "it")
    seen = []
    for member in reader:
        seen.append((member.path, reader.head(700) if member.path == "b" else b""))
    assert seen == [("a", b""), ("b", b"b" * 700), ("c", b"")]


def test_a_window_reads_only_what_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    data = tar(entry("a", os.urandom(100_000)), entry("b", b"b"))
    file.write_bytes(b"before" + data + b"after")
    with file.open("rb", buffering=0) as opened:
        window = Window(opened.fileno(), 6, len(data))
        assert [member.path for member in TarReader(window, LIMITS, "it")] == ["a", "b"]
        assert b"".join(Window(opened.fileno(), 6, len(data)).chunks()) == data
        with pytest.raises(ImageRefused) as caught:
            list(Window(opened.fileno(), 6, len(data) + 100).chunks())
    assert caught.value.details["reason"] == "truncated"


NAMES = st.text(st.characters(blacklist_categories=["C", "Z"], blacklist_characters="/"), min_size=1, max_size=40)
PATHS = st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=6).map("/".join)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(PATHS, st.binary(max_size=1500)), max_size=8),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(1, 2000),
)
def test_what_python_writes_is_read_as_python_reads_it(files: list[tuple[str, bytes]], form: int, size: int) -> None:
    data = tar(*(entry(path, content) for path, content in files), form=form)
    assert [(member.path, content) for member, content in read(data, size)] == files


SOUND = tar(folder("a/"), entry("a/" + "long/" * 30 + "b", b"x" * 600), link("c", "a"), link("d", "c", hard=True))
HEADERS = [at for at in range(0, len(SOUND) - 1024, 512) if SOUND[at + 257 : at + 262] == b"ustar"]


def check_against_python(data: bytes) -> None:
    """What is not refused is what Python's reader sees, too."""
    try:
        ours = [(member.path, member.kind.value, member.size, member.target) for member, _ in read(data)]
    except ImageRefused:
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        theirs = [
            (info.name.removeprefix("./").strip("/"), info.type.replace(b"\0", b"0"), info.size, info.linkname)
            for info in archive
        ]
    linked = {Kind.SYMLINK.value, Kind.HARD_LINK.value}
    assert ours == [(name, kind, size, target if kind in linked else "") for name, kind, size, target in theirs]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_refused_or_makes_no_difference(data: st.DataObject) -> None:
    damaged = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    check_against_python(bytes(damaged))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADERS), st.integers(0, 511), st.binary(min_size=1, max_size=4))
def test_headers_that_were_changed_on_purpose_are_read_as_others_read_them(at: int, place: int, new: bytes) -> None:
    changed = bytearray(SOUND)
    changed[at + place : at + place + len(new)] = new
    header = changed[at : at + 512]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\x00 " % sum(header)
    changed[at : at + 512] = header
    check_against_python(bytes(changed))
