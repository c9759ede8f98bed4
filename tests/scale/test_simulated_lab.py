"""One agent with a large lab over simulated worlds: each verb once, an edit touches its node alone, nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.planning.plan import plan

SIZE = 300
NODES = tuple(make_node(f"n{number}", "beta" if number % 3 == 0 else "alpha") for number in range(SIZE))
LAB = make_lab(*NODES)
#: A guard against hanging, far above what a slow machine needs.
DEADLINE_S = 120
CHANGING = ("create", "start", "release", "stop", "destroy")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
async def agent(host: Host) -> AsyncIterator[Agent]:
    """An agent that has brought the whole lab up."""
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled(), within_s=DEADLINE_S)
        yield agent


def changes(host: Host) -> Counter[str]:
    """How often each verb that changes something was called, on all providers together."""
    calls = sum((Counter(world.calls) for world in host.worlds.values()), Counter[str]())
    return Counter({verb: calls[verb] for verb in CHANGING if calls[verb]})


async def test_a_large_lab_comes_up_with_each_verb_once_and_goes_without_a_trace(host: Host, agent: Agent) -> None:
    assert changes(host) == {"create": SIZE, "start": SIZE, "release": SIZE}
    joined = [port for port in host.network.ports.values() if port.peer is not None]
    assert len(joined) == 2 * len(LAB.wires) == 2 * (SIZE - 1)
    assert plan(LAB, agent.reconciler.observe(LAB), now=0).empty
    agent.reconciler.set_slice("lab-1", make_lab(*NODES, generation=2, removed=True))
    await agent.until(lambda status: status.generation == 2 and status.converged, within_s=DEADLINE_S)
    assert changes(host)["destroy"] == SIZE
    assert not any(world.runtimes for world in host.worlds.values())
    assert not host.network.ports
    assert list((host.folder / "nodes").iterdir()) == []


async def test_an_edit_of_one_node_of_a_large_lab_touches_that_node_alone(host: Host, agent: Agent) -> None:
    before = changes(host)
    runtimes = {node_id: status.runtime_id for node_id, status in agent.world.runtimes.items()}
    edited = NODES[7].model_copy(update={"memory_mb": 1024})
    agent.reconciler.set_slice("lab-1", make_lab(*NODES[:7], edited, *NODES[8:], generation=2))
    await agent.until(settled(2), within_s=DEADLINE_S)
    assert changes(host) - before == {"create": 1, "start": 1, "release": 1, "stop": 1, "destroy": 1}
    assert {node_id for node_id, status in agent.world.runtimes.items() if status.runtime_id != runtimes[node_id]} == {
        edited.id
    }
