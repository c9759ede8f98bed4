"""The canonical archive: equal images make equal files, and nothing is left of one that failed."""

from __future__ import annotations

import errno
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from archive_rig import BASE, digest, entry, hexadecimal, members, tar

from wireloom.errors import CapacityExceeded, InvalidInput
from wireloom.library import archives
from wireloom.library.archives.writer import ArchiveWriter, _header

CONFIG: dict[str, Any] = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/bin/sh"]}}


def layer_files(folder: Path, *layers: bytes) -> list[Path]:
    files = []
    for number, layer in enumerate(layers):
        files.append(folder / f"layer{number}")
        files[-1].write_bytes(layer)
    return files


def test_the_same_is_the_same_file_whenever_it_is_written(tmp_path: Path) -> None:
    files = layer_files(tmp_path, BASE, tar(entry("x", b"x")))
    turned = dict(reversed(CONFIG.items()))
    one = archives.write_archive(tmp_path / "one", config=CONFIG, layers=files)
    two = archives.write_archive(tmp_path / "two", config=turned, layers=files)
    assert one == two
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert "rootfs" not in CONFIG


def test_it_is_what_docker_load_reads(tmp_path: Path) -> None:
    upper = tar(entry("x", b"x" * 1000))
    target = tmp_path / "archive"
    content = archives.write_archive(
        target, config=CONFIG, layers=layer_files(tmp_path, BASE, upper), tags=["vendor/router:1"]
    )
    files = members(target)
    (image,) = json.loads(files["manifest.json"])
    assert image["RepoTags"] == ["vendor/router:1"]
    assert [files[layer] for layer in image["Layers"]] == [BASE, upper]
    assert digest(files[image["Config"]]) == content
    assert json.loads(files[image["Config"]])["rootfs"]["diff_ids"] == [digest(BASE), digest(upper)]
    assert archives.read_config(target).content == content


def test_a_layer_that_comes_twice_is_there_once(tmp_path: Path) -> None:
    target = tmp_path / "archive"
    upper = tar(entry("x", b"x"))
    archives.write_archive(target, config=CONFIG, layers=layer_files(tmp_path, BASE, upper, BASE, upper))
    with tarfile.open(target) as archive:
        names = archive.getnames()
    assert names[1:3] == [f"{hexadecimal(BASE)}/layer.tar", f"{hexadecimal(upper)}/layer.tar"]
    assert len(names) == 4


def test_numbers_beyond_octal_are_read_by_others(tmp_path: Path) -> None:
    for size in (8**11 - 1, 8**11, 1 << 45):
        info = tarfile.TarInfo.frombuf(_header("x", size), "utf-8", "strict")
        assert (info.name, info.size, info.mode) == ("x", size, 0o644)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = layer_files(tmp_path, BASE)

    def full(self: ArchiveWriter, chunk: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ArchiveWriter, "write", full)
    with pytest.raises(CapacityExceeded):
        archives.write_archive(tmp_path / "archive", config=CONFIG, layers=files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer0"]


def write(target: Path, *, promised: int, layers: int, finish: bool) -> None:
    with ArchiveWriter(target, layers=promised) as writer:
        for _ in range(layers):
            writer.begin_layer()
            writer.write(BASE)
            writer.end_layer()
        if finish:
            writer.finish(b"{}")


def test_what_is_not_finished_is_not_there(tmp_path: Path) -> None:
    target = tmp_path / "archive"
    with pytest.raises(InvalidInput):
        write(target, promised=1, layers=1, finish=False)
    with pytest.raises(InvalidInput):
        write(target, promised=2, layers=1, finish=True)
    with pytest.raises(InvalidInput):
        archives.write_archive(target, config=CONFIG, layers=[])
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "archive"
    target.write_bytes(b"older")
    with pytest.raises(FileNotFoundError):
        archives.write_archive(target, config=CONFIG, layers=[tmp_path / "absent"])
    assert target.read_bytes() == b"older"
    archives.write_archive(target, config=CONFIG, layers=layer_files(tmp_path, BASE))
    assert next(iter(members(target))) == "manifest.json"
