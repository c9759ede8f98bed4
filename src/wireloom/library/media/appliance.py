"""GNS3 appliance files: which image files they are about, and the device that an appliance becomes. Pure.

Files of registry versions 1 to 7 say ``qemu`` or ``docker`` at their top, those of version 8 have ``settings``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from wireloom.library.identify import plain_name
from wireloom.library.media.devicetext import as_pattern, as_template, as_yaml, compact, device_name
from wireloom.library.media.portnames import PortPlan, plan_ports
from wireloom.library.values import ImageRefused
from wireloom.model.device import Device

__all__ = ["Appliance", "ApplianceImage", "ImageMatch", "read_appliance"]

TEXT_BYTES: Final = 2 << 20
_PREFIX: Final = "gns3"
_FAMILIES: Final = {
    "router": "router", "multilayer_switch": "switch", "switch": "switch", "firewall": "firewall", "guest": "host",
}  # fmt: skip
_NICS: Final = {
    "virtio-net-pci": "virtio", "virtio": "virtio", "e1000": "e1000", "e1000-82544gc": "e1000",
    "e1000-82545em": "e1000", "e1000e": "e1000e", "rtl8139": "rtl8139", "vmxnet3": "vmxnet3", "pcnet": "pcnet",
    "ne2k_pci": "ne2k_pci", "i82559er": "i82559er", "i82550": "i82559er", "i82551": "i82559er",
    "i82557a": "i82559er", "i82557b": "i82559er", "i82557c": "i82559er", "i82558a": "i82559er",
    "i82558b": "i82559er", "i82559a": "i82559er", "i82559b": "i82559er", "i82559c": "i82559er", "i82562": "i82559er",
}  # fmt: skip
_DISKS: Final = {"ide": "ide", "sata": "sata", "scsi": "scsi", "virtio": "virtio"}
_SCREENS: Final = {"vnc", "spice", "spice+agent"}
_BY_WIRE: Final = {"telnet", ""}
_MOST_RULES: Final = 64
#: ``{0}`` and ``{port3}`` are numbers of ports, ``{1}`` and ``{segment2}`` of segments; a word's digit is the first.
_FIELD: Final = re.compile(r"\{(?:(?P<plain>[01])|(?P<kind>port|segment)(?P<first>[0-9]))\}")


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("it has control characters")
    return value


def _file(value: str) -> str:
    if "/" in value or value in {"", ".", ".."} or not value.isprintable():
        raise ValueError(f"{value[:80]!r} is not the name of a file")
    return value


def _whole(value: str) -> str:
    value.encode()  # half a character is a ValueError
    return value


Line = Annotated[str, Field(max_length=256), AfterValidator(_line)]
FileName = Annotated[str, Field(max_length=250), AfterValidator(_file)]
Text = Annotated[str, Field(max_length=65536), AfterValidator(_whole)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


class _Image(_Part):
    filename: FileName
    version: Line = ""
    md5sum: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$")] | None = None
    filesize: Annotated[int, Field(ge=0)] = 0


class _Version(_Part):
    name: Line
    images: dict[Line, FileName] = {}


class _Properties(_Part):
    """Of a machine or a container, by whatever name the file has it."""

    adapters: Annotated[int, Field(ge=0, le=275)] = 1
    adapter_type: Line = ""
    ram: Annotated[int, Field(ge=0, le=1 << 24)] = 0
    cpus: Annotated[int, Field(ge=1, le=1024)] = 1
    hda_disk_interface: Line = ""
    console_type: Line = ""
    bios_image: Line = ""
    options: Text = ""
    port_name_format: Line = ""
    first_port_name: Line = ""
    port_segment_size: Annotated[int, Field(ge=0, le=128)] = 0
    usage: Text = ""
    image: Line = ""
    start_command: Text = ""
    environment: Text = ""


class _Setting(_Part):
    default: bool = False
    template_type: Line = ""
    template_properties: _Properties = _Properties()


class _File(_Part):
    name: Line
    category: Line = ""
    vendor_name: Line = ""
    usage: Text = ""
    port_name_format: Line = ""
    first_port_name: Line = ""
    port_segment_size: Annotated[int, Field(ge=0, le=128)] = 0
    qemu: _Properties | None = None
    docker: _Properties | None = None
    settings: Annotated[tuple[_Setting, ...], Field(max_length=64)] = ()
    images: Annotated[tuple[_Image, ...], Field(max_length=4096)] = ()
    versions: Annotated[tuple[_Version, ...], Field(max_length=4096)] = ()


@dataclass(frozen=True)
class ApplianceImage:
    """A file that the appliance is about. ``md5`` and ``size`` (bytes) are empty where it does not say.

    :ivar boots: a node boots from it; others are further disks and firmware.
    """

    name: str
    version: str
    md5: str
    size: int
    boots: bool


@dataclass(frozen=True)
class ImageMatch:
    """A file of ours that is one of them. ``certain``: by its content, not by its name alone."""

    image: ApplianceImage
    certain: bool
    reason: str


@dataclass(frozen=True)
class Appliance:
    """An appliance file.

    :ivar serves: device of ours that it is; empty: a new one is made. :ivar device: text of the new one's file.
    :ivar name: of the device, ours or new. :ivar problem: why no device can be made of it.
    """

    title: str
    name: str
    serves: str
    device: str
    images: tuple[ApplianceImage, ...]
    warnings: tuple[str, ...] = ()
    problem: str = ""

    def match(self, *, file: str = "", md5: str = "", size: int = 0) -> ImageMatch | None:
        """Which of its images a file is: by its digest, else by name and size, else by name."""
        for image in self.images:
            if md5 and image.md5 == md5.casefold():
                return ImageMatch(image, certain=True, reason="its MD5 digest is that of the appliance's file")
        wanted = plain_name(file).casefold() if file else ""
        named = [image for image in self.images if wanted and plain_name(image.name).casefold() == wanted]
        if md5:
            named = [image for image in named if not image.md5]
        sized = next((image for image in named if size and image.size == size), None)
        if sized is not None:
            return ImageMatch(sized, certain=False, reason="its name and size are those of the appliance's file")
        first = next((image for image in named if not size or not image.size), None)
        if first is None:
            return None
        return ImageMatch(first, certain=False, reason="its name is that of the appliance's file")


def read_appliance(text: str, devices: Iterable[Device] = ()) -> Appliance:
    """:raises ImageRefused: ``size``, ``bomb`` or ``manifest``: it is too large, too deep, or no appliance."""
    if len(text) > TEXT_BYTES:
        raise ImageRefused("size", f"an appliance file has at most {TEXT_BYTES} characters")
    try:
        file = _File.model_validate(json.loads(text))
    except RecursionError as error:
        raise ImageRefused("bomb", "the appliance file is nested too deeply") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ImageRefused("manifest", f"this is no appliance file: {place}: {first['msg']}") from error
    except ValueError as error:
        raise ImageRefused("manifest", "this is no appliance file: it is not JSON") from error
    return _appliance(file, tuple(devices))


def _appliance(file: _File, devices: tuple[Device, ...]) -> Appliance:
    kind, properties = _template(file)
    provider = {"qemu": "libvirt", "docker": "docker"}.get(kind, "")
    word = file.name.casefold()
    known = [device for device in devices if word in map(str.casefold, device.recognise.gns3)]
    match = next((device for device in known if device.recognise.own), next(iter(known), None))
    images = tuple(_images(file))
    if match is not None:
        return Appliance(file.name, match.name, match.name, "", images)
    if not provider:
        return Appliance(file.name, "", "", "", images, problem=f"appliances of the kind {kind!r} are not run here")
    taken = {name.casefold() for device in devices for name in (device.name, *device.aliases)}
    name = device_name(file.name, _PREFIX, taken)
    written, warnings = _device(file, properties, provider, name, images)
    return Appliance(file.name, name, "", written, images, warnings)


def _template(file: _File) -> tuple[str, _Properties]:
    """The kind of machine, and its properties; of several templates the default one."""
    if file.qemu is not None:
        return "qemu", file.qemu
    if file.docker is not None:
        return "docker", file.docker
    chosen = next((item for item in file.settings if item.default), next(iter(file.settings), None))
    return ("", _Properties()) if chosen is None else (chosen.template_type, chosen.template_properties)


def _images(file: _File) -> Iterator[ApplianceImage]:
    roles = [(role, name) for version in file.versions for role, name in version.images.items()]
    booted = {name for role, name in roles if role in {"hda_disk_image", "image", "cdrom_image"}}
    for image in file.images:
        yield ApplianceImage(
            name=image.filename,
            version=image.version,
            md5=(image.md5sum or "").casefold(),
            size=image.filesize,
            boots=not roles or image.filename in booted,
        )


# ------------------------------------------------------------------ the device


def _device(
    file: _File, properties: _Properties, provider: str, name: str, images: Iterable[ApplianceImage]
) -> tuple[str, tuple[str, ...]]:
    warnings: list[str] = []
    ports = _ports(file, properties)
    warnings += ports.warnings
    built = _machine(properties, warnings) if provider == "libvirt" else _container(properties, ports, warnings)
    plain = dict.fromkeys(as_pattern(plain_name(image.name)) for image in images if image.boots)
    device = {
        "name": name,
        "title": file.name,
        "vendor": file.vendor_name,
        "family": _FAMILIES.get(file.category, "any"),
        "icon": _FAMILIES.get(file.category, "box"),
        "ports": {**ports.fields(), **built.pop("ports", {})},
        "hardware": {"cpu": properties.cpus, "memory": max(properties.ram, 4) if properties.ram else 1024},
        "console": built.pop("console"),
        "ready": {"chain": ["running"]},
        "run": ["ssh"] if provider == "libvirt" else ["exec"],
        "recognise": compact({"files": list(plain)[:_MOST_RULES], "gns3": [file.name]}),
        "sources": [f"GNS3 appliance {file.name} that you imported"],
        "notes": (properties.usage or file.usage).strip(),
        "providers": {provider: compact(built)},
    }
    comments = [f"Made of the GNS3 appliance {file.name}.", *(f"Not taken over: {text}." for text in warnings)]
    return as_yaml(compact(device), comments), tuple(f"not taken over: {text}" for text in warnings)


def _machine(properties: _Properties, warnings: list[str]) -> dict[str, Any]:
    nic = _NICS.get(properties.adapter_type)
    if nic is None and properties.adapter_type:
        warnings.append(f"its NIC model {properties.adapter_type}")
    disk = _DISKS.get(properties.hda_disk_interface)
    if disk is None and properties.hda_disk_interface:
        warnings.append(f"its disk bus {properties.hda_disk_interface}")
    if properties.options:
        warnings.append("its options for the emulator")
    settings: dict[str, Any] = {"disk_bus": disk or "ide", "nic_model": nic or "e1000"}
    if properties.console_type in _SCREENS:
        settings["video"] = "vnc"
    if "ovmf" in properties.bios_image.casefold():
        settings |= {"firmware": "uefi", "uefi_nvram": True}
    elif properties.bios_image:
        warnings.append("its firmware")
    return {"settings": settings, "console": [{"serial": 0}]}


def _container(properties: _Properties, ports: PortPlan, warnings: list[str]) -> dict[str, Any]:
    try:
        command = shlex.split(properties.start_command)
    except ValueError:
        command = []
        warnings.append("its start command")
    lines = [line for line in properties.environment.splitlines() if re.match(r"[A-Za-z_]\w{0,127}=", line)]
    env = dict(line.split("=", 1) for line in lines)
    if properties.console_type not in _BY_WIRE:
        warnings.append(f"its console of the kind {properties.console_type}")
    # Its scripts look for NICs by the names that they had there.
    guest = {"guest": "eth{n}", "first": 0, "name": "eth{n}", "management": None} if _is_linux(ports) else {}
    return {
        "image": properties.image if re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}", properties.image) else "",
        "settings": compact({"command": command}),
        "env": {name: as_template(value) for name, value in env.items()},
        "console": [{"exec": ["/bin/sh"]}, {"serial": 0}],
        "ports": guest,
    }


def _is_linux(ports: PortPlan) -> bool:
    return ports.naming.display(1) == "eth0"


def _ports(file: _File, properties: _Properties) -> PortPlan:
    pattern = properties.port_name_format or file.port_name_format or "Ethernet{0}"
    if file.docker is not None and not (properties.port_name_format or file.port_name_format):
        pattern = "eth{0}"
    first = properties.first_port_name or file.first_port_name
    segment = properties.port_segment_size or file.port_segment_size
    names = [first] if first else []
    for number in range(max(properties.adapters - len(names), 0)):
        names.append(_port_name(pattern, number, segment))
    return plan_ports(names, {first} if first else ())


def _port_name(pattern: str, number: int, segment_size: int) -> str:
    segment, port = divmod(number, segment_size) if segment_size else (0, number)

    def fill(found: re.Match[str]) -> str:
        if found["plain"]:
            return str(port if found["plain"] == "0" else segment)
        return str((port if found["kind"] == "port" else segment) + int(found["first"]))

    return _FIELD.sub(fill, pattern)
