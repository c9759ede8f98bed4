"""Wires between two hosts against the conformance suite, on the real kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from ovs_rig import PrivateOvs

from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.testing.conformance.dataplane_hosts import cable, hosts, living_in
from wireloom.testing.conformance.dataplane_tunnels import TUNNEL_CHECKS, TunnelCheck

pytestmark = pytest.mark.kernel

Factory = Callable[[str], DataPlane]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spaces() -> AsyncIterator[tuple[str, str]]:
    async with cable() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemons(
    spaces: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[PrivateOvs, PrivateOvs]]:
    """An Open vSwitch on each host."""
    first, second = PrivateOvs(tmp_path_factory.mktemp("ovs1")), PrivateOvs(tmp_path_factory.mktemp("ovs2"))
    for space, ovs in zip(spaces, (first, second), strict=True):
        with living_in(space):
            await ovs.start()
    yield first, second
    await first.stop()
    await second.stop()


@pytest.fixture(params=["kernel", "ovs", "kernel-ovs"])
def factories(request: pytest.FixtureRequest) -> tuple[Factory, Factory]:
    if request.param == "kernel":
        return KernelDataPlane, KernelDataPlane
    first, second = request.getfixturevalue("daemons")
    return (first.plane if request.param == "ovs" else KernelDataPlane), second.plane


@pytest.mark.parametrize("check", TUNNEL_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
async def test_tunnels(spaces: tuple[str, str], factories: tuple[Factory, Factory], check: TunnelCheck) -> None:
    async with hosts(spaces, factories) as two:
        await check(two)
