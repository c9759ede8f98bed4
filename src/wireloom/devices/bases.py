"""Devices that extend others: what a file says, put over what the device says that it extends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from wireloom.devices.merge import merged
from wireloom.devices.sources import SourceText, document
from wireloom.model.diagnostic import Diagnostic
from wireloom.yamlfile import Document, Node, Scalar, did_you_mean
from wireloom.yamlfile import Mapping as Tree

__all__ = ["Bases"]

#: What belongs to one device alone.
_OWN: Final = frozenset({"aliases", "hidden", "extends"})


class Bases:
    """Completes the files of one folder.

    :param known: trees of devices that were read before; a device of the folder itself comes first.
    """

    def __init__(self, sources: Iterable[SourceText], known: Mapping[str, Node | None]) -> None:
        self._known = known
        self._documents: dict[str, Document] = {}
        for source in sources:
            found = document(source)
            self._documents.setdefault(_word(found.root, "name"), found)

    def complete(self, source: SourceText) -> Document:
        """The tree of ``source`` put over those that it extends; what is wrong is among its diagnostics."""
        return self._complete(document(source), ())

    def _complete(self, found: Document, trail: tuple[str, ...]) -> Document:
        name = _word(found.root, "extends")
        if not name or not isinstance(found.root, Tree):
            return found
        trail = (*trail, _word(found.root, "name"))
        base = self._root(name, trail)
        if not isinstance(base, Tree):
            if name in trail:
                return _wrong(found, f"devices extend each other: {' → '.join((*trail, name))}", "extend another one")
            known = [*self._documents, *self._known]
            return _wrong(found, f"there is no device {name!r} to extend", did_you_mean(name, known))
        kept = replace(base, entries={key: entry for key, entry in base.entries.items() if key not in _OWN})
        return replace(found, root=merged(kept, found.root))

    def _root(self, name: str, trail: tuple[str, ...]) -> Node | None:
        here = self._documents.get(name)
        # A device that replaces the one that it extends means the older one.
        if here is not None and name not in trail:
            return self._complete(here, trail).root
        return self._known.get(name)


def _word(root: Node | None, key: str) -> str:
    entry = root.entries.get(key) if isinstance(root, Tree) else None
    return entry.value.text if entry is not None and isinstance(entry.value, Scalar) else ""


def _wrong(found: Document, message: str, suggestion: str) -> Document:
    place = found.root.entries["extends"].value.start if isinstance(found.root, Tree) else None
    finding = Diagnostic(
        file=found.file,
        line=place.line if place else 1,
        column=place.column if place else 1,
        path="extends",
        message=message,
        suggestion=suggestion,
    )
    return replace(found, diagnostics=(*found.diagnostics, finding))
