"""The size and settings of a node: device → image profile → ``defaults`` → node. Explicit wins, so does "off".

Pure. Every value carries the place that it comes from, and values with which the device does not work are said with
the number that it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from wireloom.devices.reader import Entry
from wireloom.model.base import Value
from wireloom.model.device import Device, Hardware, ImageProfile, ProviderSupport, Range
from wireloom.model.provenance import Layer, Origin

__all__ = ["Limit", "Profile", "Said", "image_profile", "limits", "resolve"]


class Profile(Value):
    """A node's size with every layer applied.

    :ivar cpu: cores; ``memory_mb``: MiB; ``disk_gb``: GiB, 0: as the image has it.
    :ivar settings: the provider's own, without what was turned off.
    :ivar origins: by ``cpu``, ``memory``, ``disk``, ``spare-ports`` and ``settings.<key>``; what was turned off
        is named too.
    :ivar image_pattern: pattern of the image profile that applies; empty: none.
    """

    cpu: float
    memory_mb: int
    disk_gb: float
    spare_ports: int
    settings: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    image_pattern: str = ""


@dataclass(frozen=True)
class Said:
    """What one layer of a topology says. A value that is ``None`` or absent says nothing; a setting that is
    ``None`` is off. ``where`` gives the place of a key (``cpu``, ``settings.tty``)."""

    layer: Layer
    sizes: Mapping[str, float | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    where: Callable[[str], str] = lambda _: ""


@dataclass(frozen=True)
class Limit:
    """A value outside of what the device works with."""

    key: Literal["cpu", "memory", "disk"]
    message: str
    suggestion: str


def image_profile(support: ProviderSupport, image: str) -> ImageProfile | None:
    """The first profile whose pattern fits the image's name in full, or the last part of it."""
    names = (image, image.rpartition("/")[2])
    return next((item for item in support.images if any(re.fullmatch(item.pattern, name) for name in names)), None)


def resolve(entry: Entry, device: Device, provider: str, image: str, said: Sequence[Said]) -> Profile:
    """The profile of a node of ``device`` with ``image``; ``said`` are the topology's layers, those that win last."""
    support, hardware = device.providers[provider], device.hardware_on(provider)
    profile = image_profile(support, image)
    layers = [_device_layer(hardware, support), *([] if profile is None else [_image_layer(profile)]), *said]
    sizes: dict[str, float] = {}
    settings: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for layer in layers:
        for key, value in layer.sizes.items():
            if value is not None:
                sizes[key] = value
                origins[key] = _origin(layer, key, entry, provider)
        for key, value in layer.settings.items():
            name = f"settings.{key}"
            if value is None and key not in settings:
                continue
            origins[name] = _origin(layer, name, entry, provider).model_copy(update={"off": value is None})
            settings[key] = value
    return Profile(
        cpu=sizes["cpu"],
        memory_mb=int(sizes["memory"]),
        disk_gb=sizes["disk"],
        spare_ports=int(sizes["spare-ports"]),
        settings={key: value for key, value in settings.items() if value is not None},
        origins=origins,
        image_pattern="" if profile is None else profile.pattern,
    )


def limits(device: Device, provider: str, image: str, profile: Profile) -> Iterator[Limit]:
    """Every value of ``profile`` with which ``device`` does not work, and what it needs."""
    hardware = device.hardware_on(provider)
    exception = image_profile(device.providers[provider], image)
    for key, wanted, needed, known in (
        ("cpu", profile.cpu, hardware.cpu, exception.cpu if exception else None),
        ("memory", profile.memory_mb, hardware.memory_mb, exception.memory_mb if exception else None),
        ("disk", profile.disk_gb, hardware.disk_gb, exception.disk_gb if exception else None),
    ):
        yield from _limit(key, wanted, _widened(needed, known), f"{device.name} on {provider}")


def _widened(needed: Range, known: float | None) -> Range:
    """An image that is said to work with less (or more) than its device does."""
    if known is None:
        return needed
    maximum = max(needed.maximum, known) if needed.maximum else 0
    return needed.model_copy(update={"minimum": min(needed.minimum, known), "maximum": maximum})


def _limit(key: Any, wanted: float, needed: Range, what: str) -> Iterator[Limit]:
    amount, little, much, number = _WORDS[key]
    if wanted < needed.minimum and not (key == "disk" and wanted == 0):
        message = f"{amount(wanted)} too {little} for {what}"
        yield Limit(key, message, f"give it at least {number(needed.minimum)}")
    elif needed.maximum and wanted > needed.maximum:
        yield Limit(key, f"{amount(wanted)} too {much} for {what}", f"give it at most {number(needed.maximum)}")


#: How amounts are said: with their unit and verb, "too …", "too …", and as one writes them in a topology.
_WORDS: Final[Mapping[str, tuple[Callable[[float], str], str, str, Callable[[float], str]]]] = {
    "cpu": (lambda n: "1 core is" if n == 1 else f"{n:g} cores are", "few", "many", lambda n: f"{n:g}"),
    "memory": (lambda n: f"{n:g} MiB of memory is", "little", "much", lambda n: f"{n:g}MB"),
    "disk": (lambda n: f"{n:g} GiB of disk is", "little", "much", lambda n: f"{n:g}"),
}


def _device_layer(hardware: Hardware, support: ProviderSupport) -> Said:
    sizes = {
        "cpu": hardware.cpu.default,
        "memory": hardware.memory_mb.default,
        "disk": hardware.disk_gb.default or hardware.disk_gb.minimum,
        "spare-ports": float(hardware.spare_ports),
    }
    return Said("device", sizes, support.settings)


def _image_layer(profile: ImageProfile) -> Said:
    sizes = {"cpu": profile.cpu, "memory": profile.memory_mb, "disk": profile.disk_gb}
    return Said("image", sizes, profile.settings)


def _origin(layer: Said, key: str, entry: Entry, provider: str) -> Origin:
    if layer.layer not in {"device", "image"}:
        return Origin(layer=layer.layer, where=layer.where(key))
    if layer.layer == "image":
        found = entry.origin(("providers", provider, "images"))
        return Origin(layer="image", where=found.where)
    if key.startswith("settings."):
        return entry.origin(("providers", provider, "settings", key.removeprefix("settings.")))
    support = entry.device.providers.get(provider)
    place = ("hardware",) if support is None or support.hardware is None else ("providers", provider, "hardware")
    return entry.origin((*place, key))
