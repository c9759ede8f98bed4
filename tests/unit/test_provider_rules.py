"""What the catalogue says of a provider's ways to a guest is what the provider itself declares."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from wireloom.agent.hooks.day0 import day0_method
from wireloom.devices import DeviceCatalogue
from wireloom.model.device import Day0, Day0Method
from wireloom.model.runtime import Capabilities
from wireloom.providers.contract import Provider
from wireloom.providers.docker import DockerProvider
from wireloom.providers.libvirt import LibvirtProvider
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld


def providers(folder: Path) -> Iterable[Provider]:
    """Their engines are away, which changes nothing of what they could do."""
    yield DockerProvider("rules", url=f"unix://{folder}/no-such-socket")
    yield LibvirtProvider("rules", uri="nothing:///there", image_folder=folder)
    yield SimulatedProvider("rules", SimulatedWorld())


def channels(provider: Provider, capabilities: Capabilities) -> set[str]:
    has = {
        "exec": capabilities.exec,
        "serial": "serial" in capabilities.consoles,
        "file": provider.abilities.files is not None,
        "health": provider.abilities.health is not None,
    }
    return {channel for channel, there in has.items() if there}


def day0(capabilities: Capabilities) -> set[str]:
    ways = (Day0(method=method) for method in get_args(Day0Method))
    return {way.method for way in ways if day0_method([way], capabilities, can_load=False)}


@pytest.mark.parametrize("number", range(3))
async def test_the_rule_of_a_provider_is_what_it_declares(tmp_path: Path, number: int) -> None:
    provider = list(providers(tmp_path))[number]
    capabilities = await provider.capabilities()
    await provider.close()
    rule = DeviceCatalogue.load().rule(provider.name)
    assert channels(provider, capabilities) == rule.channels
    assert day0(capabilities) == rule.day0
    assert rule.emulates or capabilities.acceleration != "tcg"


def test_a_provider_that_nothing_is_known_of_may_have_everything() -> None:
    rule = DeviceCatalogue.load().rule("of tomorrow")
    assert {"exec", "serial"} < rule.channels
    assert rule.day0 == set(get_args(Day0Method))
