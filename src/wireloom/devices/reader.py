"""From texts to devices. Every mistake is gathered, and what is wrong with one file leaves the others as they are."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Table
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from wireloom.devices.bases import Bases
from wireloom.devices.checks import check_device, check_images_of
from wireloom.devices.cli_schema import CliFile
from wireloom.devices.merge import merged, written_paths
from wireloom.devices.schema import DeviceFile, ProvidersFile
from wireloom.devices.sources import Sources, SourceText, document
from wireloom.model.device import Device, ProviderRule
from wireloom.model.diagnostic import Diagnostic
from wireloom.model.dialogue import Cli
from wireloom.model.provenance import Origin
from wireloom.yamlfile import Bound, Document, FileModel, Mapping, Path, Scalar, bind, did_you_mean, read_yaml

__all__ = ["Entry", "Reading", "override_name", "read_catalogue"]

_ModelT = TypeVar("_ModelT", bound=FileModel)


@dataclass(frozen=True)
class Entry:
    """A device with where it comes from.

    :ivar file: of the device, and ``override``: of what was put over it (empty: nothing); both as people know them.
    :ivar written: paths of the values that the files say; everything else is a default of the schema.
    :ivar overridden: those of ``written`` that the override says.
    """

    device: Device
    file: str
    builtin: bool
    override: str = ""
    written: frozenset[Path] = frozenset()
    overridden: frozenset[Path] = frozenset()

    def origin(self, path: Path) -> Origin:
        """Where the value at ``path`` of the device's file comes from."""
        if _says(self.overridden, path):
            return Origin(layer="override", where=self.override)
        return Origin(layer="device", where=self.file) if _says(self.written, path) else Origin(layer="default")


def _says(written: Iterable[Path], path: Path) -> bool:
    """Whether one of the paths is the value itself, a part of it, or a short form above it."""
    return any(known[: len(path)] == path or path[: len(known)] == known for known in written)


@dataclass
class Reading:
    """What was found: devices by name, rules of providers, command lines, the user's choice of what is hidden."""

    entries: dict[str, Entry] = field(default_factory=dict)
    rules: tuple[ProviderRule, ...] = ()
    clis: dict[str, Cli] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)


class HiddenFile(FileModel):
    """``hidden.yaml``: the user's choice, device by device."""

    hidden: dict[str, bool] = {}


def read_catalogue(builtin: Sources, own: Iterable[Sources] = ()) -> Reading:
    """All devices; files of the user may replace built-in ones by name, override and hide them."""
    folders = (builtin, *own)
    reader = _Reader(Reading())
    if builtin.providers is not None:
        reader.read_rules(builtin.providers)
    for folder in folders:
        reader.read_clis(folder.cli)
    drafts: dict[str, _Draft] = {}
    for folder in folders:
        drafts |= reader.read_devices(folder.device, drafts)
    for folder in folders:
        for source in folder.override:
            reader.override(drafts, source)
    reader.take_in(drafts.values())
    for folder in folders:
        if folder.hidden is not None:
            reader.hide(folder.hidden)
    return reader.reading


@dataclass(frozen=True)
class _Draft:
    """A device whose names were not yet compared with those of others."""

    source: SourceText
    bound: Bound[DeviceFile]
    entry: Entry


def _own_rules(device: Device) -> Device:
    """``device``, by rules of its user's own."""
    return device.model_copy(update={"recognise": device.recognise.model_copy(update={"own": True})})


def override_name(root: Mapping, stem: str) -> str:
    """Which device an override is for: its ``name``, else the name of its file."""
    written = root.get("name")
    return written.text if isinstance(written, Scalar) and written.text else stem


