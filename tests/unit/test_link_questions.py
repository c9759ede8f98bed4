"""What an agent answers about links: counters as a stream, how large a frame passes, its self-test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent import dataplane_health
from wireloom.agent.dataplane_health import DataPlaneHealth
from wireloom.agent.link_questions import LinkQuestions
from wireloom.errors import Conflict, DataPlaneFailed, NotFound
from wireloom.fabric.link_documents import CountersOpen, MtuQuestion, SelfTestQuestion
from wireloom.model.counters import CountersSample, rates
from wireloom.model.identity import device_name
from wireloom.model.impairment import Impairment
from wireloom.model.network import DataPlaneAbilities, PathTest, PortCounters
from wireloom.model.slice import PlugIntent, PortRef, SegmentIntent
from wireloom.model.state import LinkState

A, B, V = make_node("a"), make_node("b"), make_node("v", "beta")
LAB = make_lab(A, B, V).model_copy(
    update={
        "segments": (SegmentIntent(id="lan", name="lan", kind="switch", device=device_name("s", "lan")),),
        "plugs": (PlugIntent(id="p0", port=PortRef(node_id=A.id, index=2), segment="lan"),),
    }
)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with Agent(Host(tmp_path)).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
        yield agent


@pytest.fixture
def questions(agent: Agent) -> LinkQuestions:
    health = DataPlaneHealth(agent.network.dataplane)
    return LinkQuestions(reconciler=agent.reconciler, actions=agent.actions, network=agent.network, health=health)


async def test_counters_are_named_and_come_to_rates(agent: Agent, questions: LinkQuestions) -> None:
    stream = await questions.counters(CountersOpen(lab_id="lab-1", interval_s=0.2))
    first = CountersSample.model_validate_json(await stream.read())
    device = A.ports[1].device
    agent.host.network.counters[device] = PortCounters(rx_packets=10, rx_bytes=1000)
    second = CountersSample.model_validate_json(await stream.read())
    assert {(port.node, port.port) for port in first.ports} >= {("a", "eth1"), ("v", "eth2")}
    port = next(port for port in second.ports if (port.node, port.port) == ("a", "eth1"))
    assert (port.node_id, port.index, port.counters.rx_packets) == (A.id, 1, 10)
    assert 0 < port.rates.rx_packets <= 10 / 0.1
    assert port.rates.rx_bits == pytest.approx(port.rates.rx_packets * 800, rel=0.01)
    await stream.close()
    assert await stream.read() == b""


async def test_a_closed_stream_ends_a_reader_that_waits(questions: LinkQuestions) -> None:
    stream = await questions.counters(CountersOpen(lab_id="lab-1", interval_s=60))
    await stream.read()
    waiting = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    await stream.close()
    assert await waiting == b""


async def test_many_streams_read_the_kernel_once(agent: Agent, questions: LinkQuestions) -> None:
    streams = [await questions.counters(CountersOpen(lab_id="lab-1")) for _ in range(20)]
    await asyncio.gather(*(stream.read() for stream in streams))
    assert agent.host.network.calls["counters"] == 1


async def test_frames_are_sent_each_way_where_somebody_can_send(questions: LinkQuestions) -> None:
    answer = await questions.check_mtu(MtuQuestion(lab_id="lab-1", link_id="w1"))
    forward, backward = answer.forward, answer.backward
    assert (forward.source, forward.target, forward.largest, forward.method) == ("b:eth1", "v:eth2", 1500, "sent")
    assert (backward.source, backward.largest, backward.method) == ("v:eth2", 1500, "configured")
    assert backward.reason
    assert not forward.problem


async def test_what_does_not_pass_is_a_problem(agent: Agent, questions: LinkQuestions) -> None:
    device = B.ports[2].device
    agent.host.network.ports[device] = agent.host.network.ports[device].model_copy(update={"mtu": 1400})
    answer = await questions.check_mtu(MtuQuestion(lab_id="lab-1", link_id="w0"))
    assert (answer.forward.configured, answer.forward.largest) == (1500, 1400)
    assert "1400" in answer.forward.problem


def impair(agent: Agent, device: str, **changes: Impairment) -> None:
    """As the kernel says that it does; what a slice wants is no concern of a test of what passes."""
    agent.host.network.ports[device] = agent.host.network.ports[device].model_copy(update=changes)


async def test_a_slow_link_is_waited_for(agent: Agent, questions: LinkQuestions) -> None:
    impair(agent, B.ports[2].device, to_guest=Impairment(delay_ms=4000, jitter_ms=1000))
    await agent.network.refresh(force=True)
    answer = await questions.check_mtu(MtuQuestion(lab_id="lab-1", link_id="w0"))
    assert (answer.forward.largest, answer.forward.method, answer.forward.problem) == (1500, "sent", "")


async def test_a_slow_neighbour_in_a_segment_is_waited_for(agent: Agent, questions: LinkQuestions) -> None:
    device = A.ports[2].device
    await agent.until(lambda status: status.plugs[0].state is LinkState.UP)
    other = PlugIntent(id="p1", port=PortRef(node_id=B.id, index=1), segment="lan")
    agent.reconciler.set_slice("lab-1", LAB.model_copy(update={"wires": (), "plugs": (*LAB.plugs, other)}))
    await agent.until(lambda status: [plug.state for plug in status.plugs] == [LinkState.UP] * 2)
    impair(agent, device, from_guest=Impairment(delay_ms=2000))
    impair(agent, B.ports[1].device, to_guest=Impairment(delay_ms=3000))
    await agent.network.refresh(force=True)
    answer = await questions.check_mtu(MtuQuestion(lab_id="lab-1", link_id="p0"))
    assert (answer.forward.target, answer.forward.largest, answer.forward.method) == ("b:eth1", 1500, "sent")


async def test_a_link_that_is_too_slow_to_be_waited_for_says_so(agent: Agent, questions: LinkQuestions) -> None:
    impair(agent, B.ports[2].device, to_guest=Impairment(delay_ms=60_000))
    await agent.network.refresh(force=True)
    forward = (await questions.check_mtu(MtuQuestion(lab_id="lab-1", link_id="w0"))).forward
    assert (forward.largest, forward.method, forward.problem) == (1500, "configured", "")
    assert "60 s" in forward.reason
    assert not agent.host.network.calls["largest_payload"] > 1, "only the way back was tried"


async def test_what_is_too_slow_to_find_out_is_said_as_far_as_it_is_known(
    agent: Agent, questions: LinkQuestions
) -> None:
    device = B.ports[2].device
    impair(agent, device, to_guest=Impairment(delay_ms=9000))
    agent.host.network.ports[device] = agent.host.network.ports[device].model_copy(update={"mtu": 1400})
    await agent.network.refresh(force=True)
    forward = (await questions.check_mtu(MtuQuestion(lab_id="lab-1", link_id="w0"))).forward
    assert (forward.largest, forward.method) == (46, "sent")
    assert "frames of 1500 bytes do not pass" in forward.problem


async def test_a_port_alone_in_its_segment_has_the_configured_mtu(questions: LinkQuestions) -> None:
    answer = await questions.check_mtu(MtuQuestion(lab_id="lab-1", link_id="p0"))
    assert (answer.forward.source, answer.forward.target, answer.forward.method) == ("a:eth2", "lan", "configured")
    assert answer.backward.target == "a:eth2"


async def test_links_that_are_down_or_unknown_are_refused(agent: Agent, questions: LinkQuestions) -> None:
    with pytest.raises(NotFound):
        await questions.check_mtu(MtuQuestion(lab_id="lab-1", link_id="w9"))
    with pytest.raises(NotFound):
        await questions.counters(CountersOpen(lab_id="lab-9"))
    down = LAB.model_copy(update={"wires": (LAB.wires[0].model_copy(update={"up": False}),)})
    agent.reconciler.set_slice("lab-1", down)
    with pytest.raises(Conflict):
        await questions.check_mtu(MtuQuestion(lab_id="lab-1", link_id="w0"))


async def test_the_self_test_is_remembered_as_the_hosts_problem(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    health = DataPlaneHealth(agent.network.dataplane)

    async def broken() -> tuple[PathTest, ...]:
        return (PathTest(path="segment", problem="nothing arrives", hint="pray"), PathTest(path="wire"))

    monkeypatch.setattr(agent.network.dataplane, "self_test", broken)
    answer = await health.self_test(SelfTestQuestion())
    assert [path.problem for path in answer.paths] == ["nothing arrives", ""]
    assert health.problems == ("data plane: segment: nothing arrives (pray)",)


async def test_nodes_that_are_not_kept_from_the_host_are_a_problem(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = DataPlaneHealth(agent.network.dataplane)

    async def without_fence() -> DataPlaneAbilities:
        return DataPlaneAbilities(fence="no module cls_bpf")

    monkeypatch.setattr(agent.network.dataplane, "abilities", without_fence)
    await health.look()
    assert health.problems == ("data plane: nodes are not kept apart from the host: no module cls_bpf",)


async def test_a_self_test_that_cannot_be_done_is_a_problem_too(agent: Agent) -> None:
    health = DataPlaneHealth(agent.network.dataplane)
    agent.host.network.fail("self_test", DataPlaneFailed("no namespaces"))
    testing = asyncio.create_task(health.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert "no namespaces" in health.problems[0]
    testing.cancel()


def test_a_counter_that_went_back_counts_from_nothing() -> None:
    assert rates(PortCounters(tx_packets=100), PortCounters(tx_packets=30), 2).tx_packets == 15
    assert rates(PortCounters(), PortCounters(tx_packets=30), 0).tx_packets == 0


# --- the self-test, again -------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataplane_health, "_PAUSE_FACTOR", 0.01)


async def soon(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():  # noqa: ASYNC110 - simulated worlds tell nobody of their counters
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("quick")
async def test_the_self_test_is_repeated_until_nothing_is_wrong(agent: Agent) -> None:
    health = DataPlaneHealth(agent.network.dataplane)
    agent.host.network.fail("self_test", DataPlaneFailed("no namespaces"), times=3)
    testing = asyncio.create_task(health.run())
    await soon(lambda: bool(health.problems))
    await soon(lambda: not health.problems)
    assert agent.host.network.calls["self_test"] == 4
    await asyncio.sleep(0.1)
    assert agent.host.network.calls["self_test"] == 4, "all is well"
    testing.cancel()


async def test_the_self_test_is_repeated_when_the_data_plane_was_interrupted(agent: Agent) -> None:
    health = DataPlaneHealth(agent.network.dataplane, settle_s=0.01)
    testing = asyncio.create_task(health.run())
    await soon(lambda: agent.host.network.calls["self_test"] == 1)
    agent.host.network.fail("self_test", DataPlaneFailed("it has lost its memory"))
    for _ in range(10):
        health.interrupted()
    await soon(lambda: bool(health.problems))
    await asyncio.sleep(0.05)
    assert agent.host.network.calls["self_test"] == 2, "events that belong together are one"
    testing.cancel()
