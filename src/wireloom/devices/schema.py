"""What may stand in a device file, and how it becomes a :class:`~wireloom.model.device.Device`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from wireloom.devices.guest_schema import GuestFields
from wireloom.devices.values import Name, NeedWord, Regex, ranged
from wireloom.model.device import (
    Access,
    Day0Method,
    Device,
    Hardware,
    ImageProfile,
    LinkDown,
    Member,
    OwnChannel,
    ProviderRule,
    ProviderSupport,
    Range,
    Recognition,
    Secret,
)
from wireloom.model.dialogue import Cli
from wireloom.model.ports import PortNaming, template_fields
from wireloom.yamlfile import FileModel
from wireloom.yamlfile.values import Cpu, Disk, Memory, Text, TextMap, plain, wrong

__all__ = ["DeviceFile", "ProvidersFile"]

_PORT_FIELDS = frozenset({"n", "i", "slot", "port"})


def _template(value: str) -> str:
    try:
        fields = template_fields(value)
    except ValueError as error:
        raise wrong(f"{value!r} is not a template: {error}") from error
    if unknown := sorted(fields - _PORT_FIELDS):
        raise wrong(f"{value!r} uses unknown {{{unknown[0]}}}", "known are {n}, {i}, {slot}, {port}")
    return value


Template = Annotated[str, AfterValidator(_template)]


class CpuRange(FileModel):
    """CPU of a device."""

    default: Cpu = Field(description="cores")
    minimum: Annotated[float, Field(ge=0)] = Field(0, description="fewest cores it works with")
    maximum: Annotated[float, Field(ge=0)] = Field(0, description="most cores it works with; 0: any number")


class MemoryRange(FileModel):
    """Memory of a device."""

    default: Memory = Field(description="`512MB`, `2GiB` or MiB")
    minimum: Memory | None = Field(None, description="least memory it works with")
    maximum: Memory | None = Field(None, description="most memory it works with")


class DiskRange(FileModel):
    """System disk of a device, in GiB."""

    default: Disk = Field(0, description="`20GB` or GiB that it is grown to; 0: as the image has it")
    minimum: Disk = Field(0, description="smallest size it works with")


class HardwareFields(FileModel):
    """Size of a node."""

    cpu: Annotated[CpuRange, BeforeValidator(ranged)] = Field(CpuRange(default=1), description="cores: number or range")
    memory: Annotated[MemoryRange, BeforeValidator(ranged)] = Field(
        MemoryRange(default=256), description="memory: amount or range"
    )
    disk: Annotated[DiskRange, BeforeValidator(ranged)] = Field(DiskRange(), description="system disk: size or range")
    spare_ports: Annotated[int, Field(ge=0, le=64)] = Field(4, description="ports made up front beyond those in use")
    min_ports: Annotated[int, Field(ge=0, le=64)] = Field(0, description="data ports that are made in any case")
    reserved_ports: Annotated[int, Field(ge=0, le=8)] = Field(
        0, description="NICs between the management port and the first data port that carry nothing"
    )

    def over(self, base: HardwareFields) -> HardwareFields:
        """``base`` with what is written here in the place of its values, down to each bound."""
        merged: dict[str, Any] = {}
        for name in self.model_fields_set:
            own, theirs = getattr(self, name), getattr(base, name)
            if isinstance(own, FileModel):
                own = theirs.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})
            merged[name] = own
        return base.model_copy(update=merged)

    def value(self) -> Hardware:
        cpu, memory, disk = self.cpu, self.memory, self.disk
        return Hardware(
            cpu=Range(default=cpu.default, minimum=cpu.minimum, maximum=cpu.maximum),
            memory_mb=Range(default=memory.default, minimum=memory.minimum or 0, maximum=memory.maximum or 0),
            disk_gb=Range(default=disk.default, minimum=disk.minimum),
            spare_ports=self.spare_ports,
            min_ports=self.min_ports,
            reserved_ports=self.reserved_ports,
        )


class PortFields(FileModel):
    """Names of ports: index 0 is the management port, data ports count from 1."""

    name: Template = Field("eth{n}", description="name as the vendor writes it: {n}, {slot}, {port}, {i}")
    guest: Template = Field("eth{i}", description="kernel name in a guest whose ports we name")
    short: list[Template] = Field([], description="shorter spellings that users may write")
    first: Annotated[int, Field(ge=0)] = Field(1, description="vendor number of the first data port")
    step: Annotated[int, Field(ge=1)] = Field(1, description="distance between two vendor numbers")
    per_slot: Annotated[int, Field(ge=1)] | None = Field(None, description="ports per slot, for {slot} and {port}")
    first_slot: Annotated[int, Field(ge=0)] = Field(0, description="number of the first slot")
    skip: Annotated[int, Field(ge=0)] = Field(
        0, description="ports of the vendor's sequence before the first data port"
    )
    management: str | None = Field("eth0", description="name of the management port; `null`: it has none")
    management_guest: str = Field("eth0", description="kernel name of the management port")
    limit: Annotated[int, Field(ge=0, le=512)] = Field(32, description="how many data ports it can have")

    @model_validator(mode="after")
    def _names_differ(self) -> PortFields:
        for purpose, names in (("name", self.value().displays()), ("guest", self._guest_names())):
            folded = [name.casefold() for name in names]
            double = next((name for name in folded if folded.count(name) > 1), None)
            if double is not None:
                raise wrong(f"two ports get the {purpose} {double!r}", "use {n}, {i}, or {slot} and {port}")
        return self

    def _guest_names(self) -> tuple[str, ...]:
        naming = self.value()
        first = 0 if naming.management is not None else 1
        return tuple(naming.kernel(index) for index in range(first, self.limit + 1))

    def value(self) -> PortNaming:
        return PortNaming(**{**self.model_dump(), "short": tuple(self.short)})


class AccessFields(FileModel):
    """Login to the guest."""

    username: Text = Field("root", description="user of a fresh image")
    password: Text = Field("", description="its password")
    enable_password: Text = Field("", description="password of the privileged mode, where that differs")
    ssh_port: Annotated[int, Field(ge=1, le=65535)] = Field(22, description="TCP port of SSH")
    netconf_port: Annotated[int, Field(ge=1, le=65535)] = Field(830, description="TCP port of NETCONF")

    def value(self) -> Access:
        return Access(**self.model_dump())


class ImageProfileFields(FileModel):
    """Where some images differ from the device. `null` turns a setting off."""

    pattern: Regex = Field(description="regex that the image's name matches in full")
    cpu: Cpu | None = Field(None, description="cores")
    memory: Memory | None = Field(None, description="`512MB`, `2GiB` or MiB")
    disk: Disk | None = Field(None, description="`20GB` or GiB")
    settings: Annotated[dict[str, Any], AfterValidator(plain)] = Field({}, description="the provider's own settings")

    def value(self) -> ImageProfile:
        return ImageProfile(
            pattern=self.pattern, cpu=self.cpu, memory_mb=self.memory, disk_gb=self.disk, settings=self.settings
        )


class ProviderFields(GuestFields):
    """A device on one provider. What is said of the guest here is said in the place of the device's own."""

    image: Text = Field("", description="default image; empty when the user has to name one")
    images: list[ImageProfileFields] = Field([], description="images that differ")
    env: TextMap = Field({}, description="environment variables, each a template; those of the topology win")
    settings: Annotated[dict[str, Any], AfterValidator(plain)] = Field({}, description="the provider's own settings")
    hardware: HardwareFields | None = Field(None, description="where it differs on this provider")
    needs: list[NeedWord] = Field(
        [],
        description="what the host must have: `privileged`, `kvm`, `nested`, `cpu:<flag>`, "
        "`kernel:<ability>`, `arch:<architecture>` (e.g. `cpu:vnmi`, `kernel:mpls`)",
    )

    def value(self, hardware: HardwareFields) -> ProviderSupport:
        """:param hardware: the device's own."""
        return ProviderSupport(
            image=self.image,
            images=tuple(item.value() for item in self.images),
            env=self.env,
            settings=self.settings,
            hardware=None if self.hardware is None else self.hardware.over(hardware).value(),
            needs=tuple(self.needs),
            **self.guest(),
        )


