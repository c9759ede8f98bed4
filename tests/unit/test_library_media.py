"""Reference-platform CDs: what is offered, copied out, and made into devices that our own schema takes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from media_rig import ACME, DISK, FRR, IOSV, PLATFORM, SECTOR, Spoilt, build_cd, image_definition, taken_in, write_cd

from wireloom.day0 import build_medium, render_day0
from wireloom.day0.templates import render
from wireloom.devices import DeviceCatalogue, DeviceFolder
from wireloom.devices.catalogue import refuse_problems
from wireloom.devices.sources import Sources, SourceText, builtin_sources
from wireloom.errors import InvalidInput, NotFound
from wireloom.library import media
from wireloom.library.media.devicetext import as_template, as_yaml, device_name, is_safe_pattern
from wireloom.library.media.reader import read_medium
from wireloom.library.values import ImageRefused, Limits
from wireloom.model.device import Device
from wireloom.model.images import Offer
from wireloom.providers.docker.settings import DockerSettings
from wireloom.providers.libvirt.settings import parse_settings
from wireloom.yamlfile import Mapping as Tree
from wireloom.yamlfile import read_yaml

CATALOGUE = DeviceCatalogue.load()
LIMITS = Limits()


@pytest.fixture(scope="module")
def cd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cd(tmp_path_factory.mktemp("cd"))


@pytest.fixture(scope="module")
def offers(cd: Path) -> dict[str, Offer]:
    return {offer.key: offer for offer in media.offers(cd, CATALOGUE, LIMITS).offers}


def made(cd: Path, key: str) -> Device:
    """The device of a definition, as device files are read."""
    return taken_in(media.device(cd, key, CATALOGUE, LIMITS))


# ------------------------------------------------------------------ offers


def test_everything_on_the_cd_is_offered(offers: dict[str, Offer]) -> None:
    assert set(offers) == {
        "device:iosv", "device:acme-router", "device:cat9000v-uadp", "device:frr", "device:iol-xe",
        "device:external_connector", "image:iosv-159-3-m8", "image:acme-router-2-1", "image:frr-10-0",
        "image:iol-xe-17-12-01",
    }  # fmt: skip


def test_what_we_have_a_device_for_is_mapped_on_it(offers: dict[str, Offer]) -> None:
    assert offers["device:iosv"].device == "cisco_iosv"
    assert offers["device:iol-xe"].device == "iol-xe"
    image = offers["image:iosv-159-3-m8"]
    assert (image.device, image.size, image.needs, image.problem) == ("cisco_iosv", len(DISK), (), "")


def test_what_we_have_none_for_becomes_a_device_that_its_images_need(offers: dict[str, Offer]) -> None:
    assert offers["device:acme-router"].device == ""
    assert offers["device:acme-router"].problem == ""
    assert offers["image:acme-router-2-1"].needs == ("device:acme-router",)
    # Its container is run by scripts of the platform: another image of that name is not the same.
    assert offers["image:frr-10-0"].needs == ("device:frr",)


def test_what_is_no_machine_says_so(offers: dict[str, Offer]) -> None:
    assert "segment" in offers["device:external_connector"].problem


def test_the_cd_has_a_name(cd: Path) -> None:
    assert media.offers(cd, CATALOGUE, LIMITS).title == "Reference platform REFPLAT"


def test_the_next_import_knows_the_devices_of_the_first(cd: Path) -> None:
    platform = media.read_platform(cd, CATALOGUE, LIMITS)
    made_now = [platform.device(f"device:{name}") for name in ("acme-router", "frr", "cat9000v-uadp")]
    own = Sources(device=tuple(SourceText(f"{item.name}.yaml", item.text) for item in made_now if item is not None))
    catalogue = DeviceCatalogue.of(builtin_sources(), [own])
    refuse_problems(catalogue.problems)
    again = {offer.key: offer for offer in media.offers(cd, catalogue, LIMITS).offers}
    assert again["device:acme-router"].device == "acme-router"
    assert again["device:frr"].device == "cml-frr"
    assert again["device:cat9000v-uadp"].device == "cml-cat9000v-uadp"
    assert again["image:frr-10-0"].needs == ()
    assert media.device(cd, "device:acme-router", catalogue, LIMITS) == ""


@pytest.mark.parametrize("naming", ["rock-ridge", "joliet"])
def test_names_of_every_extension_are_read(tmp_path: Path, naming: str) -> None:
    path = write_cd(tmp_path, naming=naming)  # type: ignore[arg-type]
    medium = read_medium(path, LIMITS)
    assert {entry.definition.id for entry in medium.images} == {
        "iosv-159-3-m8", "acme-router-2-1", "frr-10-0", "iol-xe-17-12-01",
    }  # fmt: skip
    assert all(not entry.missing for entry in medium.images)


def test_plain_names_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    files = {"node-definitions/iosv.yaml": IOSV.encode(), "virl-base-images/a/a.yaml": image_definition("a", "iosv", "a.bin").encode(), "virl-base-images/a/a.bin": b"x"}  # fmt: skip # noqa: E501
    path = tmp_path / "plain.iso"
    path.write_bytes(build_cd(files, naming="plain"))
    medium = read_medium(path, LIMITS)
    assert [entry.definition.id for entry in medium.images] == ["a"]
    assert medium.images[0].files[0].size == 1


def test_a_link_is_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "links.iso"
    path.write_bytes(build_cd(PLATFORM, links={"link": "node-definitions/iosv.yaml"}))
    assert "link" in read_medium(path, LIMITS).left_out[0]


def test_another_cd_is_no_reference_platform(tmp_path: Path) -> None:
    path = write_cd(tmp_path, {"autorun.inf": b"x"})
    with pytest.raises(ImageRefused) as caught:
        media.offers(path, CATALOGUE, LIMITS)
    assert caught.value.details["reason"] == "format"


def test_images_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    files = {
        "node-definitions/iosv.yaml": IOSV.encode(),
        "virl-base-images/gone/gone.yaml": image_definition("gone", "iosv", "gone.qcow2").encode(),
        "virl-base-images/two/two.yaml": image_definition("two", "iosv", "a.qcow2", "b.qcow2").encode(),
        "virl-base-images/two/a.qcow2": b"x",
        "virl-base-images/two/b.qcow2": b"x",
        "virl-base-images/none/none.yaml": image_definition("none", "iosv").encode(),
        "virl-base-images/other/other.yaml": image_definition("other", "somebody-elses", "a.qcow2").encode(),
        "virl-base-images/other/a.qcow2": b"x",
    }
    path = write_cd(tmp_path, files)
    found = {offer.key: offer for offer in media.offers(path, CATALOGUE, LIMITS).offers}
    assert "gone.qcow2 is not on the CD" in found["image:gone"].problem
    assert "2 disks" in found["image:two"].problem
    assert "no file" in found["image:none"].problem
    # Nobody says what it is: it is let in, and serves any machine.
    assert (found["image:other"].problem, found["image:other"].device) == ("", "")
    with pytest.raises(ImageRefused, match="2 disks"):
        media.extract(path, "image:two", tmp_path, LIMITS)


# ------------------------------------------------------------------ files


def test_an_image_comes_out_as_it_is_under_its_own_name(cd: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = media.extract(cd, "image:iosv-159-3-m8", tmp_path, LIMITS, lambda *done: told.append(done))
    assert path == tmp_path / "vios-adventerprisek9-m.spa.159-3.m8.qcow2"
    assert path.read_bytes() == DISK
    assert told[-1] == (len(DISK), len(DISK))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_what_is_known_of_an_image_goes_along(cd: Path) -> None:
    image = media.read_platform(cd, CATALOGUE, LIMITS).image("image:iosv-159-3-m8")
    assert (image.device, image.version) == ("cisco_iosv", "159-3.m8")
    fresh = media.image(cd, "image:acme-router-2-1", CATALOGUE, LIMITS)
    assert (fresh.device, fresh.version, fresh.file) == ("acme-router", "2-1", "acme.qcow2")
    assert media.image(cd, "image:frr-10-0", CATALOGUE, LIMITS).tag == "frr:10-0"
    assert media.image(cd, "image:frr-10-0", CATALOGUE, LIMITS).device == "cml-frr"


def test_a_container_and_an_iol_binary_come_out_too(cd: Path, tmp_path: Path) -> None:
    assert media.extract(cd, "image:frr-10-0", tmp_path, LIMITS).read_bytes() == b"not looked at here"
    assert media.extract(cd, "image:iol-xe-17-12-01", tmp_path, LIMITS).read_bytes() == b"\x7fELF of nobody"


def test_a_copy_goes_on_where_it_was(cd: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        media.extract(cd, "image:acme-router-2-1", tmp_path, LIMITS, stop)
    (tmp_path / ".acme.qcow2.part").write_bytes(DISK[:1234])
    told: list[int] = []
    path = media.extract(cd, "image:acme-router-2-1", tmp_path, LIMITS, lambda done, total: told.append(done))
    assert path.read_bytes() == DISK[:5000]
    assert told == [5000]


def test_a_left_over_that_cannot_be_its_beginning_is_begun_again(cd: Path, tmp_path: Path) -> None:
    (tmp_path / ".acme.qcow2.part").write_bytes(b"x" * 6000)
    assert media.extract(cd, "image:acme-router-2-1", tmp_path, LIMITS).read_bytes() == DISK[:5000]


def test_a_file_of_several_extents_is_one_file(tmp_path: Path) -> None:
    """As files beyond 4 GiB are: several entries of one name, each but the last saying that it goes on."""
    files = {
        "node-definitions/iosv.yaml": IOSV.encode(),
        "virl-base-images/a/a.yaml": image_definition("a", "iosv", "part1").encode(),
        "virl-base-images/a/part1": DISK[:SECTOR],
        "virl-base-images/a/part2": DISK[SECTOR:],
    }
    cd = Spoilt(build_cd(files))
    first, second = cd.record("part1"), cd.record("part2")
    cd.data[first + 25] |= 0x80
    length = cd.data[first + 32]
    cd.put(second + 33, bytes(cd.data[first + 33 : first + 33 + length]))
    cd.put(cd.field("part2", b"NM") + 5, b"part1")
    path = cd.write(tmp_path)
    assert media.offers(path, CATALOGUE, LIMITS).offers[-1].size == len(DISK)
    assert media.extract(path, "image:a", tmp_path, LIMITS).read_bytes() == DISK
    (tmp_path / "part1").unlink()
    (tmp_path / ".part1.part").write_bytes(DISK[: SECTOR + 7])
    assert media.extract(path, "image:a", tmp_path, LIMITS).read_bytes() == DISK


@pytest.mark.parametrize("good", [True, False])
def test_a_disk_is_held_against_the_digest_of_its_definition(tmp_path: Path, *, good: bool) -> None:
    digest = hashlib.sha256(DISK if good else b"").hexdigest()
    files = {
        "node-definitions/iosv.yaml": IOSV.encode(),
        "virl-base-images/a/a.yaml": image_definition("a", "iosv", "a.qcow2", sha256=digest).encode(),
        "virl-base-images/a/a.qcow2": DISK,
    }
    path = write_cd(tmp_path, files)
    out = tmp_path / "out"
    out.mkdir()
    (out / ".a.qcow2.part").write_bytes(DISK[:100])
    if good:
        assert media.extract(path, "image:a", out, LIMITS).read_bytes() == DISK
        return
    with pytest.raises(ImageRefused) as caught:
        media.extract(path, "image:a", out, LIMITS)
    assert caught.value.details["reason"] == "digest"
    assert list(out.iterdir()) == []


def test_an_image_that_is_too_large_is_refused_before_it_is_copied(cd: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageRefused) as caught:
        media.extract(cd, "image:iosv-159-3-m8", tmp_path, Limits(size=1000))
    assert caught.value.details["reason"] == "size"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["image:nobody", "device:iosv", "", "image:", "image:../../etc/passwd"])
def test_what_is_not_there_is_not_found(cd: Path, tmp_path: Path, key: str) -> None:
    with pytest.raises(NotFound):
        media.extract(cd, key, tmp_path, LIMITS)


# ------------------------------------------------------------------ devices


def test_a_machine_becomes_a_device_that_our_schema_takes(cd: Path) -> None:
    device = made(cd, "device:acme-router")
    assert (device.name, device.title, device.vendor, device.family) == ("acme-router", "Acme router", "Acme", "router")
    assert device.ports.displays() == ("mgmt0", "Ethernet1/1", "Ethernet1/2", "Ethernet1/3", "Ethernet1/4")
    hardware = device.hardware
    assert (hardware.cpu.default, hardware.memory_mb.default, hardware.disk_gb.default) == (2, 3072, 20)
    assert (hardware.reserved_ports, hardware.min_ports) == (2, 2)
    assert device.cli is not None
    assert device.cli.name == "ios"
    assert (device.access.username, device.access.password) == ("acme", "secret")
    assert [way.line for way in device.console] == [1]
    assert device.ready.timeout_s == 400
    assert device.ready.probes[0].pattern == r"(?:ACME \d+ ready)|(?:login:)"
    assert [step.channel for step in device.run] == ["ssh", "serial"]
    assert device.extract.steps[0].run == "show running-config"
    assert device.recognise.cml == ("acme-router",)


def test_the_hardware_of_a_machine_is_that_of_its_definition(cd: Path) -> None:
    settings = parse_settings(made(cd, "device:acme-router").providers["libvirt"].settings)
    assert (settings.machine, settings.disk_bus, settings.nic_model) == ("q35", "sata", "vmxnet3")
    assert (settings.firmware, settings.uefi_nvram) == ("uefi", False)
    assert (settings.cpu_model, settings.cpu_features) == ("IvyBridge", {"aes": "optional", "smep": "disable"})
    assert (settings.serials, settings.video, settings.rng) == (2, "vnc", False)
    assert [disk.size_gb for disk in settings.extra_disks] == [16]
    assert settings.smbios == {"system": {"manufacturer": "Acme", "product": "R-1"}}


def test_what_is_not_taken_over_is_said_in_the_file(cd: Path) -> None:
    text = media.device(cd, "device:acme-router", CATALOGUE, LIMITS)
    assert "# Not taken over: its parameter 'cdrom.path'." in text


def test_its_medium_is_the_platforms_with_the_nodes_name_in_it(cd: Path) -> None:
    device = made(cd, "device:acme-router")
    method = device.day0[0]
    assert (method.method, method.path, method.label) == ("iso", "startup.cfg", "acmecfg")
    values = {"hostname": "r1"}
    config = render(device.default_config, values)
    assert config == "hostname r1\n# braces {{ of }} {% another %} language {r1}\n"
    files = render_day0(method, values, config=config, device=device.name)
    assert files["license/key.txt"] == b"{{ not a template }}"
    assert build_medium(method, files).size


def test_a_container_becomes_a_device_that_our_schema_takes(cd: Path) -> None:
    device = made(cd, "device:frr")
    assert device.name == "cml-frr"
    support = device.providers["docker"]
    settings = DockerSettings.parse(support.settings)
    assert (settings.cap_add, settings.privileged, support.needs) == (["NET_ADMIN", "SYS_ADMIN"], True, ("privileged",))
    assert {name: render(text, {}) for name, text in support.env.items()} == {"MODE": "lab", "BRACES": "{{x}}"}
    assert [(way.method, way.path) for way in device.day0] == [("file", "/config/boot.sh")]
    assert device.day0[0].extra == {"/config/protocols": "zebra\n"}
    assert device.console[0].command == ("/bin/bash", "-l")
    assert device.post_boot == ("/bin/bash /config/boot.sh",)
    # The image's scripts look for these names.
    assert (device.ports.kernel(1), device.ports.display(4), device.ports.management) == ("eth0", "eth3", None)
    assert device.ready.probes[0].pattern == "(?:READY)"


def test_a_device_of_ours_gets_the_files_that_only_the_platform_has(cd: Path) -> None:
    device = made(cd, "device:cat9000v-uadp")
    ours = CATALOGUE.get("cat9000v-uadp")
    assert device.name == "cml-cat9000v-uadp"
    assert device.day0[0].extra == {"conf/vswitch.xml": "<switch><board>made up</board></switch>\n"}
    assert (device.ports, device.hardware, device.cli) == (ours.ports, ours.hardware, ours.cli)
    assert device.recognise.own


def test_one_of_ours_needs_no_file(cd: Path) -> None:
    assert media.device(cd, "device:iosv", CATALOGUE, LIMITS) == ""


def test_what_is_no_machine_becomes_no_device(cd: Path) -> None:
    with pytest.raises(InvalidInput, match="segment"):
        media.device(cd, "device:external_connector", CATALOGUE, LIMITS)


MEDIA = {
    "iso cidata": ("iso", "cidata", ["user-data", "meta-data", "network-config"], "nocloud", "user-data"),
    "iso config-2": ("iso", "config-2", ["openstack/latest/user_data"], "configdrive", "openstack/latest/user_data"),
    "iso": ("iso", "disk", ["nxos_config.txt"], "iso", "nxos_config.txt"),
    "fat": ("fat", "disk", ["ios_config.txt"], "fat", "ios_config.txt"),
    "fat, by hooks": ("fat", "vmm-data", ["a.conf", "cml-partition.cfg", "cml-customizer.sh"], "fat", "a.conf"),
    "ext4": ("ext4", "ISE-ZTP", ["ise-ztp.conf"], "", ""),
    "raw": ("raw", "x", ["ios_config.txt"], "", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", MEDIA.values(), ids=MEDIA)
def test_every_kind_of_medium_is_made_or_said_to_be_missing(
    tmp_path: Path, case: tuple[str, str, list[str], str, str]
) -> None:
    kind, label, names, method, path = case
    listed = "\n".join(f"      - {{name: {name}, editable: true, content: 'hostname x'}}" for name in names)
    part = f"configuration:\n  provisioning:\n    media_type: {kind}\n    volume_name: {label}\n    files:\n{listed}\n"
    definition = f"id: box\nsim: {{linux_native: {{ram: 512, cpus: 1, nic_driver: virtio}}}}\n{part}"
    cd = write_cd(tmp_path, {"node-definitions/box.yaml": definition.encode()})
    device = made(cd, "device:box")
    assert [way.method for way in device.day0] == ([method] if method else [])
    if not method:
        assert "medium" in media.device(cd, "device:box", CATALOGUE, LIMITS)
        return
    way = device.day0[0]
    assert way.path == path
    assert way.partition == (kind == "fat" and "cml-partition.cfg" not in names)
    values = {"hostname": "x", "node_id": "0123456789ab", "mgmt_mac": "", "mgmt_ipv4": ""}
    files = render_day0(way, values, config="x", device="box")
    assert not {"cml-partition.cfg", "cml-customizer.sh"} & set(files)
    assert build_medium(way, files).size


def test_the_least_that_a_definition_can_say_is_a_device(tmp_path: Path) -> None:
    cd = write_cd(tmp_path, {"node-definitions/x.yaml": b"id: X 1\nui: null\nboot: null\n"})
    device = made(cd, "device:X 1")
    assert (device.name, device.title, device.family) == ("x-1", "X 1", "any")
    parse_settings(device.providers["libvirt"].settings)


def test_names_that_are_taken_get_a_prefix(tmp_path: Path) -> None:
    files = {f"node-definitions/{n}.yaml": FRR.replace("id: frr", f"id: {n}").encode() for n in ("frr", "FRR", "Frr")}
    cd = write_cd(tmp_path, {key.replace(".yaml", f"-{at}.yaml"): text for at, (key, text) in enumerate(files.items())})
    platform = media.read_platform(cd, CATALOGUE, LIMITS)
    names = [item.name for name in ("frr", "FRR", "Frr") if (item := platform.device(f"device:{name}")) is not None]
    assert len(set(names)) == 3
    assert all(name.startswith("cml-frr") for name in names)


def test_the_users_folder_takes_the_device(cd: Path, tmp_path: Path) -> None:
    text = media.device(cd, "device:acme-router", CATALOGUE, LIMITS)
    assert DeviceFolder(tmp_path).add(text, kind="device", source="refplat.iso") == "acme-router"


# ------------------------------------------------------------------ texts


@given(st.text(alphabet=st.sampled_from("{}%#'\" \nainserthostname-here") | st.characters(codec="utf-8"), max_size=200))
@example("line\r\nline\r{")
def test_any_text_is_a_template_that_gives_it_back(text: str) -> None:
    assert render(as_template(text), {"hostname": "r1"}) == text


def test_the_mark_of_the_nodes_name_is_filled_in() -> None:
    assert render(as_template("{inserthostname-here}{{inserthostname-here"), {"hostname": "r1"}) == "{r1}{{r1"


WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Z"]) | st.just("\n"), max_size=60)


@given(st.dictionaries(st.sampled_from(["name", "notes", "title"]), WORDS, min_size=1), st.lists(WORDS, max_size=4))
def test_any_text_in_a_device_file_is_read_back_as_it_was(values: dict[str, str], more: list[str]) -> None:
    written = {**values, "day0": [{"iso": "x", "extra": {"a": word}} for word in more]}
    root = read_yaml(as_yaml(written), file="x.yaml").root
    assert isinstance(root, Tree)
    assert root.data() == written


@given(st.text(max_size=120), st.sets(st.sampled_from(["frr", "cml-frr", "cml-frr-2"])))
def test_names_of_devices_are_ones_that_files_may_have(text: str, taken: set[str]) -> None:
    name = device_name(text, "cml", taken)
    assert name not in taken
    assert len(name) <= 63
    assert name == name.casefold()


@pytest.mark.parametrize(
    ("pattern", "safe"), [(r"A \d+ up", True), ("(a+)+$", False), ("([a-z]*)*", False), ("(", False), ("a|b", True)]
)
def test_patterns_that_run_in_circles_are_taken_as_text(pattern: str, *, safe: bool) -> None:
    assert is_safe_pattern(pattern) is safe


def test_a_pattern_that_is_none_is_found_as_it_stands(tmp_path: Path) -> None:
    text = ACME.replace("ACME \\\\d+ ready", "(a+)+ [ready]")
    cd = write_cd(tmp_path, {"node-definitions/a.yaml": text.encode()})
    device = made(cd, "device:acme-router")
    assert device.ready.probes[0].pattern == r"(?:\(a\+\)\+ \[ready\])|(?:login:)"
