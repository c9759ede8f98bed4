"""What libvirt's thread does with domains: each function takes the connection and blocks; none keeps anything.

They are passed to :meth:`Engine.call` and run nowhere else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import libvirt

from wireloom.errors import Conflict, InternalError, NotFound
from wireloom.model.runtime import RuntimeSpec, RuntimeStats
from wireloom.providers.libvirt.metadata import RUN_NAMESPACE, Labels, Run, read_labels, read_run
from wireloom.providers.libvirt.render import domain_uuid

__all__ = [
    "Domain",
    "begin_anew",
    "define",
    "describe",
    "disk_files",
    "existing",
    "find",
    "of_installation",
    "power_off",
    "power_on",
    "press_power_button",
    "read_domain",
    "release",
    "set_links",
    "stats",
    "undefine",
]

#: The reverse of ``port_alias``; reserved ports have numbers below 0.
_ALIAS: Final = re.compile(r"ua-port(-?[0-9]+)")

_UNDEFINE_EVERYTHING: Final = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


@dataclass(frozen=True)
class Domain:
    """A domain of ours as libvirt describes it now.

    ``devices`` and ``carriers`` are by port index; ``sockets`` and ``logs`` by serial line. ``disks`` are files.
    """

    uuid: str
    name: str
    labels: Labels
    run: Run | None
    state: int
    reason: int
    devices: Mapping[int, str] = field(default_factory=dict)
    carriers: Mapping[int, bool] = field(default_factory=dict)
    sockets: tuple[Path, ...] = ()
    logs: tuple[Path, ...] = ()
    disks: tuple[Path, ...] = ()

    @property
    def active(self) -> bool:
        return self.state not in {libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED}


def read_domain(xml: str, state: int, reason: int) -> Domain | None:
    """The domain that ``xml`` describes; ``None`` when it does not carry our labels."""
    root = ET.fromstring(xml)  # noqa: S314 (from libvirt)
    labels = read_labels(root)
    if labels is None:
        return None
    interfaces = list(_interfaces(root))
    serials = root.findall("devices/serial")
    return Domain(
        uuid=root.findtext("uuid", ""),
        name=root.findtext("name", ""),
        labels=labels,
        run=read_run(root),
        state=state,
        reason=reason,
        devices={index: _attribute(element, "target", "dev") for index, element in interfaces},
        carriers={index: _attribute(element, "link", "state") != "down" for index, element in interfaces},
        sockets=tuple(Path(_attribute(serial, "source", "path")) for serial in serials),
        logs=tuple(Path(_attribute(serial, "log", "file")) for serial in serials),
        disks=_disk_files(root),
    )


def _interfaces(root: ET.Element) -> Iterator[tuple[int, ET.Element]]:
    """The NICs that are ports, with their index."""
    for element in root.findall("devices/interface"):
        found = _ALIAS.fullmatch(_attribute(element, "alias", "name"))
        if found is not None:
            yield int(found[1]), element


def _disk_files(root: ET.Element) -> tuple[Path, ...]:
    return tuple(Path(source.attrib["file"]) for source in root.findall("devices/disk/source[@file]"))


def _attribute(element: ET.Element, tag: str, name: str) -> str:
    child = element.find(tag)
    return "" if child is None else child.get(name, "")


def describe(domain: libvirt.virDomain) -> Domain | None:
    state, reason = domain.state()
    return read_domain(domain.XMLDesc(), state, reason)


def of_installation(connection: libvirt.virConnect, installation: str) -> list[Domain]:
    """Every domain that carries the installation's label."""
    return [domain for domain in _labelled(connection) if domain.labels.identity.installation == installation]


def of_others(connection: libvirt.virConnect, installation: str) -> list[Domain]:
    """Every domain that carries the label of another installation."""
    return [domain for domain in _labelled(connection) if domain.labels.identity.installation != installation]


def _labelled(connection: libvirt.virConnect) -> list[Domain]:
    found = []
    for handle in connection.listAllDomains():
        try:
            domain = describe(handle)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # undefined meanwhile
                raise
            continue
        if domain is not None:
            found.append(domain)
    return found


def find(connection: libvirt.virConnect, uuid: str, installation: str) -> Domain | None:
    """The domain with this UUID, if it is the installation's."""
    try:
        domain = describe(connection.lookupByUUIDString(uuid))
    except libvirt.libvirtError as error:
        if error.get_error_code() in {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_INVALID_ARG}:
            return None
        raise
    ours = domain is not None and domain.labels.identity.installation == installation
    return domain if ours else None


