"""An agent over a real Open vSwitch that goes and comes back: nodes go on as far as they can, links say why not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent_rig import Agent, make_lab, make_node, settled
from ovs_rig import PrivateOvs, private_ovs
from wiring_rig import RealHost

from wireloom.client import Client
from wireloom.model.slice import NodeIntent, Slice
from wireloom.model.state import LinkState, NodeState, SliceStatus
from wireloom.testing.installation import installed, own_folder, until

pytestmark = pytest.mark.kernel

A, B, C = make_node("a"), make_node("b"), make_node("c", "beta")


@pytest.fixture
async def ovs(tmp_path: Path) -> AsyncIterator[PrivateOvs]:
    folder = tmp_path / "ovs"
    folder.mkdir()
    async with private_ovs(folder) as made:
        yield made


def lab_on(host: RealHost, *nodes: NodeIntent, generation: int = 1, removed: bool = False) -> Slice:
    lab = make_lab(*nodes, generation=generation, removed=removed)
    return lab.model_copy(update={"installation": host.installation})


def unknown(status: SliceStatus) -> bool:
    return all(wire.state is LinkState.PENDING and "not known" in wire.message for wire in status.wires)


async def test_agent_goes_on_while_the_switch_is_away(ovs: PrivateOvs, tmp_path: Path) -> None:
    host = RealHost(tmp_path, ovs.plane)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab_on(host, A, B, C))
        await agent.until(settled(), within_s=60)
        await ovs.kill()
        status = await agent.until(unknown, within_s=20)
        assert "ovs-vswitchd" in status.wires[0].message
        assert [node.state for node in status.nodes] == [NodeState.RUNNING] * 3
        off = lab_on(host, A, B.model_copy(update={"power": "off"}), C, generation=2)
        agent.reconciler.set_slice("lab-1", off)
        await agent.until(lambda status: status.nodes[1].state is NodeState.STOPPED, within_s=20)
    await ovs.stop()
    async with Agent(host).alive() as heir:
        heir.reconciler.set_slice("lab-1", lab_on(host, A, B.model_copy(update={"attention": 1}), C, generation=3))
        status = await heir.until(lambda status: "waits for" in status.nodes[1].message and unknown(status))
        await ovs.start()
        status = await heir.until(settled(3), within_s=60)
        assert [node.failures for node in status.nodes] == [0, 0, 0]
        heir.reconciler.set_slice("lab-1", lab_on(host, A, B, C, generation=4, removed=True))
        await heir.until(lambda status: status.generation == 4 and status.converged, within_s=60)
    assert host.debris() == []


async def test_agent_starts_where_no_switch_runs_and_says_so(tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    with own_folder() as folder:
        async with (
            installed(folder, WIRELOOM_DATAPLANE="ovs", OVS_RUNDIR=str(empty)) as installation,
            installation.client() as client,
        ):
            await until(lambda: _tells(client, "Open vSwitch does not run"), "the agent to tell why")


async def _tells(client: Client, words: str) -> bool:
    return any(words in problem for host in await client.hosts() for problem in (host.facts or {}).get("problems", ()))
