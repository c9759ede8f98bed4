"""Read device files and look devices up by name or alias."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from wireloom.devices.schema import DeviceFile, ProvidersFile
from wireloom.errors import InvalidInput, NotFound
from wireloom.model.device import Console, Device, Probe, ProviderRule, ProviderSupport, Readiness, Step
from wireloom.model.diagnostic import Diagnostic, format_diagnostics
from wireloom.yamlfile import bind, did_you_mean, read_yaml

__all__ = ["DeviceCatalogue"]

PROVIDERS_FILE = "providers.yaml"


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

    def read_rules(self, source: Traversable) -> list[ProviderRule]:
        bound = bind(ProvidersFile, read_yaml(_text(source), file=str(source)), what="the list of providers")
        self._diagnostics += bound.sorted_diagnostics()
        if bound.value is None:
            return []
        return [rule.value(name) for name, rule in bound.value.providers.items()]

    def read_folder(self, folder: Traversable) -> dict[str, Device]:
        """Devices of the folder's ``*.yaml`` and ``*.yml`` files, by name."""
        self._owners = {}
        devices: dict[str, Device] = {}
        for source in sorted(folder.iterdir(), key=lambda item: item.name):
            if source.name.endswith((".yaml", ".yml")) and source.name != PROVIDERS_FILE:
                device = self._read_device(source)
                if device is not None:
                    devices[device.name] = device
        return devices

    def _read_device(self, source: Traversable) -> Device | None:
        bound = bind(DeviceFile, read_yaml(_text(source), file=str(source)), what="a device")
        device = None
        if bound.value is not None:
            device = bound.value.value()
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


def _text(source: Traversable) -> str:
    try:
        return source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{source} is not UTF-8 text: {error.reason}") from error
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}") from error