class MemberFields(FileModel):
    """A further machine of a node that is made of several."""

    name: Name = Field(description="e.g. `fpc0`")
    image: Text = Field("", description="its image")
    hardware: HardwareFields = Field(HardwareFields(), description="its size")
    settings: Annotated[dict[str, Any], AfterValidator(plain)] = Field({}, description="the provider's own settings")
    internal: list[Name] = Field([], description="networks inside the node that its NICs join")
    ports: bool = Field(False, description="the node's data ports are on this machine")

    def value(self) -> Member:
        return Member(
            name=self.name,
            image=self.image,
            hardware=self.hardware.value(),
            settings=self.settings,
            internal=tuple(self.internal),
            ports=self.ports,
        )


class SecretFields(FileModel):
    """A file of the user's own, such as a licence: at a path in the guest, on the day-0 medium, or either."""

    name: Name = Field(description="under which it is given, by `wireloom images secret set`")
    title: Text = Field("", description="what it is, for people")
    path: Annotated[str, Field(pattern=r"^$|^/.")] = Field("", description="where it is in the guest's file system")
    medium: Annotated[str, Field(pattern=r"^$|^[^/]")] = Field("", description="where it is on the day-0 medium")
    mode: Annotated[int, Field(ge=0, le=0o777)] = Field(0o600, description="permissions of the file in the guest")
    optional: bool = Field(False, description="the guest starts without it")

    @model_validator(mode="after")
    def _goes_somewhere(self) -> SecretFields:
        if not self.path and not self.medium:
            raise wrong("the guest is to find it somewhere", "write `path` or `medium`")
        if ".." in f"{self.path}/{self.medium}".split("/"):
            raise wrong("it cannot lead upwards")
        return self

    def value(self) -> Secret:
        return Secret(**self.model_dump())


