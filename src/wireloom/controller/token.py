"""The API token: made at the first start, readable by its owner alone."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from wireloom.errors import NotPermitted

__all__ = ["ensure_token"]


def ensure_token(file: Path) -> str:
    """The token in ``file``, made if there is none. Several processes may race; all get the same.

    :raises NotPermitted: others can read the file, so the token is no secret.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        _write_once(file, secrets.token_urlsafe(32))
    if file.stat().st_mode & 0o077:
        raise NotPermitted(
            f"{file} can be read by others", hint=f"delete it (a new token is made) or `chmod 600 {file}`"
        )
    return file.read_text(encoding="utf-8").strip()


def _write_once(file: Path, token: str) -> None:
    """Never a moment in which the file is there without its content or its mode."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(token + "\n")
        with suppress(FileExistsError):  # another process was first, and its token counts
            os.link(draft, file)
    finally:
        draft.unlink()
