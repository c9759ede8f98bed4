"""What a device file must agree with beyond its own schema: providers, images, command lines, and itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from wireloom.devices.schema import DeviceFile
from wireloom.model.device import Device, Hardware, ProviderRule, ProviderSupport, Range, Step
from wireloom.yamlfile import Bound, Path, did_you_mean

__all__ = ["check_device", "check_images_of"]

#: Nothing that an image is called; a pattern that fits them all the same fits everything.
_NOBODY: Final = ("", "\x01zz\x01")


def check_device(bound: Bound[DeviceFile], device: Device, rules: Mapping[str, ProviderRule]) -> None:
    """Report everything by which ``device`` could not work as its file says."""
    _check_providers(bound, device, rules)
    for path, hardware in _hardware(device):
        _check_hardware(bound, path, hardware, device.ports.limit)
    _check_guest(bound, device)
    _check_recognition(bound, device)


def check_images_of(bound: Bound[DeviceFile], device: Device, devices: Mapping[str, Device]) -> None:
    """Report where the device whose images ``device`` boots is none that is recognised itself."""
    name = device.recognise.images_of
    other = devices.get(name)
    if not name:
        return
    if other is None:
        bound.report(("recognise", "images-of"), f"there is no device {name!r}", did_you_mean(name, devices))
    elif other.recognise.images_of:
        message = f"{name!r} boots the images of {other.recognise.images_of!r} itself"
        bound.report(("recognise", "images-of"), message, f"`images-of: {other.recognise.images_of}`")


def _check_recognition(bound: Bound[DeviceFile], device: Device) -> None:
    """A rule that fits everything would take all images for this device's."""
    for key in ("files", "tags", "paths", "volumes", "text", "hints"):
        patterns: tuple[str, ...] = getattr(device.recognise, key)
        found = re.search if key in {"text", "hints"} else re.fullmatch
        for position, pattern in enumerate(patterns):
            if all(found(pattern, nobody) for nobody in _NOBODY):
                message = f"{pattern!r} fits everything"
                bound.report(("recognise", key, position), message, "say what only this device's images have")


def _check_providers(bound: Bound[DeviceFile], device: Device, rules: Mapping[str, ProviderRule]) -> None:
    if device.default_provider not in device.providers:
        suggestion = did_you_mean(device.default_provider, device.providers)
        bound.report(("default-provider",), f"{device.default_provider!r} is not among the providers", suggestion)
    for name, support in device.providers.items():
        rule = rules.get(name)
        if rules and rule is None:
            bound.report(("providers", name), f"there is no provider {name!r}", did_you_mean(name, rules), at_key=True)
        elif rule is not None and support.image and re.fullmatch(rule.image_pattern or ".*", support.image) is None:
            message = f"image {support.image!r} is not one that {name} can run"
            bound.report(("providers", name, "image"), message, f"an image such as {rule.image_example}, or none")


def _hardware(device: Device) -> Iterator[tuple[Path, Hardware]]:
    yield ("hardware",), device.hardware
    for name, support in device.providers.items():
        if support.hardware is not None:
            yield ("providers", name, "hardware"), support.hardware


def _check_hardware(bound: Bound[DeviceFile], path: Path, hardware: Hardware, limit: int) -> None:
    for key, value in (("cpu", hardware.cpu), ("memory", hardware.memory_mb), ("disk", hardware.disk_gb)):
        if problem := _out_of_order(value):
            bound.report((*path, key), problem, "minimum ≤ default ≤ maximum")
    if hardware.min_ports > limit:
        bound.report((*path, "min-ports"), f"the device has only {limit} data ports", "raise `ports.limit`")


def _out_of_order(value: Range) -> str:
    if value.default and value.default < value.minimum:
        return f"the default {value.default:g} is below the minimum {value.minimum:g}"
    if value.maximum and value.default > value.maximum:
        return f"the default {value.default:g} is above the maximum {value.maximum:g}"
    return ""


def _check_guest(bound: Bound[DeviceFile], device: Device) -> None:
    """Steps that type on a console need to know what they will see there."""
    for path, step in _steps(device):
        if device.cli is None and (step.channel == "serial" or step.prompt):
            bound.report(path, "what is typed on a console needs a command line", "add `cli: …`", at_key=True)
        elif device.cli is not None and step.prompt and device.cli.prompt(step.prompt) is None:
            known = [prompt.name for prompt in device.cli.prompts]
            bound.report((*path, "prompt"), f"there is no prompt {step.prompt!r}", did_you_mean(step.prompt, known))
    for path, support in _guests(device):
        types = any(way.method == "serial" for way in support.day0 or ())
        if types and not (support.load or device.load):
            bound.report((*path, "day0"), "`serial` uses the `load` steps, and there are none", "add `load: …`")


def _guests(device: Device) -> Iterator[tuple[Path, ProviderSupport]]:
    everywhere = ProviderSupport(
        image="", day0=device.day0, run=device.run, extract=device.extract, load=device.load, ready=device.ready
    )
    yield (), everywhere
    for name, support in device.providers.items():
        yield ("providers", name), support


def _steps(device: Device) -> Iterator[tuple[Path, Step]]:
    for path, support in _guests(device):
        chains = {"run": support.run, "load": support.load}
        for key, chain in chains.items():
            for position, step in enumerate(chain or ()):
                yield (*path, key, position), step
        for position, step in enumerate(support.extract.steps if support.extract else ()):
            yield (*path, "extract", "steps", position), step