class RecogniseFields(FileModel):
    """By what images of the device are known. Regexes match in any case; a group `(?P<version>…)` tells the version."""

    files: list[Regex] = Field([], description="file names in full, without endings such as `.qcow2` and `.tar.gz`")
    tags: list[Regex] = Field([], description="names of containers' images in full, or what follows the last slash")
    labels: dict[str, Regex] = Field({}, description="labels of containers' images, name to value in full")
    paths: list[Regex] = Field([], description="paths inside of containers' images in full, without leading slash")
    volumes: list[Regex] = Field([], description="labels of partitions in full")
    text: list[Regex] = Field([], description="found in what a binary says of itself")
    hints: list[Regex] = Field([], description="found anywhere in a name: it may be the device, no more")
    images_of: Name | None = Field(None, description="another device whose images this one boots as well")
    cml: list[Text] = Field([], description="ids of its node definitions in reference platforms")
    gns3: list[Text] = Field([], description="names of its GNS3 appliances")

    def value(self) -> Recognition:
        said = {name: tuple(item) if isinstance(item, list) else item for name, item in self}
        return Recognition(**{**said, "images_of": self.images_of or ""})


Family = Literal["router", "switch", "firewall", "host", "wireless", "controller", "balancer", "any"]


class DeviceFile(GuestFields):
    """One kind of node."""

    name: Name = Field(description="by which topologies name it")
    extends: Name | None = Field(
        None, description="another device whose entries this one takes over, but for `aliases`, `hidden`, `recognise`"
    )
    title: Text = Field("", description="name for people")
    vendor: Text = Field("", description="who makes it")
    family: Family = Field("router", description="what it is in a network")
    aliases: list[Name] = Field([], description="further names")
    icon: Name = Field("router", description="icon in the studio")
    hidden: bool = Field(False, description="not listed unless asked for")
    ports: PortFields = Field(PortFields(), description="how its ports are named")
    hardware: HardwareFields = Field(HardwareFields(), description="its size when the topology says nothing")
    access: AccessFields = Field(AccessFields(), description="how one logs in")
    cli: Name | None = Field(None, description="its command line: the name of a file in `cli/`")
    default_provider: Name = Field("", description="provider when the topology names none; else the first one")
    default_config: str = Field("", description="template of the startup configuration of a node without one")
    members: list[MemberFields] = Field([], description="further machines of the node")
    recognise: RecogniseFields = Field(RecogniseFields(), description="by what its images are known")
    secrets: list[SecretFields] = Field([], description="files of the user's own that its nodes are given")
    sources: list[str] = Field([], description="where its facts come from")
    notes: str = Field("", description="what a user should know of it, in Markdown")
    stop_grace: Annotated[float, Field(ge=0, le=600)] = Field(5, description="seconds that the guest gets to end")
    link_down: LinkDown = Field(
        "carrier",
        description="what a link that is down does to its port: `carrier` takes the carrier, like a pulled cable; "
        "`cut` leaves it and passes no frame, for devices that put a port which flaps out of use",
    )
    providers: dict[str, ProviderFields] = Field(description="what runs it", min_length=1)

    def value(self, cli: Cli | None = None) -> Device:
        """The device, without what the catalogue adds; ``cli`` is the command line that it names."""
        said = {name: value for name, value in self.guest().items() if value is not None}
        return Device(
            name=self.name,
            title=self.title or self.name,
            vendor=self.vendor,
            family=self.family,
            aliases=tuple(self.aliases),
            icon=self.icon,
            hidden=self.hidden,
            ports=self.ports.value(),
            hardware=self.hardware.value(),
            providers={name: support.value(self.hardware) for name, support in self.providers.items()},
            default_provider=self.default_provider or next(iter(self.providers)),
            access=self.access.value(),
            cli=cli,
            default_config=self.default_config,
            members=tuple(member.value() for member in self.members),
            recognise=self.recognise.value(),
            secrets=tuple(secret.value() for secret in self.secrets),
            sources=tuple(self.sources),
            notes=self.notes,
            stop_grace_s=self.stop_grace,
            link_down=self.link_down,
            **said,
        )


class ProviderRuleFields(FileModel):
    """What holds for every device on a provider."""

    title: Text = ""
    image_pattern: Regex = Field("", description="regex that image names match in full")
    image_example: str = ""
    every_device: str = Field("", description="image by which every device can run on it")
    channels: list[OwnChannel] = Field(description="the ways to a guest that are its own")
    day0: list[Day0Method] = Field(description="the ways to hand a startup configuration over before the start")
    emulates: bool = Field(False, description="its guests are emulated where the host does not accelerate them")

    def value(self, name: str) -> ProviderRule:
        return ProviderRule(name=name, **self.model_dump())


class ProvidersFile(FileModel):
    """``providers.yaml``: what the catalogue knows of each provider."""

    providers: dict[str, ProviderRuleFields]
