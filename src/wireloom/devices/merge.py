"""A partial device file put over a whole one.

Mappings are merged key by key, lists and values replace. ``null`` turns off: the key is as if it had never been
written, so its default holds; where nothing is itself a value (a device without management port), it is that value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from wireloom.yamlfile import Entry, Mapping, Node, Path, Scalar, Sequence
from wireloom.yamlfile.tree import Mark

__all__ = ["merged", "written_paths"]

#: Where ``null`` is a value of its own.
_NULL_IS_A_VALUE: Final = frozenset({("ports", "management")})
_START: Final = Mark(1, 1, 0)


def merged(base: Mapping, over: Mapping) -> Mapping:
    """``over`` put over ``base``. What comes from ``base`` has no place of its own in the file of ``over``."""
    return _merged(base, over, ())


def written_paths(node: Node, path: Path = ()) -> Iterator[Path]:
    """Paths of everything that is written in a file, leaves and lists as a whole; ``null`` counts as written."""
    if isinstance(node, Mapping) and node.entries:
        for name, entry in node.entries.items():
            yield from written_paths(entry.value, (*path, name))
    else:
        yield path


def _merged(base: Mapping, over: Mapping, path: Path) -> Mapping:
    entries = {name: replace(entry, value=_displaced(entry.value)) for name, entry in base.entries.items()}
    for name, entry in over.entries.items():
        below = (*path, name)
        theirs = base.entries.get(name)
        if _is_null(entry.value) and below not in _NULL_IS_A_VALUE:
            entries.pop(name, None)
        elif theirs is not None and isinstance(theirs.value, Mapping) and isinstance(entry.value, Mapping):
            entries[name] = Entry(entry.key, _merged(theirs.value, entry.value, below))
        else:
            entries[name] = Entry(entry.key, _without_nulls(entry.value, below))
    return replace(over, entries=entries)


def _without_nulls(node: Node, path: Path) -> Node:
    """A mapping that had nothing to be merged with: what is off in it is just not there."""
    if not isinstance(node, Mapping):
        return node
    kept = {
        name: replace(entry, value=_without_nulls(entry.value, (*path, name)))
        for name, entry in node.entries.items()
        if not _is_null(entry.value) or (*path, name) in _NULL_IS_A_VALUE
    }
    return replace(node, entries=kept)


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _displaced(node: Node) -> Node:
    """``node`` with all of its places moved to the file's beginning, so that a finding never names a wrong line."""
    moved: dict[str, Any] = {"start": _START, "end": _START}
    if isinstance(node, Mapping):
        entries = {name: replace(entry, value=_displaced(entry.value)) for name, entry in node.entries.items()}
        return replace(node, entries=entries, **moved)
    if isinstance(node, Sequence):
        return replace(node, items=tuple(_displaced(item) for item in node.items), **moved)
    return replace(node, **moved)
