"""The agent's loop: deploy, edit, fail, be killed, be removed; the same for both kinds of provider."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agent_rig import IMAGE, Agent, Host, make_lab, make_node, settled

from wireloom.errors import ImageMissing, RuntimeFailed
from wireloom.model.network import HostPort, PortAlias
from wireloom.model.runtime import ExecResult
from wireloom.model.slice import Condition, RestartPolicy
from wireloom.model.state import NodeState, Readiness, RuntimePhase


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def counts(host: Host) -> dict[str, dict[str, int]]:
    """Verbs that change something, by provider."""
    return {
        name: {verb: n for verb, n in world.calls.items() if verb in {"create", "start", "release", "stop", "destroy"}}
        for name, world in host.worlds.items()
    }


MIXED = make_lab(make_node("a"), make_node("b", "beta"), make_node("c"))


async def deployed(agent: Agent) -> None:
    agent.reconciler.set_slice("lab-1", MIXED)
    await agent.until(settled())


async def test_a_mixed_lab_comes_up_wired_and_ready_with_each_verb_once(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
    assert counts(host)["alpha"] == {"create": 2, "start": 2, "release": 2}
    assert counts(host)["beta"] == {"create": 1, "start": 1, "release": 1}


async def test_ports_are_in_place_and_joined_before_the_guest_runs(host: Host) -> None:
    host.worlds["beta"].delay("release", 0.2)
    async with Agent(host).alive() as agent:
        await deployed(agent)
        seen = [event.kind for event in agent.reports.events if event.node == "b"]
    assert "node.running" in seen
    assert len(host.network.ports) == 9


async def test_a_new_agent_finds_everything_right_and_touches_nothing(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
    before = counts(host)
    async with Agent(host).alive() as again:
        await deployed(again)
    assert counts(host) == before


@pytest.mark.parametrize("verb", ["create", "start", "release"])
@pytest.mark.parametrize("provider", ["alpha", "beta"])
async def test_an_agent_killed_in_the_middle_of_a_start_is_carried_on(host: Host, verb: str, provider: str) -> None:
    host.worlds[provider].delay(verb, 30)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", MIXED)
        await asyncio.sleep(0.2)
    host.worlds[provider].delay(verb, 0)
    async with Agent(host).alive() as again:
        await deployed(again)


async def test_a_removed_lab_leaves_nothing_on_the_host(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        agent.reconciler.set_slice("lab-1", make_lab(*MIXED.nodes, generation=2, removed=True))
        await agent.until(lambda status: status.generation == 2 and status.converged)
        agent.reconciler.set_slice("lab-1", None)
        await asyncio.sleep(0.2)
        assert agent.reports.deleted == ["lab-1"]
    assert not any(world.runtimes for world in host.worlds.values())
    assert not host.network.ports
    assert list((host.folder / "nodes").iterdir()) == []


async def test_a_killed_node_is_seen_and_started_again(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        host.worlds["beta"].crash("b")
        await agent.until(lambda status: any(node.failures for node in status.nodes), within_s=1)
        await agent.until(settled())
        assert agent.node("b").failures == 1
    assert host.worlds["beta"].by_node("b").boots == 2


async def test_a_node_that_ends_well_stays_stopped_unless_its_policy_is_always(host: Host) -> None:
    once = make_node("once", restart_policy=RestartPolicy.ON_FAILURE)
    ever = make_node("ever", "beta", restart_policy=RestartPolicy.ALWAYS)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(once, ever))
        await agent.until(settled())
        host.worlds["alpha"].crash("once", exit_code=0)
        host.worlds["beta"].crash("ever", exit_code=0)
        await agent.until(lambda status: host.worlds["beta"].by_node("ever").boots == 2)
        await agent.until(lambda status: status.nodes[1].ready is Readiness.YES)
        assert agent.node("once").state is NodeState.STOPPED
        assert "exit code 0" in agent.node("once").message


async def test_a_failing_node_ends_in_a_terminal_error_and_the_others_run(host: Host) -> None:
    host.worlds["alpha"].fail("create", ImageMissing("no such image", hint="load it"), node="a", times=99)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", MIXED)
        status = await agent.until(lambda status: status.nodes[0].state is NodeState.FAILED)
        assert status.nodes[0].error is not None
        assert status.nodes[0].error["code"] == "image-missing"
        assert status.nodes[0].error["node"] == "a"
        await agent.until(lambda status: status.nodes[1].ready is Readiness.YES)


async def test_a_user_clears_a_terminal_error(host: Host) -> None:
    host.worlds["alpha"].fail("create", ImageMissing("no such image"), node="a", times=1)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", MIXED)
        await agent.until(lambda status: status.nodes[0].state is NodeState.FAILED)
        cleared = tuple(node.model_copy(update={"attention": 1}) for node in MIXED.nodes)
        agent.reconciler.set_slice("lab-1", make_lab(*cleared, generation=2))
        status = await agent.until(settled(2))
        assert status.nodes[0].error is None


async def test_a_passing_failure_is_tried_again_within_its_budget(host: Host) -> None:
    host.worlds["beta"].fail("start", RuntimeFailed("busy"), node="b", times=1)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", MIXED)
        status = await agent.until(settled())
        assert status.nodes[1].error is None


async def test_stop_keeps_storage_and_start_finds_it_again(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        host.worlds["alpha"].by_node("a").storage["/kept"] = b"yes"
        stopped = tuple(node.model_copy(update={"power": "off"}) for node in MIXED.nodes)
        agent.reconciler.set_slice("lab-1", make_lab(*stopped, generation=2))
        await agent.until(
            lambda status: (
                status.generation == 2
                and status.converged
                and all(node.state is NodeState.STOPPED for node in status.nodes)
            )
        )
        started = tuple(node.model_copy(update={"attention": 1}) for node in MIXED.nodes)
        agent.reconciler.set_slice("lab-1", make_lab(*started, generation=3))
        await agent.until(settled(3))
        assert host.worlds["alpha"].by_node("a").storage["/kept"] == b"yes"


async def test_restart_happens_once_and_survives_a_new_agent(host: Host) -> None:
    edited = make_lab(MIXED.nodes[0], MIXED.nodes[1].model_copy(update={"restarts": 1}), MIXED.nodes[2], generation=2)
    async with Agent(host).alive() as agent:
        await deployed(agent)
        agent.reconciler.set_slice("lab-1", edited)
        await agent.until(lambda status: host.worlds["beta"].by_node("b").boots == 2)
        await agent.until(settled(2))
    async with Agent(host).alive() as again:
        again.reconciler.set_slice("lab-1", edited)
        await again.until(settled(2))
    assert host.worlds["beta"].by_node("b").boots == 2
    assert host.worlds["alpha"].by_node("a").boots == 1


async def test_wipe_destroys_the_storage_of_that_node_alone(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        for world, name in (("alpha", "a"), ("beta", "b")):
            host.worlds[world].by_node(name).storage["/kept"] = b"yes"
        wiped = MIXED.nodes[0].model_copy(update={"incarnation": 2, "attention": 1})
        agent.reconciler.set_slice("lab-1", make_lab(wiped, *MIXED.nodes[1:], generation=2))
        await agent.until(settled(2))
        assert "/kept" not in host.worlds["alpha"].by_node("a").storage
        assert host.worlds["beta"].by_node("b").storage["/kept"] == b"yes"


async def test_dependencies_order_every_start(host: Host) -> None:
    first = make_node("first", "beta", settings={"boot_s": 0.3})
    second = make_node("second", depends_on={first.id: Condition.READY})
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(first, second))
        await agent.until(lambda status: "first" in status.nodes[1].message)
        await agent.until(settled())
        order = [event.node for event in agent.reports.events if event.kind == "node.ready"]
    assert order == ["first", "second"]


async def test_an_engine_that_is_away_makes_its_nodes_unknown_and_spares_the_others(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        before = counts(host)
        host.worlds["alpha"].stop_engine()
        status = await agent.until(lambda status: status.nodes[0].state is NodeState.UNKNOWN)
        assert status.nodes[1].state is NodeState.RUNNING
        host.worlds["alpha"].start_engine()
        await agent.until(settled())
    assert counts(host) == before


async def test_a_node_that_ended_with_its_engine_is_started_again_whatever_its_exit_code(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        host.worlds["alpha"].stop_engine()
        await agent.until(lambda status: status.nodes[0].state is NodeState.UNKNOWN)
        host.worlds["alpha"].crash("a", exit_code=0)
        host.worlds["alpha"].start_engine()
        await agent.until(settled())
    assert host.worlds["alpha"].by_node("a").boots == 2


async def test_a_node_that_its_engine_ended_before_it_went_is_started_again(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        host.worlds["alpha"].crash("a", exit_code=0)
        await agent.until(lambda status: status.nodes[0].state is NodeState.STOPPED)
        host.worlds["alpha"].stop_engine()
        await agent.until(lambda status: status.nodes[0].state is NodeState.UNKNOWN)
        host.worlds["alpha"].start_engine()
        await agent.until(settled())
    assert host.worlds["alpha"].by_node("a").boots == 2


async def test_a_node_that_ended_well_after_its_engine_came_back_is_left_alone(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        host.worlds["alpha"].stop_engine()
        await agent.until(lambda status: status.nodes[0].state is NodeState.UNKNOWN)
        host.worlds["alpha"].start_engine()
        await agent.until(settled())
        host.worlds["alpha"].crash("a", exit_code=0)
        await agent.until(lambda status: status.nodes[0].state is NodeState.STOPPED)
    assert host.worlds["alpha"].by_node("a").boots == 1


async def test_an_engine_that_restarts_a_node_itself_is_rewired(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        host.worlds["alpha"].restart_behind_back("a")
        await agent.until(lambda status: host.worlds["alpha"].by_node("a").phase is RuntimePhase.RUNNING)
        await agent.until(settled())
    assert host.worlds["alpha"].by_node("a").boots == 2


async def test_a_host_device_that_somebody_deleted_is_made_again(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        device = MIXED.nodes[0].ports[1].device
        host.network.delete(device)
        await agent.until(lambda status: device in host.network.ports and host.network.ports[device].peer is not None)
        await agent.until(settled())


async def test_orphans_of_a_lost_lab_are_reported_first_and_removed_by_prune(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
    async with Agent(host).alive() as fresh:
        report = await fresh.pruner.prune((), dry_run=True)
        assert {(item.kind, item.node) for item in report.orphans} == {("runtime", n) for n in ("a", "b", "c")}
        assert any(world.runtimes for world in host.worlds.values())
        done = await fresh.pruner.prune((), dry_run=False)
        assert all(item.removed for item in done.orphans)
    assert not any(world.runtimes for world in host.worlds.values())
    assert not host.network.ports


async def test_prune_touches_nothing_of_a_lab_that_exists(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        report = await agent.pruner.prune(("lab-1",), dry_run=False)
        assert report.orphans == ()


async def test_a_definition_that_changed_makes_a_new_runtime_and_spares_the_neighbours(host: Host) -> None:
    host.worlds["beta"].add_image("simulated/other")
    async with Agent(host).alive() as agent:
        await deployed(agent)
        changed = MIXED.nodes[1].model_copy(update={"image": "simulated/other"})
        agent.reconciler.set_slice("lab-1", make_lab(MIXED.nodes[0], changed, MIXED.nodes[2], generation=2))
        await agent.until(settled(2))
    assert counts(host)["alpha"] == {"create": 2, "start": 2, "release": 2}
    assert counts(host)["beta"]["create"] == 2


async def test_a_node_without_probes_runs_and_its_readiness_stays_unknown(host: Host) -> None:
    node = make_node("quiet")
    node = node.model_copy(update={"ready": node.ready.model_copy(update={"probes": ()})})
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        status = await agent.until(lambda status: status.converged)
        assert status.nodes[0].state is NodeState.RUNNING
        assert status.nodes[0].ready is Readiness.UNKNOWN


async def test_a_node_that_is_late_is_a_timeout_and_may_still_become_ready(host: Host) -> None:
    node = make_node("late", settings={"boot_s": 0.6})
    slow = node.ready.model_copy(update={"timeout_s": 0.2})
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node.model_copy(update={"ready": slow})))
        await agent.until(lambda status: status.nodes[0].ready is Readiness.TIMEOUT)
        await agent.until(lambda status: status.nodes[0].ready is Readiness.YES)


async def test_post_boot_commands_run_once_a_boot_after_readiness(host: Host) -> None:
    node = make_node("a", post_boot=("configure me",))
    host.worlds["alpha"].answers[("/bin/sh", "-c", "configure me")] = ExecResult(exit_code=0)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await agent.until(settled())
        await asyncio.sleep(0.2)
    async with Agent(host).alive() as again:
        again.reconciler.set_slice("lab-1", make_lab(node))
        await again.until(settled())
        await asyncio.sleep(0.2)
    assert host.worlds["alpha"].calls["exec"] == 1
    assert IMAGE in host.worlds["alpha"].images


async def test_a_lab_is_not_gone_before_the_ports_of_a_start_that_failed_are(host: Host) -> None:
    host.worlds["beta"].fail("start", ImageMissing("the machine cannot start"), node="b", times=99)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", MIXED)
        await agent.until(lambda status: status.nodes[1].state is NodeState.FAILED)
        assert any(port.alias.node_id == "id-b" for port in host.network.ports.values())
        agent.reconciler.set_slice("lab-1", make_lab(*MIXED.nodes, generation=2, removed=True))
        await agent.until(lambda status: status.generation == 2 and status.converged)
        assert not host.network.ports


async def test_ports_that_were_made_by_half_are_removed_with_the_lab(host: Host) -> None:
    host.network.fail("ensure_ports", RuntimeFailed("no room"), times=99)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", MIXED)
        await agent.until(lambda status: all(node.error for node in status.nodes))
        stray = MIXED.nodes[1].ports[1]
        alias = PortAlias(installation="test", lab_id="lab-1", node_id="id-b", index=1, name="lab/b/eth1")
        made = HostPort(device=stray.device, alias=alias, kind="tap", mtu=1500, up=False, carrier=False)
        host.network.ports[stray.device] = made
        host.network.publish(made)
        agent.reconciler.set_slice("lab-1", make_lab(*MIXED.nodes, generation=2, removed=True))
        await agent.until(lambda status: status.generation == 2 and status.converged)
        assert not host.network.ports
