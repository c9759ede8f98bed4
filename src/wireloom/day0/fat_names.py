"""Names on a FAT file system: what it can hold, and the short name that goes with each long one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final

from wireloom.day0.fat_tree import File, Folder
from wireloom.errors import InvalidInput

__all__ = ["check_label", "tree_of"]

_LABEL_LIMIT: Final = 11
_NAME_LIMIT: Final = 255
_NOT_IN_NAMES: Final = re.compile(r'["*/:<>?\\|\x00-\x1f\x7f]')
_NOT_IN_LABELS: Final = re.compile(r'["*+,./:;<=>?\[\\\]|\x00-\x1f\x7f]')
_SHORT: Final = re.compile(r"[A-Z0-9!#$%&'()@^_`{}~-]{1,8}(?:\.[A-Z0-9!#$%&'()@^_`{}~-]{1,3})?")
_NOT_IN_SHORT: Final = re.compile(r"[^A-Z0-9!#$%&'()@^_`{}~-]")


def check_label(label: str) -> None:
    """:raises InvalidInput: FAT cannot hold it."""
    if not 0 < len(label) <= _LABEL_LIMIT or not label.isascii() or _NOT_IN_LABELS.search(label) or label[0] == " ":
        raise InvalidInput(
            f"{label!r} cannot label a FAT disk",
            hint=f"1 to {_LABEL_LIMIT} ASCII letters, digits, spaces or any of -_!#$%&'()@^`{{}}~",
        )


def tree_of(files: Mapping[str, bytes]) -> Folder:
    """The folders and files of ``files``, path to content, ordered and with short names.

    :raises InvalidInput: a path that FAT cannot hold, or two that it cannot tell apart.
    """
    root = Folder()
    for path, content in sorted(files.items()):
        *folders, name = _checked(path)
        folder = root
        for part in folders:
            below = folder.items.setdefault(part, Folder(parent=folder))
            if isinstance(below, File):
                raise InvalidInput(f"{path!r} is below a file on the FAT disk")
            folder = below
        if name in folder.items:
            raise InvalidInput(f"{path!r} is both a file and a folder on the FAT disk")
        folder.items[name] = File(content)
    _name(root)
    return root


def _checked(path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path.lstrip("/")).parts
    if not parts or ".." in parts or not all(map(_is_name, parts)):
        raise InvalidInput(f"{path!r} cannot be a file on a FAT disk")
    return parts


def _is_name(name: str) -> bool:
    # Names are UCS-2: a character outside the basic plane would be two to most readers.
    if len(name) > _NAME_LIMIT or any("\ud800" <= char <= "\udfff" or char > "\uffff" for char in name):
        return False
    return not _NOT_IN_NAMES.search(name) and name[-1] not in ". " and name[0] != " "


def _name(folder: Folder) -> None:
    """Give every item below ``folder`` its short name."""
    seen: dict[str, str] = {}
    for name in folder.items:
        first = seen.setdefault(name.upper(), name)
        if first != name:
            raise InvalidInput(f"a FAT disk cannot tell {first!r} and {name!r} apart")
    taken = set(seen)
    for name, item in folder.items.items():
        short = name.upper() if _SHORT.fullmatch(name.upper()) else _alias(name, taken)
        taken.add(short)
        stem, _, suffix = short.partition(".")
        item.short = f"{stem:8}{suffix:3}".encode("ascii")
        item.long = "" if short == name else name
        if isinstance(item, Folder):
            _name(item)


def _alias(name: str, taken: Iterable[str]) -> str:
    """A short name like ``DAY0-C~1.CFG`` that nothing else in the folder is called."""
    stem, _, suffix = name.upper().lstrip(".").rpartition(".")
    if not stem:
        stem, suffix = suffix, ""
    stem, suffix = (_NOT_IN_SHORT.sub("_", part.replace(" ", "").replace(".", "")) for part in (stem, suffix))
    ending = f".{suffix[:3]}" if suffix else ""
    used = frozenset(taken)
    for number in range(1, 1_000_000):
        tail = f"~{number}"
        candidate = f"{stem[: 8 - len(tail)]}{tail}{ending}"
        if candidate not in used:
            return candidate
    raise InvalidInput(f"too many files on the FAT disk are named like {name!r}")
