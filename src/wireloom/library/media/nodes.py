"""A node definition of a reference platform as a device: its file, and what of it could not be taken over. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wireloom.library.media.day0 import Day0Plan, container_run, fixed_files, plan_day0
from wireloom.library.media.definitions import LinuxNative, NodeDefinition
from wireloom.library.media.devicetext import as_pattern, as_yaml, compact, is_safe_pattern
from wireloom.library.media.portnames import PortPlan, plan_ports
from wireloom.model.device import Day0, Device

__all__ = ["PROVIDERS", "DeviceText", "additions", "as_device", "as_variant", "problem_of"]

#: The platform's way to run a node, and ours.
PROVIDERS: Final[Mapping[str, str]] = {"kvm": "libvirt", "docker": "docker"}

_FAMILIES: Final = {
    "router": "router", "switch": "switch", "firewall": "firewall", "wireless": "wireless", "server": "host",
    "host": "host",
}  # fmt: skip
_ICONS: Final = {"router", "switch", "firewall", "host", "wireless", "controller"}
_NOBODY: Final = {"other", "others", ""}
_DISKS: Final = {"virtio", "ide", "sata", "scsi"}
_NICS: Final = {
    "virtio": "virtio", "e1000": "e1000", "e1000e": "e1000e", "rtl8139": "rtl8139", "vmxnet3": "vmxnet3",
    "i82557a": "i82559er", "i82557b": "i82559er", "i82557c": "i82559er", "i82558a": "i82559er",
    "i82558b": "i82559er", "i82559a": "i82559er", "i82559b": "i82559er", "i82559c": "i82559er",
    "i82559er": "i82559er", "i82562": "i82559er", "i82550": "i82559er", "i82551": "i82559er",
    "pcnet": "pcnet", "ne2k_pci": "ne2k_pci",
}  # fmt: skip
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SMBIOS: Final = re.compile(r"smbios\.(bios|system|baseBoard|chassis)\.([A-Za-z0-9][A-Za-z0-9._+-]{0,63})")
_KERNEL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,10}\{[ni]\}")
_LEAST_TIMEOUT_S: Final = 120
_LARGEST_DISK_GB: Final = 4096
_EXTRACT_TIMEOUT_S: Final = 60


@dataclass(frozen=True)
class DeviceText:
    """:ivar text: the device file. :ivar warnings: what of the definition is not in it."""

    name: str
    text: str
    warnings: tuple[str, ...] = ()


def problem_of(definition: NodeDefinition) -> str:
    """Why no device can be made of it; empty: one can."""
    native = definition.sim.linux_native
    if native.libvirt_domain_driver in PROVIDERS:
        return ""
    if native.driver in {"external_connector", "unmanaged_switch"}:
        return "it is no machine: a segment of the topology does what it does"
    return f"nodes of the kind {native.libvirt_domain_driver!r} are not run here"


def as_device(definition: NodeDefinition, name: str, clis: Collection[str]) -> DeviceText:
    """A device of its own for it.

    :param clis: names of command lines that device files can use.
    """
    provider = PROVIDERS[definition.sim.linux_native.libvirt_domain_driver]
    interfaces = definition.device.interfaces
    ports = plan_ports(interfaces.physical, interfaces.management)
    built = _machine(definition) if provider == "libvirt" else _container(definition, ports)
    cli = definition.pyats.os if definition.pyats.os in clis else ""
    device: dict[str, Any] = {
        "name": name,
        "title": definition.title,
        "vendor": "" if definition.ui.group.casefold() in _NOBODY else definition.ui.group,
        "family": _FAMILIES.get(definition.general.nature, "any"),
        "icon": definition.ui.icon if definition.ui.icon in _ICONS else _icon(definition),
        "ports": {**ports.fields(), **built.ports},
        "hardware": _hardware(definition, ports),
        "access": compact({"username": definition.pyats.username, "password": definition.pyats.password}),
        "cli": cli,
        "console": built.console,
        "ready": _ready(definition),
        "day0": [built.day0.entry] if built.day0.entry else [],
        "run": [*built.run, *(["serial"] if cli else [])],
        "extract": _extract(definition, cli),
        "post-boot": built.commands,
        "default-config": built.day0.config,
        **_origin(definition),
        "providers": {provider: compact(built.support)},
    }
    warnings = (*ports.warnings, *built.warnings, *built.day0.warnings)
    return DeviceText(name, as_yaml(compact(device), _comment(definition, warnings)), warnings)


def additions(definition: NodeDefinition, device: Device) -> dict[str, str]:
    """Files that the definition puts on the CD of a device that we have, and that this one does not know."""
    first = device.day0[0] if device.day0 else None
    if first is None or first.method != "iso":
        return {}
    known = {first.path, *first.extra}
    return {
        path: text for path, text in fixed_files(definition.configuration.provisioning).items() if path not in known
    }


def as_variant(definition: NodeDefinition, name: str, device: Device) -> DeviceText:
    """``device`` with the files that the definition adds to its CD."""
    first = device.day0[0]
    entry = {"iso": first.path, "label": first.label, **_said(first)}
    entry["extra"] = {**first.extra, **additions(definition, device)}
    variant = {
        "name": name,
        "extends": device.name,
        "title": f"{device.title} with the files of its platform",
        "day0": [entry],
        **_origin(definition),
    }
    return DeviceText(name, as_yaml(compact(variant), _comment(definition, ())))


def _said(first: Day0) -> dict[str, Any]:
    plain = Day0(method="iso")
    values = {"attach": first.attach, "template": first.template, "mime": first.mime, "joliet": first.joliet}
    return {key: value for key, value in values.items() if value != getattr(plain, key)}


def _origin(definition: NodeDefinition) -> dict[str, Any]:
    return {
        "recognise": {"cml": [definition.id]},
        "sources": [f"Node definition {definition.id} of a reference platform that you imported"],
        "notes": definition.ui.description.strip() or definition.general.description.strip(),
    }


def _comment(definition: NodeDefinition, warnings: Sequence[str]) -> list[str]:
    return [f"Made of the node definition {definition.id}.", *(f"Not taken over: {text}." for text in warnings)]


def _icon(definition: NodeDefinition) -> str:
    family = _FAMILIES.get(definition.general.nature, "")
    return family if family in _ICONS else "box"


# ------------------------------------------------------------------ both technologies


@dataclass(frozen=True)
class _Built:
    """What depends on the technology. ``support`` is the entry of ``providers``."""

    support: dict[str, Any]
    console: list[dict[str, Any]]
    day0: Day0Plan
    run: list[str]
    ports: dict[str, Any]
    commands: list[str]
    warnings: tuple[str, ...]


def _hardware(definition: NodeDefinition, ports: PortPlan) -> dict[str, Any]:
    native = definition.sim.linux_native
    nics = definition.device.interfaces.min_count - ports.reserved - (1 if ports.naming.management else 0)
    hardware: dict[str, Any] = {"cpu": native.cpus or 1, "memory": max(native.ram, 4) if native.ram else 1024}
    if native.boot_disk_size:
        hardware["disk"] = {"default": native.boot_disk_size}
    if ports.reserved:
        hardware["reserved-ports"] = ports.reserved
    if nics > 0:
        hardware["min-ports"] = min(nics, ports.naming.limit)
    return hardware


def _ready(definition: NodeDefinition) -> dict[str, Any]:
    boot = definition.boot
    patterns = [text if boot.uses_regex and is_safe_pattern(text) else as_pattern(text) for text in boot.completed]
    chain: list[Any] = [{"log": "|".join(f"(?:{text})" for text in patterns)}] if patterns else ["running"]
    # The platform counts a node as booted when this time is over; here, one that is not ready by then has failed.
    return {"timeout": max(boot.timeout, _LEAST_TIMEOUT_S), "chain": chain}


def _extract(definition: NodeDefinition, cli: str) -> dict[str, Any]:
    command = definition.pyats.config_extract_command
    return {"steps": [{"serial": command, "timeout": _EXTRACT_TIMEOUT_S}]} if cli and command else {}


def _container(definition: NodeDefinition, ports: PortPlan) -> _Built:
    run = container_run(definition.configuration.provisioning)
    shell = shlex.split(run.shell, posix=True) if _is_command(run.shell) else ["/bin/sh"]
    privileged = bool(run.settings.get("privileged"))
    named = _KERNEL_NAME.fullmatch(ports.naming.name) is not None
    return _Built(
        support={
            "needs": ["privileged"] if privileged else [],
            "settings": compact(run.settings),
            "env": run.env,
        },
        console=[{"exec": shell}, {"serial": 0}],
        day0=run.day0,
        run=["exec"],
        # The image's own scripts look for NICs by these names.
        ports={"guest": ports.naming.name} if named else {},
        commands=[shlex.join(command) for command in run.commands],
        warnings=run.warnings,
    )


def _is_command(text: str) -> bool:
    try:
        return bool(shlex.split(text))
    except ValueError:
        return False


# ------------------------------------------------------------------ machines


def _machine(definition: NodeDefinition) -> _Built:
    native = definition.sim.linux_native
    serials = definition.device.interfaces.serial_ports
    warnings: list[str] = []
    settings = {
        **_board(native, warnings),
        **_processor(native, warnings),
        "nic_model": _nic(native, warnings),
        "serials": serials,
        "smbios": _smbios(definition.sim.parameters, warnings),
    }
    if native.video.model not in {"", "none"}:
        settings["video"] = "vnc"
    if not native.enable_rng:
        settings["rng"] = False
    if native.enable_tpm:
        warnings.append("its TPM")
    if native.data_volume:
        settings["extra_disks"] = [{"size_gb": min(native.data_volume, _LARGEST_DISK_GB)}]
    console = min(definition.device.interfaces.default_console, serials - 1)
    return _Built(
        support={"settings": compact(settings)},
        console=[{"serial": min(console, 3)}] if serials else [],
        day0=plan_day0(definition.configuration.provisioning),
        run=["ssh"],
        ports={},
        commands=[],
        warnings=tuple(warnings),
    )


def _board(native: LinuxNative, warnings: list[str]) -> dict[str, Any]:
    machine = native.machine_type if _WORD.fullmatch(native.machine_type) else "pc"
    disk = native.disk_driver if native.disk_driver in _DISKS else "virtio"
    if native.disk_driver not in {"", disk}:
        warnings.append(f"its disk bus {native.disk_driver}")
    if "q35" in machine and disk == "ide":
        disk = "sata"
    board: dict[str, Any] = {"machine": machine, "disk_bus": disk}
    if native.efi_boot:
        board["firmware"] = "uefi"
        # Without a word on variables the platform lets the guest write into its copy of the firmware.
        board["uefi_nvram"] = native.efi_vars != "stateless"
    return board


def _nic(native: LinuxNative, warnings: list[str]) -> str:
    model = _NICS.get(native.nic_driver)
    if model is None:
        warnings.append(f"its NIC model {native.nic_driver or '(none)'}")
    return model or "e1000"


def _processor(native: LinuxNative, warnings: list[str]) -> dict[str, Any]:
    """``host,+vmx,-smep`` as model and features. What is added is optional, so that emulated guests start, too."""
    model, *flags = [word.strip() for word in native.cpu_model.split(",")]
    found: dict[str, Any] = {}
    if model and _WORD.fullmatch(model):
        found["cpu_model"] = {"host": "host-passthrough", "max": "maximum"}.get(model, model)
    features: dict[str, str] = {}
    for flag in flags:
        if flag[:1] in {"+", "-"} and _WORD.fullmatch(flag[1:]):
            features[flag[1:]] = "optional" if flag[0] == "+" else "disable"
        else:
            warnings.append(f"its processor's {flag[:40]!r}")
    return {**found, "cpu_features": features}


def _smbios(parameters: Mapping[str, str], warnings: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for key, value in parameters.items():
        place = _SMBIOS.fullmatch(key)
        if place is None:
            warnings.append(f"its parameter {key[:40]!r}")
        else:
            found.setdefault(place[1], {})[place[2]] = value
    return found
