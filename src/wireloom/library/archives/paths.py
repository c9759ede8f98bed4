"""Names inside of archives: what they may have in them, and whereto they lead."""

from __future__ import annotations

import re
from typing import Final

from wireloom.library.values import ImageRefused

__all__ = ["clean_path", "decode_name", "inside", "shown_name"]

#: Control characters, line ends of all kinds, and the marks that turn the direction of writing.
_UNSEEMLY: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_COMPONENT_MOST: Final = 255
_SHOWN: Final = 120


def shown_name(name: str | bytes) -> str:
    """``name`` for a message: short, and without characters that do something."""
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def decode_name(name: bytes, where: str) -> str:
    """:raises ImageRefused: it is not UTF-8."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise ImageRefused("name", f"{where}: the name {shown_name(name)} is not UTF-8") from None


def check_characters(name: str, most: int, where: str) -> None:
    """:raises ImageRefused: ``name`` is too long, or has control characters in it."""
    if _UNSEEMLY.search(name):
        raise ImageRefused("name", f"{where}: the name {shown_name(name)} has control characters in it")
    if len(name.encode(errors="surrogatepass")) > most:
        raise ImageRefused("name", f"{where}: the name {shown_name(name)} has more than {most} bytes")


def clean_path(name: str, most: int, where: str) -> str:
    """``name`` without ``./``, doubled and closing slashes; empty for the root itself.

    :raises ImageRefused: ``path`` where it is absolute or goes up, ``name`` for what no file should be called.
    """
    check_characters(name, most, where)
    if name.startswith("/"):
        raise ImageRefused("path", f"{where}: {shown_name(name)} is an absolute path")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise ImageRefused("path", f"{where}: {shown_name(name)} leads out by ..")
    for part in parts:
        if len(part) * 4 > _COMPONENT_MOST and len(part.encode(errors="surrogatepass")) > _COMPONENT_MOST:
            raise ImageRefused("name", f"{where}: a part of {shown_name(name)} has more than {_COMPONENT_MOST} bytes")
    return "/".join(parts)


def inside(folder: str, target: str) -> bool:
    """Whether a symbolic link in ``folder`` to ``target`` stays below the root.

    An absolute target does: it is looked up in the container's own root. A relative one must not go up beyond it,
    which the engine's extraction refuses too.
    """
    if target.startswith("/"):
        return True
    depth = folder.count("/") + 1 if folder else 0
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in {"", "."}:
            depth += 1
        if depth < 0:
            return False
    return True
