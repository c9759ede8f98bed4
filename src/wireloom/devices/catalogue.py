"""Read device files and look devices up by name or alias."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from wireloom.devices.cli_schema import CliFile
from wireloom.devices.schema import DeviceFile, ProvidersFile
from wireloom.errors import InvalidInput, NotFound
from wireloom.model.device import Console, Device, Probe, ProviderRule, ProviderSupport, Readiness, Step
from wireloom.model.diagnostic import Diagnostic, format_diagnostics
from wireloom.model.dialogue import Cli
from wireloom.yamlfile import Bound, bind, did_you_mean, read_yaml

__all__ = ["DeviceCatalogue"]

PROVIDERS_FILE = "providers.yaml"
CLI_FOLDER = "cli"


class DeviceCatalogue:
    """The devices that labs may use. Immutable once loaded."""

    def __init__(self, devices: Iterable[Device], rules: Iterable[ProviderRule] = ()) -> None:
        self.rules: Mapping[str, ProviderRule] = {rule.name: rule for rule in rules}
        self._devices = {device.name: self._completed(device) for device in devices}
        self._by_word = {alias: device for device in self._devices.values() for alias in device.aliases}
        self._by_word |= self._devices

    @classmethod
    def load(cls, extra_folders: Iterable[Path] = ()) -> DeviceCatalogue:
        """The built-in devices, and those in ``extra_folders``, which may replace built-in ones by name.

        :raises InvalidInput: a file has mistakes; ``details["diagnostics"]`` lists all of them, in all files.
        """
        found = _Findings()
        builtin = files(__name__.rpartition(".")[0])
        rules = found.read_rules(builtin.joinpath(PROVIDERS_FILE))
        devices: dict[str, Device] = {}
        for folder in (builtin, *extra_folders):
            found.read_clis(folder.joinpath(CLI_FOLDER))
            devices |= found.read_folder(folder)
        found.raise_if_any()
        return cls(devices.values(), rules)

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def __len__(self) -> int:
        return len(self._devices)

    def find(self, name: str) -> Device | None:
        """The device called ``name`` (or with that alias), or ``None``."""
        return self._by_word.get(name)

    def get(self, name: str) -> Device:
        """:raises NotFound: no such device; the hint names the nearest one."""
        device = self.find(name)
        if device is None:
            raise NotFound(f"there is no device {name!r}", hint=self.suggest(name))
        return device

    def names(self) -> tuple[str, ...]:
        return tuple(self._devices)

    def suggest(self, name: str) -> str:
        """What the user may have meant by ``name``."""
        return did_you_mean(name, self._by_word)

    def _completed(self, device: Device) -> Device:
        """Add providers that can stand in for every device."""
        support = {
            rule.name: ProviderSupport(
                image=rule.every_device,
                console=(Console(kind="exec", command=("sh",)),),
                ready=Readiness(probes=(Probe(kind="running"),)),
                run=(Step(channel="exec"),),
            )
            for rule in self.rules.values()
            if rule.every_device and rule.name not in device.providers
        }
        return device.model_copy(update={"providers": {**device.providers, **support}}) if support else device


class _Findings:
    """Reads files and gathers every mistake before any is raised."""

    def __init__(self) -> None:
        self._diagnostics: list[Diagnostic] = []
        self._owners: dict[str, str] = {}
        self._clis: dict[str, CliFile] = {}

    def read_rules(self, source: Traversable) -> list[ProviderRule]:
        bound = bind(ProvidersFile, read_yaml(_text(source), file=str(source)), what="the list of providers")
        self._diagnostics += bound.sorted_diagnostics()
        if bound.value is None:
            return []
        return [rule.value(name) for name, rule in bound.value.providers.items()]

    def read_clis(self, folder: Traversable) -> None:
        """Command lines of the folder; one may extend another of this folder or of one that was read before."""
        waiting: dict[str, tuple[CliFile, Bound[CliFile]]] = {}
        for source in _yaml_files(folder):
            bound = bind(CliFile, read_yaml(_text(source), file=str(source)), what="a command line")
            if bound.value is not None:
                waiting[bound.value.name] = (bound.value, bound)
            else:
                self._diagnostics += bound.sorted_diagnostics()
        for name in list(waiting):
            self._complete_cli(name, waiting)

    def _complete_cli(self, name: str, waiting: dict[str, tuple[CliFile, Bound[CliFile]]]) -> None:
        if name not in waiting:
            return
        file, bound = waiting.pop(name)
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
        self._diagnostics += bound.sorted_diagnostics()

    def _cli(self, bound: Bound[DeviceFile], name: str | None) -> Cli | None:
        if name is None:
            return None
        if name not in self._clis:
            bound.report(("cli",), f"there is no command line {name!r}", did_you_mean(name, self._clis))
            return None
        return self._clis[name].value()

    def read_folder(self, folder: Traversable) -> dict[str, Device]:
        """Devices of the folder's ``*.yaml`` and ``*.yml`` files, by name."""
        self._owners = {}
        devices: dict[str, Device] = {}
        for source in _yaml_files(folder):
            if source.name != PROVIDERS_FILE:
                device = self._read_device(source)
                if device is not None:
                    devices[device.name] = device
        return devices

    def _read_device(self, source: Traversable) -> Device | None:
        bound = bind(DeviceFile, read_yaml(_text(source), file=str(source)), what="a device")
        device = None
        if bound.value is not None:
            device = bound.value.value(self._cli(bound, bound.value.cli))
            if device.default_provider not in device.providers:
                suggestion = did_you_mean(device.default_provider, device.providers)
                bound.report(
                    ("default-provider",), f"{device.default_provider!r} is not among the providers", suggestion
                )
            for word in (device.name, *device.aliases):
                owner = self._owners.setdefault(word, str(source))
                if owner != str(source):
                    bound.report(("name",), f"the name {word!r} is taken by {owner}", "choose another")
        self._diagnostics += bound.sorted_diagnostics()
        return device

    def raise_if_any(self) -> None:
        if self._diagnostics:
            raise InvalidInput(
                f"device files have {len(self._diagnostics)} mistakes:\n{format_diagnostics(self._diagnostics)}",
                details={"diagnostics": [item.model_dump(mode="json") for item in self._diagnostics]},
            )


def _yaml_files(folder: Traversable) -> list[Traversable]:
    """Its ``*.yaml`` and ``*.yml`` files by name; none where there is no such folder."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((item for item in found if item.name.endswith((".yaml", ".yml"))), key=lambda item: item.name)


def _text(source: Traversable) -> str:
    try:
        return source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{source} is not UTF-8 text: {error.reason}") from error
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}") from error
