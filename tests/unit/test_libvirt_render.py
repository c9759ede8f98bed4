"""Domain XML: whole definitions against golden files, and the rules that no golden file shows.

Set ``WIRELOOM_UPDATE_GOLDEN=1`` to write the files anew, then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from wireloom.errors import InvalidInput, Unsupported
from wireloom.model.identity import Identity
from wireloom.model.runtime import Medium, RuntimeSpec
from wireloom.model.slice import PortIntent
from wireloom.providers.libvirt.acceleration import Acceleration
from wireloom.providers.libvirt.layout import check_paths
from wireloom.providers.libvirt.metadata import read_labels, read_run
from wireloom.providers.libvirt.qemu_img import BaseImage
from wireloom.providers.libvirt.render import HostFeatures, domain_uuid, render_domain
from wireloom.providers.libvirt.settings import parse_settings

GOLDEN = Path(__file__).parent / "golden" / "libvirt"

EMULATED = HostFeatures(Acceleration("tcg", ""), libvirt_version=9_000_000)
NATIVE = HostFeatures(Acceleration("kvm", ""), libvirt_version=9_000_000)
OLD = HostFeatures(Acceleration("tcg", ""), libvirt_version=7_000_000)
WHOLE_FRAMES = HostFeatures(Acceleration("tcg", ""), libvirt_version=9_000_000, whole_frames=True)
NO_DIRECT_IO = HostFeatures(Acceleration("tcg", ""), libvirt_version=9_000_000, direct_io=False)
OPEN_BASE = HostFeatures(
    Acceleration("tcg", ""), libvirt_version=9_000_000, base=BaseImage(Path("/images/frr.qcow2"), "qcow2", 1 << 30)
)

PORTS = tuple(
    PortIntent(
        index=index,
        name=f"eth{index}",
        guest_name=f"eth{index}",
        device=f"wlp00000000000{index}",
        mac=f"02:00:00:00:00:0{index}",
        role=role,
    )
    for index, role in ((2, "spare"), (0, "mgmt"), (1, "data"))  # out of order on purpose
)

XRV9000: dict[str, Any] = {
    "firmware": "uefi",
    "serials": 4,
    "smbios": {"system": {"manufacturer": "cisco", "product": "Cisco IOS XRv 9000"}},
    "cpu_features": {"smep": "disable", "smap": "disable"},
}
LEGACY: dict[str, Any] = {
    "machine": "pc-i440fx-6.2",
    "cpu_model": "Nehalem",
    "disk_bus": "ide",
    "nic_model": "e1000",
    "nic_rom": True,
    "rng": False,
    "video": "vnc",
}
MODERN: dict[str, Any] = {
    "machine": "q35",
    "firmware": "uefi",
    "uefi_nvram": True,
    "cdrom_bus": "scsi",
    "nic_offload": False,
    "extra_disks": [{"size_gb": 256}, {"size_gb": 0.5, "bus": "sata"}],
}
SMBIOS: dict[str, Any] = {"smbios": {"system": {"manufacturer": "Juniper", "product": "other"}}}
BIG_IP: dict[str, Any] = {
    "smm": False,
    "nic_model": "virtio",
    "mgmt_nic_model": "e1000",
    "extra_disks": [{"size_gb": 50, "serial": "data-1"}],
}
MEDIA = (
    Medium(kind="iso", path="/n/media/day0.iso"),
    Medium(kind="fat", path="/n/media/day0.img", attach="usb"),
    Medium(kind="fat", path="/n/media/day0.img", attach="disk"),
)


def spec(**changes: Any) -> RuntimeSpec:
    base = RuntimeSpec(
        identity=Identity(installation="inst", lab_id="lab-id", lab="lab", node_id="0123456789ab", node="r1"),
        incarnation=1,
        spec_hash="cafe",
        hostname="r1",
        image="frr.qcow2",
        cpu=1,
        memory_mb=256,
        ports=PORTS,
        folder=Path("/n"),
    )
    return base.model_copy(update=changes)


CASES = [
    ("default-emulated", spec(), {}, EMULATED),
    ("default-native", spec(cpu=1.5, media=MEDIA[:1]), {}, NATIVE),
    ("xrv9000", spec(cpu=4, memory_mb=16384), XRV9000, NATIVE),
    ("legacy", spec(media=MEDIA[:1]), LEGACY, EMULATED),
    ("modern", spec(media=MEDIA[:2]), MODERN, EMULATED),
    ("second-disk", spec(media=MEDIA[2:], smbios={"system.product": "VM-VMX"}), SMBIOS, EMULATED),
    ("big-ip", spec(), BIG_IP, NATIVE),
    ("no-direct-io", spec(ports=()), {}, NO_DIRECT_IO),
    ("open-base", spec(ports=()), {}, OPEN_BASE),
]


def render(made: RuntimeSpec, settings: dict[str, Any] | None = None, host: HostFeatures = EMULATED) -> ET.Element:
    return ET.fromstring(render_domain(made, parse_settings(settings or {}), host))  # noqa: S314 (our own)


@pytest.mark.parametrize(("name", "made", "settings", "host"), CASES, ids=[case[0] for case in CASES])
def test_the_definition_is_the_golden_one(
    name: str, made: RuntimeSpec, settings: dict[str, Any], host: HostFeatures
) -> None:
    text = render_domain(made, parse_settings(settings), host)
    file = GOLDEN / f"{name}.xml"
    if os.environ.get("WIRELOOM_UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize(("bus", "read_only"), [("virtio", True), ("scsi", True), ("ide", False), ("sata", False)])
def test_a_medium_that_is_a_disk_sits_on_the_bus_of_the_system_disk(bus: str, *, read_only: bool) -> None:
    disks = render(spec(media=MEDIA[2:]), {"disk_bus": bus}).findall("devices/disk")
    assert [target.get("bus") for disk in disks for target in disk.iter("target")] == [bus, bus]
    assert (disks[1].find("readonly") is not None) == read_only


@pytest.mark.parametrize("name", ["product", "system.", "nothing.product", "system.pro duct", ".product"])
def test_an_smbios_entry_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="no SMBIOS entry"):
        render(spec(smbios={name: "x"}))


def test_nic_order_is_port_order() -> None:
    devices = [target.get("dev") for target in render(spec()).findall("devices/interface/target")]
    assert devices == ["wlp000000000000", "wlp000000000001", "wlp000000000002"]


def test_only_spare_ports_begin_without_a_cable() -> None:
    assert [link.get("state") for link in render(spec()).findall("devices/interface/link")] == ["up", "up", "down"]


def test_reserved_ports_come_where_the_guest_counts_them_without_a_cable() -> None:
    shared = {"name": "x", "guest_name": "x"}
    ports = [
        PortIntent(index=1, device="wlp1", mac="02:00:00:00:00:01", role="data", position=2, **shared),
        PortIntent(index=-1, device="wlp9", mac="02:00:00:00:00:09", role="reserved", position=1, **shared),
        PortIntent(index=0, device="wlp0", mac="02:00:00:00:00:00", role="mgmt", position=0, **shared),
    ]
    nics = render(spec(ports=tuple(ports))).findall("devices/interface")
    assert [nic.find("alias").get("name") for nic in nics] == ["ua-port0", "ua-port-1", "ua-port1"]  # type: ignore[union-attr]
    assert [nic.find("link").get("state") for nic in nics] == ["up", "down", "up"]  # type: ignore[union-attr]


def test_guest_finishes_its_frames_where_nobody_else_would() -> None:
    whole = render(spec(), host=WHOLE_FRAMES).findall("devices/interface/driver/host")
    assert [driver.get("csum") for driver in whole] == ["off"] * 3
    assert render(spec()).find("devices/interface/driver") is None
    assert render(spec(), {"nic_model": "e1000"}, WHOLE_FRAMES).find("devices/interface/driver") is None


def test_the_guest_agent_has_its_channel_only_where_it_is_asked_for() -> None:
    assert render(spec()).find("devices/channel") is None
    channel = render(spec(), {"guest_agent": True}).find("devices/channel")
    assert channel is not None
    sources = [(child.tag, dict(child.attrib)) for child in channel]
    assert sources == [
        ("source", {"mode": "bind", "path": str(spec().folder / "console" / "agent.sock")}),
        ("target", {"type": "virtio", "name": "org.qemu.guest_agent.0"}),
    ]


def test_labels_are_read_back() -> None:
    labels = read_labels(render(spec()))
    assert labels is not None
    assert (labels.identity, labels.incarnation, labels.spec_hash) == (spec().identity, 1, "cafe")
    assert read_run(render(spec())) is None


def test_a_foreign_domain_has_no_labels() -> None:
    assert read_labels(ET.Element("domain")) is None


def test_data_cannot_break_out_of_its_place() -> None:
    hostile = "</label><devices/>&\"'<!--"
    identity = spec().identity.model_copy(update={"lab": hostile})
    domain = render(spec(identity=identity))
    labels = read_labels(domain)
    assert labels is not None
    assert labels.identity.lab == hostile
    assert len(domain.findall("devices")) == 1


def test_uuid_follows_installation_node_and_incarnation_only() -> None:
    first = domain_uuid(spec())
    assert domain_uuid(spec(spec_hash="other", image="linux.qcow2")) == first
    other_installation = spec().identity.model_copy(update={"installation": "other"})
    assert len({first, domain_uuid(spec(incarnation=2)), domain_uuid(spec(identity=other_installation))}) == 3


@pytest.mark.parametrize(("cpu", "vcpus", "quota"), [(1, "1", None), (0.5, "1", "50000"), (2.5, "3", "250000")])
def test_cpu_is_whole_processors_and_a_limit_for_a_fraction(cpu: float, vcpus: str, quota: str | None) -> None:
    domain = render(spec(cpu=cpu))
    assert domain.findtext("vcpu") == vcpus
    assert domain.findtext("cputune/global_quota") == quota


def test_an_old_libvirt_gets_no_element_that_it_does_not_know() -> None:
    assert render(spec(), host=OLD).find("features/tcg") is None


def test_firmware_without_variables_is_refused_where_libvirt_would_add_them() -> None:
    with pytest.raises(Unsupported):
        render(spec(), XRV9000, OLD)


@pytest.mark.parametrize(
    "settings",
    [
        {"machin": "pc"},
        {"machine": "pc'/>"},
        {"serials": 9},
        {"nic_model": "wifi"},
        {"machine": "q35", "disk_bus": "ide"},
        {"extra_disks": [{"size_gb": 0}]},
        {"uefi_loader": "relative.fd"},
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_settings(settings)
    assert caught.value.details["problems"]


def test_a_folder_too_deep_for_a_socket_is_refused_early() -> None:
    check_paths(spec(folder=Path("/" + "x" * 80)))
    with pytest.raises(InvalidInput):
        check_paths(spec(folder=Path("/" + "x" * 100)))
