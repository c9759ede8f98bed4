"""The reference pages of devices: which there are, and what may stand in their files."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from schema_tables import cell, sections

from wireloom.devices import DeviceCatalogue
from wireloom.devices.cli_schema import CliFile
from wireloom.devices.describe import purposes
from wireloom.devices.schema import DeviceFile
from wireloom.model.device import Device, Hardware, ProviderRule, Range
from wireloom.planning.topology.schema import tidy

__all__ = ["catalogue_page", "cli_schema_text", "device_schema_text", "devices_page"]

INTRODUCTION: Final = """# Device files

A device is a kind of node: how its ports are called, what boots it on each provider, how big it is, how one gets
at its console, when it counts as ready, how a configuration gets in and out. All of that is data, one file a device.
[The catalogue](device-catalogue.md) lists the devices that are built in, `wireloom devices` those that you have.

## Devices of your own

Files in the folder `devices` of the data folder (`/var/lib/wireloom/devices` unless set otherwise) join the built-in
ones. `wireloom devices add FILE` checks a file and puts it there (`--kind override`, `--kind cli` for the other kinds);
files that are put there by hand are read by `wireloom devices reload`. A file with mistakes leaves everything else as
it is and is named by `wireloom devices`. A change holds for topologies that are deployed from then on, and for a lab
that is there when it is next changed.

| place in the folder | what it is |
| --- | --- |
| `NAME.yaml` | a device; it takes the place of the built-in one of that name |
| `cli/NAME.yaml` | a command line that devices name as `cli: NAME` |
| `overrides/DEVICE.yaml` | what differs from the device: mappings are merged, the rest replaces, `null` turns off |
| `hidden.yaml` | which devices are listed only with `--all`; `wireloom devices hide` and `unhide` write it |

An override adds a provider, changes a default, or switches something off:

```yaml
# overrides/frr.yaml
hardware:
  memory: {default: 512MB, minimum: 256MB}
providers:
  docker:
    settings:
      sysctls: null        # explicitly off
```

## What wins

device → its override → image profile → `defaults` of the topology → node. What is said later wins, and `null` in
`settings` says: off, whatever was said before. `wireloom devices show NAME` and `wireloom inspect LAB NODE` name the
place that each value comes from. Sizes outside of what the device works with are refused with the number that is
needed, when a topology is validated, planned or deployed.

## Chains

`console`, `day0`, `run`, `load` and `extract.steps` are chains: entries are tried in order, and those whose channel
the node's provider lacks are skipped. They stand at the top, once for every provider; what an entry of `providers`
says takes their place there. Entries of `run`, `load` and `extract.steps` are steps.

## Images

`recognise` says by what images of the device are known when they come into the library
([How images are identified](../explanation/image-identification.md)). A group `(?P<version>…)` of a regex tells the
version. `extends` does not take these rules over, and in an override a list replaces the built-in one; rules of your
own outweigh built-in ones.
"""

DEVICE_TITLES: Final[Mapping[str, str]] = {
    "AccessFields": "`access`",
    "ConsoleFields": "An entry of `console`",
    "CpuRange": "`cpu`",
    "Day0Fields": "An entry of `day0`",
    "DiskRange": "`disk`",
    "ExtractFields": "`extract`",
    "HardwareFields": "`hardware`",
    "ImageProfileFields": "An entry of `images`",
    "MemberFields": "An entry of `members`",
    "MemoryRange": "`memory`",
    "PortFields": "`ports`",
    "ProbeFields": "An entry of `ready.chain`",
    "ProviderFields": "An entry of `providers`",
    "ReadyFields": "`ready`",
    "RecogniseFields": "`recognise`",
    "StepFields": "Step",
}
CLI_TITLES: Final[Mapping[str, str]] = {
    "MoveFields": "An entry of `moves`",
    "ReactionFields": "An entry of `reactions`",
    "RecoveryFields": "An entry of `recoveries`",
}
CLI_INTRODUCTION: Final = """
## The command-line file

How a family of devices talks on its console: what it prints and what to type then. Devices name it as `cli: NAME`.
"""
CATALOGUE_INTRODUCTION: Final = """# Device catalogue

Every device that is built in. Names are what a topology writes as `device:`, in any case; aliases mean the same.
Most vendors' images must be brought by you: a device without an image in the table names none of its own.
What may stand in a device's file is in [Device files](devices.md).

