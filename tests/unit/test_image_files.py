"""Files that providers make, and digests of files that are not read twice."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from wireloom.errors import CapacityExceeded, RuntimeFailed
from wireloom.providers.libvirt import digests
from wireloom.providers.libvirt.digests import KnownDigests
from wireloom.providers.newfile import check_room, file_digest, new_file


async def test_a_new_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "made"
    async with new_file(target) as part:
        part.write_bytes(b"content")
        assert not target.exists()
    assert target.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "full"), CapacityExceeded),
        (OSError(errno.EROFS, "read-only"), RuntimeFailed),
        (ValueError("x"), ValueError),
    ],
)
async def test_a_new_file_that_fails_leaves_nothing(tmp_path: Path, error: Exception, told: type[Exception]) -> None:
    async def fail() -> None:
        async with new_file(tmp_path / "made") as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(told):
        await fail()
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(CapacityExceeded) as caught:
        check_room(tmp_path, 1 << 60)
    assert caught.value.details["needed"] == 1 << 60


async def test_a_digest_is_that_of_the_content(tmp_path: Path) -> None:
    file = tmp_path / "image.qcow2"
    for content in (b"", b"x", bytes(3 << 20) + b"tail"):
        file.write_bytes(content)
        assert await file_digest(file) == f"sha256:{hashlib.sha256(content).hexdigest()}"


async def test_a_file_is_read_once_also_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    async def counted(path: Path) -> str:
        read.append(path)
        return await file_digest(path)

    monkeypatch.setattr(digests, "file_digest", counted)
    file = tmp_path / "image.qcow2"
    file.write_bytes(b"one")
    first = await KnownDigests(tmp_path).of(file)
    assert await KnownDigests(tmp_path).of(file) == first
    assert len(read) == 1
    assert await KnownDigests(tmp_path).of(file, again=True) == first
    assert len(read) == 2
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert await KnownDigests(tmp_path).of(file) != first


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}', '{"x": [[1], "y"]}'])
async def test_notes_that_cannot_be_read_are_made_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / ".digests.json").write_text(text)
    file = tmp_path / "image.qcow2"
    file.write_bytes(b"one")
    assert await KnownDigests(tmp_path).of(file) == f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    assert {path.name for path in tmp_path.iterdir()} == {".digests.json", "image.qcow2"}
