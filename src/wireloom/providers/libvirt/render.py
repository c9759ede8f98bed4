"""Domain XML as a pure function of the runtime's spec, its settings and what the host offers.

Data goes into an element tree, never into text, so no name, path or label can break out of its place.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args
from xml.etree import ElementTree as ET

from wireloom.errors import InvalidInput, Unsupported
from wireloom.model.runtime import Medium, RuntimeSpec
from wireloom.model.slice import PortIntent
from wireloom.providers.libvirt import layout
from wireloom.providers.libvirt.acceleration import Acceleration
from wireloom.providers.libvirt.metadata import node_element
from wireloom.providers.libvirt.qemu_img import BaseImage
from wireloom.providers.libvirt.settings import LibvirtSettings, SmbiosBlock

__all__ = ["AGENT_CHANNEL", "HostFeatures", "domain_uuid", "port_alias", "render_domain"]

#: Name by which the QEMU guest agent finds its channel.
AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"

#: Period of the CPU bandwidth limit in microseconds (the kernel's own default).
_CPU_PERIOD_US: Final = 100_000

#: Translation buffer of an emulated guest in MiB; QEMU's own default costs 90 MB more per VM and gains nothing here.
_TCG_BUFFER_MIB: Final = 64

_TCG_BUFFER_SINCE: Final = 8_000_000
_STATELESS_FIRMWARE_SINCE: Final = 8_006_000

#: QEMU has no read-only disks on these; the medium is made anew with the node.
_WRITABLE_BUSES: Final = frozenset({"ide", "sata"})

_TARGET_PREFIX: Final = {"virtio": "vd", "ide": "hd", "sata": "sd", "scsi": "sd", "usb": "sd"}

_DOMAINS: Final = uuid.UUID("5a7b1c6e-6f0d-5f1c-9a3e-1f6b1d0f8c11")


@dataclass(frozen=True)
class HostFeatures:
    """What the host offers to a domain.

    :ivar libvirt_version: as ``virConnectGetLibVersion`` counts, e.g. 9000000.
    :ivar direct_io: the file systems of the disks take ``O_DIRECT``.
    :ivar whole_frames: whatever a guest sends has to be finished: nobody computes a checksum for it.
    :ivar base: the image, where the emulator's user can read it as it is: it stays its owner's. Else libvirt gives the
        file to that user, who could write to it.
    """

    acceleration: Acceleration
    libvirt_version: int
    direct_io: bool = True
    whole_frames: bool = False
    base: BaseImage | None = None


def domain_uuid(spec: RuntimeSpec) -> str:
    """The domain's UUID: a function of installation, node and incarnation, so a second create finds the first."""
    text = f"{spec.identity.installation}/{spec.identity.node_id}/{spec.incarnation}"
    return str(uuid.uuid5(_DOMAINS, text))


def port_alias(index: int) -> str:
    """The alias by which the NIC of port ``index`` is found in a domain (libvirt keeps names that begin ``ua-``)."""
    return f"ua-port{index}"


def render_domain(spec: RuntimeSpec, settings: LibvirtSettings, host: HostFeatures) -> str:
    """The definition of the domain for ``spec``, indented, ending with a line feed.

    :raises Unsupported: the host's libvirt is too old for what the settings ask.
    """
    domain = ET.Element("domain", {"type": "kvm" if host.acceleration.kind == "kvm" else "qemu"})
    _text(domain, "name", spec.name)
    _text(domain, "uuid", domain_uuid(spec))
    _text(domain, "title", f"{spec.identity.lab}/{spec.identity.node}")
    ET.SubElement(domain, "metadata").append(node_element(spec))
    _text(domain, "memory", str(spec.memory_mb), unit="MiB")
    _processors(domain, spec)
    _firmware(domain, spec, settings, host)
    _features(domain, settings, host)
    _cpu(domain, spec, settings, host)
    ET.SubElement(domain, "clock", {"offset": "utc"})
    for name, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(domain, name, action)
    domain.append(_devices(spec, settings, host))
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _vcpus(spec: RuntimeSpec) -> int:
    return max(1, math.ceil(spec.cpu))


def _processors(domain: ET.Element, spec: RuntimeSpec) -> None:
    _text(domain, "vcpu", str(_vcpus(spec)))
    if spec.cpu < _vcpus(spec):
        tune = ET.SubElement(domain, "cputune")
        _text(tune, "global_period", str(_CPU_PERIOD_US))
        _text(tune, "global_quota", str(max(1000, round(spec.cpu * _CPU_PERIOD_US))))


def _firmware(domain: ET.Element, spec: RuntimeSpec, settings: LibvirtSettings, host: HostFeatures) -> None:
    smbios = _smbios(spec, settings)
    if smbios:
        info = ET.SubElement(domain, "sysinfo", {"type": "smbios"})
        for block, entries in sorted(smbios.items()):
            element = ET.SubElement(info, block)
            for name, value in sorted(entries.items()):
                _text(element, "entry", value, name=name)
    os = ET.SubElement(domain, "os")
    _text(os, "type", "hvm", arch="x86_64", machine=settings.machine)
    if settings.firmware == "uefi":
        _uefi(os, spec, settings, host)
    if smbios:
        ET.SubElement(os, "smbios", {"mode": "sysinfo"})


