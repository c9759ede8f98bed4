"""The device catalogue: what is built in, and mistakes in device files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.errors import InvalidInput, NotFound
from wireloom.model.device import Device
from wireloom.model.diagnostic import Diagnostic

GOOD = """
name: box
aliases: [crate]
ports: {name: "Ethernet{n}", management: null, limit: 8}
hardware:
  cpu: 2
  memory: {default: 2GiB, minimum: 1GiB}
providers:
  libvirt:
    image: box.qcow2
    settings: {disk_bus: ide}
    console: [{serial: 0}]
    ready: {timeout: 300, chain: [{log: "login:"}, {ssh: show version, expect: uptime}, {tcp: 22}]}
    day0: [{iso: box.cfg, label: config, extra: {hostname: "{hostname}"}}]
    run: [{ssh: "{command}"}, exec]
"""


@pytest.fixture(scope="module")
def catalogue() -> DeviceCatalogue:
    return DeviceCatalogue.load()


def load(folder: Path, **files: str) -> DeviceCatalogue:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return DeviceCatalogue.load([folder])


def mistakes(folder: Path, **files: str) -> list[Diagnostic]:
    with pytest.raises(InvalidInput) as caught:
        load(folder, **files)
    return [Diagnostic.model_validate(item) for item in caught.value.details["diagnostics"]]


def test_the_reference_devices_are_built_in(catalogue: DeviceCatalogue) -> None:
    assert {"frr", "linux", "generic"} <= set(catalogue.names())
    assert catalogue.get("frrouting").name == "frr"
    assert len(catalogue) == len(list(catalogue))


def test_every_device_runs_on_the_simulated_provider(catalogue: DeviceCatalogue) -> None:
    assert all("simulated" in device.providers for device in catalogue)


def test_reference_images_fit_the_providers_that_they_are_for(catalogue: DeviceCatalogue) -> None:
    for device in catalogue:
        for name, support in device.providers.items():
            rule = catalogue.rules[name]
            if support.image and rule.image_pattern:
                assert re.fullmatch(rule.image_pattern, support.image), (device.name, name)


@pytest.mark.parametrize("provider", ["docker", "libvirt"])
@pytest.mark.parametrize("name", ["frr", "linux"])
def test_reference_devices_have_the_same_facilities_on_both_technologies(
    catalogue: DeviceCatalogue, name: str, provider: str
) -> None:
    support = catalogue.get(name).on(provider)
    assert support.console
    assert support.ready is not None
    assert support.ready.probes
    assert support.day0
    assert support.run


def test_an_unknown_device_is_said_with_what_was_meant(catalogue: DeviceCatalogue) -> None:
    with pytest.raises(NotFound) as caught:
        catalogue.get("linx")
    assert caught.value.hint == "did you mean 'linux'?"
    assert catalogue.find("linx") is None


def test_a_device_file_becomes_a_device(tmp_path: Path) -> None:
    device: Device = load(tmp_path, box=GOOD).get("crate")
    assert (device.name, device.title, device.default_provider) == ("box", "box", "libvirt")
    assert device.hardware_on("libvirt").memory_mb.minimum == 1024
    assert device.ports.management is None
    support = device.providers["libvirt"]
    assert support.ready is not None
    assert [probe.kind for probe in support.ready.probes] == ["log", "ssh", "tcp"]
    assert [(step.channel, step.run) for step in support.run] == [("ssh", "{command}"), ("exec", "{command}")]
    assert support.day0[0].method == "iso"


def test_the_size_on_a_provider_is_the_devices_where_nothing_else_is_said(tmp_path: Path) -> None:
    text = GOOD.replace("image: box.qcow2", "image: box.qcow2\n    hardware: {memory: 3GiB, min-ports: 4}")
    hardware = load(tmp_path, box=text).get("box").hardware_on("libvirt")
    assert (hardware.memory_mb.default, hardware.memory_mb.minimum, hardware.min_ports) == (3072, 1024, 4)
    assert hardware.cpu.default == 2


def test_a_folder_of_the_user_replaces_a_built_in_device(tmp_path: Path) -> None:
    catalogue = load(tmp_path, frr=GOOD.replace("name: box", "name: frr", 1))
    assert catalogue.get("frr").hardware.cpu.default == 2
    assert catalogue.find("frrouting") is None


@pytest.mark.parametrize(
    ("text", "line", "message", "suggestion"),
    [
        ("", 1, "the file is empty, where a device was expected", ""),
        ("name: x\n", 1, "'providers' is missing", "add `providers: …`"),
        (GOOD.replace("hardware:", "hardwear:"), 5, "unknown key 'hardwear'", "did you mean 'hardware'?"),
        (GOOD.replace("minimum: 1GiB", "minimum: tiny"), 7, "'tiny' is not an amount of memory", "write 512MB"),
        (GOOD.replace("{n}", "{m}"), 4, "'Ethernet{m}' uses unknown {m}", "known are {n}, {i}, {slot}, {port}"),
        (GOOD.replace("{n}", "{n"), 4, "'Ethernet{n' is not a template", ""),
        (GOOD.replace("Ethernet{n}", "Ethernet"), 4, "two ports get the name 'ethernet'", "use {n}"),
        (GOOD.replace('"login:"', '"login(:"'), 13, "'login(:' is not a regular expression", ""),
        (GOOD.replace("{tcp: 22}", "{tcp: 22, log: x}"), 13, "exactly one of running, log, serial, exec, ssh, tcp", ""),
        (GOOD.replace("name: box", "name: Box!"), 2, "'Box!' is not fit for a name", "use lower-case"),
        (GOOD + "default-provider: libvrt\n", 16, "'libvrt' is not among the providers", "did you mean 'libvirt'?"),
        (GOOD.replace("aliases", "name: y\naliases"), 3, "'name' is given twice", "keep one"),
        ("a: [", 1, "this is not YAML", ""),
        ("- 1", 1, "a device is a mapping of keys to values", ""),
    ],
)
def test_mistakes_in_a_device_file_are_said_with_their_place(
    tmp_path: Path, text: str, line: int, message: str, suggestion: str
) -> None:
    found = mistakes(tmp_path, box=text)
    wanted = [item for item in found if message in item.message]
    assert wanted, found
    assert wanted[0].line == line
    assert suggestion in wanted[0].suggestion
    assert wanted[0].file.endswith("box.yaml")


def test_a_name_taken_by_another_file_is_a_mistake(tmp_path: Path) -> None:
    found = mistakes(tmp_path, a=GOOD, b=GOOD.replace("name: box", "name: other"))
    assert [item.message for item in found] == [f"the name 'crate' is taken by {tmp_path / 'a.yaml'}"]


def test_mistakes_of_all_files_come_at_once(tmp_path: Path) -> None:
    found = mistakes(tmp_path, a="- 1", b="{}")
    assert {Path(item.file).name for item in found} == {"a.yaml", "b.yaml"}


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        DeviceCatalogue.load([tmp_path])


@pytest.mark.parametrize(
    ("provider", "image", "fits"),
    [
        ("docker", "alpine", True),
        ("docker", "quay.io/frrouting/frr:10.2.1", True),
        ("docker", "localhost:5000/team/frr:v1", True),
        ("docker", "frr@sha256:" + "0" * 64, True),
        ("docker", "sha256:" + "a" * 64, True),
        ("docker", "router.qcow2", False),
        ("docker", "disks/router.QCOW2", False),
        ("docker", "with space", False),
        ("libvirt", "router.qcow2", True),
        ("libvirt", "/srv/images/vios-adventerprisek9-m.spa.159-3.m6.qcow2", True),
        ("libvirt", "disk.img", True),
        ("libvirt", "quay.io/frrouting/frr:10.2.1", False),
    ],
)
def test_image_names_tell_which_provider_they_are_for(
    catalogue: DeviceCatalogue, provider: str, image: str, fits: bool
) -> None:
    assert (re.fullmatch(catalogue.rules[provider].image_pattern, image) is not None) is fits
