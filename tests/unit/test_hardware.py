"""Size and settings of a node: the order of layers, where each value comes from, and what is refused with a number."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.devices import DeviceCatalogue, DeviceFolder
from wireloom.errors import TopologyInvalid
from wireloom.model.diagnostic import Diagnostic
from wireloom.model.topology import NodeSpec
from wireloom.planning.hardware import Said, image_profile, resolve
from wireloom.planning.topology import parse_topology

BOX = """
name: box
hardware:
  cpu: {default: 2, minimum: 2, maximum: 4}
  memory: {default: 2GiB, minimum: 1GiB}
  disk: {default: 8GB, minimum: 8GB}
  spare-ports: 3
providers:
  libvirt:
    image: box-2.0.qcow2
    settings: {nic_model: e1000, disk_bus: ide, serials: 2}
    env: {A: device, B: device}
    images:
      - {pattern: 'box-1\\..*', cpu: 1, memory: 512MB, settings: {nic_model: null, disk_bus: sata}}
      - {pattern: 'big-.*', memory: 16GiB}
"""
SCHEMAS = {
    "libvirt": {
        "additionalProperties": False,
        "properties": {
            "nic_model": {"type": "string"},
            "disk_bus": {"type": "string"},
            "serials": {"type": "integer"},
        },
    }
}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> DeviceCatalogue:
    folder = DeviceFolder(tmp_path_factory.mktemp("devices"))
    folder.add(BOX, kind="device", source="box.yaml")
    return folder.catalogue()


def node(catalogue: DeviceCatalogue, text: str = "{}", defaults: str = "{}") -> NodeSpec:
    lab = f"name: lab\ndefaults: {defaults}\nnodes:\n  a: {text.replace('{', '{device: box, ', 1)}\n"
    return parse_topology(lab, source="lab.yml", devices=catalogue, settings_schemas=SCHEMAS).topology.nodes[0]


def mistakes(catalogue: DeviceCatalogue, text: str, defaults: str = "{}") -> list[Diagnostic]:
    with pytest.raises(TopologyInvalid) as caught:
        node(catalogue, text, defaults)
    return [Diagnostic.model_validate(item) for item in caught.value.details["diagnostics"]]


def test_a_device_gives_everything_that_nobody_else_says(catalogue: DeviceCatalogue) -> None:
    spec = node(catalogue)
    assert (spec.cpu, spec.memory_mb, spec.disk_gb, spec.spare_ports) == (2, 2048, 8, 3)
    assert spec.settings == {"nic_model": "e1000", "disk_bus": "ide", "serials": 2}
    assert spec.origins.pop("provider").layer == "default"  # the first one that the file names
    assert {origin.layer for origin in spec.origins.values()} == {"device"}
    assert {Path(origin.where).name for origin in spec.origins.values()} == {"box.yaml"}


def test_each_layer_wins_over_those_before_it(catalogue: DeviceCatalogue) -> None:
    spec = node(catalogue, "{image: box-1.9.qcow2, disk: 20GB}", "{cpu: 3, settings: {libvirt: {serials: 4}}}")
    assert (spec.cpu, spec.memory_mb, spec.disk_gb) == (3, 512, 20)
    assert spec.settings == {"disk_bus": "sata", "serials": 4}
    layers = {key: (origin.layer, origin.off) for key, origin in spec.origins.items()}
    assert layers["cpu"] == ("defaults", False)
    assert layers["memory"] == ("image", False)
    assert layers["disk"] == ("node", False)
    assert layers["settings.nic_model"] == ("image", True)
    assert layers["settings.disk_bus"] == ("image", False)
    assert layers["settings.serials"] == ("defaults", False)
    assert layers["image"] == ("node", False)
    assert spec.origins["disk"].where == "lab.yml:4"
    assert spec.origins["cpu"].where == "lab.yml:2"


def test_what_is_turned_off_last_is_off(catalogue: DeviceCatalogue) -> None:
    spec = node(catalogue, "{settings: {disk_bus: null}}", "{settings: {libvirt: {disk_bus: virtio}}}")
    assert "disk_bus" not in spec.settings
    assert spec.origins["settings.disk_bus"].off
    back = node(catalogue, "{settings: {disk_bus: scsi}}", "{settings: {libvirt: {disk_bus: null}}}")
    assert back.settings["disk_bus"] == "scsi"


def test_settings_that_are_turned_off_need_not_fit_and_others_do(catalogue: DeviceCatalogue) -> None:
    assert mistakes(catalogue, "{settings: {serials: many}}")[0].line == 4


@pytest.mark.parametrize(
    ("text", "message", "suggestion"),
    [
        ("{cpu: 1}", "1 core is too few for box on libvirt", "give it at least 2"),
        ("{cpu: 5}", "5 cores are too many for box on libvirt", "give it at most 4"),
        ("{memory: 512}", "512 MiB of memory is too little for box on libvirt", "give it at least 1024MB"),
        ("{disk: 4}", "4 GiB of disk is too little for box on libvirt", "give it at least 8"),
    ],
)
def test_a_size_that_does_not_do_is_refused_with_the_one_that_does(
    catalogue: DeviceCatalogue, text: str, message: str, suggestion: str
) -> None:
    found = mistakes(catalogue, text)
    assert [(item.line, item.message, item.suggestion) for item in found] == [(4, message, suggestion)]


def test_a_size_of_the_defaults_is_refused_where_it_stands(catalogue: DeviceCatalogue) -> None:
    assert [(item.line, item.path) for item in mistakes(catalogue, "{}", "{memory: 64}")] == [(2, "defaults.memory")]


def test_an_image_that_needs_less_may_have_less(catalogue: DeviceCatalogue) -> None:
    assert node(catalogue, "{image: box-1.0.qcow2, memory: 600, cpu: 1}").memory_mb == 600
    assert mistakes(catalogue, "{image: box-1.0.qcow2, memory: 400}")[0].suggestion == "give it at least 512MB"


def test_a_disk_of_0_leaves_it_as_the_image_has_it(catalogue: DeviceCatalogue) -> None:
    assert node(catalogue, "{disk: 0}").disk_gb == 0


@pytest.mark.parametrize(
    ("written", "size"), [("20", 20), ("20GB", 20), ("'2.5 GiB'", 2.5), ("1TB", 1024), ("512MB", 0.5)]
)
def test_disks_are_written_with_or_without_a_unit(catalogue: DeviceCatalogue, written: str, size: float) -> None:
    device = catalogue.get("linux")
    text = f"name: x\nnodes: {{a: {{device: {device.name}, provider: libvirt, disk: {written}}}}}\n"
    assert parse_topology(text, devices=catalogue).topology.nodes[0].disk_gb == size


@pytest.mark.parametrize("written", ["big", "-1", "'20'", "20XB"])
def test_what_is_no_size_of_a_disk_is_a_mistake(catalogue: DeviceCatalogue, written: str) -> None:
    assert mistakes(catalogue, f"{{disk: {written}}}")[0].path == "nodes.a.disk"


def test_the_environment_of_the_topology_wins(catalogue: DeviceCatalogue) -> None:
    assert node(catalogue, "{env: {B: node}}", "{env: {C: all}}").env == {"A": "device", "B": "node", "C": "all"}


def test_profiles_fit_the_last_part_of_a_path(catalogue: DeviceCatalogue) -> None:
    support = catalogue.get("box").providers["libvirt"]
    found = image_profile(support, "/srv/images/big-one.qcow2")
    assert found is not None
    assert found.memory_mb == 16384
    assert image_profile(support, "notbig-one.qcow2") is None


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["cpu", "memory", "disk"]), st.integers(1, 9) | st.none(), max_size=3),
        max_size=2,
    )
)
def test_the_last_layer_that_says_something_wins(said: list[dict[str, int | None]]) -> None:
    catalogue = DeviceCatalogue.load()
    device = catalogue.get("linux")
    layers = [Said("defaults" if index == 0 else "node", sizes=dict(sizes)) for index, sizes in enumerate(said)]
    profile = resolve(catalogue.entry("linux"), device, "libvirt", "x.qcow2", layers)
    for key, value in (("cpu", profile.cpu), ("memory", profile.memory_mb), ("disk", profile.disk_gb)):
        spoken = [layer for layer in layers if layer.sizes.get(key) is not None]
        if spoken:
            assert (profile.origins[key].layer, value) == (spoken[-1].layer, spoken[-1].sizes[key])
        else:
            assert profile.origins[key].layer in {"device", "default"}
