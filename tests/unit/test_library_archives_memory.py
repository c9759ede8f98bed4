"""Archives that are small and would be large in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from archive_rig import BASE, QCOW2, accept, docker_archive, entry, link, tar

from wireloom.library import archives
from wireloom.library.values import Limits

MIB = 1 << 20
DEEP = "a/" * 2000
LONG = "/".join("b" * 200 for _ in range(10))


@pytest.mark.parametrize(
    "members",
    [
        [entry(f"{number}/{DEEP}disk.qcow2", QCOW2) for number in range(40)],
        [entry("disk.qcow2", QCOW2), *(link(f"{number}/{LONG}", "disk.qcow2", hard=True) for number in range(6000))],
    ],
    ids=["disks deep down", "long links to a disk"],
)
def test_disks_inside_do_not_take_memory_by_their_paths(tmp_path: Path, members: list[object]) -> None:
    data = docker_archive([BASE, tar(*members), tar(entry("last", b"1"))])
    (tmp_path / "made").mkdir()
    source = tmp_path / "router.tar"
    source.write_bytes(data)
    del data, members
    tracemalloc.start()
    try:
        archives.accept(source, "router.tar", tmp_path / "made", Limits())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


def test_a_link_to_a_disk_is_a_disk_too(tmp_path: Path) -> None:
    data = docker_archive([BASE, tar(entry("disk.qcow2", QCOW2), link("other.qcow2", "disk.qcow2", hard=True))])
    accepted = accept(tmp_path, data)
    assert [disk.path for disk in archives.disks_inside(accepted.file)] == ["/disk.qcow2", "/other.qcow2"]
