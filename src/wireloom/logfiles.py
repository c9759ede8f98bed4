"""Log files of a detached ``wireloom up``: one per program, rotated by size."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from wireloom.paths import Paths

__all__ = ["LIMIT_BYTES", "log_file", "rotate", "tail"]

LIMIT_BYTES: Final = 10 * 1024 * 1024
KEPT: Final = 3


def log_file(paths: Paths, program: str) -> Path:
    """Where ``program`` logs."""
    return paths.log_dir / f"{program}.log"


def rotate(file: Path, *, limit_bytes: int = LIMIT_BYTES, kept: int = KEPT) -> bool:
    """Start ``file`` anew when it has outgrown the limit, keeping ``kept`` earlier ones (``.1`` is the newest).

    The file is copied and truncated, not renamed: its writers hold it open for appending and need not be told.
    A line written between the two steps is lost.
    """
    if not file.exists() or file.stat().st_size <= limit_bytes:
        return False
    for number in range(kept - 1, 0, -1):
        older = file.with_name(f"{file.name}.{number}")
        if older.exists():
            older.replace(file.with_name(f"{file.name}.{number + 1}"))
    shutil.copy2(file, file.with_name(f"{file.name}.1"))
    with file.open("r+b") as stream:
        stream.truncate(0)
    return True


def tail(file: Path, lines: int = 20) -> str:
    """The last lines of ``file``; empty when there is none."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(file.stat().st_size - 64 * 1024, 0))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
