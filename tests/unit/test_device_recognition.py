"""Rules by which images of devices are known: what files may say, and what holds for all that are built in."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.errors import InvalidInput
from wireloom.library.identify import identify
from wireloom.library.values import Facts
from wireloom.model.device import Recognition

CATALOGUE = DeviceCatalogue.load()
DEVICES = tuple(CATALOGUE)
#: Devices for any image: none is theirs.
ANY = {"generic", "cloud"}
BOX = "name: box\nproviders: {{libvirt: {{}}}}\nrecognise: {recognise}\n"


def mistake(folder: Path, recognise: str) -> str:
    (folder / "box.yaml").write_text(BOX.format(recognise=recognise), encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        DeviceCatalogue.load([folder])
    return str(caught.value)


@pytest.mark.parametrize(
    ("recognise", "message"),
    [
        ("{files: ['(']}", "is not a regular expression"),
        ("{files: ['.*']}", "fits everything"),
        ("{tags: ['(?:x|.*)']}", "fits everything"),
        ("{hints: ['x?']}", "fits everything"),
        ("{names: [x]}", "unknown key 'names'"),
        ("{images-of: nobody}", "there is no device 'nobody'"),
        ("{images-of: cisco_vios}", "boots the images of 'cisco_iosv' itself"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_a_mistake(recognise: str, message: str, tmp_path: Path) -> None:
    assert message in mistake(tmp_path, recognise)


def test_a_device_that_shares_images_with_a_missing_one_is_left_out_alone(tmp_path: Path) -> None:
    (tmp_path / "box.yaml").write_text(BOX.format(recognise="{images-of: nobody}"), encoding="utf-8")
    catalogue = DeviceCatalogue.load([tmp_path], strict=False)
    assert catalogue.find("box") is None
    assert len(catalogue) == len(CATALOGUE)


def test_a_part_of_the_catalogue_has_the_devices_whose_images_are_shared() -> None:
    from wireloom.devices.sources import builtin_sources, only

    part = DeviceCatalogue.of(only(builtin_sources(), ["cisco_vios"]))
    assert not part.problems
    assert part.find("cisco_iosv") is not None


@pytest.mark.parametrize("device", DEVICES, ids=[device.name for device in DEVICES])
def test_every_built_in_device_knows_its_images(device: object) -> None:
    assert device.recognise == Recognition() if device.name in ANY else device.recognise != Recognition()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["cml", "gns3"])
def test_no_two_devices_are_the_same_thing_elsewhere(kind: str) -> None:
    words = Counter(word.casefold() for device in DEVICES for word in getattr(device.recognise, kind))
    assert [word for word, count in words.items() if count > 1] == []


def test_rules_know_no_groups_but_the_version() -> None:
    for device in DEVICES:
        rules = device.recognise
        for pattern in (*rules.files, *rules.tags, *rules.paths, *rules.volumes, *rules.text, *rules.hints):
            assert set(re.compile(pattern).groupindex) <= {"version"}, (device.name, pattern)


IMAGES = [
    (device.name, support.image, provider)
    for device in DEVICES
    for provider, support in device.providers.items()
    if provider == "docker" and support.image
]


@pytest.mark.parametrize(("device", "image", "provider"), IMAGES, ids=[name for name, *_ in IMAGES])
def test_the_default_image_of_a_device_is_known_as_its(device: str, image: str, provider: str) -> None:
    assert identify(Facts(kind="docker-archive", tags=(image,)), DEVICES)[0].device == device
