"""Node and image definitions of a reference platform, as far as they matter here; text to values, within bounds.

Keys that are not known are left out: the platform adds some with every release. What is there has to fit.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from wireloom.library.values import ImageRefused
from wireloom.yamlfile import Mapping, read_yaml
from wireloom.yamlfile.values import Text as Written

__all__ = [
    "TEXT_BYTES",
    "Boot",
    "ConfigFile",
    "Configuration",
    "DevicePart",
    "General",
    "ImageDefinition",
    "Interfaces",
    "LinuxNative",
    "NodeDefinition",
    "Provisioning",
    "Pyats",
    "Sim",
    "Ui",
    "Video",
    "read_definition",
]

#: Of one definition. The largest that are known have an icon of 100 kB in them.
TEXT_BYTES: Final = 512 << 10
_NODES: Final = 50_000

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+:@()-]{0,127}")
_PORT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/:+-]{0,63}")
_FILE: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._+@() -]{1,250}")
_FILE_PATH: Final = re.compile(r"(?!/)(?!(?:.*/)?\.{1,2}(?:/|\Z))[A-Za-z0-9._+@()/ -]{1,64}")


def _fitting(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is not {what}")
        return value

    return AfterValidator(check)


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError(f"{value[:80]!r} has control characters")
    return value


def _whole(value: str) -> str:
    value.encode()  # half a character is a ValueError
    return value


Id = Annotated[Written, _fitting(_ID, "an identifier")]
PortName = Annotated[Written, _fitting(_PORT, "the name of a port")]
FileName = Annotated[Written, _fitting(_FILE, "the name of a file")]
FilePath = Annotated[Written, _fitting(_FILE_PATH, "the path of a file")]
Line = Annotated[Written, Field(max_length=256), AfterValidator(_line)]
Text = Annotated[Written, Field(max_length=TEXT_BYTES), AfterValidator(_whole)]


class _Part(BaseModel):
    """What is ``null`` or empty is as if it were not there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None and item != ""}


class General(_Part):
    nature: Line = ""
    description: Text = ""


class Video(_Part):
    model: Line = ""


class LinuxNative(_Part):
    """The machine. ``ram`` in MiB, disks in GiB; ``cpu_model`` is ``name,+flag,-flag``."""

    libvirt_domain_driver: Line = "kvm"
    driver: Line = ""
    ram: Annotated[int, Field(ge=0, le=1 << 24)] = 0
    cpus: Annotated[int, Field(ge=0, le=1024)] = 0
    cpu_model: Line = ""
    nic_driver: Line = ""
    disk_driver: Line = ""
    machine_type: Line = ""
    efi_boot: bool = False
    efi_code: Line = ""
    efi_vars: Line = ""
    data_volume: Annotated[float, Field(ge=0, le=65536)] = 0
    boot_disk_size: Annotated[float, Field(ge=0, le=65536)] = 0
    video: Video = Video()
    enable_rng: bool = True
    enable_tpm: bool = False


class Sim(_Part):
    linux_native: LinuxNative = LinuxNative()
    parameters: Annotated[dict[Line, Line], Field(max_length=64)] = {}


class Boot(_Part):
    """Booted when any text of ``completed`` is on the console, or after ``timeout`` seconds."""

    timeout: Annotated[int, Field(ge=0, le=86400)] = 0
    completed: Annotated[tuple[Annotated[Line, Field(max_length=128)], ...], Field(max_length=32)] = ()
    uses_regex: bool = False


class Interfaces(_Part):
    """Names in the order of slots. ``min_count``: NICs that are made even if nothing is linked."""

    serial_ports: Annotated[int, Field(ge=0, le=4)] = 0
    default_console: Annotated[int, Field(ge=0, le=4)] = 0
    physical: Annotated[tuple[PortName, ...], Field(max_length=1024)] = ()
    management: Annotated[tuple[PortName, ...], Field(max_length=64)] = ()
    min_count: Annotated[int, Field(ge=0, le=64)] = 0


class DevicePart(_Part):
    interfaces: Interfaces = Interfaces()


class ConfigFile(_Part):
    name: FilePath
    content: Text = ""
    editable: bool = True


class Provisioning(_Part):
    """Day-0 media: what kind, its label, and its files."""

    media_type: Literal["iso", "fat", "ext4", "raw"] = "iso"
    volume_name: Annotated[Written, Field(max_length=32), AfterValidator(_line)] = "disk"
    files: Annotated[tuple[ConfigFile, ...], Field(max_length=32)] = ()


class Configuration(_Part):
    provisioning: Provisioning | None = None


class Ui(_Part):
    label: Line = ""
    icon: Annotated[str, Field(max_length=200_000)] = ""
    group: Line = ""
    description: Text = ""
    visible: bool = True


class Pyats(_Part):
    os: Line = ""
    username: Line = ""
    password: Line = ""
    config_extract_command: Line = ""


class NodeDefinition(_Part):
    """A kind of node, as the reference platform has it."""

    id: Id
    general: General = General()
    sim: Sim = Sim()
    boot: Boot = Boot()
    device: DevicePart = DevicePart()
    configuration: Configuration = Configuration()
    ui: Ui = Ui()
    pyats: Pyats = Pyats()

    @property
    def title(self) -> str:
        return self.ui.label or self.id


class ImageDefinition(_Part):
    """An image for a kind of node: files beside its definition. ``sha256``: of a disk, or id of a container's image."""

    id: Id
    node_definition_id: Id
    label: Line = ""
    disk_image: FileName = ""
    disk_image_2: FileName = ""
    disk_image_3: FileName = ""
    disk_image_4: FileName = ""
    docker_tag: Line = ""
    sha256: Line = ""
    boot_disk_size: Annotated[float, Field(ge=0, le=65536)] = 0

    @property
    def title(self) -> str:
        return self.label or self.id

    @property
    def disks(self) -> tuple[str, ...]:
        """Names of its files."""
        names = (self.disk_image, self.disk_image_2, self.disk_image_3, self.disk_image_4)
        return tuple(name for name in names if name)


DefinitionT = TypeVar("DefinitionT", NodeDefinition, ImageDefinition)


def read_definition(model: type[DefinitionT], text: bytes, *, file: str) -> DefinitionT:
    """:raises ImageRefused: ``bomb``, ``size`` or ``manifest``: it is too large, no YAML, or does not fit."""
    if len(text) > TEXT_BYTES:
        raise ImageRefused("size", f"{file} is larger than {TEXT_BYTES} bytes")
    try:
        document = read_yaml(text.decode("utf-8-sig"), file=file)
    except UnicodeDecodeError as error:
        raise ImageRefused("manifest", f"{file} is not text") from error
    if document.outgrown or (document.root is not None and document.root.size > _NODES):
        raise ImageRefused("bomb", f"{file} grows too large when it is read")
    if document.root is None or not isinstance(document.root, Mapping):
        why = document.diagnostics[0].message if document.diagnostics else "it is empty, or a list"
        raise ImageRefused("manifest", f"{file} is no definition: {why}")
    try:
        return model.model_validate(document.root.data())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ImageRefused("manifest", f"{file}: {place}: {first['msg']}") from error
