"""Devices that extend others: what they take over, what they do not, and mistakes in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.errors import InvalidInput
from wireloom.model.diagnostic import Diagnostic

BOX = """
name: box
aliases: [crate]
hidden: true
ports: {name: "Ethernet{n}", limit: 8}
hardware: {cpu: 2, memory: {default: 2GiB, minimum: 1GiB}}
extract: {steps: [ssh], ends: '^end$'}
providers:
  libvirt: {image: box.qcow2, settings: {disk_bus: ide, nic_model: e1000}}
"""


def load(folder: Path, **files: str) -> DeviceCatalogue:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return DeviceCatalogue.load([folder])


def mistakes(folder: Path, **files: str) -> list[Diagnostic]:
    with pytest.raises(InvalidInput) as caught:
        load(folder, **files)
    return [Diagnostic.model_validate(item) for item in caught.value.details["diagnostics"]]


def test_a_device_takes_over_what_it_does_not_say_itself(tmp_path: Path) -> None:
    text = "name: big\nextends: box\nports: {limit: 4}\nproviders: {libvirt: {settings: {disk_bus: sata}}}\n"
    big = load(tmp_path, box=BOX, big=text).get("big")
    assert (big.ports.name, big.ports.limit) == ("Ethernet{n}", 4)
    assert big.providers["libvirt"].settings == {"disk_bus": "sata", "nic_model": "e1000"}
    assert big.hardware.memory_mb.minimum == 1024


def test_names_and_being_hidden_are_nobody_elses(tmp_path: Path) -> None:
    catalogue = load(tmp_path, box=BOX, big="name: big\nextends: box\n")
    assert (catalogue.get("big").aliases, catalogue.get("big").hidden) == ((), False)
    assert catalogue.get("crate").name == "box"


def test_null_turns_off_what_would_be_taken_over(tmp_path: Path) -> None:
    big = load(tmp_path, box=BOX, big="name: big\nextends: box\nextract: null\n").get("big")
    assert big.extract.steps == ()


def test_the_order_of_files_means_nothing_and_chains_may_be_long(tmp_path: Path) -> None:
    files = {
        "a": "name: a\nextends: b\n",
        "b": "name: b\nextends: z\nports: {limit: 3}\n",
        "z": BOX.replace("box", "z"),
    }
    assert load(tmp_path, **files).get("a").ports.limit == 3


def test_a_device_of_the_user_may_extend_a_built_in_one_and_replace_it(tmp_path: Path) -> None:
    catalogue = load(tmp_path, a="name: edge\nextends: frr\n", frr="name: frr\nextends: frr\nports: {limit: 2}\n")
    assert catalogue.get("frr").ports.limit == 2
    assert catalogue.get("frr").providers["docker"].image == "wireloom/frr:latest"
    assert catalogue.get("edge").cli == catalogue.get("frr").cli


@pytest.mark.parametrize(
    ("files", "file", "line", "message"),
    [
        ({"a": "name: a\nextends: frrr\n"}, "a.yaml", 2, "there is no device 'frrr' to extend"),
        ({"a": "name: a\nextends: a\n"}, "a.yaml", 2, "devices extend each other: a → a"),
        (
            {"a": "name: a\nextends: b\n", "b": "name: b\nextends: a\n"},
            "b.yaml",
            2,
            "'a' cannot be extended: devices extend each other: b → a → b",
        ),
    ],
)
def test_what_cannot_be_extended_is_said(
    tmp_path: Path, files: dict[str, str], file: str, line: int, message: str
) -> None:
    found = [item for item in mistakes(tmp_path, **files) if Path(item.file).name == file]
    assert [(item.line, item.message) for item in found] == [(line, message)]