Hidden devices are listed with `wireloom devices --all`; they can be used like any other.
"""


def devices_page() -> str:
    """Every key of device and command-line files."""
    parts = [INTRODUCTION, "\n## The device file\n\nKeys that are not known are refused.\n"]
    parts += sections(_schema(DeviceFile), "The file", DEVICE_TITLES)
    parts.append(CLI_INTRODUCTION)
    parts += sections(_schema(CliFile), "The file of a command line", CLI_TITLES)
    return "".join(parts)


def device_schema_text() -> str:
    return json.dumps(_document(DeviceFile, "Wireloom device"), indent=2, ensure_ascii=False) + "\n"


def cli_schema_text() -> str:
    return json.dumps(_document(CliFile, "Wireloom command line"), indent=2, ensure_ascii=False) + "\n"


def catalogue_page() -> str:
    """A table with one row for each built-in device, then a section for each."""
    catalogue = DeviceCatalogue.load()
    devices = sorted(catalogue, key=lambda device: (device.vendor.casefold(), device.name))
    sections_of_devices = (_device(device, catalogue.rule(device.default_provider)) for device in devices)
    return "".join((CATALOGUE_INTRODUCTION, *_overview(devices), *sections_of_devices))


def _schema(model: type[DeviceFile] | type[CliFile]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    tidy(schema)
    return schema


def _document(model: type[DeviceFile] | type[CliFile], title: str) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **_schema(model)}


def _overview(devices: Iterable[Device]) -> Iterator[str]:
    yield "\n## All devices\n\n| device | vendor | kind | runs on | ports | management | login |\n"
    yield "| --- | --- | --- | --- | --- | --- | --- |\n"
    for device in devices:
        hidden = " (hidden)" if device.hidden else ""
        yield (
            f"| [`{device.name}`](#{_anchor(device)}){hidden} | {cell(device.vendor)} | {device.family}"
            f" | {', '.join(_own_providers(device))} | {_ports(device)} | {_management(device)} | {_login(device)} |\n"
        )


def _anchor(device: Device) -> str:
    """The anchor that MkDocs gives to the section of ``device``."""
    heading = unicodedata.normalize("NFKD", f"{device.name} {device.title}").encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def _own_providers(device: Device) -> tuple[str, ...]:
    return tuple(name for name in device.providers if name != "simulated")


def _ports(device: Device) -> str:
    ports = device.ports
    return f"`{ports.display(1)}` … `{ports.display(ports.limit)}`" if ports.limit else "none"


def _management(device: Device) -> str:
    return "none" if device.ports.management is None else f"`{device.ports.management}`"


def _login(device: Device) -> str:
    return f"`{device.access.username}` / " + (
        f"`{device.access.password}`" if device.access.password else "no password"
    )


def _device(device: Device, rule: ProviderRule) -> str:
    """:param rule: of its default provider."""
    lines = [f"\n## {device.name}: {device.title}\n\n"]
    if device.aliases:
        lines.append(f"Also called {', '.join(f'`{alias}`' for alias in device.aliases)}. ")
    lines.append(f"Ports {_ports(device)}, management port {_management(device)}. Login {_login(device)}.")
    if device.cli is not None:
        lines.append(f" Command line `{device.cli.name}`.")
    if device.members:
        names = ", ".join(f"`{member.name}`" for member in device.members)
        lines.append(f" Made of several machines (also {names}); such devices cannot be deployed yet.")
    lines.append(
        "\n\n| provider | image | cores | memory MiB | disk GiB | needs |\n| --- | --- | --- | --- | --- | --- |\n"
    )
    for name in _own_providers(device):
        lines.append(_provider(device, name))
    lines.append("\n| purpose | how |\n| --- | --- |\n")
    ways = purposes(device.on(device.default_provider), rule)
    lines += [f"| {purpose} | {cell(how)} |\n" for purpose, how in ways.items()]
    if device.notes:
        lines.append(f"\n{device.notes.strip()}\n")
    if device.sources:
        lines.append(f"\nSources: {'; '.join(device.sources)}.\n")
    return "".join(lines)


def _provider(device: Device, name: str) -> str:
    support, hardware = device.providers[name], device.hardware_on(name)
    word = f"`{name}`" + (" (default)" if name == device.default_provider else "")
    image = f"`{support.image}`" if support.image else "yours"
    sizes = (_range(hardware.cpu), _range(hardware.memory_mb), _disk(hardware))
    return f"| {word} | {image} | {' | '.join(sizes)} | {', '.join(support.needs) or '—'} |\n"


def _range(value: Range) -> str:
    bounds = [f"at least {value.minimum:g}"] if value.minimum else []
    bounds += [f"at most {value.maximum:g}"] if value.maximum else []
    return f"{value.default:g}" + (f" ({', '.join(bounds)})" if bounds else "")


def _disk(hardware: Hardware) -> str:
    return _range(hardware.disk_gb) if hardware.disk_gb.default or hardware.disk_gb.minimum else "as the image"
