"""kill -9 of a process in the midst of an import: the next one ends it, with the same bytes, and nothing is left."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("killed_library.py")


def begin(*arguments: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw disk with a partition table, packed: it is unpacked and converted on its way in."""
    table = bytes(446) + bytes([0x80, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]) + bytes(48) + b"\x55\xaa"
    content = table + hashlib.shake_128(b"disk").digest((6 << 20) - len(table))
    file = tmp_path_factory.mktemp("disk") / "router.img.gz"
    file.write_bytes(gzip.compress(content, 1))
    return file


@pytest.fixture(scope="module")
def undisturbed(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the image when nobody is killed."""
    return str(finished(begin(tmp_path_factory.mktemp("undisturbed"), disk))["digest"])


@pytest.mark.parametrize("stage", ["unpack", "convert", "store"])
def test_an_import_that_is_killed_is_ended_by_the_next_process(
    tmp_path: Path, disk: Path, undisturbed: str, stage: str
) -> None:
    process = begin(tmp_path, disk)
    assert process.stdout is not None
    assert any(line.strip() == stage for line in process.stdout)
    process.kill()
    process.wait()
    process.stdout.close()
    answer = finished(begin(tmp_path))
    assert answer["job"]["state"] == "done"
    assert answer["job"]["attempts"] == 2
    assert answer["digest"] == undisturbed
    assert answer["debris"] == []
    blobs = [path.name for path in (tmp_path / "blobs" / "sha256").rglob("*") if path.is_file()]
    assert blobs == [undisturbed.removeprefix("sha256:")]


def test_an_upload_that_is_killed_has_what_had_arrived(tmp_path: Path, disk: Path) -> None:
    process = begin(tmp_path, disk)
    assert process.stdout is not None
    assert any(line.strip() == "half" for line in process.stdout)
    process.kill()
    process.wait()
    process.stdout.close()
    arrived = next((tmp_path / "uploads").iterdir()).read_bytes()
    assert len(arrived) >= disk.stat().st_size // 2
    assert disk.read_bytes().startswith(arrived)
