"""Small JSON files that processes leave for each other: written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["read_record", "write_record"]


def read_record(path: Path) -> dict[str, Any] | None:
    """The document in ``path``; ``None`` when there is none or it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def write_record(path: Path, document: Mapping[str, Any], *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``document`` in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
