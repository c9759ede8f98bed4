"""Devices of the user: added, overridden, hidden, and what is wrong with one leaves the others as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from wireloom.devices import DeviceCatalogue, DeviceFolder
from wireloom.devices.describe import device_details, purposes
from wireloom.errors import Conflict, InvalidInput, NotFound
from wireloom.model.device import Day0, Probe, ProviderSupport, Readiness, Step
from wireloom.model.diagnostic import Diagnostic

BOX = """
name: box
vendor: Acme
aliases: [crate]
ports: {name: "Ethernet{n}", management: mgmt0, limit: 8}
cli: talk
hardware:
  cpu: {default: 2, minimum: 1}
  memory: {default: 2GiB, minimum: 1GiB}
providers:
  libvirt:
    image: box.qcow2
    settings: {disk_bus: ide, nic_model: e1000}
    run: [serial]
"""
TALK = """
name: talk
home: user
prompts: {user: '\\S+>'}
"""


@pytest.fixture
def folder(tmp_path: Path) -> DeviceFolder:
    return DeviceFolder(tmp_path / "devices")


@pytest.fixture
def boxed(folder: DeviceFolder) -> DeviceFolder:
    folder.add(TALK, kind="cli", source="talk.yaml")
    folder.add(BOX, kind="device", source="box.yaml")
    return folder


def mistakes(error: InvalidInput) -> list[str]:
    return [Diagnostic.model_validate(item).message for item in error.details["diagnostics"]]


def write(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "devices" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_folder_that_is_not_there_holds_nothing(folder: DeviceFolder) -> None:
    catalogue = folder.catalogue()
    assert catalogue.names() == DeviceCatalogue.load().names()
    assert catalogue.problems == ()


def test_an_added_device_is_found_by_its_words_in_any_case(boxed: DeviceFolder) -> None:
    catalogue = boxed.catalogue()
    assert catalogue.get("Crate").name == "box"
    assert catalogue.get("BOX").cli is not None
    assert not catalogue.entry("box").builtin


def test_a_device_with_mistakes_is_refused_with_all_of_them_and_not_stored(folder: DeviceFolder) -> None:
    wrong = BOX.replace("vendor", "vendr").replace("minimum: 1}", "minimum: 3}")
    with pytest.raises(InvalidInput) as caught:
        folder.add(wrong, kind="device", source="box.yaml")
    assert "unknown key 'vendr'" in mistakes(caught.value)
    assert folder.catalogue().find("box") is None


def test_checking_stores_nothing(folder: DeviceFolder) -> None:
    assert folder.check(TALK, kind="cli", source="t.yaml") == "talk"
    with pytest.raises(InvalidInput, match="there is no command line 'talk'"):
        folder.check(BOX, kind="device", source="box.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("aliases: [crate]", "aliases: [frrouting]"), "the name 'frrouting' is taken by"),
        (("image: box.qcow2", "image: box:latest"), "image 'box:latest' is not one that libvirt can run"),
        (("libvirt:", "libvrt:"), "there is no provider 'libvrt'"),
        (("minimum: 1}", "minimum: 3}"), "the default 2 is below the minimum 3"),
        (("minimum: 1}", "maximum: 1}"), "the default 2 is above the maximum 1"),
        (("limit: 8", "limit: 8}\nx: {"), "unknown key 'x'"),
        (("run: [serial]", "run: [{serial: x, prompt: top}]"), "there is no prompt 'top'"),
        (("run: [serial]", "needs: [gpu]"), "'gpu' is nothing that hosts tell of themselves"),
        (("run: [serial]", "day0: [serial]"), "`serial` uses the `load` steps, and there are none"),
        (("run: [serial]", "hardware: {min-ports: 9}"), "the device has only 8 data ports"),
    ],
)
def test_what_could_not_work_is_a_mistake(folder: DeviceFolder, change: tuple[str, str], message: str) -> None:
    folder.add(TALK, kind="cli", source="talk.yaml")
    with pytest.raises(InvalidInput) as caught:
        folder.check(BOX.replace(*change), kind="device", source="box.yaml")
    assert any(message in found for found in mistakes(caught.value)), mistakes(caught.value)


def test_an_override_merges_mappings_replaces_lists_and_turns_off_with_null(boxed: DeviceFolder) -> None:
    boxed.add(
        "name: box\naliases: [kiste]\nhardware: {memory: {default: 4GiB}}\nports: {management: null}\n"
        "providers:\n  libvirt: {settings: {disk_bus: null, nic_model: virtio}}\n  docker: {image: acme/box}\n",
        kind="override",
        source="anything.yaml",
    )
    device = boxed.catalogue().get("box")
    assert device.aliases == ("kiste",)
    assert (device.hardware.memory_mb.default, device.hardware.memory_mb.minimum) == (4096, 1024)
    assert device.ports.management is None
    assert device.providers["libvirt"].settings == {"nic_model": "virtio"}
    assert device.providers["docker"].image == "acme/box"
    assert device.default_provider == "libvirt"


def test_an_override_of_a_built_in_device_is_named_by_its_file_and_can_be_taken_back(folder: DeviceFolder) -> None:
    built_in = folder.catalogue().get("frr").hardware
    name = folder.add("hardware: {spare-ports: 9}", kind="override", source="frr.yaml")
    assert name == "frr"
    assert folder.catalogue().get("frr").hardware.spare_ports == 9
    folder.remove("frr", kind="override")
    assert folder.catalogue().get("frr").hardware == built_in


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("hardware: {memory: {default: 1MB}}", "must be at least 4", 1),
        ("\n\nhardwear: 1", "unknown key 'hardwear'", 3),
        ("name: nobody\n", "there is no device 'nobody' to override", 1),
        ("- 1", "an override is a mapping of keys to values", 1),
    ],
)
def test_a_wrong_override_is_refused_with_its_own_line(boxed: DeviceFolder, text: str, message: str, line: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        boxed.check(text, kind="override", source="box.yaml")
    found = [Diagnostic.model_validate(item) for item in caught.value.details["diagnostics"]]
    assert {(item.line, item.file) for item in found} == {(line, "box.yaml")}
    assert any(message in item.message for item in found)


def test_broken_files_are_named_and_everything_else_is_served(tmp_path: Path, boxed: DeviceFolder) -> None:
    write(tmp_path, "frr.yaml", "name: frr\nproviders: 3\n")
    write(tmp_path, "torn.yaml", "a: [")
    write(tmp_path, "overrides/linux.yaml", "hardware: {cpu: lots}")
    write(tmp_path, "cli/odd.yaml", "name: odd\nprompts: {user: '('}\n")
    (tmp_path / "devices" / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    catalogue = boxed.catalogue()
    assert {Path(item.file).name for item in catalogue.problems} == {
        "frr.yaml", "torn.yaml", "linux.yaml", "odd.yaml", "binary.yaml",
    }  # fmt: skip
    assert catalogue.entry("frr").builtin
    assert catalogue.get("linux").hardware == DeviceCatalogue.load().get("linux").hardware
    assert catalogue.find("box") is not None


def test_something_sound_can_be_added_beside_broken_files(tmp_path: Path, folder: DeviceFolder) -> None:
    write(tmp_path, "torn.yaml", "a: [")
    assert folder.add(TALK, kind="cli", source="talk.yaml") == "talk"


def test_a_command_line_that_a_device_needs_stays(boxed: DeviceFolder) -> None:
    with pytest.raises(Conflict, match="there is no command line 'talk'"):
        boxed.remove("talk", kind="cli")
    with pytest.raises(InvalidInput):
        boxed.add(TALK.replace("\\S+>", "("), kind="cli", source="talk.yaml")
    boxed.remove("box", kind="device")
    boxed.remove("talk", kind="cli")
    assert "talk" not in boxed.catalogue().clis


def test_a_command_line_may_build_on_the_built_in_one_of_its_name(folder: DeviceFolder) -> None:
    name = next(iter(folder.catalogue().clis))
    folder.add(f"name: {name}\nextends: {name}\noverall-timeout: 4321\n", kind="cli", source="x.yaml")
    changed = folder.catalogue().clis[name]
    assert changed.overall_timeout_s == 4321
    assert changed.prompts == DeviceCatalogue.load().clis[name].prompts


def test_only_ones_own_files_can_be_removed(folder: DeviceFolder) -> None:
    with pytest.raises(NotFound) as caught:
        folder.remove("frr", kind="device")
    assert "hide" in caught.value.hint


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden"])
def test_a_name_never_leaves_the_folder(folder: DeviceFolder, name: str) -> None:
    with pytest.raises(InvalidInput):
        folder.add(BOX.replace("name: box", f"name: {name}"), kind="device", source="x.yaml")


def test_hidden_is_remembered_and_can_be_taken_back(folder: DeviceFolder) -> None:
    folder.set_hidden("frrouting", True)
    folder.set_hidden("linux", True)
    folder.set_hidden("linux", False)
    catalogue = folder.catalogue()
    assert (catalogue.get("frr").hidden, catalogue.get("linux").hidden) == (True, False)
    with pytest.raises(NotFound):
        folder.set_hidden("nobody", True)


def test_every_value_says_where_it_comes_from(tmp_path: Path, boxed: DeviceFolder) -> None:
    override = "hardware: {memory: {default: 4GiB}}\nproviders: {libvirt: {settings: {disk_bus: null}}}"
    boxed.add(override, kind="override", source="box.yaml")
    details = device_details(boxed.catalogue(), "box")
    origins = {item.path: item.origin for item in details.values}
    own, over = str(tmp_path / "devices" / "box.yaml"), str(tmp_path / "devices" / "overrides" / "box.yaml")
    assert (origins["providers.libvirt.hardware.cpu.default"].layer, details.file) == ("device", own)
    assert origins["providers.libvirt.hardware.memory.default"].where == over
    assert origins["providers.libvirt.hardware.memory.minimum"].where == own
    assert origins["providers.libvirt.hardware.spare-ports"].layer == "default"
    assert origins["providers.libvirt.settings.disk_bus"].off
    assert origins["providers.libvirt.settings.nic_model"].where == own
    assert (details.device.origin, details.device.overridden, details.cli) == ("own", True, "talk")


def said(device: str, provider: str) -> dict[str, str]:
    catalogue = DeviceCatalogue.load()
    return purposes(catalogue.get(device).on(provider), catalogue.rule(provider))


def test_purposes_are_said_with_their_chains() -> None:
    assert {"console", "ready", "startup configuration", "commands"} <= set(said("frr", "docker"))


def test_only_the_ways_that_a_provider_has_are_said() -> None:
    container, machine = said("frr", "docker"), said("frr", "libvirt")
    assert container["commands"].startswith("exec")
    for how in machine.values():
        assert "exec" not in how
        assert "file" not in how
    assert machine["console"] == "serial line 0"


def test_the_time_of_an_emulated_guest_is_said_where_there_are_any() -> None:
    assert "emulated" not in said("frr", "docker")["ready"]
    ready = DeviceCatalogue.load().get("frr").on("libvirt").ready
    assert ready is not None
    slow = f"within {ready.timeout_s:g} s ({ready.timeout_s * ready.slow_factor:g} s where it is emulated)"
    assert said("frr", "libvirt")["ready"].endswith(slow)


def test_no_time_is_said_for_an_emulation_that_cannot_be() -> None:
    ready = Readiness(probes=(Probe(kind="exec"), Probe(kind="log")), timeout_s=100)
    rule = DeviceCatalogue.load().rule("libvirt")
    support = ProviderSupport(image="i", ready=ready, needs=("nested",))
    assert purposes(support, rule) == {"ready": "log, within 100 s"}
    nothing = ProviderSupport(image="i", ready=Readiness(probes=(Probe(kind="exec"),)))
    assert purposes(nothing, rule) == {}


def test_a_configuration_is_typed_only_where_there_is_a_way_to_type_it() -> None:
    rule = DeviceCatalogue.load().rule("libvirt")
    day0 = (Day0(method="file", path="/a"), Day0(method="serial"))
    silent = ProviderSupport(image="i", day0=day0, load=(Step(channel="exec"),))
    assert purposes(silent, rule) == {}
    typed = ProviderSupport(image="i", day0=day0, load=(Step(channel="exec"), Step(channel="serial")))
    assert purposes(typed, rule) == {"startup configuration": "serial", "loading": "serial"}


def test_a_catalogue_for_some_words_knows_these_devices_as_the_whole_one_does(folder: DeviceFolder) -> None:
    whole = folder.catalogue()
    for device in whole:
        some = folder.catalogue_for([word.upper() for word in (device.name, *device.aliases)])
        assert some.get(device.name) == device
        assert len(some) < 10


def test_a_catalogue_for_unknown_words_or_beside_own_files_is_the_whole_one(boxed: DeviceFolder) -> None:
    assert len(boxed.catalogue_for(["frr"])) == len(boxed.catalogue())
    assert "box" in boxed.catalogue_for(["frr"]).names()
    empty = DeviceFolder(Path("/nonexistent"))
    assert len(empty.catalogue_for(["frr", "frrr"])) == len(empty.catalogue())
