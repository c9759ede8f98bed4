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
_OWN: Final = frozenset({"aliases", "hidden", "extends", "recognise"})


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
        here = self._documents.get(name)
        # A device that replaces the one that it extends means the older one.
        base = None if here is None or name in trail else self._complete(here, trail)
        root = self._known.get(name) if base is None else base.root
        if isinstance(root, Tree):
            kept = replace(root, entries={key: entry for key, entry in root.entries.items() if key not in _OWN})
            return replace(found, root=merged(kept, found.root))
        if base is not None:
            why = base.diagnostics[-1].message if base.diagnostics else "it is empty"
            return _wrong(found, f"{name!r} cannot be extended: {why}")
        if name in trail:
            return _wrong(found, f"devices extend each other: {' → '.join((*trail, name))}", "extend another one")
        known = [*self._documents, *self._known]
        return _wrong(found, f"there is no device {name!r} to extend", did_you_mean(name, known))


def _word(root: Node | None, key: str) -> str:
    entry = root.entries.get(key) if isinstance(root, Tree) else None
    return entry.value.text if entry is not None and isinstance(entry.value, Scalar) else ""


def _wrong(found: Document, message: str, suggestion: str = "") -> Document:
    """``found`` as a file that cannot be read, so that nothing else is said of what would come from its base."""
    place = found.root.entries["extends"].value.start if isinstance(found.root, Tree) else None
    finding = Diagnostic(
        file=found.file,
        line=place.line if place else 1,
        column=place.column if place else 1,
        path="extends",
        message=message,
        suggestion=suggestion,
    )
    return replace(found, root=None, diagnostics=(*found.diagnostics, finding))
