"""The agent's loop and what goes on beside it: wires that the kernel refuses, live plugging, post-boot commands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent import boot_work
from wireloom.agent.network import HostNetwork
from wireloom.dataplane.simulated import SimulatedDataPlane
from wireloom.errors import DataPlaneFailed
from wireloom.model.attachment import TapAttachment
from wireloom.model.identity import device_name
from wireloom.model.network import PortAlias, PortPlan
from wireloom.model.runtime import ExecResult
from wireloom.model.state import LinkState, NodeState, Readiness
from wireloom.planning.link_status import wire_status

REFUSED = DataPlaneFailed("no room", details={"errno": "ENOSPC"})


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_work, "_PAUSE_S", 0.01)


async def test_a_wire_that_the_kernel_refuses_fails_alone(host: Host) -> None:
    nodes = [make_node(name) for name in "abc"]
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(*nodes).model_copy(update={"wires": ()}))
        await agent.until(settled())
        host.network.fail("ensure_wires", REFUSED, device=nodes[0].ports[1].device, times=10_000)
        agent.reconciler.set_slice("lab-1", make_lab(*nodes, generation=2))
        other = make_lab(make_node("d"), make_node("e")).model_copy(update={"lab_id": "lab-2", "lab": "other"})
        agent.reconciler.set_slice("lab-2", other)
        status = await agent.until(lambda status: status.wires[1:] != () and status.wires[1].state is LinkState.UP)
        assert status.wires[0].state is LinkState.FAILED
        assert "no room" in status.wires[0].message
        await agent.until(settled(), lab="lab-2")
        before = host.network.calls["ensure_wires"]
        for _ in range(10):
            agent.reconciler.wake()
            await asyncio.sleep(0.02)
        assert host.network.calls["ensure_wires"] <= before + 2
        host.network.faults.clear()
        await agent.until(settled(2))


async def test_a_link_of_a_machine_is_up_only_when_its_own_carrier_is(host: Host) -> None:
    lab = make_lab(make_node("a", "beta"), make_node("b", "beta"))
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        await agent.until(settled())
        observed = agent.reconciler.observe(lab)
    runtime = observed.runtimes["id-a"].model_copy(update={"carriers": {1: False}})
    observed.runtimes["id-a"] = runtime  # type: ignore[index]
    assert wire_status(lab.wires[0], lab, observed).state is LinkState.PENDING


async def test_a_port_that_cannot_be_plugged_live_is_not_tried_without_end(host: Host) -> None:
    node = make_node("b", "beta")
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await agent.until(settled())
        more = node.ports[1].model_copy(update={"index": 9, "name": "eth9", "device": device_name("p", "b", 9)})
        before = host.worlds["beta"].calls["attachment"]
        agent.reconciler.set_slice("lab-1", make_lab(node.model_copy(update={"ports": (*node.ports, more)})))
        await asyncio.sleep(0.5)
        assert host.worlds["beta"].calls["attachment"] - before <= 2


async def test_what_was_plugged_while_the_kernel_was_read_is_not_forgotten(host: Host) -> None:
    network = HostNetwork(SimulatedDataPlane("test", host.network))
    observe = network.dataplane.observe

    async def slow():  # type: ignore[no-untyped-def]
        state = await observe()
        await asyncio.sleep(0.05)
        return state

    network.dataplane.observe = slow  # type: ignore[method-assign]
    reading = asyncio.create_task(network.refresh(force=True))
    await asyncio.sleep(0.01)
    alias = PortAlias(installation="test", lab_id="lab-1", node_id="n", index=1, name="lab/n/eth1")
    plan = PortPlan(device="wlp1", alias=alias, attachment=TapAttachment(), guest_name="eth1", mac="02:00:00:00:00:01")
    await network.plug([plan])
    await reading
    assert "wlp1" in network.ports


async def test_the_first_of_several_post_boot_failures_is_the_one_that_is_kept(host: Host) -> None:
    node = make_node("a", post_boot=("one", "two", "three"))
    for command, code in (("one", 0), ("two", 1), ("three", 2)):
        host.worlds["alpha"].answers[("/bin/sh", "-c", command)] = ExecResult(exit_code=code)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        status = await agent.until(lambda status: status.nodes[0].error is not None)
        assert status.nodes[0].error is not None
        assert "two" in status.nodes[0].error["message"]
        seen = node.model_copy(update={"attention": 1})
        agent.reconciler.set_slice("lab-1", make_lab(seen, generation=2))
        status = await agent.until(settled(2))
        assert status.nodes[0].error is None  # the user has seen it


async def test_post_boot_commands_of_a_boot_that_is_over_say_nothing_of_the_node(host: Host) -> None:
    node = make_node("a", post_boot=("slow", "other"))
    begun = asyncio.Event()

    async def answer(*_: object) -> ExecResult:
        begun.set()
        await asyncio.sleep(0.2)
        return ExecResult(exit_code=1)

    host.worlds["alpha"].answer = answer
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await asyncio.wait_for(begun.wait(), 60)
        agent.reconciler.set_slice("lab-1", make_lab(node.model_copy(update={"power": "off"}), generation=2))
        await agent.until(lambda status: status.nodes[0].state is NodeState.STOPPED and status.generation == 2)
        await asyncio.sleep(0.3)
        assert agent.node("a").error is None
        assert host.worlds["alpha"].calls["exec"] == 1


async def test_a_defect_in_background_work_is_no_storm(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node("a", post_boot=("x",))
    calls = 0

    async def broken(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        raise TypeError("a defect")

    agent = Agent(host)
    monkeypatch.setattr(agent.actions._post_boot._channels, "run", broken)
    async with agent.alive():
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await agent.until(lambda status: status.nodes[0].ready is Readiness.YES)
        await asyncio.sleep(0.4)
    assert calls == 1


async def test_a_link_moved_to_a_node_that_is_not_up_leaves_its_old_partner_at_once(host: Host) -> None:
    a, b = make_node("a"), make_node("b")
    late = make_node("late", power="off")
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(a, b))
        await agent.until(settled())
        moved = make_lab(a, late, b, generation=2)
        agent.reconciler.set_slice("lab-1", moved.model_copy(update={"wires": moved.wires[:1]}))
        await agent.until(lambda status: status.generation == 2 and status.converged)
        assert [port.peer for port in host.network.ports.values()] == [None] * 6