def existing(connection: libvirt.virConnect, spec: RuntimeSpec) -> Domain | None:
    """The runtime, if it was made before. :raises Conflict: another one is in its place."""
    wanted = (domain_uuid(spec), spec.incarnation, spec.spec_hash)
    for domain in of_installation(connection, spec.identity.installation):
        if domain.labels.identity.node_id == spec.identity.node_id:
            if (domain.uuid, domain.labels.incarnation, domain.labels.spec_hash) == wanted:
                return domain
            raise Conflict(
                "another runtime of this node exists",
                hint="it is replaced after it has been destroyed",
                node=spec.identity.node,
                details={"runtime_id": domain.uuid},
            )
    try:
        other = connection.lookupByName(spec.name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return None
    raise Conflict(
        f"a virtual machine named {spec.name} exists and is not ours to touch",
        hint=f"rename or remove it: virsh undefine {spec.name}",
        node=spec.identity.node,
        details={"uuid": other.UUIDString()},
    )


def define(connection: libvirt.virConnect, spec: RuntimeSpec, xml: str) -> tuple[Domain, bool]:
    """Define the domain unless it exists; how libvirt sees it, and whether it is new."""
    domain = existing(connection, spec)
    if domain is not None:
        return domain, False
    handle = connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    defined = describe(handle)
    if defined is None:
        raise InternalError(f"the definition of {spec.name} has lost its labels")
    return defined, True


def undefine(connection: libvirt.virConnect, uuid: str) -> None:
    """Forget a domain that is off, with its saved state; idempotent."""
    try:
        connection.lookupByUUIDString(uuid).undefineFlags(_UNDEFINE_EVERYTHING)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


def power_on(connection: libvirt.virConnect, uuid: str, run: Run) -> None:
    """Start the emulator with the guest's CPUs held. A failed start leaves the record of the last run as it was."""
    domain = connection.lookupByUUIDString(uuid)
    previous = _run_metadata(domain)
    _record(domain, run.to_xml(), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    try:
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_FORCE_BOOT)
    except libvirt.libvirtError:
        _record(domain, previous, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        raise


def release(connection: libvirt.virConnect, uuid: str, run: Run) -> None:
    """Let the guest run, then mark it so: in the other order a crash in between would look like a suspended guest."""
    domain = connection.lookupByUUIDString(uuid)
    domain.resume()
    _record(domain, run.to_xml(), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def begin_anew(connection: libvirt.virConnect, uuid: str, run: Run) -> None:
    """The guest has rebooted in its emulator: ``run`` is its last start from now on, also after it is off."""
    domain = connection.lookupByUUIDString(uuid)
    _record(domain, Run(run.started_at).to_xml(), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    _record(domain, run.to_xml(), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _record(domain: libvirt.virDomain, run: str | None, flags: int) -> None:
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, run, "wireloom-run", RUN_NAMESPACE, flags)


def _run_metadata(domain: libvirt.virDomain) -> str | None:
    try:
        text: str = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, RUN_NAMESPACE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            raise
        return None
    return text


def power_off(connection: libvirt.virConnect, uuid: str) -> None:
    """End the emulator; idempotent."""
    try:
        domain = connection.lookupByUUIDString(uuid)
        if domain.isActive():
            domain.destroy()
    except libvirt.libvirtError as error:
        # It ended, or was removed, between the look and the deed.
        if error.get_error_code() not in {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID}:
            raise


def press_power_button(connection: libvirt.virConnect, uuid: str) -> None:
    """Ask the guest to shut down (ACPI). A guest without ACPI ignores it."""
    domain = connection.lookupByUUIDString(uuid)
    with contextlib.suppress(libvirt.libvirtError):  # a refused request is settled by power-off after the grace time
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


def set_links(connection: libvirt.virConnect, uuid: str, carriers: Mapping[int, bool]) -> None:
    """Plug or pull the cable of ports, now and for the next start."""
    domain = connection.lookupByUUIDString(uuid)
    if domain.isActive():
        _set_links(domain, carriers, 0, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    _set_links(domain, carriers, libvirt.VIR_DOMAIN_XML_INACTIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def _set_links(domain: libvirt.virDomain, carriers: Mapping[int, bool], which: int, flags: int) -> None:
    root = ET.fromstring(domain.XMLDesc(which))  # noqa: S314 (from libvirt)
    interfaces = dict(_interfaces(root))
    for index, carrier in sorted(carriers.items()):
        interface = interfaces.get(index)
        if interface is None:
            raise NotFound(f"the virtual machine has no port with index {index}")
        link = interface.find("link")
        if link is None:
            link = ET.SubElement(interface, "link", {"state": "up"})
        state = "up" if carrier else "down"
        if link.get("state") != state:
            link.set("state", state)
            domain.updateDeviceFlags(ET.tostring(interface, encoding="unicode"), flags)


def stats(connection: libvirt.virConnect, uuid: str) -> RuntimeStats:
    """CPU time and resident memory of the emulator; zero while it is off."""
    domain = connection.lookupByUUIDString(uuid)
    if not domain.isActive():
        return RuntimeStats(cpu_seconds=0, memory_bytes=0)
    cpu_ns = domain.info()[4]
    resident_kib = domain.memoryStats().get("rss", 0)
    return RuntimeStats(cpu_seconds=cpu_ns / 1e9, memory_bytes=resident_kib * 1024)


def disk_files(connection: libvirt.virConnect) -> list[Path]:
    """Disk files of every domain of the host, ours or not."""
    found: list[Path] = []
    for handle in connection.listAllDomains():
        root = ET.fromstring(handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))  # noqa: S314 (from libvirt)
        found += _disk_files(root)
    return found
