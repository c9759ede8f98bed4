"""The agent and what is on its host: prune, the management network, readiness of each boot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.reconciler import ManagementPlane
from wireloom.agent.reporter import Reporter
from wireloom.model.device import Probe
from wireloom.model.device import Readiness as ReadyWhen
from wireloom.model.network import Segment, SegmentAlias
from wireloom.model.slice import Management, Slice
from wireloom.model.state import Readiness, SliceStatus

LAB = make_lab(make_node("a"), make_node("b", "beta"))
MANAGED = LAB.model_copy(update={"management": Management(subnet="172.30.0.0/24", gateway="172.30.0.1")})


class Bridge(ManagementPlane):
    """Takes note of what it is asked for."""

    def __init__(self) -> None:
        self.occupied: list[bool] = []

    async def update(self, slices: Mapping[str, Slice], *, occupied: bool, segment_up: Callable[[], None]) -> None:
        self.occupied.append(occupied)
        await super().update(slices, occupied=occupied, segment_up=segment_up)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def with_bridge(agent: Agent) -> Bridge:
    bridge = Bridge()
    agent.reconciler._management = bridge
    return bridge


async def test_prune_leaves_a_lab_that_this_host_has_an_intent_for(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
        answer = await agent.pruner.prune((), dry_run=False)  # the question was asked before the lab was made
        assert answer.orphans == ()
    assert len(host.network.ports) == 6


async def test_prune_leaves_an_orphan_that_came_to_be_wanted_while_others_went(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
    host.worlds["alpha"].delay("destroy", 0.3)
    async with Agent(host).alive() as fresh:
        pruning = asyncio.create_task(fresh.pruner.prune((), dry_run=False))
        await asyncio.sleep(0.15)  # a is going
        fresh.reconciler.slices["lab-1"] = LAB
        answer = await pruning
        b = next(orphan for orphan in answer.orphans if orphan.node == "b")
        assert not b.removed
        assert b.error is not None
        assert b.error["code"] == "conflict"
    assert host.worlds["beta"].runtimes


async def test_prune_removes_the_segments_of_a_lost_lab_and_no_others(host: Host) -> None:
    async with Agent(host).alive() as agent:
        for lab in ("gone", "there", ""):
            alias = SegmentAlias(installation="test", lab_id=lab, segment_id="s", name=f"{lab}/lan")
            host.network.segments[f"wls{lab}"] = Segment(name=f"wls{lab}", alias=alias.text(), up=True)
        found = await agent.pruner.prune(("there",), dry_run=True)
        assert [(orphan.kind, orphan.name, orphan.lab) for orphan in found.orphans] == [("segment", "wlsgone", "gone")]
        answer = await agent.pruner.prune(("there",), dry_run=False)
        assert [orphan.removed for orphan in answer.orphans] == [True]
    assert host.network.segments.keys() == {"wlsthere", "wls"}


async def test_prune_keeps_the_folder_of_a_node_whose_engine_is_away(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
    host.worlds["beta"].stop_engine()
    async with Agent(host).alive() as fresh:
        answer = await fresh.pruner.prune((), dry_run=False)
        assert {orphan.node: orphan.removed for orphan in answer.orphans} == {"a": True, "b": False}
    assert (host.folder / "nodes" / "id-b" / "record.json").is_file()


async def test_the_management_network_stays_while_the_engine_of_a_node_is_away(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
    for world in host.worlds.values():
        world.stop_engine()
    again = Agent(host)
    bridge = with_bridge(again)
    async with again.alive():
        await asyncio.sleep(0.1)
    assert bridge.occupied == [True]


async def test_the_segment_is_not_there_before_a_lab_asked_for_it(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
        assert not agent.network._segment_there.is_set()
        agent.reconciler.set_slice("lab-1", MANAGED.model_copy(update={"generation": 2}))
        await asyncio.wait_for(agent.network.wait_for_segment(), 60)


async def test_a_management_port_that_fell_out_of_its_segment_is_put_back(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", MANAGED)
        await agent.until(settled())
        device = LAB.nodes[0].ports[0].device
        lost = host.network.ports[device].model_copy(update={"segment": None})
        host.network.ports[device] = lost
        host.network.plans.pop(device)
        host.network.plans[device] = agent_plan(lost.device, host)
        host.network.publish(lost)
        async with asyncio.timeout(60):
            while host.network.ports[device].segment is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def agent_plan(device: str, host: Host):  # type: ignore[no-untyped-def]
    """The plan of a neighbouring port: anything but the one that made ``device``."""
    other = next(plan for name, plan in host.network.plans.items() if name != device)
    return other.model_copy(update={"device": device})


async def test_a_node_that_left_its_lab_is_not_watched_any_more(host: Host) -> None:
    slow = make_node("slow", settings={"boot_s": 60.0})
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a"), slow))
        await agent.until(lambda status: status.nodes[1].state == "running")
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a"), generation=2))
        await agent.until(settled(2))
        assert agent.readiness._watched.keys() == {"id-a"}
        agent.reconciler.set_slice("lab-1", None)
        assert not agent.readiness._watched


async def test_readiness_is_of_this_boot_alone(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
        runtime = host.worlds["beta"].by_node("b")
        runtime.log.clear()
        runtime.started_at = (runtime.started_at or 0) + 1  # it was reset, and nobody saw it down
        await agent.world.resync()
        await agent.until(lambda status: status.nodes[1].ready is not Readiness.YES)


async def test_a_pattern_is_found_although_the_log_comes_in_pieces_of_any_size(host: Host) -> None:
    text = "\x1b[1;32mrouter\x1b[0m lög\x1b[31min:".encode()
    node = make_node("a", ready=ReadyWhen(probes=(Probe(kind="log", pattern="^router lögin:"),)))
    agent = Agent(host)
    closed = []

    async def pieces(runtime_id: str, *, follow: bool = False) -> AsyncGenerator[bytes, None]:
        try:
            for index in range(len(text)):
                yield text[index : index + 1]
            await asyncio.Event().wait()
        finally:
            closed.append(runtime_id)

    agent.providers["alpha"].boot_log = pieces  # type: ignore[method-assign,assignment]
    async with agent.alive():
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await agent.until(settled())
        assert closed


async def test_a_lab_that_comes_back_before_it_was_forgotten_is_reported(host: Host) -> None:
    agent = Agent(host)
    reporter = Reporter("h1", agent.reports)
    status = SliceStatus(host="h1", lab_id="lab-1", lab="lab", generation=1, observed_at=1)
    reporter.status(status)
    await reporter._flush()
    reporter.forget("lab-1")
    reporter.status(status)
    await reporter._flush()
    assert agent.reports.deleted == []
