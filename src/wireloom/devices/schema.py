"""What may stand in a device file, and how it becomes a :class:`~wireloom.model.device.Device`."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from wireloom.model.device import (
    Access,
    Console,
    Day0,
    Device,
    Hardware,
    Probe,
    ProviderRule,
    ProviderSupport,
    Range,
    Readiness,
    Step,
)
from wireloom.model.ports import PortNaming, template_fields
from wireloom.yamlfile import FileModel
from wireloom.yamlfile.values import Cpu, Memory, Text, plain, wrong

__all__ = ["DeviceFile", "ProvidersFile"]

_PORT_FIELDS = frozenset({"n", "i", "slot", "port"})


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise wrong(f"{value!r} is not a regular expression: {error}") from error
    return value


def _template(value: str) -> str:
    try:
        fields = template_fields(value)
    except ValueError as error:
        raise wrong(f"{value!r} is not a template: {error}") from error
    if unknown := sorted(fields - _PORT_FIELDS):
        raise wrong(f"{value!r} uses unknown {{{unknown[0]}}}", "known are {n}, {i}, {slot}, {port}")
    return value


def _name(value: str) -> str:
    if re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,62}", value) is None:
        raise wrong(f"{value!r} is not fit for a name", "use lower-case letters, digits, '-', '_' and '.'")
    return value


def _range(value: Any) -> Any:
    return value if isinstance(value, dict) else {"default": value}


def _one_of(*kinds: str) -> Any:
    """A validator for entries such as ``{log: …}``: exactly one of ``kinds`` is the key that says what it is."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in kinds:
            return {value: None}
        if isinstance(value, dict) and len(set(value) & set(kinds)) != 1:
            raise wrong(f"exactly one of {', '.join(kinds)} is expected here")
        return value

    return BeforeValidator(check)