class _Reader:
    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._clis: dict[str, CliFile] = {}
        self._rules: dict[str, ProviderRule] = {}

    def read_rules(self, source: SourceText) -> None:
        bound = self._bind(ProvidersFile, source, "the list of providers")
        self._report(bound)
        if bound.value is not None:
            self._rules = {name: rule.value(name) for name, rule in bound.value.providers.items()}
            self.reading.rules = tuple(self._rules.values())

    # ---------------------------------------------------------------- command lines

    def read_clis(self, sources: Iterable[SourceText]) -> None:
        """One may extend another of this folder, or of one that was read before: then also that of its own name."""
        waiting: dict[str, Bound[CliFile]] = {}
        for source in sources:
            bound = self._bind(CliFile, source, "a command line")
            if bound.value is None:
                self._report(bound)
            elif bound.value.name in waiting:
                bound.report(("name",), f"the name {bound.value.name!r} is taken", "choose another")
                self._report(bound)
            else:
                waiting[bound.value.name] = bound
        for name in list(waiting):
            self._complete_cli(name, waiting)

    def _complete_cli(self, name: str, waiting: dict[str, Bound[CliFile]]) -> None:
        bound = waiting.pop(name, None)
        if bound is None or bound.value is None:
            return
        file = bound.value
        if file.extends:
            self._complete_cli(file.extends, waiting)
            base = self._clis.get(file.extends)
            if base is None:
                suggestion = did_you_mean(file.extends, self._clis)
                bound.report(("extends",), f"there is no command line {file.extends!r} to extend", suggestion)
            else:
                try:
                    file = file.on(base)
                except ValueError as error:
                    bound.report(("extends",), str(error))
        if not bound.diagnostics:
            self._clis[name] = file
            self.reading.clis[name] = file.value()
        self._report(bound)

    # ---------------------------------------------------------------- devices

    def read_devices(
        self, sources: Iterable[SourceText], known: Table[str, _Draft] = MappingProxyType({})
    ) -> dict[str, _Draft]:
        """Devices of one folder by name; a name given twice in it is a mistake of the second file.

        :param known: devices of folders that were read before, which those of this one may extend as well.
        """
        drafts: dict[str, _Draft] = {}
        bases = Bases(sources, {name: draft.bound.root for name, draft in known.items()})
        for source in sources:
            bound = self._bind(DeviceFile, source, "a device", bases.complete(source))
            draft = self._draft(source, bound)
            if draft is None:
                self._report(bound)
            elif draft.entry.device.name in drafts:
                other = drafts[draft.entry.device.name].source.file
                bound.report(("name",), f"the name {draft.entry.device.name!r} is taken by {other}", "choose another")
                self._report(bound)
            else:
                drafts[draft.entry.device.name] = draft
        return drafts

    def _draft(self, source: SourceText, bound: Bound[DeviceFile]) -> _Draft | None:
        device = self._device(bound)
        if device is None or not isinstance(bound.root, Mapping):
            return None
        if not source.builtin and "recognise" in bound.root.entries:
            device = _own_rules(device)
        entry = Entry(device, source.shown, source.builtin, written=frozenset(written_paths(bound.root)))
        return _Draft(source, bound, entry)

    def _device(self, bound: Bound[DeviceFile]) -> Device | None:
        if bound.value is None:
            return None
        device = bound.value.value(self._cli(bound, bound.value.cli))
        check_device(bound, device, self._rules)
        return None if bound.diagnostics else device

    def _cli(self, bound: Bound[DeviceFile], name: str | None) -> Cli | None:
        if name is not None and name not in self.reading.clis:
            bound.report(("cli",), f"there is no command line {name!r}", did_you_mean(name, self.reading.clis))
        return self.reading.clis.get(name or "")

    def override(self, drafts: dict[str, _Draft], source: SourceText) -> None:
        """Put a partial file over the device of that name; with mistakes, the device stays as it was."""
        partial = document(source)
        bound: Bound[DeviceFile] = Bound(partial, partial.root, None, list(partial.diagnostics))
        if source.problem:
            bound.report((), source.problem)
        elif not isinstance(partial.root, Mapping):
            bound.report((), "an override is a mapping of keys to values", "write only what differs from the device")
        if bound.diagnostics or not isinstance(partial.root, Mapping):
            self._report(bound)
            return
        name = override_name(partial.root, source.stem)
        base = drafts.get(name)
        if base is None or not isinstance(base.bound.root, Mapping):
            bound.report((), f"there is no device {name!r} to override", did_you_mean(name, drafts))
            self._report(bound)
            return
        whole = bind(DeviceFile, replace(partial, root=merged(base.bound.root, partial.root)), what="a device")
        device = self._device(whole)
        if device is None:
            self._report(whole)
            return
        if "recognise" in partial.root.entries and not source.builtin:
            device = _own_rules(device)
        paths = frozenset(path for path in written_paths(partial.root) if path != ("name",))
        entry = replace(
            base.entry,
            device=device,
            override=source.shown,
            written=base.entry.written | paths,
            overridden=base.entry.overridden | paths,
        )
        drafts[name] = _Draft(base.source, whole, entry)

    def take_in(self, drafts: Iterable[_Draft]) -> None:
        """Take each device unless one of its words means another device already; built-in ones come first."""
        owners: dict[str, _Draft] = {}
        in_order = sorted(drafts, key=lambda draft: not draft.source.builtin)
        devices = {draft.entry.device.name: draft.entry.device for draft in in_order}
        for draft in in_order:
            device = draft.entry.device
            check_images_of(draft.bound, device, devices)
            words = dict.fromkeys(word.casefold() for word in (device.name, *device.aliases))
            taken = [(word, owners[word]) for word in words if word in owners]
            for word, owner in taken:
                message = f"the name {word!r} is taken by {owner.source.file}"
                draft.bound.report(("name",), message, "choose another")
            if not taken and not draft.bound.flagged("recognise", "images-of"):
                owners |= dict.fromkeys(words, draft)
                self.reading.entries[device.name] = draft.entry
            self._report(draft.bound)

    def hide(self, source: SourceText) -> None:
        bound = self._bind(HiddenFile, source, "the list of hidden devices")
        self._report(bound)
        for name, hidden in (bound.value.hidden if bound.value else {}).items():
            entry = self.reading.entries.get(name)
            if entry is not None:
                changed = entry.device.model_copy(update={"hidden": hidden})
                self.reading.entries[name] = replace(entry, device=changed)

    def _bind(
        self, model: type[_ModelT], source: SourceText, what: str, whole: Document | None = None
    ) -> Bound[_ModelT]:
        """:param whole: its tree, where that is not just what the file says."""
        if not source.problem:
            return bind(model, whole or document(source), what=what)
        bound = Bound[_ModelT](read_yaml("", file=source.file), None, None)
        bound.report((), source.problem)
        return bound

    def _report(self, bound: Bound[_ModelT]) -> None:
        self.reading.problems += bound.sorted_diagnostics()
