"""Wires between two hosts with an agent each, over real tunnels of both data planes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from far_hosts import FarHosts, far_hosts
from ovs_rig import PrivateOvs, started

from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.testing.conformance.dataplane_frames import both_ways, one_frame, silent
from wireloom.testing.conformance.dataplane_hosts import cable
from wireloom.testing.frames import FRAMES, ethernet
from wireloom.testing.guests import Guest, NamespaceGuest, run_command

pytestmark = pytest.mark.kernel

Factory = Callable[[str], DataPlane]


@dataclass(frozen=True)
class Side:
    """A guest that speaks."""

    guest: Guest


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spaces() -> AsyncIterator[tuple[str, str]]:
    async with cable(mtu=1400) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemons(
    spaces: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[PrivateOvs, PrivateOvs]]:
    folders = [tmp_path_factory.mktemp("ovs") for _ in spaces]
    async with started(spaces[0], folders[0]) as first, started(spaces[1], folders[1]) as second:
        yield first, second


@pytest.fixture(params=["kernel", "ovs"])
def factories(request: pytest.FixtureRequest) -> tuple[Factory, Factory]:
    if request.param == "kernel":
        return KernelDataPlane, KernelDataPlane
    first, second = request.getfixturevalue("daemons")
    return first.plane, second.plane


async def sides(hosts: FarHosts) -> tuple[Side, Side]:
    first, second = hosts.hosts
    return Side(await first.guest()), Side(await second.guest())


async def carrier(side: Side, wanted: bool) -> None:
    assert isinstance(side.guest, NamespaceGuest)
    for _ in range(500):
        if side.guest.carrier() is wanted:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"the carrier is not {wanted}")


async def test_a_wire_between_hosts_from_its_first_frame_to_its_last(
    tmp_path: Path, spaces: tuple[str, str], factories: tuple[Factory, Factory]
) -> None:
    async with far_hosts(tmp_path, spaces, factories) as hosts:
        hosts.mtu = 9000
        hosts.apply()
        await hosts.settle()
        a, b = await sides(hosts)
        await carrier(a, True)
        await both_ways(a, b, FRAMES)
        jumbo = {"9000 bytes": lambda: ethernet("020000000001", b"\x88\xb5" + bytes(9000))}
        await both_ways(a, b, jumbo)

        # The way carries less than the wire: it says so.
        agent = hosts.agents[0]
        message = "frames of more than 1350 bytes to host h2 travel in fragments"
        await agent.until(lambda status: status.wires[0].message == message)

        # Taken off by the user, and put on again.
        hosts.up = False
        hosts.apply()
        await hosts.settle("down")
        await carrier(a, False)
        hosts.up = True
        hosts.apply()
        await hosts.settle()
        await carrier(a, True)

        # A node that ends takes the carrier of the other host.
        hosts.hosts[1].worlds["beta"].crash("b")
        await carrier(a, False)
        status = await agent.until(lambda status: status.wires[0].follows)
        assert status.wires[0].message == "no signal from b:eth1 on host h2"


async def test_a_guest_sees_a_port_that_is_shut_on_another_host(
    tmp_path: Path, spaces: tuple[str, str], factories: tuple[Factory, Factory]
) -> None:
    async with far_hosts(tmp_path, spaces, factories, ("veth", "veth")) as hosts:
        hosts.apply()
        await hosts.settle()
        a, b = await sides(hosts)
        await carrier(a, True)
        host = hosts.hosts[1]
        name = Path(await host._guests["alpha"].namespace(host.runtime.netns)).name
        await run_command("ip", "-n", name, "link", "set", "eth1", "down")
        await carrier(a, False)
        await run_command("ip", "-n", name, "link", "set", "eth1", "up")
        await carrier(a, True)
        await carrier(b, True)


async def test_a_link_is_impaired_on_the_host_that_its_frames_go_to(
    tmp_path: Path, spaces: tuple[str, str], factories: tuple[Factory, Factory]
) -> None:
    async with far_hosts(tmp_path, spaces, factories) as hosts:
        hosts.impairment = LinkImpairment(forward=Impairment(rate_kbit=512))
        hosts.apply()
        await hosts.settle()
        seen = [agent.reports.statuses["lab-1"].wires[0].impairment for agent in hosts.agents]
        assert [item.forward is not None for item in seen] == [False, True]
        assert [item.backward for item in seen] == [None, None]
        a, b = await sides(hosts)
        await both_ways(a, b, one_frame())


async def test_a_removed_wire_carries_nothing(
    tmp_path: Path, spaces: tuple[str, str], factories: tuple[Factory, Factory]
) -> None:
    async with far_hosts(tmp_path, spaces, factories) as hosts:
        hosts.apply()
        await hosts.settle()
        a, b = await sides(hosts)
        await both_ways(a, b, one_frame())
        hosts.wired = False
        hosts.apply()
        await hosts.settle()
        await silent(b, a)
        await carrier(a, False)


async def test_a_way_that_is_cut_in_one_direction_takes_the_link_down_in_the_reports_alone(
    tmp_path: Path, spaces: tuple[str, str], factories: tuple[Factory, Factory]
) -> None:
    async with far_hosts(tmp_path, spaces, factories) as hosts:
        hosts.apply()
        await hosts.settle()
        rule = ("OUTPUT", "-d", "192.0.2.2", "-j", "DROP")
        name = Path(spaces[0]).name
        await run_command("ip", "netns", "exec", name, "iptables", "-A", *rule)
        try:
            await hosts.agents[0].until(
                lambda status: status.wires[0].message == "what is sent to host h2 (192.0.2.2) does not arrive there"
            )
            await hosts.agents[1].until(
                lambda status: status.wires[0].message == "nothing arrives from host h1 (192.0.2.1)"
            )
        finally:
            await run_command("ip", "netns", "exec", name, "iptables", "-D", *rule)
        await hosts.settle()
        a, b = await sides(hosts)
        await both_ways(a, b, one_frame())
