"""The texts that a catalogue is made of, gathered from folders; everything after this is pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, Literal

from wireloom.yamlfile import Document, read_yaml

__all__ = [
    "CLI_FOLDER",
    "HIDDEN_FILE",
    "OVERRIDE_FOLDER",
    "Kind",
    "SourceText",
    "Sources",
    "builtin_sources",
    "document",
    "only",
    "read_sources",
]

PROVIDERS_FILE: Final = "providers.yaml"
HIDDEN_FILE: Final = "hidden.yaml"
CLI_FOLDER: Final = "cli"
OVERRIDE_FOLDER: Final = "overrides"

#: A value at the top of a file, as our own files write it.
_NAME: Final = re.compile(r"(?m)^name: *['\"]?([\w.-]+)")
_EXTENDS: Final = re.compile(r"(?m)^(?:extends|.*\bimages-of): *['\"]?([\w.-]+)")
_CLI: Final = re.compile(r"(?m)^cli: *['\"]?([\w.-]+)")
_ALIASES: Final = re.compile(r"(?m)^aliases: *\[([^\]]*)\]")

#: What a file of the user is.
Kind = Literal["device", "override", "cli"]


@dataclass(frozen=True)
class SourceText:
    """One file. ``problem``: why it could not be read; its text is empty then."""

    file: str
    text: str = ""
    problem: str = ""
    builtin: bool = False

    @property
    def stem(self) -> str:
        """The file's name without folder and ending."""
        return self.file.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]

    @property
    def shown(self) -> str:
        """For people: where it stands, which for what is built in is nowhere they would look."""
        return f"built-in {self.stem}.yaml" if self.builtin else self.file


def document(source: SourceText) -> Document:
    """The tree of ``source``. Those of built-in files are remembered: reading them takes most of the time."""
    return _remembered(source) if source.builtin else read_yaml(source.text, file=source.file)


@lru_cache(maxsize=1024)
def _remembered(source: SourceText) -> Document:
    return read_yaml(source.text, file=source.file)


@dataclass(frozen=True)
class Sources:
    """The files of one folder by what they are."""

    device: tuple[SourceText, ...] = ()
    override: tuple[SourceText, ...] = ()
    cli: tuple[SourceText, ...] = ()
    providers: SourceText | None = None
    hidden: SourceText | None = None

    def of(self, kind: Kind) -> tuple[SourceText, ...]:
        if kind == "device":
            return self.device
        return self.override if kind == "override" else self.cli

    def replacing(self, kind: Kind, file: str, text: str | None) -> Sources:
        """These with ``text`` as content of ``file``; ``None``: without that file."""
        kept = tuple(item for item in self.of(kind) if item.file != file)
        added = () if text is None else (SourceText(file, text),)
        changed = (*kept, *added)
        if kind == "device":
            return replace(self, device=changed)
        return replace(self, override=changed) if kind == "override" else replace(self, cli=changed)


def only(sources: Sources, words: Iterable[str]) -> Sources:
    """The part of ``sources`` that devices called ``words`` need: their files, what these build upon, command lines.

    Found by looking at the texts, which is much quicker than reading them all as YAML.
    """
    devices = _closure(sources.device, {word.casefold() for word in words})
    lines = {match[1] for source in devices for match in _CLI.finditer(source.text)}
    return replace(sources, device=devices, cli=_closure(sources.cli, lines))


def _closure(sources: Iterable[SourceText], wanted: set[str]) -> tuple[SourceText, ...]:
    """Those that one of the words ``wanted`` means, and those that they extend or share images with."""
    by_word = {word: source for source in sources for word in _words(source.text)}
    found: dict[str, SourceText] = {}
    waiting = [by_word[word] for word in sorted(wanted) if word in by_word]
    while waiting:
        source = waiting.pop()
        if source.file not in found:
            found[source.file] = source
            waiting += [by_word[match[1]] for match in _EXTENDS.finditer(source.text) if match[1] in by_word]
    return tuple(sorted(found.values(), key=lambda source: source.file))


def _words(text: str) -> Iterable[str]:
    yield from _NAME.findall(text)
    for written in _ALIASES.findall(text):
        yield from (word.strip(" '\"\n").casefold() for word in written.split(","))


@cache
def builtin_sources() -> Sources:
    """What comes with the program; it does not change while that runs."""
    return read_sources(files(__name__.rpartition(".")[0]), builtin=True)


def read_sources(folder: Traversable, *, builtin: bool = False) -> Sources:
    """The files of ``folder``; none where there is no such folder."""
    special = {PROVIDERS_FILE, HIDDEN_FILE}
    found = {source.name: _read(source, builtin) for source in _yaml_files(folder)}
    return Sources(
        device=tuple(text for name, text in found.items() if name not in special),
        override=tuple(_read(source, builtin) for source in _yaml_files(folder.joinpath(OVERRIDE_FOLDER))),
        cli=tuple(_read(source, builtin) for source in _yaml_files(folder.joinpath(CLI_FOLDER))),
        providers=found.get(PROVIDERS_FILE),
        hidden=found.get(HIDDEN_FILE),
    )


def _yaml_files(folder: Traversable) -> Iterable[Traversable]:
    """Its ``*.yaml`` and ``*.yml`` files by name."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((item for item in found if item.name.endswith((".yaml", ".yml"))), key=lambda item: item.name)


def _read(source: Traversable, builtin: bool) -> SourceText:
    try:
        return SourceText(str(source), source.read_text(encoding="utf-8"), builtin=builtin)
    except UnicodeDecodeError as error:
        return SourceText(str(source), problem=f"it is not UTF-8 text: {error.reason}", builtin=builtin)
    except OSError as error:
        return SourceText(str(source), problem=f"it cannot be read: {error.strerror}", builtin=builtin)
