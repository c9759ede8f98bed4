"""Nodes of labs that may be started elsewhere: they run only as long as a controller has answered lately."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.fencing.guard import FenceGuard, take_lock
from wireloom.agent.folder import FolderStore
from wireloom.fabric.documents import Lease
from wireloom.model.slice import RestartPolicy, Slice
from wireloom.model.state import LinkState, NodeState

LEASE_S = 60.0
LAB = make_lab(make_node("a"), make_node("b", "beta")).model_copy(update={"lease_s": LEASE_S})
OTHER = make_lab(make_node("c")).model_copy(update={"lab_id": "lab-2", "lab": "other"})


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def given(agent: Agent, lab: Slice | None, lab_id: str = "lab-1") -> None:
    """The fabric brings the intent of a lab."""
    agent.fence.follow(lab_id, lab)
    agent.reconciler.set_slice(lab_id, lab)


def answered(agent: Agent, beat: str, generation: int = 1, lab_id: str = "lab-1") -> None:
    agent.fence.heard(Lease(host="h1", beat=beat, labs={lab_id: generation}))


async def reached(check: Callable[[], object], within_s: float = 30) -> None:
    async with asyncio.timeout(within_s):
        while not check():  # noqa: ASYNC110 - simulated worlds tell nobody
            await asyncio.sleep(0.01)


async def let_it_lapse(agent: Agent) -> None:
    agent.host.seconds += LEASE_S + 1
    await agent.until(lambda status: all(node.state is NodeState.STOPPED for node in status.nodes))


def live(host: Host) -> set[str]:
    phases = [runtime for world in host.worlds.values() for runtime in world.runtimes.values()]
    return {runtime.spec.identity.node for runtime in phases if runtime.phase in {"gated", "running"}}


async def test_without_a_word_of_the_controller_the_nodes_are_stopped_and_say_why(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        given(agent, OTHER, "lab-2")
        await agent.until(settled())
        await agent.until(settled(), lab="lab-2")
        await let_it_lapse(agent)
        status = await agent.until(lambda status: all("another host may run it" in n.message for n in status.nodes))
        assert [node.failures for node in status.nodes] == [0, 0]
        assert not status.converged
        assert {wire.state for wire in status.wires} == {LinkState.PENDING}
        assert {event.node for event in agent.reports.events if event.kind == "node.fenced"} == {"a", "b"}
        assert agent.node("c", "lab-2").state is NodeState.RUNNING
    assert live(host) == {"c"}


async def test_nodes_go_on_while_heartbeats_are_answered(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
        for _ in range(4):
            host.seconds += LEASE_S / 2
            answered(agent, agent.fence.book.beat())
        assert agent.fence.reason("lab-1") == ""
        host.seconds += LEASE_S / 2
        assert agent.fence.reason("lab-1") == ""


async def test_a_lease_counts_from_when_the_heartbeat_was_sent(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
        beat = agent.fence.book.beat()
        host.seconds += LEASE_S + 1  # the answer was on its way for that long
        answered(agent, beat)
        assert agent.fence.reason("lab-1") != ""


async def test_they_start_again_with_a_lease_for_what_is_known_of_the_lab(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
        await let_it_lapse(agent)
        answered(agent, agent.fence.book.beat(), generation=2)  # of an intent that is still on its way
        assert agent.fence.reason("lab-1") != ""
        gone = make_lab(LAB.nodes[0], generation=2).model_copy(update={"lease_s": LEASE_S})
        given(agent, gone)
        await agent.until(lambda status: status.generation == 2)
        assert live(host) == set()
        answered(agent, agent.fence.book.beat(), generation=2)
        await agent.until(settled(2))
    assert live(host) == {"a"}
    assert {r.spec.identity.node for world in host.worlds.values() for r in world.runtimes.values()} == {"a"}


async def test_a_node_that_is_never_restarted_by_itself_comes_back_all_the_same(host: Host) -> None:
    never = make_node("a", restart_policy=RestartPolicy.NEVER)
    async with Agent(host).alive() as agent:
        given(agent, make_lab(never).model_copy(update={"lease_s": LEASE_S}))
        await agent.until(settled())
        await let_it_lapse(agent)
        answered(agent, agent.fence.book.beat())
        await agent.until(settled())


async def test_an_agent_that_is_started_anew_within_the_lease_touches_nothing(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
        starts = host.worlds["alpha"].calls["start"]
    host.seconds += LEASE_S / 2
    async with Agent(host).alive() as again:
        given(again, LAB)
        await again.until(settled())
        assert host.worlds["alpha"].calls["start"] == starts
        assert host.worlds["alpha"].calls["stop"] == 0


async def test_an_agent_that_is_started_anew_after_it_stops_nodes_before_it_is_told_of_the_lab(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
    host.seconds += LEASE_S + 1
    async with Agent(host).alive():
        await reached(lambda: live(host) == set())


async def test_after_a_reboot_nothing_is_started_from_memory(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
    for world in host.worlds.values():
        for runtime in world.runtimes.values():
            runtime.phase = "exited"
    host.boot, host.seconds = "boot-2", 10.0
    async with Agent(host).alive() as again:
        given(again, LAB)
        status = await again.until(lambda status: all("waits for the controller" in n.message for n in status.nodes))
        assert not status.converged
        assert live(host) == set()
        answered(again, again.fence.book.beat())
        await again.until(settled())


async def test_a_start_that_is_under_way_is_interrupted(host: Host) -> None:
    host.worlds["alpha"].delay("create", 3600.0)
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await reached(lambda: host.worlds["alpha"].calls["create"] == 1)
        await reached(lambda: "b" in live(host))
        host.seconds += LEASE_S + 1
        await reached(lambda: live(host) == set())
        await agent.until(lambda status: all("another host may run it" in n.message for n in status.nodes))


async def test_a_lab_that_needs_a_lease_from_now_on_goes_on_meanwhile(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB.model_copy(update={"lease_s": None}))
        await agent.until(settled())
        host.seconds += 10 * LEASE_S
        given(agent, LAB.model_copy(update={"generation": 2}))
        status = await agent.until(settled(2))
        assert status.lease_s == LEASE_S
        assert host.worlds["alpha"].calls["stop"] == 0


async def test_a_lab_that_needs_none_any_more_is_started_again(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
        await let_it_lapse(agent)
        given(agent, LAB.model_copy(update={"lease_s": None, "generation": 2}))
        await agent.until(settled(2))


async def test_nodes_that_went_elsewhere_are_removed_and_never_started_when_the_host_is_back(host: Host) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
        await let_it_lapse(agent)
        starts = host.worlds["alpha"].calls["start"]
        given(agent, make_lab(generation=2, removed=True))
        await agent.until(lambda status: status.generation == 2 and status.converged)
        assert host.worlds["alpha"].calls["start"] == starts
        assert not any(world.runtimes for world in host.worlds.values())
        assert not agent.folders.all()


# ---------------------------------------------------------------------- the guard beside the agent


def guard_of(host: Host, lock: Path, sleeps: list[float]) -> FenceGuard:
    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        host.seconds += 20.0
        await asyncio.sleep(0)

    return FenceGuard(
        host.folder / "leases.json",
        lock,
        host_boot=host.boot,
        providers=host.providers,
        folders=FolderStore(host.folder / "nodes", host.installation),
        clock=lambda: host.seconds,
        sleep=sleep,
    )


async def test_the_guard_stops_nodes_of_an_agent_that_is_not_there_and_ends(host: Host, tmp_path: Path) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        given(agent, OTHER, "lab-2")
        await agent.until(settled())
        await agent.until(settled(), lab="lab-2")
    sleeps: list[float] = []
    await guard_of(host, tmp_path / "lock", sleeps).run()
    assert len(sleeps) >= LEASE_S / 20  # it waited for the lease to run out
    assert live(host) == {"c"}
    async with Agent(host).alive() as again:
        given(again, LAB)
        answered(again, again.fence.book.beat())
        await again.until(settled())


async def test_the_guard_leaves_alone_what_has_a_lease_and_ends_when_none_is_needed(host: Host, tmp_path: Path) -> None:
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
        answered(agent, agent.fence.book.beat())
        guarding = asyncio.create_task(guard_of(host, tmp_path / "lock", []).run())
        for _ in range(20):
            answered(agent, agent.fence.book.beat())
            await asyncio.sleep(0)
        given(agent, LAB.model_copy(update={"lease_s": None, "generation": 2}))
        await asyncio.wait_for(guarding, 10)
        assert live(host) == {"a", "b"}


async def test_there_is_one_guard(host: Host, tmp_path: Path) -> None:
    held = take_lock(tmp_path / "lock")
    assert held is not None
    async with Agent(host).alive() as agent:
        given(agent, LAB)
        await agent.until(settled())
    await guard_of(host, tmp_path / "lock", []).run()
    assert live(host) == {"a", "b"}
    held.close()
