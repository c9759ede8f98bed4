"""The user's own devices: files in a folder, changed only when the catalogue is sound afterwards.

Writing is checked against the whole catalogue before anything is stored: a file that would not be read, that takes
a name away from another, or by which another file breaks, is refused with its mistakes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wireloom.devices.catalogue import DeviceCatalogue, refuse_problems
from wireloom.devices.reader import override_name
from wireloom.devices.sources import (
    CLI_FOLDER,
    HIDDEN_FILE,
    OVERRIDE_FOLDER,
    Kind,
    Sources,
    SourceText,
    builtin_sources,
    only,
    read_sources,
)
from wireloom.errors import Conflict, InvalidInput, NotFound
from wireloom.model.diagnostic import Diagnostic
from wireloom.yamlfile import Mapping, read_yaml

__all__ = ["Change", "DeviceFolder"]

_FOLDERS: Final[dict[Kind, str]] = {"device": "", "override": OVERRIDE_FOLDER, "cli": CLI_FOLDER}
_WORDS: Final[dict[Kind, str]] = {"device": "device", "override": "override of a device", "cli": "command line"}


@dataclass(frozen=True)
class Change:
    """One file that comes (or goes, without ``text``), and the ``catalogue`` as it would be."""

    name: str
    path: Path
    text: str | None
    catalogue: DeviceCatalogue


class DeviceFolder:
    """Own devices in ``folder`` (made when something is first stored). Blocking; one caller at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def catalogue(self) -> DeviceCatalogue:
        """Built-in and own devices as they are now; files with mistakes are left out and named in its problems."""
        return DeviceCatalogue.of(builtin_sources(), [read_sources(self._folder)])

    def catalogue_for(self, words: Iterable[str]) -> DeviceCatalogue:
        """One that knows at least the devices called ``words``, as far as there are any; quicker to have.

        All of them when there are own files, which may build upon anything, or when a word is not known, so that
        what was meant can be said.
        """
        wanted = set(words)
        own = read_sources(self._folder)
        if own == Sources():
            some = DeviceCatalogue.of(only(builtin_sources(), wanted))
            if all(some.find(word) is not None for word in wanted):
                return some
        return DeviceCatalogue.of(builtin_sources(), [own])

    def check(self, text: str, *, kind: Kind, source: str) -> str:
        """The name of what ``text`` describes, when it could be added. :raises InvalidInput: see :meth:`addition`."""
        return self.addition(text, kind=kind, source=source).name

    def add(self, text: str, *, kind: Kind, source: str) -> str:
        """Store a file, in place of an own one of that name, and return the name. :raises InvalidInput:"""
        change = self.addition(text, kind=kind, source=source)
        self.apply(change)
        return change.name

    def remove(self, name: str, *, kind: Kind) -> None:
        """Remove an own file. :raises NotFound: :raises Conflict: see :meth:`removal`."""
        self.apply(self.removal(name, kind=kind))

    def addition(self, text: str, *, kind: Kind, source: str) -> Change:
        """What adding ``text`` would do; nothing is stored.

        :param source: name of the file, for diagnostics.
        :raises InvalidInput: it, or another file through it, has mistakes: ``details["diagnostics"]`` lists them.
        """
        own = read_sources(self._folder)
        name = _name_in(text, kind, source)
        present = self._file_of(own, name, kind)
        others = own if present is None else own.replacing(kind, present, None)
        after, broken = _effect(others, others.replacing(kind, source, text))
        refuse_problems(broken)
        target = self._folder / _FOLDERS[kind] / f"{name}.yaml"
        return Change(name, target if present is None else Path(present), text, after)

    def removal(self, name: str, *, kind: Kind) -> Change:
        """What removing an own file would do. :raises NotFound: there is none. :raises Conflict: others need it."""
        own = read_sources(self._folder)
        file = self._file_of(own, name, kind)
        if file is None:
            hint = "built-in devices can be hidden: `wireloom devices hide`" if kind == "device" else ""
            raise NotFound(f"there is no {_WORDS[kind]} {name!r} of your own", hint=hint)
        after, broken = _effect(own, own.replacing(kind, file, None))
        if broken:
            raise Conflict(f"{broken[0].file} needs it: {broken[0].message}", hint="change or remove that file first")
        return Change(name, Path(file), None, after)

    def apply(self, change: Change) -> None:
        """Store what ``change`` says; it was computed from the folder as it is now."""
        if change.text is None:
            change.path.unlink(missing_ok=True)
        else:
            _write(change.path, change.text)

    def set_hidden(self, name: str, hidden: bool) -> None:
        """Hide a device from lists, or show it. :raises NotFound: no such device."""
        catalogue = self.catalogue()
        name = catalogue.get(name).name
        choices = {**_choices(read_sources(self._folder).hidden), name: hidden}
        lines = (f"  {key}: {'true' if value else 'false'}\n" for key, value in sorted(choices.items()))
        _write(self._folder / HIDDEN_FILE, "hidden:\n" + "".join(lines))

    def _file_of(self, own: Sources, name: str, kind: Kind) -> str | None:
        """The own file that describes ``name``, whatever it is called."""
        return next((item.file for item in own.of(kind) if _known_name(item, kind) == name), None)


def _effect(before: Sources, after: Sources) -> tuple[DeviceCatalogue, list[Diagnostic]]:
    """The catalogue of ``after``, and its mistakes that that of ``before`` has not."""
    builtin = builtin_sources()
    known = set(map(str, DeviceCatalogue.of(builtin, [before]).problems))
    catalogue = DeviceCatalogue.of(builtin, [after])
    return catalogue, [item for item in catalogue.problems if str(item) not in known]


def _known_name(source: SourceText, kind: Kind) -> str:
    root = read_yaml(source.text, file=source.file).root
    return override_name(root, source.stem if kind == "override" else "") if isinstance(root, Mapping) else source.stem


def _name_in(text: str, kind: Kind, source: str) -> str:
    name = _known_name(SourceText(source, text), kind)
    if not name or Path(name).name != name or name.startswith("."):
        raise InvalidInput(f"{source} does not say what it describes", hint="begin with `name: my-device`")
    return name


def _choices(source: SourceText | None) -> dict[str, bool]:
    data = read_yaml(source.text, file=source.file).root if source is not None else None
    hidden = data.data().get("hidden") if isinstance(data, Mapping) else None
    entries: Iterable[tuple[str, object]] = hidden.items() if isinstance(hidden, dict) else ()
    return {name: value for name, value in entries if isinstance(value, bool)}


def _write(path: Path, text: str) -> None:
    """Whole or not at all; hidden from readers (which look for ``*.yaml``) until it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
