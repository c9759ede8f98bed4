"""GNS3 appliance files: which files they are about, and the devices that they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_rig import taken_in

from wireloom.day0.templates import render
from wireloom.devices import DeviceCatalogue, DeviceFolder
from wireloom.library import media
from wireloom.library.identify import identify
from wireloom.library.values import Facts, ImageRefused
from wireloom.model.device import Device
from wireloom.providers.docker.settings import DockerSettings
from wireloom.providers.libvirt.settings import parse_settings

CATALOGUE = DeviceCatalogue.load()
MD5 = "0123456789abcdef0123456789abcdef"

MACHINE: dict[str, Any] = {
    "name": "Acme Gateway",
    "category": "firewall",
    "vendor_name": "Acme",
    "registry_version": 4,
    "usage": "Log in as admin.\nThere is no password.",
    "first_port_name": "Management",
    "port_name_format": "Gi0/{0}",
    "qemu": {
        "adapter_type": "virtio-net-pci", "adapters": 8, "ram": 2048, "cpus": 2, "hda_disk_interface": "sata",
        "console_type": "vnc", "bios_image": "OVMF-20160813.fd", "options": "-nographic", "arch": "x86_64",
    },
    "images": [
        {"filename": "acme-gw-2.1.qcow2", "version": "2.1", "md5sum": MD5, "filesize": 1000},
        {"filename": "acme-gw-2.0.qcow2", "version": "2.0", "md5sum": MD5[::-1], "filesize": 900},
        {"filename": "acme-data.qcow2", "version": "1", "filesize": 100},
        {"filename": "old.img", "version": "0"},
    ],
    "versions": [
        {"name": "2.1", "images": {"hda_disk_image": "acme-gw-2.1.qcow2", "hdb_disk_image": "acme-data.qcow2"}},
        {"name": "2.0", "images": {"hda_disk_image": "acme-gw-2.0.qcow2"}},
        {"name": "0", "images": {"hda_disk_image": "old.img"}},
    ],
}  # fmt: skip

CONTAINER: dict[str, Any] = {
    "name": "Tool Box",
    "category": "guest",
    "registry_version": 4,
    "docker": {
        "adapters": 3, "image": "example/toolbox:latest", "console_type": "telnet",
        "start_command": "/bin/sh -c 'exec top'", "environment": "MODE=lab\nBRACES={{x}}\nnot a pair",
    },
}  # fmt: skip


def read(said: dict[str, Any]) -> media.Appliance:
    return media.gns3(json.dumps(said), CATALOGUE)


def made(said: dict[str, Any]) -> Device:
    """The device of an appliance, as device files are read."""
    return taken_in(read(said).device)


def test_a_machine_becomes_a_device_that_our_schema_takes() -> None:
    device = made(MACHINE)
    assert (device.name, device.title, device.vendor) == ("acme-gateway", "Acme Gateway", "Acme")
    assert device.family == "firewall"
    assert device.ports.displays() == ("Management", *(f"Gi0/{n}" for n in range(7)))
    assert (device.hardware.cpu.default, device.hardware.memory_mb.default) == (2, 2048)
    assert device.notes == "Log in as admin.\nThere is no password."
    settings = parse_settings(device.providers["libvirt"].settings)
    assert (settings.nic_model, settings.disk_bus, settings.video) == ("virtio", "sata", "vnc")
    assert (settings.firmware, settings.uefi_nvram) == ("uefi", True)


def test_what_is_not_taken_over_is_said() -> None:
    appliance = read(MACHINE)
    assert appliance.warnings == ("not taken over: its options for the emulator",)
    assert "# Not taken over: its options for the emulator." in appliance.device


def test_a_container_becomes_a_device_that_our_schema_takes() -> None:
    device = made(CONTAINER)
    support = device.providers["docker"]
    assert support.image == "example/toolbox:latest"
    assert DockerSettings.parse(support.settings).command == ["/bin/sh", "-c", "exec top"]
    assert {key: render(text, {}) for key, text in support.env.items()} == {"MODE": "lab", "BRACES": "{{x}}"}
    assert (device.ports.kernel(1), device.ports.kernel(3), device.ports.management) == ("eth0", "eth2", None)


def test_the_newer_form_of_the_file_is_read() -> None:
    said = {
        "name": "Newer", "category": "router", "registry_version": 8,
        "settings": [
            {"template_type": "docker", "template_properties": {"image": "x:1", "adapters": 1}},
            {"template_type": "qemu", "default": True, "template_properties": {
                "adapters": 12, "port_name_format": "Ethernet{segment0}/{port0}", "port_segment_size": 4, "ram": 512,
            }},
        ],
        "images": [], "versions": [],
    }  # fmt: skip
    appliance = read(said)
    assert "Ethernet{slot}/{port}" in appliance.device
    assert "libvirt:" in appliance.device


def test_an_appliance_that_we_have_a_device_for_is_that_device() -> None:
    appliance = read({**MACHINE, "name": "Cisco IOSv"})
    assert (appliance.serves, appliance.device, appliance.problem) == ("cisco_iosv", "", "")
    assert len(appliance.images) == 4


def test_the_next_import_knows_the_device_of_the_first(tmp_path: Path) -> None:
    own = DeviceFolder(tmp_path)
    own.add(read(MACHINE).device, kind="device", source="appliance.yaml")
    assert media.gns3(json.dumps(MACHINE), own.catalogue()).serves == "acme-gateway"


def test_images_of_the_appliance_are_known_from_then_on() -> None:
    device = made(MACHINE)
    found = identify(Facts(file="acme-gw-2.1.qcow2"), (*CATALOGUE, device))
    assert found[0].device == "acme-gateway"
    assert identify(Facts(file="acme-data.qcow2"), [device]) == ()


@pytest.mark.parametrize("kind", ["dynamips", "iou"])
def test_what_we_cannot_run_says_so(kind: str) -> None:
    appliance = read({"name": "Old Router", "category": "router", kind: {"ram": 128}, "images": []})
    assert (appliance.device, appliance.serves) == ("", "")
    assert "not run here" in appliance.problem


# ------------------------------------------------------------------ files


def test_a_file_is_known_by_its_digest_whatever_it_is_called() -> None:
    match = read(MACHINE).match(file="renamed.img", md5=MD5.upper(), size=1)
    assert match is not None
    assert (match.image.name, match.certain) == ("acme-gw-2.1.qcow2", True)


def test_another_digest_is_another_file_whatever_it_is_called() -> None:
    assert read(MACHINE).match(file="acme-gw-2.1.qcow2", md5="f" * 32, size=1000) is None


@pytest.mark.parametrize(
    ("file", "size", "name"),
    [
        ("acme-gw-2.1.qcow2", 1000, "acme-gw-2.1.qcow2"),
        ("ACME-GW-2.1.QCOW2", 1000, "acme-gw-2.1.qcow2"),
        ("acme-gw-2.1 (1).qcow2", 1000, "acme-gw-2.1.qcow2"),
        ("acme-gw-2.1.qcow2", 0, "acme-gw-2.1.qcow2"),
        ("acme-gw-2.1.qcow2", 999, None),
        ("old.img", 5, "old.img"),
        ("other.img", 1000, None),
        ("", 1000, None),
    ],
)
def test_without_a_digest_name_and_size_tell_and_are_not_certain(file: str, size: int, name: str | None) -> None:
    match = read(MACHINE).match(file=file, size=size)
    assert (match.image.name if match else None) == name
    assert match is None or not match.certain


def test_which_files_a_node_boots_from() -> None:
    assert [image.name for image in read(MACHINE).images if not image.boots] == ["acme-data.qcow2"]


# ------------------------------------------------------------------ hostile files

HOSTILE = {
    "empty": ("", "manifest"),
    "no JSON": ("{", "manifest"),
    "a list": ("[]", "manifest"),
    "no name": ("{}", "manifest"),
    "deep": ("[" * 200_000, "bomb"),
    "large": (" " * (3 << 20), "size"),
    "line feed in name": (json.dumps({"name": "a\nb"}), "manifest"),
    "path": (json.dumps({"name": "a", "images": [{"filename": "../../etc/passwd"}]}), "manifest"),
    "control characters": (json.dumps({"name": "a", "images": [{"filename": "a\x1b[2J"}]}), "manifest"),
    "digest": (json.dumps({"name": "a", "images": [{"filename": "a", "md5sum": "x"}]}), "manifest"),
    "size": (json.dumps({"name": "a", "images": [{"filename": "a", "filesize": -1}]}), "manifest"),
    "adapters": (json.dumps({"name": "a", "qemu": {"adapters": 10**9}}), "manifest"),
    "number": ('{"name": "a", "qemu": {"ram": ' + "9" * 10_000 + "}}", "manifest"),
}


@pytest.mark.parametrize(("text", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_for_its_own_reason(text: str, reason: str) -> None:
    with pytest.raises(ImageRefused) as caught:
        media.gns3(text, CATALOGUE)
    assert caught.value.details["reason"] == reason


TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]) | st.just(" "), max_size=40)


@settings(max_examples=25, deadline=None)
@given(name=TEXTS.filter(bool), pattern=TEXTS, first=TEXTS, adapters=st.integers(0, 20), usage=st.text(max_size=80))
def test_any_texts_make_a_device_that_our_schema_takes(
    name: str, pattern: str, first: str, adapters: int, usage: str
) -> None:
    said = {
        "name": name, "category": "router", "port_name_format": pattern, "first_port_name": first, "usage": usage,
        "qemu": {"adapters": adapters, "ram": 64},
    }  # fmt: skip
    appliance = read(said)
    assert appliance.serves or taken_in(appliance.device).name == appliance.name
