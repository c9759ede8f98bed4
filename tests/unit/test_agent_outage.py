"""The agent while its host's networking does not answer: it goes on as far as it can, and says what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.dataplane_health import DataPlaneHealth
from wireloom.agent.network import HostNetwork
from wireloom.dataplane.simulated import SimulatedDataPlane
from wireloom.errors import DataPlaneFailed, InternalError, Unavailable
from wireloom.model.network import DataPlaneAbilities
from wireloom.model.slice import PlugIntent, PortRef, SegmentIntent
from wireloom.model.state import LinkState, NodeState, SliceStatus

LAB = make_lab(make_node("a"), make_node("b"))
AWAY = Unavailable("the switch does not run", hint="start it")
#: More often than any test asks.
FOR_EVER = 10_000


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def unknown(status: SliceStatus) -> bool:
    return all(wire.state is LinkState.PENDING and "does not run" in wire.message for wire in status.wires)


async def soon(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():  # noqa: ASYNC110 - simulated worlds tell nobody of their counters
            await asyncio.sleep(0.01)


async def test_links_are_shown_as_unknown_with_the_reason_and_come_back(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
        host.network.fail("observe", AWAY, times=FOR_EVER)
        host.network.lose_events()
        status = await agent.until(unknown)
        assert not status.converged
        assert [node.state for node in status.nodes] == [NodeState.RUNNING] * 2
        host.network.faults.clear()
        await agent.until(settled())


async def test_agent_that_starts_meanwhile_waits_with_starts_and_tells_why(host: Host) -> None:
    host.network.fail("observe", AWAY, times=FOR_EVER)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        status = await agent.until(lambda status: "does not run" in status.nodes[0].message)
        assert (status.nodes[0].failures, status.nodes[0].error) == (0, None)
        assert not host.worlds["alpha"].runtimes
        assert "does not run" in agent.network.outage
        host.network.faults.clear()
        await agent.until(settled())
        assert not agent.network.outage


async def test_nodes_are_stopped_meanwhile(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
        host.network.fail("observe", AWAY, times=FOR_EVER)
        host.network.lose_events()
        await agent.until(unknown)
        off = make_lab(*(node.model_copy(update={"power": "off"}) for node in LAB.nodes), generation=2)
        agent.reconciler.set_slice("lab-1", off)
        await agent.until(lambda status: all(node.state is NodeState.STOPPED for node in status.nodes))


async def test_start_that_met_the_outage_is_no_failure_of_the_node(host: Host) -> None:
    """It was begun when all seemed well."""
    async with Agent(host).alive() as agent:
        host.network.fail("ensure_ports", AWAY, times=FOR_EVER)
        host.network.delays["ensure_ports"] = 0.05
        agent.reconciler.set_slice("lab-1", LAB)
        await soon(lambda: host.network.calls["ensure_ports"] > 0)
        host.network.fail("observe", AWAY, times=FOR_EVER)
        status = await agent.until(lambda status: "does not run" in status.nodes[0].message)
        assert [node.failures for node in status.nodes] == [0, 0]
        host.network.faults.clear()
        await agent.until(settled())


async def test_change_that_meets_the_outage_is_tried_again_when_it_is_over(host: Host) -> None:
    async with Agent(host).alive() as agent:
        host.network.fail("ensure_wires", AWAY, times=FOR_EVER)
        agent.reconciler.set_slice("lab-1", LAB)
        status = await agent.until(lambda status: all(node.ready == "yes" for node in status.nodes) and unknown(status))
        assert not status.converged
        host.network.faults.clear()
        await agent.until(settled())


async def test_loop_does_not_spin_meanwhile(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
        host.network.fail("observe", AWAY, times=FOR_EVER)
        host.network.lose_events()
        await agent.until(unknown)
        before = host.network.calls["observe"]
        await asyncio.sleep(0.5)
        assert host.network.calls["observe"] - before <= 3


async def test_nothing_is_read_before_others_have_given_up_what_they_hold(host: Host) -> None:
    asked: list[str] = []

    async def hand_over() -> None:
        asked.append("hand over")
        if len(asked) < 2:
            raise DataPlaneFailed("the other data plane cannot let go")

    network = HostNetwork(SimulatedDataPlane("test", host.network), hand_over=hand_over)
    with pytest.raises(DataPlaneFailed):
        await network.refresh()
    assert "cannot let go" in network.outage
    assert not host.network.calls["observe"]
    for _ in range(2):
        await network.refresh(force=True)
    assert (len(asked), network.outage, network.known) == (2, "", True)


async def test_defect_of_one_segment_is_its_own(host: Host) -> None:
    a = make_node("a")
    lab = make_lab(a).model_copy(
        update={
            "segments": tuple(
                SegmentIntent(id=name, name=name, kind="switch", device=f"wls{name}") for name in ("bad", "good")
            ),
            "plugs": (PlugIntent(id="p", port=PortRef(node_id=a.id, index=1), segment="good"),),
        }
    )
    host.network.fail("ensure_segment", InternalError("its note cannot be read"), times=FOR_EVER, device="wlsbad")
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        status = await agent.until(lambda status: bool(status.plugs) and status.plugs[0].state is LinkState.UP)
        states = {segment.name: (segment.state, segment.message) for segment in status.segments}
        assert states == {"bad": (LinkState.FAILED, "its note cannot be read"), "good": (LinkState.UP, "")}


# --- abilities ------------------------------------------------------------------------------------


async def test_data_plane_that_does_not_answer_is_asked_again_for_its_abilities(host: Host) -> None:
    host.network.fail("abilities", AWAY, times=2)
    host.network.abilities = DataPlaneAbilities(name="simulated", vlans="none")
    health = DataPlaneHealth(SimulatedDataPlane("test", host.network), look_s=0.01)
    await health.look()
    assert (health.abilities, health.whole_frames) == (DataPlaneAbilities(name="simulated"), True)
    following = asyncio.create_task(health.follow_abilities())
    await soon(lambda: health.abilities.vlans == "none")
    assert not health.whole_frames
    following.cancel()


async def test_what_was_missing_is_looked_for_again(host: Host) -> None:
    host.network.abilities = DataPlaneAbilities(name="simulated", impairments={"delay": "no module"})
    health = DataPlaneHealth(SimulatedDataPlane("test", host.network), look_s=0.01)
    await health.look()
    following = asyncio.create_task(health.follow_abilities())
    host.network.abilities = DataPlaneAbilities(name="simulated")
    await soon(lambda: not health.abilities.lacks)
    calls = host.network.calls["abilities"]
    await asyncio.sleep(0.1)
    assert host.network.calls["abilities"] == calls, "nothing is missing"
    following.cancel()
