"""What a device file may say of its guest: consoles, readiness, day-0 media, commands, extraction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from wireloom.devices.values import Argv, Regex, exactly_one_of
from wireloom.model.device import Console, Day0, Extract, Probe, Readiness, Step
from wireloom.yamlfile import FileModel

__all__ = ["GuestFields"]

_STEPS = ("exec", "ssh", "serial", "file", "netconf")
_PROBES = ("running", "log", "serial", "exec", "ssh", "tcp", "http", "health")
_METHODS = ("file", "bind", "iso", "fat", "nocloud", "configdrive", "smbios", "serial")

#: Where cloud-init looks for user data.
_CLOUD_PATHS = {"nocloud": "user-data", "configdrive": "openstack/latest/user_data"}

Port = Annotated[int, Field(ge=1, le=65535)]


def _kind(model: FileModel, kinds: Iterable[str]) -> str:
    """Which of ``kinds`` the entry was written with (``exactly_one_of`` saw to it that it is one)."""
    return next(kind for kind in kinds if kind in model.model_fields_set)


class ConsoleFields(FileModel):
    """A console: exactly one of exec, serial."""

    exec: Argv | None = Field(None, description="command run in the guest")
    serial: Annotated[int, Field(ge=0, le=3)] | None = Field(None, description="number of the serial line")

    def value(self) -> Console:
        if self.exec is not None:
            return Console(kind="exec", command=tuple(self.exec))
        return Console(kind="serial", line=self.serial or 0)


class ProbeFields(FileModel):
    """A test of readiness: exactly one of running, log, serial, exec, ssh, tcp, http, health."""

    running: bool | None = Field(None, description="ready as soon as it runs")
    log: Regex | None = Field(None, description="regex found in the console output since power-on")
    serial: Regex | None = Field(None, description="regex on the serial line; alone: a prompt of the command line")
    exec: str | None = Field(None, description="command in the guest")
    ssh: str | None = Field(None, description="command over SSH")
    tcp: Port | None = Field(None, description="port on the management address")
    http: Port | None = Field(None, description="port on the management address that is asked by HTTP")
    health: bool | None = Field(None, description="the engine's own health check")
    path: str = Field("/", description="http: what is asked for", pattern="^/")
    tls: bool = Field(False, description="http: over TLS, with any certificate")
    expect: Regex = Field("", description="regex that the output of exec, ssh or http contains")

    def value(self) -> Probe:
        kind: Any = _kind(self, _PROBES)
        return Probe(
            kind=kind,
            pattern=self.log or self.serial or "",
            command=self.exec or self.ssh or "",
            expect=self.expect,
            port=self.tcp or self.http or 0,
            path=self.path,
            tls=self.tls,
        )


class ReadyFields(FileModel):
    """When a node counts as ready."""

    chain: list[Annotated[ProbeFields, exactly_one_of(*_PROBES)]] = Field(description="probes")
    rule: Literal["first", "all", "any"] = Field(
        "first", description="of the probes that the node has the channel for, the first decides, all must hold, or any"
    )
    timeout: Annotated[float, Field(gt=0)] = Field(120, description="seconds on native speed")
    slow_factor: Annotated[float, Field(ge=1)] = Field(4, description="times as long when emulated")
    interval: Annotated[float, Field(gt=0)] = Field(1, description="seconds between two probes")

    def value(self) -> Readiness:
        return Readiness(
            probes=tuple(probe.value() for probe in self.chain),
            rule=self.rule,
            timeout_s=self.timeout,
            slow_factor=self.slow_factor,
            interval_s=self.interval,
        )


class Day0Fields(FileModel):
    """How the startup configuration gets in: exactly one of the methods, its value being the configuration's place."""

    file: str | None = Field(None, description="path in the guest that the configuration is copied to")
    bind: str | None = Field(None, description="path in the guest, in a folder that is kept on the host")
    iso: str | None = Field(None, description="path on a CD that the configuration is written to")
    fat: str | None = Field(None, description="path on a FAT disk")
    nocloud: str | None = Field(None, description="cloud-init NoCloud CD: `user-data`")
    configdrive: str | None = Field(None, description="cloud-init config drive: `openstack/latest/user_data`")
    smbios: str | None = Field(None, description="SMBIOS entry, e.g. `system.product`")
    serial: str | None = Field(None, description="typed on the console after boot, by the `load` steps")
    label: str | None = Field(None, description="label of the medium", max_length=32)
    attach: Literal["cdrom", "usb", "disk"] | None = Field(None, description="how the guest sees the medium")
    template: str = Field("", description="template of what is written; `{{ config }}` is the configuration")
    extra: dict[str, str] = Field({}, description="further files, path to template")
    archive: str = Field("", description="name of a .tar.gz on the medium that holds the configuration's path")
    mime: dict[str, str] = Field({}, description="content types of the parts of a MIME message, by part")
    mode: Annotated[int, Field(ge=0, le=0o7777)] = Field(0o644, description="permissions of the file")
    joliet: bool = Field(True, description="a CD has Joliet names too, if its label is at most 16 characters long")
    size: Annotated[int, Field(ge=1, le=2048)] = Field(32, description="size of a FAT disk in MiB")
    partition: bool = Field(False, description="a FAT disk has a partition table")

    def value(self) -> Day0:
        method: Any = _kind(self, _METHODS)
        labels = {"nocloud": "cidata", "configdrive": "config-2"}
        attach: Any = self.attach or ("usb" if method == "fat" else "cdrom")
        path = getattr(self, method) or _CLOUD_PATHS.get(method, "")
        return Day0(
            method=method,
            path=path,
            label=self.label or labels.get(method, "CIDATA"),
            attach=attach,
            template=self.template,
            extra=self.extra,
            archive=self.archive,
            mime=self.mime,
            mode=self.mode,
            joliet=self.joliet,
            size_mb=self.size,
            partition=self.partition,
        )


