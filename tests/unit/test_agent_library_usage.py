"""Who uses an image of a host, however its name is written."""

from __future__ import annotations

import pytest
from agent_library_rig import make_pin

from wireloom.agent.library.ledger import image_key
from wireloom.agent.library.usage import Usage
from wireloom.model.images import ImagePin, engine_name
from wireloom.model.slice import NodeIntent, Slice

PIN = make_pin(b"one", "frr:latest", "docker")
SPELLINGS = (
    "frr",
    "frr:latest",
    "library/frr",
    "docker.io/library/frr:latest",
    "docker.io/frr",
    "index.docker.io/library/frr",
)


def usage(image: str, *pins: ImagePin, provider: str = "docker") -> Usage:
    node = NodeIntent(id="n1", name="r1", device="frr", provider=provider, image=image, power="on")
    lab = Slice(installation="i", lab_id="l1", lab="lab", generation=1, nodes=(node,), images=pins)
    return Usage(lambda: {"l1": lab}, {"n1"})


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_one_name_are_one_image(name: str) -> None:
    assert usage(name).held_by("docker", "frr:latest") == ("lab/r1",)
    assert usage("frr:latest").held_by("docker", name) == ("lab/r1",)
    said = PIN.model_copy(update={"name": name})
    assert usage(name, said).wanted_by(PIN) == ("lab/r1",)
    assert image_key(said) == image_key(PIN)


@pytest.mark.parametrize(
    "name", ["frr:8", "vendor/frr", "ghcr.io/library/frr", "docker.io/library/vendor/frr", "localhost:5000/frr"]
)
def test_other_names_are_others(name: str) -> None:
    assert usage(name).held_by("docker", "frr:latest") == ()
    assert usage(name, PIN.model_copy(update={"name": name})).wanted_by(PIN) == ()


def test_disks_are_called_what_they_are_called() -> None:
    assert engine_name("libvirt", "frr") == "frr"
    assert usage("frr", provider="libvirt").held_by("libvirt", "frr:latest") == ()