def _smbios(spec: RuntimeSpec, settings: LibvirtSettings) -> dict[str, dict[str, str]]:
    """Entries by block: those of the settings, and over them those that carry the node's configuration."""
    merged: dict[str, dict[str, str]] = {block: dict(entries) for block, entries in settings.smbios.items()}
    for name, value in spec.smbios.items():
        block, _, entry = name.partition(".")
        if block not in get_args(SmbiosBlock) or not entry.isalpha():
            raise InvalidInput(
                f"there is no SMBIOS entry {name!r}",
                hint=f"a block ({', '.join(get_args(SmbiosBlock))}), a dot and a name, e.g. system.product",
                node=spec.identity.node,
            )
        merged.setdefault(block, {})[entry] = value
    return merged


def _uefi(os: ET.Element, spec: RuntimeSpec, settings: LibvirtSettings, host: HostFeatures) -> None:
    if settings.uefi_nvram:
        _text(os, "loader", settings.uefi_loader, readonly="yes", type="pflash")
        _text(os, "nvram", str(layout.nvram(spec)), template=settings.uefi_nvram_template)
        return
    if host.libvirt_version < _STATELESS_FIRMWARE_SINCE:
        raise Unsupported(
            "this host's libvirt cannot start UEFI firmware without a variable store",
            hint="set uefi_nvram: true, or use libvirt 8.6 or newer",
            node=spec.identity.node,
        )
    _text(os, "loader", settings.uefi_loader, readonly="yes", type="pflash", stateless="yes")


def _features(domain: ET.Element, settings: LibvirtSettings, host: HostFeatures) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if settings.smm is not None:
        ET.SubElement(features, "smm", {"state": "on" if settings.smm else "off"})
    if host.acceleration.kind == "tcg" and host.libvirt_version >= _TCG_BUFFER_SINCE:
        _text(ET.SubElement(features, "tcg"), "tb-cache", str(_TCG_BUFFER_MIB), unit="MiB")


def _cpu(domain: ET.Element, spec: RuntimeSpec, settings: LibvirtSettings, host: HostFeatures) -> None:
    model = settings.cpu_model or ("host-passthrough" if host.acceleration.kind == "kvm" else "maximum")
    if model == "host-passthrough" and host.acceleration.kind == "tcg":
        model = "maximum"  # the emulator's nearest equivalent
    if model in {"host-passthrough", "host-model", "maximum"}:
        cpu = ET.SubElement(domain, "cpu", {"mode": model})
    else:
        cpu = ET.SubElement(domain, "cpu", {"mode": "custom", "match": "exact", "check": "none"})
        _text(cpu, "model", model, fallback="forbid")
    if _vcpus(spec) > 1:
        topology = {"sockets": "1", "dies": "1", "cores": str(_vcpus(spec)), "threads": "1"}
        ET.SubElement(cpu, "topology", topology)
    for name, policy in sorted(settings.cpu_features.items()):
        ET.SubElement(cpu, "feature", {"policy": policy, "name": name})


def _devices(spec: RuntimeSpec, settings: LibvirtSettings, host: HostFeatures) -> ET.Element:
    devices = ET.Element("devices")
    disks = [*_disks(spec, settings, host), *_media(spec, settings)]
    _name_targets(disks)
    devices.extend(disks)
    devices.extend(_controllers(disks))
    ports = sorted(spec.ports, key=lambda port: (port.position, port.index))
    devices.extend(_interface(port, settings, host) for port in ports)
    devices.extend(_serial(spec, line) for line in range(settings.serials))
    if settings.guest_agent:
        devices.append(_guest_agent(spec))
    devices.extend(_graphics(spec, settings))
    if settings.rng:
        rng = ET.SubElement(devices, "rng", {"model": "virtio"})
        _text(rng, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "memballoon", {"model": "none"})
    return devices


def _disks(spec: RuntimeSpec, settings: LibvirtSettings, host: HostFeatures) -> Iterator[ET.Element]:
    system = _disk(layout.system_disk(spec), settings.disk_bus, host)
    if host.base is not None:
        system.append(_untouched(host.base))
    ET.SubElement(system, "boot", {"order": "1"})
    yield system
    for number, extra in enumerate(settings.extra_disks):
        disk = _disk(layout.extra_disk(spec, number), extra.bus or settings.disk_bus, host)
        if extra.serial is not None:
            _text(disk, "serial", extra.serial)
        yield disk


