"""Wires between hosts: two agents that hear of each other through the fabric alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_rig import Agent, settled
from far_rig import ADDRESSES, FarHost, both, far_lab, tell_peers

from wireloom.model.network import Tunnel
from wireloom.model.state import SliceStatus, WireStatus
from wireloom.testing.memory_fabric import MemoryFabric


@pytest.fixture
def fabric() -> MemoryFabric:
    return MemoryFabric()


@pytest.fixture
def hosts(tmp_path: Path, fabric: MemoryFabric) -> tuple[FarHost, FarHost]:
    return FarHost(tmp_path / "h1", "h1", fabric), FarHost(tmp_path / "h2", "h2", fabric)


async def soon(check: Callable[[], bool]) -> None:
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


def wire(status: SliceStatus) -> WireStatus:
    (found,) = status.wires
    return found


async def test_a_wire_between_hosts_comes_up_when_both_ends_are_there(
    hosts: tuple[FarHost, FarHost], fabric: MemoryFabric
) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with both(first, second) as (one, two):
        await one.until(settled())
        await two.until(settled())
        assert first.network.ports[first.device].tunnel == Tunnel(
            remote=ADDRESSES["h2"], vni=4711, local=ADDRESSES["h1"]
        )
        assert (first.up, second.up) == (True, True)


async def test_without_the_other_host_the_port_is_joined_and_has_no_carrier(
    hosts: tuple[FarHost, FarHost], fabric: MemoryFabric
) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with Agent(first).alive() as one:
        one.reconciler.set_slice("lab-1", far_lab(first, second))
        status = await one.until(lambda status: status.converged and wire(status).follows)
        assert first.network.ports[first.device].tunnel is not None
        assert not first.up
        assert wire(status).message == "no signal from b:eth1 on host h2"
        assert wire(status).far == "unknown"


async def test_a_host_whose_address_is_not_known_is_waited_for(
    hosts: tuple[FarHost, FarHost], fabric: MemoryFabric
) -> None:
    first, second = hosts
    async with both(first, second) as (one, two):
        status = await one.until(lambda status: status.converged and wire(status).message != "a is not running")
        assert wire(status).message == "where host h2 can be reached is not known yet"
        await tell_peers(fabric)
        await one.until(settled())
        await two.until(settled())


async def test_a_wire_without_a_number_is_not_joined(hosts: tuple[FarHost, FarHost], fabric: MemoryFabric) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with Agent(first).alive() as one:
        one.reconciler.set_slice("lab-1", far_lab(first, second, vni=0))
        status = await one.until(lambda status: status.converged and "number" in wire(status).message)
        assert status.nodes[0].state == "running"
        assert first.network.ports[first.device].tunnel is None


async def test_a_node_that_dies_takes_the_carrier_of_the_other_host(
    hosts: tuple[FarHost, FarHost], fabric: MemoryFabric
) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with both(first, second) as (one, two):
        await one.until(settled())
        await two.until(settled())
        second.worlds["alpha"].crash("b")
        await soon(lambda: not first.up)
        status = await one.until(lambda status: wire(status).state == "pending")
        assert (wire(status).far, wire(status).follows) == ("down", True)


async def test_a_guest_that_shuts_its_port_takes_the_carrier_of_the_other_host_and_gives_it_back(
    hosts: tuple[FarHost, FarHost], fabric: MemoryFabric
) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with both(first, second) as (one, two):
        await one.until(settled())
        await two.until(settled())
        port = second.network.ports[second.device]
        for carrier in (False, True):
            second.network.ports[port.device] = port.model_copy(update={"carrier": carrier})
            second.network.publish(second.network.ports[port.device])
            await soon(lambda carrier=carrier: first.up is carrier)  # type: ignore[misc]


async def test_a_link_that_one_host_has_switched_off_is_off_at_both(
    hosts: tuple[FarHost, FarHost], fabric: MemoryFabric
) -> None:
    """The other host may hear of it from the controller much later."""
    first, second = hosts
    await tell_peers(fabric)
    async with both(first, second) as (one, two):
        await one.until(settled())
        await two.until(settled())
        two.reconciler.set_slice("lab-1", far_lab(second, first, up=False, generation=2))
        await soon(lambda: not second.up)
        await soon(lambda: not first.up)
        two.reconciler.set_slice("lab-1", far_lab(second, first, generation=3))
        await soon(lambda: first.up and second.up)


async def test_a_restarted_agent_takes_no_carrier_away(hosts: tuple[FarHost, FarHost], fabric: MemoryFabric) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with Agent(first).alive() as one:
        one.reconciler.set_slice("lab-1", far_lab(first, second))
        async with Agent(second).alive() as two:
            two.reconciler.set_slice("lab-1", far_lab(second, first))
            await one.until(settled())
            await two.until(settled())
        before = [host.network.calls["set_carrier"] for host in hosts]
        fabric.lose_store()
        async with Agent(second).alive() as two:
            await asyncio.sleep(0.1)
            two.reconciler.set_slice("lab-1", far_lab(second, first))
            await tell_peers(fabric)
            await two.until(settled())
            assert first.up
        assert [host.network.calls["set_carrier"] for host in hosts] == before


async def test_what_the_fabric_lost_is_told_again(hosts: tuple[FarHost, FarHost], fabric: MemoryFabric) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with both(first, second) as (one, two):
        await one.until(settled())
        await two.until(settled())
        fabric.lose_store()
        for agent in (one, two):
            assert agent.underlay is not None
            agent.underlay.resend()
        await tell_peers(fabric)
        async with Agent(FarHost(first.folder / "again", "h1", fabric)).alive() as third:
            third.reconciler.set_slice("lab-1", far_lab(first, second))
            await soon(lambda: bool(third.underlay and third.underlay.far_ends))


async def test_the_last_word_of_a_host_that_cannot_be_heard_holds(
    hosts: tuple[FarHost, FarHost], fabric: MemoryFabric
) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with both(first, second) as (one, two):
        await one.until(settled())
        await two.until(settled())
        fabric.connected = False
        second.worlds["alpha"].crash("b")
        await two.until(lambda status: wire(status).message == "b is not running")
        await asyncio.sleep(0.05)
        assert first.up
        fabric.connected = True
        await soon(lambda: not first.up)


async def test_a_removed_wire_leaves_no_tunnel(hosts: tuple[FarHost, FarHost], fabric: MemoryFabric) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with both(first, second) as (one, two):
        await one.until(settled())
        await two.until(settled())
        one.reconciler.set_slice("lab-1", far_lab(first, second, wired=False, generation=2))
        await one.until(settled(2))
        assert first.network.ports[first.device].tunnel is None
        assert not first.up


async def test_a_host_that_moved_is_followed(hosts: tuple[FarHost, FarHost], fabric: MemoryFabric) -> None:
    first, second = hosts
    await tell_peers(fabric)
    async with both(first, second) as (one, _):
        await one.until(settled())
        await tell_peers(fabric, address="192.0.2.99")
        await soon(lambda: first.network.ports[first.device].tunnel.remote == "192.0.2.99")  # type: ignore[union-attr]


async def test_a_device_that_takes_offence_at_a_carrier_is_cut_off_instead(
    tmp_path: Path, fabric: MemoryFabric
) -> None:
    first, second = FarHost(tmp_path / "h1", "h1", fabric), FarHost(tmp_path / "h2", "h2", fabric)
    first.node = first.node.model_copy(update={"link_down": "cut"})
    await tell_peers(fabric)
    async with both(first, second) as (one, two):
        await one.until(settled())
        await two.until(settled())
        second.worlds["alpha"].crash("b")
        await soon(lambda: first.network.ports[first.device].tunnel is None)
        assert first.up


async def test_a_machine_sees_its_far_peer_die_through_its_hypervisor(tmp_path: Path, fabric: MemoryFabric) -> None:
    first, second = FarHost(tmp_path / "h1", "h1", fabric, "beta"), FarHost(tmp_path / "h2", "h2", fabric)
    await tell_peers(fabric)
    async with both(first, second) as (one, two):
        await one.until(settled())
        await two.until(settled())
        second.worlds["alpha"].crash("b")
        machine = next(iter(first.worlds["beta"].runtimes.values()))
        await soon(lambda: machine.carriers.get(1) is False)
