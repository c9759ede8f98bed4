"""The fabric is away: agents go on with what they know, and tell everything when it is back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.errors import Unavailable
from wireloom.fabric.documents import Event
from wireloom.model.slice import RestartPolicy
from wireloom.model.state import SliceStatus

LAB = make_lab(make_node("a", restart_policy=RestartPolicy.ALWAYS), make_node("b", "beta"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def cut(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the agent tells arrives any more."""

    async def refused(_self: object, _document: SliceStatus | Event) -> None:
        raise Unavailable("the fabric is away")

    monkeypatch.setattr(type(agent.reports), "put_observation", refused)
    monkeypatch.setattr(type(agent.reports), "publish_event", refused)


async def test_nodes_that_end_meanwhile_are_started_again_and_it_is_told_afterwards(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())
        with monkeypatch.context() as away:
            cut(agent, away)
            host.worlds["alpha"].crash("a")
            async with asyncio.timeout(30):
                while host.worlds["alpha"].calls["start"] < 2:  # noqa: ASYNC110 - simulated worlds tell nobody
                    await asyncio.sleep(0.01)
            assert agent.node("a").failures == 0  # nothing of it was told yet
        await agent.until(lambda status: status.nodes[0].failures > 0)
        await agent.until(settled())


async def test_a_link_that_loses_its_end_meanwhile_loses_its_carrier(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", restart_policy=RestartPolicy.NEVER), LAB.nodes[1]))
        await agent.until(settled())
        cut(agent, monkeypatch)
        host.worlds["alpha"].crash("a")
        neighbour = host.worlds["beta"].by_node("b")
        async with asyncio.timeout(30):
            while neighbour.carriers.get(2) is not False:  # noqa: ASYNC110 - it is wired to port 1 of a
                await asyncio.sleep(0.01)
