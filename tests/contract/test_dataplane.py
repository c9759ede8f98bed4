"""Every data plane against the conformance suite, on the real kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.testing.conformance.dataplane import CHECKS, Check, Rig

pytestmark = pytest.mark.kernel


@pytest.fixture(params=[KernelDataPlane, OvsDataPlane], ids=lambda factory: factory.name)
def factory(request: pytest.FixtureRequest) -> Callable[[str], DataPlane]:
    return request.param


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
async def test_data_plane(factory: Callable[[str], DataPlane], check: Check) -> None:
    async with Rig(factory) as rig:
        await check(rig)
