"""Tar files of vendors around one image."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from archive_rig import BASE, docker_archive, entry, folder, link, oci_archive, tar

from wireloom.library.bundles import take_out
from wireloom.library.values import ImageRefused, Limits

#: As the bundle of a containerized router has them.
BESIDE = (
    entry("README-router-7.8.1", b"read"),
    entry("ROUTER.crt", b"certificate"),
    entry("verify_release.py3", b"#!/usr/bin/python3"),
    entry("router.dockerv1.tgz-7.8.1.signature", b"signature"),
)


def taken(folder: Path, data: bytes, limits: Limits = Limits()) -> Path | None:  # noqa: B008 - a constant
    source = folder / "bundle"
    source.write_bytes(data)
    (folder / "work").mkdir()
    return take_out(source, folder / "work", limits)


@pytest.mark.parametrize("prefix", ["", "./", "router-7.8.1/", "./router-7.8.1/images/"])
def test_the_image_is_taken_out_from_between_what_comes_with_it(tmp_path: Path, prefix: str) -> None:
    found = taken(tmp_path, tar(*BESIDE[:2], entry(f"{prefix}router.dockerv1.tgz-7.8.1", b"image"), *BESIDE[2:]))
    assert found == tmp_path / "work" / "router.dockerv1.tgz-7.8.1"
    assert found.read_bytes() == b"image"


def test_of_several_images_none_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match=r"2 files.*vcp\.qcow2, vfp\.img") as caught:
        taken(tmp_path, tar(entry("vcp.qcow2", b"1"), entry("vfp.img", b"2"), *BESIDE))
    assert caught.value.details["reason"] == "format"
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        docker_archive([BASE]),
        oci_archive([BASE]),
        BASE,
        tar(*BESIDE),
        tar(),
        tar(entry("image", b"1"))[:512],
    ],
    ids=["docker", "oci", "tree", "nothing that matters", "empty", "cut"],
)
def test_other_tar_files_are_no_bundles(tmp_path: Path, data: bytes) -> None:
    assert taken(tmp_path, data) is None
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    "member",
    [
        entry("../image", b"1"),
        entry("/etc/image", b"1"),
        entry("a/../../image", b"1"),
        entry("im\nage", b"1"),
        link("image", "/etc/shadow"),
        link("image", "/etc/shadow", hard=True),
        entry("image", kind=tarfile.CHRTYPE),
    ],
    ids=["up", "absolute", "up within", "line break", "link", "hard link", "device"],
)
def test_nothing_that_is_hostile_is_taken_out(tmp_path: Path, member: Any) -> None:
    assert taken(tmp_path, tar(folder("a"), entry("readme.txt", b"1"), member)) is None
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["bundle", "work"]


def test_what_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused) as caught:
        taken(tmp_path, tar(entry("image", b"x" * 2000)), Limits(size=1000))
    assert caught.value.details["reason"] == "size"
