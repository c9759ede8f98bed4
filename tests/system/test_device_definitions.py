"""Every device's machine is one that the host's own libvirt takes: defined with validation, never started."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.model.device import Day0, Hardware
from wireloom.model.identity import Identity
from wireloom.model.runtime import Medium, RuntimeSpec
from wireloom.model.slice import PortIntent
from wireloom.providers.libvirt.acceleration import Acceleration
from wireloom.providers.libvirt.render import HostFeatures, render_domain
from wireloom.providers.libvirt.settings import LibvirtSettings, parse_settings

#: Settings, size, and how the startup configuration gets in.
Machine = tuple[LibvirtSettings, Hardware, Day0 | None]

HOST = HostFeatures(Acceleration("tcg", ""), libvirt_version=9_000_000)


def machines() -> dict[str, Machine]:
    """Each different machine of the catalogue, by the first device that has it."""
    found: dict[str, Machine] = {}
    for device in DeviceCatalogue.load():
        if "libvirt" not in device.providers:
            continue
        support, hardware = device.on("libvirt"), device.hardware_on("libvirt")
        machine = (parse_settings(support.settings), hardware, next(iter(support.day0 or ()), None))
        if machine not in found.values():
            found[device.name] = machine
        for member in device.members:
            found[f"{device.name}-{member.name}"] = (parse_settings(member.settings), member.hardware, None)
    return found


def _media(day0: Day0 | None) -> tuple[Medium, ...]:
    if day0 is None or day0.method == "serial":
        return ()
    if day0.method == "fat":
        return (Medium(kind="fat", path="/n/media/day0.img", attach=day0.attach),)
    return (Medium(kind="iso", path="/n/media/day0.iso", attach=day0.attach),) if day0.method != "bind" else ()


@pytest.fixture(scope="module")
def connection() -> Iterator[libvirt.virConnect]:
    opened = libvirt.open("qemu:///system")
    yield opened
    opened.close()


@pytest.mark.parametrize(("name", "machine"), machines().items(), ids=list(machines()))
def test_the_hosts_libvirt_takes_the_machine(connection: libvirt.virConnect, name: str, machine: Machine) -> None:
    settings, hardware, day0 = machine
    spec = RuntimeSpec(
        identity=Identity(
            installation="definitions", lab_id="lab", lab="definitions", node_id=uuid.uuid4().hex[:12], node=name
        ),
        incarnation=1,
        spec_hash="cafe",
        hostname="r1",
        image="system.qcow2",
        cpu=hardware.cpu.default,
        memory_mb=int(hardware.memory_mb.default),
        ports=tuple(
            PortIntent(
                index=index,
                name=f"p{index}",
                guest_name=f"eth{index}",
                device=f"wlp{index}",
                mac=f"02:00:00:00:00:0{index}",
            )
            for index in range(3)
        ),
        folder=Path("/n"),
        media=_media(day0),
    )
    domain = connection.defineXMLFlags(render_domain(spec, settings, HOST), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