def _untouched(base: BaseImage) -> ET.Element:
    """What a disk stands on, left to its owner."""
    below = ET.Element("backingStore", {"type": "file"})
    ET.SubElement(below, "format", {"type": base.format})
    source = ET.SubElement(below, "source", {"file": str(base.path)})
    ET.SubElement(source, "seclabel", {"model": "dac", "relabel": "no"})
    ET.SubElement(below, "backingStore")  # and nothing below that
    return below


def _disk(path: Path, bus: str, host: HostFeatures) -> ET.Element:
    # Direct I/O: a page cache between guests and a shared base has corrupted disks. Where the file system has none,
    # write-through keeps the same guarantee, slower.
    cache, io = ("none", "native") if host.direct_io else ("writethrough", "threads")
    disk = ET.Element("disk", {"type": "file", "device": "disk"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": "qcow2", "cache": cache, "io": io, "discard": "unmap"})
    ET.SubElement(disk, "source", {"file": str(path)})
    ET.SubElement(disk, "target", {"bus": bus})
    return disk


def _media(spec: RuntimeSpec, settings: LibvirtSettings) -> Iterator[ET.Element]:
    for medium in spec.media:
        yield _medium(medium, settings)


def _medium(medium: Medium, settings: LibvirtSettings) -> ET.Element:
    """A CD-ROM, a USB stick, or a disk beside the system disk and on its bus."""
    bus = {"cdrom": settings.media_bus, "usb": "usb", "disk": settings.disk_bus}[medium.attach]
    device = "cdrom" if medium.attach == "cdrom" else "disk"
    disk = ET.Element("disk", {"type": "file", "device": device})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": "raw"})
    ET.SubElement(disk, "source", {"file": medium.path})
    ET.SubElement(disk, "target", {"bus": bus})
    if device == "cdrom" or bus not in _WRITABLE_BUSES:
        ET.SubElement(disk, "readonly")
    return disk


def _name_targets(disks: list[ET.Element]) -> None:
    """Give each disk its device name (vda, hda, …); it is an ordering hint to libvirt and seen by no guest."""
    used: Counter[str] = Counter()
    for disk in disks:
        target = disk.find("target")
        if target is not None:
            prefix = _TARGET_PREFIX[target.attrib["bus"]]
            target.set("dev", prefix + chr(ord("a") + used[prefix]))
            used[prefix] += 1


def _controllers(disks: list[ET.Element]) -> Iterator[ET.Element]:
    buses = {target.get("bus") for disk in disks for target in disk.iter("target")}
    if "scsi" in buses:
        yield ET.Element("controller", {"type": "scsi", "index": "0", "model": "virtio-scsi"})
    usb = "qemu-xhci" if "usb" in buses else "none"
    yield ET.Element("controller", {"type": "usb", "index": "0", "model": usb})


def _interface(port: PortIntent, settings: LibvirtSettings, host: HostFeatures) -> ET.Element:
    interface = ET.Element("interface", {"type": "ethernet"})
    ET.SubElement(interface, "mac", {"address": port.mac})
    ET.SubElement(interface, "target", {"dev": port.device, "managed": "no"})
    model = settings.mgmt_nic_model if port.index == 0 and settings.mgmt_nic_model else settings.nic_model
    ET.SubElement(interface, "model", {"type": model})
    if model == "virtio" and (host.whole_frames or not settings.nic_offload):
        driver = ET.SubElement(interface, "driver")
        off = {"csum": "off", "tso4": "off", "tso6": "off", "ecn": "off", "ufo": "off"}
        ET.SubElement(driver, "host", off | {"gso": "off"})
        ET.SubElement(driver, "guest", off)
    ET.SubElement(interface, "link", {"state": "down" if port.role in {"spare", "reserved"} else "up"})
    ET.SubElement(interface, "alias", {"name": port_alias(port.index)})
    ET.SubElement(interface, "rom", {"enabled": "yes" if settings.nic_rom else "no"})
    return interface


def _serial(spec: RuntimeSpec, line: int) -> ET.Element:
    serial = ET.Element("serial", {"type": "unix"})
    ET.SubElement(serial, "source", {"mode": "bind", "path": str(layout.serial_socket(spec, line))})
    ET.SubElement(serial, "log", {"file": str(layout.serial_log(spec, line)), "append": "on"})
    ET.SubElement(serial, "target", {"type": "isa-serial", "port": str(line)})
    return serial


def _guest_agent(spec: RuntimeSpec) -> ET.Element:
    channel = ET.Element("channel", {"type": "unix"})
    ET.SubElement(channel, "source", {"mode": "bind", "path": str(layout.agent_socket(spec))})
    ET.SubElement(channel, "target", {"type": "virtio", "name": AGENT_CHANNEL})
    return channel


def _graphics(spec: RuntimeSpec, settings: LibvirtSettings) -> Iterator[ET.Element]:
    if settings.video == "none":
        return
    yield ET.Element("graphics", {"type": "vnc", "socket": str(layout.vnc_socket(spec))})
    video = ET.Element("video")
    ET.SubElement(video, "model", {"type": "vga"})
    yield video