def _argv(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


Regex = Annotated[str, AfterValidator(_regex)]
Template = Annotated[str, AfterValidator(_template)]
Name = Annotated[str, AfterValidator(_name)]


class CpuRange(FileModel):
    """CPU of a device."""

    default: Cpu = Field(description="cores")
    minimum: Annotated[float, Field(ge=0)] = Field(0, description="fewest cores it works with")


class MemoryRange(FileModel):
    """Memory of a device."""

    default: Memory = Field(description="`512MB`, `2GiB` or MiB")
    minimum: Memory | None = Field(None, description="least memory it works with")


class HardwareFields(FileModel):
    """Size of a node."""

    cpu: Annotated[CpuRange, BeforeValidator(_range)] = Field(CpuRange(default=1), description="cores: number or range")
    memory: Annotated[MemoryRange, BeforeValidator(_range)] = Field(
        MemoryRange(default=256), description="memory: amount or range"
    )
    spare_ports: Annotated[int, Field(ge=0, le=64)] = Field(4, description="ports made up front beyond those in use")

    def value(self) -> Hardware:
        return Hardware(
            cpu=Range(default=self.cpu.default, minimum=self.cpu.minimum),
            memory_mb=Range(default=self.memory.default, minimum=self.memory.minimum or 0),
            spare_ports=self.spare_ports,
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
    ssh_port: Annotated[int, Field(ge=1, le=65535)] = Field(22, description="TCP port of SSH")

    def value(self) -> Access:
        return Access(**self.model_dump())


class ConsoleFields(FileModel):
    """A console: exactly one of the two."""

    exec: Annotated[list[str] | None, BeforeValidator(_argv)] = Field(None, description="command run in the guest")
    serial: Annotated[int, Field(ge=0, le=3)] | None = Field(None, description="number of the serial line")

    def value(self) -> Console:
        if self.exec is not None:
            return Console(kind="exec", command=tuple(self.exec))
        return Console(kind="serial", line=self.serial or 0)


class ProbeFields(FileModel):
    """A test of readiness: exactly one of running, log, exec, ssh, tcp."""

    running: bool | None = Field(None, description="ready as soon as it runs")
    log: Regex | None = Field(None, description="regex found in the console output since power-on")
    exec: str | None = Field(None, description="command in the guest")
    ssh: str | None = Field(None, description="command over SSH")
    tcp: Annotated[int, Field(ge=1, le=65535)] | None = Field(None, description="port on the management address")
    expect: Regex = Field("", description="regex that the output of exec or ssh contains")

    def value(self) -> Probe:
        if self.log is not None:
            return Probe(kind="log", pattern=self.log)
        if self.exec is not None:
            return Probe(kind="exec", command=self.exec, expect=self.expect)
        if self.ssh is not None:
            return Probe(kind="ssh", command=self.ssh, expect=self.expect)
        if self.tcp is not None:
            return Probe(kind="tcp", port=self.tcp)
        return Probe(kind="running")


class ReadyFields(FileModel):
    """When a node counts as ready."""

    chain: list[Annotated[ProbeFields, _one_of("running", "log", "exec", "ssh", "tcp")]] = Field(
        description="the first probe whose channel the provider has is used"
    )
    timeout: Annotated[float, Field(gt=0)] = Field(120, description="seconds on native speed")
    slow_factor: Annotated[float, Field(ge=1)] = Field(4, description="times as long when emulated")
    interval: Annotated[float, Field(gt=0)] = Field(1, description="seconds between two probes")

    def value(self) -> Readiness:
        return Readiness(
            probes=tuple(probe.value() for probe in self.chain),
            timeout_s=self.timeout,
            slow_factor=self.slow_factor,
            interval_s=self.interval,
        )


class Day0Fields(FileModel):
    """How the startup configuration gets in: exactly one of file, iso."""

    file: str | None = Field(None, description="path in the guest that the configuration is copied to")
    iso: str | None = Field(None, description="path on a CD that the configuration is written to")
    label: str = Field("CIDATA", description="label of the CD", max_length=32)
    extra: dict[str, str] = Field({}, description="further files; {hostname} and {authorized_keys} are filled in")

    def value(self) -> Day0:
        method: Literal["file", "iso"] = "file" if self.file is not None else "iso"
        return Day0(method=method, path=self.file or self.iso or "", label=self.label, extra=self.extra)


class StepFields(FileModel):
    """A way to run a command: exactly one of the three, its word alone for the command as it is."""

    exec: str | None = Field(None, description="in the guest; `{command}` is what the user asked for")
    ssh: str | None = Field(None, description="over SSH")
    serial: str | None = Field(None, description="on the serial console")

    @property
    def channel(self) -> Literal["exec", "ssh", "serial"]:
        given = self.model_fields_set
        return "exec" if "exec" in given else "ssh" if "ssh" in given else "serial"

    def value(self) -> Step:
        return Step(channel=self.channel, run=self.exec or self.ssh or self.serial or "{command}")


class ProviderFields(FileModel):
    """A device on one provider."""

    image: Text = Field("", description="default image; empty when the user has to name one")
    settings: Annotated[dict[str, Any], AfterValidator(plain)] = Field({}, description="the provider's own settings")
    hardware: HardwareFields | None = Field(None, description="where it differs on this provider")
    console: list[Annotated[ConsoleFields, _one_of("exec", "serial")]] = Field([], description="what `console` opens")
    ready: ReadyFields | None = Field(None, description="when a node counts as ready")
    day0: list[Annotated[Day0Fields, _one_of("file", "iso")]] = Field(
        [], description="how the startup configuration gets in; the first way that the provider has"
    )
    run: list[Annotated[StepFields, _one_of("exec", "ssh", "serial")]] = Field(
        [], description="how `exec` runs a command; tried in turn"
    )

    def value(self) -> ProviderSupport:
        return ProviderSupport(
            image=self.image,
            settings=self.settings,
            hardware=None if self.hardware is None else self.hardware.value(),
            console=tuple(item.value() for item in self.console),
            ready=None if self.ready is None else self.ready.value(),
            day0=tuple(item.value() for item in self.day0),
            run=tuple(item.value() for item in self.run),
        )


class DeviceFile(FileModel):
    """One kind of node."""

    name: Name = Field(description="by which topologies name it")
    title: Text = Field("", description="name for people")
    vendor: Text = Field("", description="who makes it")
    aliases: list[Name] = Field([], description="further names")
    icon: Name = Field("router", description="icon in the studio")
    ports: PortFields = Field(PortFields(), description="how its ports are named")
    hardware: HardwareFields = Field(HardwareFields(), description="its size when the topology says nothing")
    access: AccessFields = Field(AccessFields(), description="how one logs in")
    default_provider: Name = Field("", description="provider when the topology names none; else the first one")
    default_config: str = Field("", description="startup configuration of a node without one; {hostname} is filled in")
    notes: str = Field("", description="what a user should know of it, in Markdown")
    stop_grace: Annotated[float, Field(ge=0, le=600)] = Field(5, description="seconds that the guest gets to end")
    providers: dict[str, ProviderFields] = Field(description="what runs it", min_length=1)

    def value(self) -> Device:
        """The device, without what the catalogue adds."""
        return Device(
            name=self.name,
            title=self.title or self.name,
            vendor=self.vendor,
            aliases=tuple(self.aliases),
            icon=self.icon,
            ports=self.ports.value(),
            hardware=self.hardware.value(),
            providers={name: support.value() for name, support in self.providers.items()},
            default_provider=self.default_provider or next(iter(self.providers)),
            access=self.access.value(),
            default_config=self.default_config,
            notes=self.notes,
            stop_grace_s=self.stop_grace,
        )


class ProviderRuleFields(FileModel):
    """What holds for every device on a provider."""

    title: Text = ""
    image_pattern: Regex = Field("", description="regex that image names match in full")
    image_example: str = ""
    every_device: str = Field("", description="image by which every device can run on it")

    def value(self, name: str) -> ProviderRule:
        return ProviderRule(name=name, **self.model_dump())


class ProvidersFile(FileModel):
    """``providers.yaml``: what the catalogue knows of each provider."""

    providers: dict[str, ProviderRuleFields]
