"""A MIME multipart message as cloud-init and its relatives read it, with a boundary that depends on its parts only."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wireloom.errors import InvalidInput

__all__ = ["Part", "build_multipart"]

_CONTENT_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]+")
_NAME: Final = re.compile(r"[^\"\\\x00-\x1f\x7f]{1,128}")


@dataclass(frozen=True)
class Part:
    """``content_type`` like ``text/cloud-config``; ``name`` is the part's file name."""

    name: str
    content_type: str
    text: str


def build_multipart(parts: Sequence[Part]) -> str:
    """The message, its parts in the order given.

    :raises InvalidInput: no part, or one whose name or type cannot stand in a header.
    """
    if not parts:
        raise InvalidInput("a MIME message without parts")
    for part in parts:
        if not _CONTENT_TYPE.fullmatch(part.content_type) or not _NAME.fullmatch(part.name):
            raise InvalidInput(f"a MIME part cannot be {part.name!r} of type {part.content_type!r}")
    boundary = _boundary(parts)
    lines = [f'Content-Type: multipart/mixed; boundary="{boundary}"', "MIME-Version: 1.0", ""]
    for part in parts:
        lines += [f"--{boundary}", *_headers(part), "", part.text]
    return "\n".join([*lines, f"--{boundary}--", ""])


def _headers(part: Part) -> list[str]:
    plain = part.text.isascii()
    return [
        f'Content-Type: {part.content_type}; charset="{"us-ascii" if plain else "utf-8"}"',
        "MIME-Version: 1.0",
        f"Content-Transfer-Encoding: {'7bit' if plain else '8bit'}",
        f'Content-Disposition: attachment; filename="{part.name}"',
    ]


def _boundary(parts: Sequence[Part]) -> str:
    """A hash of the parts, so no part can hold it except on purpose; then another one is taken."""
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    while any(digest in part.text for part in parts):
        digest = hashlib.sha256(digest.encode()).hexdigest()[:32]
    return f"=={digest}=="
