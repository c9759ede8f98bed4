"""Wires between two hosts against the conformance suite, on the real kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from ovs_rig import PrivateOvs, started

from wireloom.commands import run
from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.testing.conformance.dataplane_hosts import NIC, cable, hosts, living_in
from wireloom.testing.conformance.dataplane_tunnels import TUNNEL_CHECKS, TunnelCheck

pytestmark = pytest.mark.kernel

Factory = Callable[[str], DataPlane]
Factories = tuple[Factory, Factory]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spaces() -> AsyncIterator[tuple[str, str]]:
    async with cable() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemons(
    spaces: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[PrivateOvs, PrivateOvs]]:
    """An Open vSwitch on each host."""
    folders = [tmp_path_factory.mktemp("ovs") for _ in spaces]
    async with started(spaces[0], folders[0]) as first, started(spaces[1], folders[1]) as second:
        yield first, second


@pytest.fixture(params=["kernel", "ovs", "kernel-ovs"])
def factories(request: pytest.FixtureRequest) -> Factories:
    if request.param == "kernel":
        return KernelDataPlane, KernelDataPlane
    first, second = request.getfixturevalue("daemons")
    return (first.plane if request.param == "ovs" else KernelDataPlane), second.plane


@pytest.mark.parametrize("check", TUNNEL_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
async def test_tunnels(spaces: tuple[str, str], factories: Factories, check: TunnelCheck) -> None:
    async with hosts(spaces, factories) as two:
        await check(two)


# --- carried by Open vSwitch itself -----------------------------------------------------------------

#: What is about flows. The rest is the same code over either way, or needs what the datapath in user space has not:
#: it cuts nothing into pieces.
BY_FLOWS = {
    "check_containers_on_two_hosts_are_wired",
    "check_tunnels_are_isolated",
    "check_number_of_another_wire_is_not_heard",
    "check_tunnel_over_ipv6",
    "check_port_moves_between_wire_and_tunnel",
    "check_port_moves_between_segment_and_tunnel",
    "check_end_of_a_tunnel_moves_to_another_port",
    "check_tunnels_swap_in_one_batch",
    "check_tunnel_follows_the_other_host",
    "check_moves_lose_and_double_no_frame_from_a_host",
    "check_restarted_agents_find_their_tunnels",
    "check_removed_port_takes_its_tunnel_along",
    "check_container_that_died_leaves_no_tunnel",
    "check_withdrawn_data_plane_reaches_no_other_host",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def carrying(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[tuple[str, str], Factories]]:
    """Two hosts whose addresses are on bridges of Open vSwitch, as its datapath in user space needs it."""
    folders = [tmp_path_factory.mktemp("carrying") for _ in range(2)]
    async with (
        cable(mtu=9200) as spaces,
        started(spaces[0], folders[0]) as first,
        started(spaces[1], folders[1]) as second,
    ):
        await first.take_address(spaces[0], NIC)
        await second.take_address(spaces[1], NIC)
        # Neighbours are heard of now, not with the first frames of a check.
        for address in ("192.0.2.2", "192.0.2.12", "2001:db8:77::2"):
            with living_in(spaces[0]):
                assert (await run("ping", "-c", "2", "-W", "2", address, timeout_s=20)).code == 0
        yield spaces, (first.plane_with_flows, second.plane_with_flows)


@pytest.mark.parametrize(
    "check",
    [check for check in TUNNEL_CHECKS if check.__name__ in BY_FLOWS],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
async def test_tunnels_by_flows(carrying: tuple[tuple[str, str], Factories], check: TunnelCheck) -> None:
    spaces, factories = carrying
    async with hosts(spaces, factories) as two:
        await check(two)
