"""Labs over hosts of a controller: where nodes go, what is told of it, and that what runs stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from controller_rig import Rig, make_rig, until

from wireloom.model.runtime import Capabilities
from wireloom.model.views import DeployRequest, OperationState, PlanView

CHAIN = """\
name: chain
defaults: {device: linux, provider: simulated, memory: 3GiB}
nodes: {a: , b: , c: , d: }
links:
  - [a:eth1, b:eth1]
  - [c:eth1, d:eth1]
  - [b:eth2, c:eth2]
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as rig:
        await rig.add_host("h1")
        await rig.add_host("h2", management_subnet="172.31.0.0/24")
        yield rig


def lab(**nodes: str) -> str:
    lines = "".join(f"  {name}: {fields}\n" for name, fields in nodes.items())
    return f"name: some\ndefaults: {{device: linux, provider: simulated, memory: 100}}\nnodes:\n{lines}"


async def plan(rig: Rig, topology: str) -> PlanView:
    return await rig.controller.labs.plan(DeployRequest(topology=topology))


async def hosts(rig: Rig, name: str) -> dict[str, str]:
    snapshot = await rig.store.snapshot(name)
    assert snapshot is not None
    return {node.name: node.host for node in snapshot.nodes}


async def test_a_lab_is_cut_where_the_fewest_links_are_and_the_plan_says_so_before(rig: Rig) -> None:
    planned = await plan(rig, CHAIN)
    assert planned.placement["a"].host == planned.placement["b"].host
    assert planned.placement["c"].host == planned.placement["d"].host != planned.placement["a"].host
    assert any("links stay on the host" in reason for reason in planned.placement["a"].reasons)
    assert (await rig.deploy(CHAIN)).state is OperationState.DONE
    assert await hosts(rig, "chain") == {name: choice.host for name, choice in planned.placement.items()}


async def test_what_runs_stays_when_hosts_come_and_the_lab_grows(rig: Rig) -> None:
    await rig.deploy(CHAIN)
    before = await hosts(rig, "chain")
    await rig.add_host("h3", memory_mb=99999, management_subnet="172.32.0.0/24")
    await rig.deploy(CHAIN.replace("d: }", "d: , e: }"))
    after = await hosts(rig, "chain")
    assert {name: after[name] for name in before} == before
    assert after["e"]


async def test_a_cordoned_host_takes_nothing_new(rig: Rig) -> None:
    await rig.controller.registry.edit("h1", cordoned=True)
    planned = await plan(rig, lab(a="", b="{host: h1}"))
    assert planned.placement["a"].host == "h2"
    assert "cordoned" in planned.placement["a"].rejected["h1"]
    assert planned.placement["b"].host == ""
    assert [problem["node"] for problem in planned.problems] == ["b"]


async def test_a_node_goes_to_a_host_with_its_labels(rig: Rig) -> None:
    await rig.controller.registry.edit("h2", labels={"rack": "b"})
    planned = await plan(rig, lab(a="{host-labels: {rack: b}}", b="{host-labels: {rack: c}}"))
    assert planned.placement["a"].host == "h2"
    assert planned.placement["b"].host == ""


async def test_a_group_is_kept_apart_and_what_is_left_over_blocks_itself_alone(rig: Rig) -> None:
    topology = lab(a="{apart: x}", b="{apart: [x]}", c="{apart: x}", d="")
    ended = await rig.deploy(topology)
    assert ended.state is OperationState.FAILED
    snapshot = await rig.store.snapshot("some")
    assert snapshot is not None
    refused = [node.name for node in snapshot.nodes if node.problem]
    placed = {node.name: node.host for node in snapshot.nodes if not node.problem}
    assert len(refused) == 1
    assert "d" in placed
    assert {placed[name] for name in placed if name != "d"} == {"h1", "h2"}


async def test_a_node_that_stays_against_its_pin_is_told_of(rig: Rig) -> None:
    await rig.deploy(lab(a="{host: h1}"))
    await rig.controller.registry.edit("h2", cordoned=True)
    planned = await plan(rig, lab(a="{host: h2}"))
    assert planned.placement["a"].host == "h1"
    assert any("stays on h1" in warning for warning in planned.warnings)


async def test_a_device_goes_to_a_host_whose_engine_is_there(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        down = Capabilities(name="simulated", available=False, problem="the engine does not answer")
        await rig.add_host("h1", memory_mb=99999, providers=(down,))
        await rig.add_host("h2", management_subnet="172.31.0.0/24")
        planned = await plan(rig, lab(a=""))
        assert planned.placement["a"].host == "h2"
        assert "engine does not answer" in planned.placement["a"].rejected["h1"]


async def test_other_labs_take_room(rig: Rig) -> None:
    await rig.deploy(lab(a="{memory: 6GiB, host: h1}"))
    planned = await plan(rig, lab(b="{memory: 6GiB}").replace("some", "other"))
    assert planned.placement["b"].host == "h2"


async def test_nodes_of_a_host_find_other_places_while_all_else_stays(rig: Rig) -> None:
    await rig.deploy(CHAIN)
    await rig.add_host("h3", management_subnet="172.32.0.0/24")
    snapshot = await rig.store.snapshot("chain")
    assert snapshot is not None
    away = frozenset(node.name for node in snapshot.nodes if node.host == "h1")
    await rig.controller.registry.edit("h1", draining=True, cordoned=True)
    await until(lambda: rig.controller.registry.closed("h1"))
    placed = await rig.controller.labs.place_anew(snapshot, away)
    assert placed.keys() == away
    assert {record.host for record in placed.values()} == {"h3"}
