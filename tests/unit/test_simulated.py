"""The script of simulated worlds: delays, faults, crashes and limits happen when and where they were asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
from wireloom.errors import CapacityExceeded, DataPlaneFailed, InvalidInput, NotFound, RuntimeFailed, Unavailable
from wireloom.model.attachment import Attachment, NamespaceAttachment, TapAttachment
from wireloom.model.identity import Identity
from wireloom.model.network import PortAlias, PortPlan, SegmentPlan, WirePlan
from wireloom.model.runtime import EventKind, ExecResult, RuntimeSpec
from wireloom.model.slice import PortIntent
from wireloom.model.state import RuntimePhase
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld
from wireloom.providers.simulated.world import MACHINE_LIKE

PORT = PortIntent(index=1, name="eth1", guest_name="eth1", device="wlp1", mac="02:00:00:00:00:01")


@pytest.fixture
def world() -> SimulatedWorld:
    made = SimulatedWorld(clock=lambda: 1000.0)
    made.add_image("img")
    return made


@pytest.fixture
def provider(world: SimulatedWorld) -> SimulatedProvider:
    return SimulatedProvider("site", world)


def spec(node: str = "r1", **changes: Any) -> RuntimeSpec:
    identity = Identity(installation="site", lab_id="l1", lab="lab", node_id=f"id-{node}", node=node)
    plain = RuntimeSpec(
        identity=identity,
        incarnation=1,
        spec_hash="h",
        hostname=node,
        image="img",
        folder=Path("/nowhere"),
        ports=(PORT,),
    )
    return plain.model_copy(update=changes)


async def run(provider: SimulatedProvider, node: str = "r1", **changes: Any) -> str:
    runtime_id = await provider.create(spec(node, **changes))
    await provider.start(runtime_id)
    await provider.release(runtime_id)
    return runtime_id


async def phase(provider: SimulatedProvider, runtime_id: str) -> RuntimePhase:
    return (await provider.observe(runtime_id))[0].phase


async def test_a_fault_strikes_its_node_as_often_as_asked_and_leaves_nothing(
    world: SimulatedWorld, provider: SimulatedProvider
) -> None:
    world.fail("create", RuntimeFailed("full"), node="r1", times=2)
    for _ in range(2):
        with pytest.raises(RuntimeFailed, match="full"):
            await provider.create(spec("r1"))
    await provider.create(spec("r2"))
    assert [runtime.spec.hostname for runtime in world.runtimes.values()] == ["r2"]
    await provider.create(spec("r1"))
    assert world.calls["create"] == 4


async def test_a_lost_answer_has_had_its_effect(world: SimulatedWorld, provider: SimulatedProvider) -> None:
    world.fail("create", Unavailable("lost"), after=True)
    with pytest.raises(Unavailable):
        await provider.create(spec())
    assert await provider.create(spec()) == next(iter(world.runtimes))
    assert len(world.runtimes) == 1


async def test_a_scripted_crash_ends_a_runtime_at_its_phase(world: SimulatedWorld, provider: SimulatedProvider) -> None:
    world.crash_at(RuntimePhase.RUNNING, node="r1", exit_code=139)
    runtime_id = await run(provider)
    status = (await provider.observe(runtime_id))[0]
    assert (status.phase, status.exit_code) == (RuntimePhase.EXITED, 139)
    await provider.start(runtime_id)
    await provider.release(runtime_id)
    assert await phase(provider, runtime_id) is RuntimePhase.RUNNING


async def test_a_crash_at_the_gate_runs_no_guest_code(world: SimulatedWorld, provider: SimulatedProvider) -> None:
    world.crash_at(RuntimePhase.GATED)
    runtime_id = await provider.create(spec())
    await provider.start(runtime_id)
    assert await phase(provider, runtime_id) is RuntimePhase.EXITED
    assert world.runtimes[runtime_id].released == 0


async def test_a_restart_behind_the_back_leads_to_the_gate_with_another_namespace(
    world: SimulatedWorld, provider: SimulatedProvider
) -> None:
    gone: list[str] = []
    world.namespace_gone.append(gone.append)
    runtime_id = await run(provider)
    before = await provider.attachment(runtime_id, PORT)
    world.restart_behind_back("r1")
    assert await phase(provider, runtime_id) is RuntimePhase.GATED
    assert isinstance(before, NamespaceAttachment)
    assert gone == [before.netns]
    assert await provider.attachment(runtime_id, PORT) != before


async def test_an_engine_that_is_down_answers_nothing_and_tells_when_it_is_back(
    world: SimulatedWorld, provider: SimulatedProvider
) -> None:
    events = provider.watch()
    assert (await anext(events)).kind is EventKind.RESYNC
    runtime_id = await run(provider)
    world.stop_engine()
    assert not (await provider.capabilities()).available
    with pytest.raises(Unavailable):
        await provider.observe()
    world.start_engine()
    kinds = [(await anext(events)).kind for _ in range(4)]
    assert kinds == [EventKind.CREATED, EventKind.STARTED, EventKind.LOST, EventKind.RESYNC]
    assert await phase(provider, runtime_id) is RuntimePhase.RUNNING


async def test_a_full_world_takes_no_more(world: SimulatedWorld, provider: SimulatedProvider) -> None:
    world.max_runtimes = 1
    await provider.create(spec("r1"))
    with pytest.raises(CapacityExceeded):
        await provider.create(spec("r2"))


async def test_answers_come_from_the_table_before_the_guest(world: SimulatedWorld, provider: SimulatedProvider) -> None:
    world.answers["show", "version"] = ExecResult(exit_code=0, stdout=b"1.0\n")
    runtime_id = await run(provider)
    assert (await provider.exec(runtime_id, ["show", "version"], timeout_s=1)).stdout == b"1.0\n"
    assert (await provider.exec(runtime_id, ["show", "else"], timeout_s=1)).exit_code == 127


async def test_the_boot_log_is_what_the_settings_say(provider: SimulatedProvider) -> None:
    runtime_id = await run(provider, settings={"boot_lines": ["one {hostname}", "two"]})
    assert b"".join([chunk async for chunk in provider.boot_log(runtime_id)]) == b"one r1\ntwo\n"


async def test_a_guest_that_takes_its_time_is_stopped_in_the_midst(
    world: SimulatedWorld, provider: SimulatedProvider
) -> None:
    runtime_id = await run(provider, settings={"boot_s": 3600, "exit_after_s": 3600})
    tasks = list(world.runtimes[runtime_id].tasks)
    await provider.stop(runtime_id, 0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)


async def test_a_guest_that_ends_by_itself_keeps_its_exit_code(provider: SimulatedProvider) -> None:
    events = provider.watch()
    await anext(events)
    runtime_id = await run(provider, settings={"exit_after_s": 0, "exit_code": 3})
    while (await anext(events)).kind is not EventKind.EXITED:
        pass
    assert (await provider.observe(runtime_id))[0].exit_code == 3


async def test_wrong_settings_are_named(provider: SimulatedProvider) -> None:
    with pytest.raises(InvalidInput, match="boot_lines"):
        await provider.create(spec(settings={"boot_lines": "one"}))


async def test_machines_have_their_ports_from_the_beginning() -> None:
    world = SimulatedWorld(MACHINE_LIKE)
    world.add_image("img")
    provider = SimulatedProvider("site", world, name="libvirt")
    runtime_id = await provider.create(spec())
    assert await provider.attachment(runtime_id, PORT) == TapAttachment()
    assert (await provider.capabilities()).name == "libvirt"
    assert provider.abilities.carrier is not None
    with pytest.raises(NotFound):
        await provider.abilities.carrier.set_carrier("sim-none", {1: True})


# ---------------------------------------------------------------------- data plane


@pytest.fixture
def network() -> SimulatedNetwork:
    return SimulatedNetwork()


@pytest.fixture
def plane(network: SimulatedNetwork) -> SimulatedDataPlane:
    return SimulatedDataPlane("site", network)


def port(device: str, attachment: Attachment | None = None, *, installation: str = "site", **more: Any) -> PortPlan:
    alias = PortAlias(installation=installation, lab_id="l1", node_id=device, index=1, name=f"lab/{device}/eth1")
    return PortPlan(
        device=device,
        alias=alias,
        attachment=attachment or TapAttachment(),
        guest_name="eth1",
        mac="02:00:00:00:00:01",
        **more,
    )


@pytest.fixture
async def wired(plane: SimulatedDataPlane) -> SimulatedDataPlane:
    await plane.ensure_ports([port("a", NamespaceAttachment(netns="/x")), port("b"), port("c")])
    await plane.ensure_wires([WirePlan(a="a", b="b", mtu=9000)])
    return plane


async def peers(plane: SimulatedDataPlane) -> dict[str, str | None]:
    return {device: found.peer for device, found in (await plane.observe()).ports.items()}


async def test_a_wire_joins_both_ends_and_sets_their_mtu(wired: SimulatedDataPlane) -> None:
    assert await peers(wired) == {"a": "b", "b": "a", "c": None}
    assert {found.mtu for found in (await wired.observe()).ports.values()} == {9000, 1500}


async def test_moving_a_wire_leaves_the_old_end_alone(wired: SimulatedDataPlane) -> None:
    await wired.ensure_wires([WirePlan(a="a", b="c")])
    assert await peers(wired) == {"a": "c", "b": None, "c": "a"}
    await wired.remove_wires([WirePlan(a="a", b="b")])
    assert (await peers(wired))["a"] == "c"
    await wired.remove_wires([WirePlan(a="a", b="c")])
    assert set((await peers(wired)).values()) == {None}


async def test_a_namespace_that_goes_takes_its_ports_along(
    wired: SimulatedDataPlane, network: SimulatedNetwork
) -> None:
    events = wired.watch()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    network.namespace_gone("/x")
    event = await first
    assert (event.device, event.removed) == ("a", True)
    assert await peers(wired) == {"b": None, "c": None}


async def test_a_port_in_a_namespace_that_is_gone_is_skipped(
    plane: SimulatedDataPlane, network: SimulatedNetwork
) -> None:
    network.alive = lambda netns: netns != "/gone"
    await plane.ensure_ports([port("a", NamespaceAttachment(netns="/gone")), port("b")])
    assert await peers(plane) == {"b": None}


async def test_ensuring_again_changes_nothing_and_tells_nobody(
    wired: SimulatedDataPlane, network: SimulatedNetwork
) -> None:
    before = await wired.observe()
    events = wired.watch()
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await wired.ensure_ports([port("a", NamespaceAttachment(netns="/x")), port("b"), port("c")])
    await wired.ensure_wires([WirePlan(a="a", b="b", mtu=9000)])
    assert await wired.observe() == before
    assert not waiting.done()
    waiting.cancel()
    assert network.calls["ensure_ports"] == 2


async def test_faults_and_strangers_are_refused(plane: SimulatedDataPlane, network: SimulatedNetwork) -> None:
    network.fail("ensure_ports", DataPlaneFailed("ENOSPC"), device="b")
    await plane.ensure_ports([port("a")])
    with pytest.raises(DataPlaneFailed, match="ENOSPC"):
        await plane.ensure_ports([port("b")])
    with pytest.raises(DataPlaneFailed, match="somebody else"):
        await SimulatedDataPlane("other", network).ensure_ports([port("a", installation="other")])
    assert (await SimulatedDataPlane("other", network).observe()).ports == {}


async def test_carriers_and_segments_are_kept(plane: SimulatedDataPlane) -> None:
    await plane.ensure_ports([port("a", segment="wlmgmt", carrier=True)])
    await plane.ensure_segment(SegmentPlan(name="wlmgmt", alias="wireloom management"))
    await plane.set_carrier({"a": False, "gone": True})
    state = await plane.observe()
    assert (state.ports["a"].up, state.ports["a"].segment) == (False, "wlmgmt")
    assert list(state.segments) == ["wlmgmt"]
    await plane.remove_segment("wlmgmt")
    await plane.remove_ports(["a", "gone"])
    assert await plane.observe() == type(state)()
