"""Disks of machines inside of containers' images, and layers taken out to be built upon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from archive_rig import (
    BASE,
    QCOW2,
    QCOW2_BACKED,
    accept,
    config,
    digest,
    docker_archive,
    docker_files,
    entry,
    folder,
    gzipped,
    hexadecimal,
    link,
    packed,
    tar,
)

from wireloom.library import archives
from wireloom.library.archives import InnerDisk
from wireloom.library.values import ImageRefused, Limits, no_progress

LIMITS = Limits()


def archive_of(tmp_path: Path, *layers: list[Any]) -> Path:
    """A stored archive of these layers, each a list of members."""
    return accept(tmp_path, docker_archive([BASE, *(tar(*layer) for layer in layers)])).file


def paths(archive: Path) -> list[str]:
    return [disk.path for disk in archives.disks_inside(archive)]


def test_disks_are_found_by_what_they_are(tmp_path: Path) -> None:
    archive = archive_of(
        tmp_path,
        [
            entry("one.qcow2", QCOW2),
            entry("named-otherwise.img", QCOW2 + b"larger"),
            entry("text.qcow2", b"this is no disk"),
            entry("deep/er/box.vmdk", b"KDMV" + bytes(600)),
            entry("overlay.qcow2", QCOW2_BACKED),
        ],
    )
    found = archives.disks_inside(archive)
    assert [(disk.path, disk.form, disk.backed) for disk in found] == [
        ("/named-otherwise.img", "qcow2", False),
        ("/one.qcow2", "qcow2", False),
        ("/deep/er/box.vmdk", "vmdk", False),
        ("/overlay.qcow2", "qcow2", True),
    ]


def test_a_disk_comes_out_as_it_went_in(tmp_path: Path) -> None:
    content = QCOW2 + bytes(range(256)) * 9000
    archive = archive_of(tmp_path, [entry("first", b"x" * 777), entry("disk.qcow2", content)])
    (disk,) = archives.disks_inside(archive)
    told: list[tuple[int, int]] = []
    target = archives.extract_disk(archive, disk, tmp_path / "out.qcow2", LIMITS, lambda *pair: told.append(pair))
    assert target.read_bytes() == content
    assert told[-1] == (len(content), len(content))


@pytest.mark.parametrize(
    ("second", "left"),
    [
        ([entry("other", b"x")], ["/vm/disk.qcow2"]),
        ([entry("vm/.wh.disk.qcow2")], []),
        ([entry(".wh.vm")], []),
        ([entry("vm/.wh..wh..opq")], []),
        ([entry(".wh..wh..opq")], []),
        ([entry("vm", b"a file now")], []),
        ([link("vm", "elsewhere")], []),
        ([folder("vm/disk.qcow2/")], []),
        ([entry("vm/disk.qcow2", b"emptied")], []),
        ([entry("vm/.wh.disk")], ["/vm/disk.qcow2"]),
        ([entry("vm/.wh..wh..opq"), entry("vm/disk.qcow2", QCOW2)], ["/vm/disk.qcow2"]),
        ([entry("vm/disk.qcow2", QCOW2), entry("vm/.wh..wh..opq")], ["/vm/disk.qcow2"]),
        ([folder("vm/")], ["/vm/disk.qcow2"]),
    ],
)
def test_later_layers_and_whiteouts_win(tmp_path: Path, second: list[Any], left: list[str]) -> None:
    assert paths(archive_of(tmp_path, [folder("vm/"), entry("vm/disk.qcow2", QCOW2)], second)) == left


def test_the_later_of_two_disks_is_taken_out(tmp_path: Path) -> None:
    later = QCOW2 + b"later"
    archive = archive_of(tmp_path, [entry("disk.qcow2", QCOW2)], [entry("disk.qcow2", later)])
    (disk,) = archives.disks_inside(archive)
    assert disk.layer == 2
    assert archives.extract_disk(archive, disk, tmp_path / "out", LIMITS, no_progress).read_bytes() == later


def test_a_hard_link_to_a_disk_is_a_disk(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, [entry("a.qcow2", QCOW2), link("b.qcow2", "./a.qcow2", hard=True)])
    assert paths(archive) == ["/a.qcow2", "/b.qcow2"]
    outs = [
        archives.extract_disk(archive, d, tmp_path / d.path[1:], LIMITS, no_progress)
        for d in archives.disks_inside(archive)
    ]
    assert [out.read_bytes() for out in outs] == [QCOW2, QCOW2]


def test_a_disk_that_is_too_large_stays_inside(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, [entry("disk.qcow2", QCOW2)])
    (disk,) = archives.disks_inside(archive)
    with pytest.raises(ImageRefused) as caught:
        archives.extract_disk(archive, disk, tmp_path / "out", Limits(size=100), no_progress)
    assert caught.value.details["reason"] == "size"
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_another_by_now_leaves_no_half_disk(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, [entry("disk.qcow2", QCOW2)])
    wrong = InnerDisk("/disk.qcow2", "qcow2", size=1 << 30, offset=512, layer=0)
    with pytest.raises(ImageRefused) as caught:
        archives.extract_disk(archive, wrong, tmp_path / "out", LIMITS, no_progress)
    assert caught.value.details["reason"] == "truncated"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["came", "made"]


def test_layers_come_out_in_their_order_and_once(tmp_path: Path) -> None:
    empty, upper = tar(), tar(entry("x", b"x"))
    layers = [BASE, empty, upper, empty]
    names = [f"{hexadecimal(layer)}/layer.tar" for layer in layers]
    data = packed(docker_files([BASE, empty, upper], config(layers), Layers=names))
    archive = accept(tmp_path, data).file
    out = tmp_path / "layers"
    out.mkdir()
    files = archives.extract_layers(archive, out, LIMITS, no_progress)
    assert [file.read_bytes() for file in files] == layers
    assert len(list(out.iterdir())) == 3


def test_a_configuration_is_read_from_the_archive(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, [entry("x", b"x")])
    read = archives.read_config(archive)
    assert read.content == digest(config([BASE, tar(entry("x", b"x"))]))
    assert (read.command, read.env, read.labels) == (("/bin/sh",), ("PATH=/bin",), {"vendor": "example"})


def test_archives_that_are_not_the_librarys_are_refused(tmp_path: Path) -> None:
    files = docker_files([BASE])
    files[f"{hexadecimal(BASE)}/layer.tar"] = gzipped(BASE)
    foreign = tmp_path / "foreign.tar"
    foreign.write_bytes(packed(files))
    with pytest.raises(ImageRefused):
        archives.disks_inside(foreign)
    foreign.write_bytes(b"no archive")
    with pytest.raises(ImageRefused):
        archives.read_config(foreign)
