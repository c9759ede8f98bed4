"""The provider conformance suite, over every provider on its real engine, directly and through the fabric."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from fabric_harness import through_fabric

from wireloom.testing.conformance.provider import CHECKS, Check, ProviderHarness, Rig, rig_for

#: Module and function that open the harness of a technology. One that is missing fails; it does not skip.
HARNESSES = {
    "docker": ("docker_harness", "harness"),
    "libvirt": ("libvirt_harness", "harness"),
    "simulated": ("simulated_harness", "container_like"),
    "simulated-machines": ("simulated_harness", "machine_like"),
}

MARKS = {"docker": [pytest.mark.docker], "libvirt": [pytest.mark.libvirt]}

WAYS = ("direct", "fabric")

PARAMETERS = [
    pytest.param((technology, way), id=f"{technology}-{way}", marks=MARKS.get(technology, []))
    for technology in HARNESSES
    for way in WAYS
]


@asynccontextmanager
async def opened(technology: str, way: str, folder: Path) -> AsyncIterator[ProviderHarness]:
    """The harness of ``technology``, whose providers are reached that way."""
    module, name = HARNESSES[technology]
    opener: Callable[[], AbstractAsyncContextManager[ProviderHarness]] = getattr(importlib.import_module(module), name)
    async with opener() as harness:
        if way == "direct":
            yield harness
            return
        async with through_fabric(harness, folder) as remote:
            yield remote


@pytest.fixture(params=PARAMETERS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    technology, way = request.param
    async with opened(technology, way, tmp_path) as harness, rig_for(harness) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_provider(rig: Rig, check: Check) -> None:
    reason = check.reason_to_skip(rig.capabilities)
    if reason:
        pytest.skip(reason)
    await check.run(rig)
