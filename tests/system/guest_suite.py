"""The data-plane conformance suite as it runs inside a guest with the distribution's own kernel.

Collected there by its path, and never on the host: what it names, :mod:`test_dataplane_guest` shows test by test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pytest

from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.testing.conformance.dataplane import CHECKS, Check, Rig
from wireloom.testing.conformance.dataplane_impairment import IMPAIRMENT_CHECKS
from wireloom.testing.conformance.dataplane_segments import SEGMENT_CHECKS

PLANES: Final[Mapping[str, Callable[[str], DataPlane]]] = {"kernel": KernelDataPlane, "ovs": OvsDataPlane}

#: What runs for every data plane, by name.
CASES: Final[Mapping[str, Check]] = {
    check.__name__.removeprefix("check_"): check for check in (*CHECKS, *SEGMENT_CHECKS, *IMPAIRMENT_CHECKS)
}


@pytest.fixture(params=PLANES.values(), ids=list(PLANES))
def plane(request: pytest.FixtureRequest) -> Callable[[str], DataPlane]:
    return request.param


@pytest.mark.parametrize("check", CASES.values(), ids=list(CASES))
async def test_data_plane(plane: Callable[[str], DataPlane], check: Check) -> None:
    async with Rig(plane) as rig:
        await check(rig)


async def test_nothing_is_refused(plane: Callable[[str], DataPlane]) -> None:
    """The checks of what a kernel may lack are worth something only where it is there."""
    async with Rig(plane) as rig:
        found = await rig.plane.abilities()
    assert (found.vlans, found.qinq, found.vlan_devices, found.impairments) == ("", "", "", {})
