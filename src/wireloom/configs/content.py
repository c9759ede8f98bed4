"""What two configurations are compared by."""

from __future__ import annotations

import difflib
import hashlib
from typing import Final

__all__ = ["digest", "unified_diff"]

_CONTEXT_LINES: Final = 3


def digest(text: str) -> str:
    """The content id of a configuration: hexadecimal SHA-256 of its UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()


def unified_diff(before: str, after: str, *, before_name: str, after_name: str) -> str:
    """How ``after`` differs, in the form that ``patch`` reads; empty when it does not.

    Both are normalised configurations, so each of their lines has an end.
    """
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True),
            after.splitlines(keepends=True),
            fromfile=before_name,
            tofile=after_name,
            n=_CONTEXT_LINES,
        )
    )
