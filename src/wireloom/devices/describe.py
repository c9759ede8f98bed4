"""A device and a node in words: every value with where it comes from, every purpose with its chain of channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, get_args

from wireloom.devices.catalogue import DeviceCatalogue
from wireloom.devices.reader import Entry
from wireloom.model.device import (
    Day0,
    Device,
    Hardware,
    OwnChannel,
    ProviderRule,
    ProviderSupport,
    Range,
    Step,
)
from wireloom.model.device_views import DeviceDetails, DeviceView, ValueView
from wireloom.model.provenance import Origin
from wireloom.model.topology import NodeSpec
from wireloom.yamlfile import Path

__all__ = ["device_details", "device_view", "node_values", "purposes"]

#: Parts of a device file that are shown as a whole, by their place in it.
_TEXTS: Final = ("cli", "default-config", "stop-grace", "link-down", "hidden")
#: Needs of devices that do not run emulated.
_ACCELERATED: Final = frozenset({"kvm", "nested"})
#: How probes stand together, by the rule of readiness.
_BETWEEN: Final = {"first": " → ", "all": " and ", "any": " or "}


def device_view(catalogue: DeviceCatalogue, device: Device) -> DeviceView:
    """One row of a list."""
    entry = catalogue.entry(device.name)
    hardware = device.hardware_on(device.default_provider)
    return DeviceView(
        name=device.name,
        title=device.title,
        vendor=device.vendor,
        family=device.family,
        icon=device.icon,
        aliases=device.aliases,
        hidden=device.hidden,
        origin="built-in" if entry.builtin else "own",
        overridden=bool(entry.override),
        providers=tuple(device.providers),
        default_provider=device.default_provider,
        images={name: support.image for name, support in device.providers.items() if support.image},
        cpu=hardware.cpu.default,
        memory_mb=hardware.memory_mb.default,
        disk_gb=hardware.disk_gb.default,
        ports=device.ports.limit,
    )


def device_details(catalogue: DeviceCatalogue, name: str) -> DeviceDetails:
    """:raises NotFound: no such device."""
    device = catalogue.get(name)
    entry = catalogue.entry(device.name)
    own = entry.device.providers
    return DeviceDetails(
        device=device_view(catalogue, device),
        file=entry.file,
        override=entry.override,
        values=tuple(_values(entry)),
        purposes={provider: purposes(entry.device.on(provider), catalogue.rule(provider)) for provider in own},
        needs={provider: support.needs for provider, support in own.items() if support.needs},
        ports=device.ports.displays(),
        cli=device.cli.name if device.cli else "",
        machines=tuple(member.name for member in device.members),
        sources=device.sources,
        notes=device.notes,
    )


def node_values(spec: NodeSpec) -> tuple[ValueView, ...]:
    """The values of a node that more than one layer may say; settings that were turned off are there as ``None``."""
    known: dict[str, Any] = {
        "provider": spec.provider,
        "image": spec.image,
        "cpu": spec.cpu,
        "memory": spec.memory_mb,
        "disk": spec.disk_gb,
        "spare-ports": spec.spare_ports,
    }
    known |= {f"settings.{key}": value for key, value in spec.settings.items()}
    order = [*known, *(key for key in spec.origins if key not in known)]
    return tuple(
        ValueView(path=key, value=known.get(key), origin=spec.origins[key]) for key in order if key in spec.origins
    )


def purposes(support: ProviderSupport, rule: ProviderRule) -> dict[str, str]:
    """What a device can do for us on a provider, over which chain of the ways that the provider has.

    A purpose without any is left out.
    """
    found = {
        "console": " → ".join(
            f"exec `{' '.join(way.command)}`" if way.kind == "exec" else f"serial line {way.line}"
            for way in support.console or ()
            if _has(rule, way.kind)
        ),
        "ready": _readiness(support, rule),
        "startup configuration": " → ".join(
            f"{way.method} `{way.path}`" if way.path else way.method for way in _day0(support, rule)
        ),
        "commands": _channels(support.run, rule),
        "extraction": " → ".join(
            f"{step.channel} `{step.run}`"
            for step in (support.extract.steps if support.extract else ())
            if _has(rule, step.channel)
        ),
        "loading": _channels(support.load, rule),
        "after boot": "; ".join(f"`{command}`" for command in support.post_boot or ()),
    }
    return {purpose: how for purpose, how in found.items() if how}


def _has(rule: ProviderRule, way: str) -> bool:
    """Whether the provider has it: a channel or a probe that is not the provider's own is everybody's."""
    return way not in get_args(OwnChannel) or way in rule.channels


def _channels(steps: Iterable[Step] | None, rule: ProviderRule) -> str:
    return " → ".join(step.channel for step in steps or () if _has(rule, step.channel))


def _day0(support: ProviderSupport, rule: ProviderRule) -> Iterator[Day0]:
    for way in support.day0 or ():
        if way.method in rule.day0 or (way.method == "serial" and _channels(support.load, rule)):
            yield way


def _readiness(support: ProviderSupport, rule: ProviderRule) -> str:
    ready = support.ready
    kinds = [probe.kind for probe in ready.probes if _has(rule, probe.kind)] if ready is not None else []
    if ready is None or not kinds:
        return ""
    emulated = rule.emulates and not _ACCELERATED.intersection(support.needs)
    slow = f" ({ready.timeout_s * ready.slow_factor:g} s where it is emulated)" if emulated else ""
    return f"{_BETWEEN[ready.rule].join(kinds)}, within {ready.timeout_s:g} s{slow}"


def _values(entry: Entry) -> Iterator[ValueView]:
    device = entry.device
    yield _value(entry, ("default-provider",), device.default_provider)
    ports = device.ports.model_dump()
    for key, value in ports.items():
        yield _value(entry, ("ports", key.replace("_", "-")), value)
    for key, value in device.access.model_dump().items():
        yield _value(entry, ("access", key.replace("_", "-")), value)
    for name, support in device.providers.items():
        place: Path = ("providers", name)
        yield _value(entry, (*place, "image"), support.image)
        own = support.hardware is not None
        yield from _hardware(entry, (*place, "hardware") if own else ("hardware",), device.hardware_on(name), name)
        yield from (_value(entry, (*place, "env", key), value) for key, value in support.env.items())
        yield from (_value(entry, (*place, "settings", key), value) for key, value in support.settings.items())
        yield from _turned_off(entry, (*place, "settings"), support.settings)
    texts = {
        "cli": device.cli.name if device.cli else None,
        "default-config": device.default_config,
        "stop-grace": device.stop_grace_s,
        "link-down": device.link_down,
        "hidden": device.hidden,
    }
    yield from (_value(entry, (key,), texts[key]) for key in _TEXTS)


def _turned_off(entry: Entry, place: Path, settings: Mapping[str, Any]) -> Iterable[ValueView]:
    """Settings that the override writes and that are not there: it says that they are off."""
    for path in sorted(entry.overridden, key=str):
        if path[: len(place)] == place and len(path) == len(place) + 1 and path[-1] not in settings:
            origin = Origin(layer="override", where=entry.override, off=True)
            yield ValueView(path=".".join(map(str, path)), origin=origin)


def _hardware(entry: Entry, place: Path, hardware: Hardware, provider: str) -> Iterator[ValueView]:
    shown = f"providers.{provider}.hardware"
    ranges = {"cpu": hardware.cpu, "memory": hardware.memory_mb, "disk": hardware.disk_gb}
    for key, value in ranges.items():
        for bound in Range.model_fields:
            origin = entry.origin((*place, key, bound))
            yield ValueView(path=f"{shown}.{key}.{bound}", value=getattr(value, bound), origin=origin)
    for key in ("spare_ports", "min_ports", "reserved_ports"):
        word = key.replace("_", "-")
        yield ValueView(path=f"{shown}.{word}", value=getattr(hardware, key), origin=entry.origin((*place, word)))


def _value(entry: Entry, path: Path, value: Any) -> ValueView:
    return ValueView(path=".".join(map(str, path)), value=value, origin=entry.origin(path))
