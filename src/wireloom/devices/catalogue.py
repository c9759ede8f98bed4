"""The devices that labs may use, looked up by name or alias."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources.abc import Traversable

from wireloom.devices.reader import Entry, Reading, read_catalogue
from wireloom.devices.sources import Sources, builtin_sources, read_sources
from wireloom.errors import InvalidInput, NotFound
from wireloom.model.device import Console, Device, Probe, ProviderRule, ProviderSupport, Readiness, Step
from wireloom.model.diagnostic import Diagnostic, format_diagnostics
from wireloom.model.dialogue import Cli
from wireloom.yamlfile import did_you_mean

__all__ = ["DeviceCatalogue", "refuse_problems"]


class DeviceCatalogue:
    """The devices that labs may use. Immutable once loaded; names and aliases are looked up in any case.

    :ivar problems: mistakes in files that were left out.
    :ivar clis: command lines by name.
    """

    def __init__(
        self,
        devices: Iterable[Device | Entry],
        rules: Iterable[ProviderRule] = (),
        *,
        clis: Mapping[str, Cli] | None = None,
        problems: Iterable[Diagnostic] = (),
    ) -> None:
        self.rules: Mapping[str, ProviderRule] = {rule.name: rule for rule in rules}
        self.clis: Mapping[str, Cli] = dict(clis or {})
        self.problems = tuple(problems)
        self._entries: dict[str, Entry] = {}
        self._devices: dict[str, Device] = {}
        self._by_word: dict[str, Device] = {}
        for item in devices:
            entry = item if isinstance(item, Entry) else Entry(item, "", builtin=True)
            device = self._completed(entry.device)
            self._entries[device.name] = entry
            self._devices[device.name] = device
            self._by_word |= dict.fromkeys((word.casefold() for word in (*device.aliases, device.name)), device)

    @classmethod
    def load(cls, extra_folders: Iterable[Traversable] = (), *, strict: bool = True) -> DeviceCatalogue:
        """The built-in devices, and those in ``extra_folders``, which may replace, override and hide them.

        :param strict: refuse when a file has mistakes; else it is left out and named in :attr:`problems`.
        :raises InvalidInput: a file has mistakes; ``details["diagnostics"]`` lists all of them, in all files.
        """
        own = [sources for folder in extra_folders if (sources := read_sources(folder)) != Sources()]
        catalogue = cls.of(builtin_sources(), own) if own else _builtin()
        if strict:
            refuse_problems(catalogue.problems)
        return catalogue

    @classmethod
    def of(cls, builtin: Sources, own: Iterable[Sources] = ()) -> DeviceCatalogue:
        """Of texts; pure."""
        reading: Reading = read_catalogue(builtin, own)
        return cls(reading.entries.values(), reading.rules, clis=reading.clis, problems=reading.problems)

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def __len__(self) -> int:
        return len(self._devices)

    def find(self, name: str) -> Device | None:
        """The device called ``name`` (or with that alias), or ``None``."""
        return self._by_word.get(name.casefold())

    def get(self, name: str) -> Device:
        """:raises NotFound: no such device; the hint names the nearest one."""
        device = self.find(name)
        if device is None:
            raise NotFound(f"there is no device {name!r}", hint=self.suggest(name))
        return device

    def entry(self, name: str) -> Entry:
        """The device with where it comes from, without providers that stand in. :raises NotFound:"""
        return self._entries[self.get(name).name]

    def rule(self, provider: str) -> ProviderRule:
        """What is known of a provider; of one that nothing is known of, that it can do everything."""
        return self.rules.get(provider) or ProviderRule(name=provider)

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


def refuse_problems(problems: Iterable[Diagnostic]) -> None:
    """:raises InvalidInput: there are any; ``details["diagnostics"]`` lists them."""
    found = tuple(problems)
    if found:
        count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise InvalidInput(
            f"device files have {count}:\n{format_diagnostics(found)}",
            details={"diagnostics": [item.model_dump(mode="json") for item in found]},
        )


@cache
def _builtin() -> DeviceCatalogue:
    """What is shipped, read once: it cannot change, and it takes a quarter of a second."""
    return DeviceCatalogue.of(builtin_sources())