class StepFields(FileModel):
    """A way to do something: exactly one of the five channels, its word alone for the command as it is."""

    exec: str | None = Field(None, description="in the guest; `{command}` is what the user asked for")
    ssh: str | None = Field(None, description="over SSH")
    serial: str | None = Field(None, description="on the serial console")
    file: str | None = Field(None, description="path of a file in the guest")
    netconf: str | None = Field(None, description="datastore: `running`")
    prompt: str = Field("", description="prompt of the command line at which it is typed (ssh, serial)")
    finish: list[str] = Field([], description="lines typed after a text was handed over")
    parse: Literal["", "iol-nvram"] = Field("", description="how bytes become text")
    timeout: Annotated[float, Field(ge=0)] = Field(0, description="seconds on native speed; 0: the caller's")

    def value(self) -> Step:
        channel: Any = _kind(self, _STEPS)
        return Step(
            channel=channel,
            run=getattr(self, channel) or ("running" if channel == "netconf" else "{command}"),
            prompt=self.prompt,
            finish=tuple(self.finish),
            parse=self.parse,
            timeout_s=self.timeout,
        )


Steps = list[Annotated[StepFields, exactly_one_of(*_STEPS)]]


class ExtractFields(FileModel):
    """How the running configuration is read out."""

    steps: Steps = Field(description="ways to read it; tried in turn")
    begins: Regex = Field("", description="first line that belongs to it")
    ends: Regex = Field("", description="last line that belongs to it; without it the text is not complete")
    drop: list[Regex] = Field([], description="lines that change without a change of the configuration")
    refuse: list[Regex] = Field([], description="lines that show that it is no configuration")

    def value(self) -> Extract:
        return Extract(
            steps=tuple(step.value() for step in self.steps),
            begins=self.begins,
            ends=self.ends,
            drop=tuple(self.drop),
            refuse=tuple(self.refuse),
        )


class GuestFields(FileModel):
    """What a device says of its guest, and a provider may say otherwise. Each list is a fallback chain."""

    console: list[Annotated[ConsoleFields, exactly_one_of("exec", "serial")]] | None = Field(
        None, description="what `console` opens"
    )
    ready: ReadyFields | None = Field(None, description="when a node counts as ready")
    day0: list[Annotated[Day0Fields, exactly_one_of(*_METHODS)]] | None = Field(
        None, description="how the startup configuration gets in; the first way that the provider has"
    )
    run: Steps | None = Field(None, description="how `exec` runs a command; tried in turn")
    extract: ExtractFields | None = Field(None, description="how the running configuration is read out")
    load: Steps | None = Field(None, description="how a configuration is loaded into a running node; tried in turn")
    post_boot: list[str] | None = Field(None, description="commands run once per boot when the node is ready")

    def guest(self) -> dict[str, Any]:
        """Fields of :class:`~wireloom.model.device.ProviderSupport`; ``None`` where nothing is said."""
        chains = {
            name: None if written is None else tuple(item.value() for item in written)
            for name, written in (
                ("console", self.console), ("day0", self.day0), ("run", self.run), ("load", self.load),
            )
        }  # fmt: skip
        return {
            **chains,
            "ready": None if self.ready is None else self.ready.value(),
            "extract": None if self.extract is None else self.extract.value(),
            "post_boot": None if self.post_boot is None else tuple(self.post_boot),
        }
