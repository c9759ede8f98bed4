"""What the controller makes of a host that is not heard: unknown, and elsewhere only where and when that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from controller_rig import Host, Rig, make_rig, until

from wireloom.fabric.documents import Lease
from wireloom.model.state import LinkState, NodeState, Readiness
from wireloom.model.views import DeployRequest

LAB = """\
name: pair
defaults: {device: linux, provider: simulated}
on-host-loss: {restart-elsewhere-after: 60s}
nodes:
  a:
  b:
links:
  - [a:eth1, b:eth1]
"""
STAYING = LAB.replace("on-host-loss: {restart-elsewhere-after: 60s}\n", "")
PINNED = LAB.replace("  b:\n", "  b: {host: h1}\n")
AFTER_S = 61.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as rig:
        yield rig


async def listening(rig: Rig, host: Host) -> list[Lease]:
    leases: list[Lease] = []
    await rig.fabric.on_lease(host.name, leases.append)
    return leases


async def deployed(rig: Rig, topology: str = LAB) -> tuple[Host, Host]:
    """A lab that is all on h1; h2 has come since."""
    first = await rig.add_host("h1")
    await rig.deploy(topology)
    second = await rig.add_host("h2", management_subnet="172.30.1.0/24")
    await rig.controller.recovery.look()
    return first, second


async def lost(rig: Rig, host: str = "h1") -> None:
    rig.fabric.expire_host(host)
    await until(lambda: host not in rig.controller.live.alive)
    rig.hosts[host].obeys = False


async def passed(rig: Rig, seconds: float) -> None:
    """Time goes by, in steps that an event loop that is not held up would see."""
    for _ in range(int(seconds)):
        rig.seconds += 1
        await rig.controller.recovery.look()


def places(rig: Rig) -> dict[str, str]:
    return {node.name: node.host for node in rig.controller.lab("pair").nodes}


def kinds(rig: Rig) -> list[str]:
    return [event.kind for event in rig.fabric.published]


async def test_nodes_of_a_lost_host_are_unknown_and_its_links_pending(rig: Rig) -> None:
    await deployed(rig, STAYING)
    await lost(rig)
    lab = rig.controller.lab("pair")
    assert {node.state for node in lab.nodes} == {NodeState.UNKNOWN}
    assert {node.ready for node in lab.nodes} == {Readiness.UNKNOWN}
    assert {node.error for node in lab.nodes} == {None}
    assert [(link.state, link.message) for link in lab.links] == [(LinkState.PENDING, "host h1 does not answer")]
    assert rig.controller.board.summaries()[0].state == "unknown"
    await until(lambda: "host.lost" in kinds(rig))


async def test_a_host_that_is_back_goes_on_with_what_it_has(rig: Rig) -> None:
    first, _ = await deployed(rig)
    await lost(rig)
    await passed(rig, 30)
    first.obeys = True
    await rig.fabric.put_host(first.facts)
    await until(lambda: {node.state for node in rig.controller.lab("pair").nodes} == {NodeState.RUNNING})
    assert places(rig) == {"a": "h1", "b": "h1"}
    assert first.starts == 2
    await until(lambda: "host.back" in kinds(rig))


async def test_a_lab_that_says_nothing_waits_for_its_host_for_ever(rig: Rig) -> None:
    await deployed(rig, STAYING)
    await lost(rig)
    await passed(rig, 600)
    assert places(rig) == {"a": "h1", "b": "h1"}


async def test_nodes_are_started_elsewhere_after_the_time_and_not_before(rig: Rig) -> None:
    _, second = await deployed(rig)
    await lost(rig)
    await passed(rig, 59)
    assert places(rig) == {"a": "h1", "b": "h1"}
    await passed(rig, AFTER_S - 59)
    assert places(rig) == {"a": "h2", "b": "h2"}
    await until(lambda: {node.state for node in rig.controller.lab("pair").nodes} == {NodeState.RUNNING})
    assert {node.name for lab in second.slices.values() for node in lab.nodes} == {"a", "b"}
    await until(lambda: "host.given-up" in kinds(rig))


async def test_the_lost_host_is_told_to_remove_them_before_it_hears_anything_else(rig: Rig) -> None:
    first, _ = await deployed(rig)
    await lost(rig)
    await passed(rig, AFTER_S)
    await until(lambda: all(lab.removed for lab in first.slices.values()))
    leases = await listening(rig, first)
    await rig.fabric.put_host(first.facts.model_copy(update={"beat": "late"}))
    await until(lambda: "h1" in rig.controller.live.alive)
    generation = rig.controller.lab("pair").generation
    assert [lease.labs for lease in leases] in ([], [{first_lab(first): generation}])
    first.obeys = True
    await first.report(first_lab(first))
    await until(lambda: not first.slices)  # nothing is left there, so nothing is said of it any more
    assert places(rig) == {"a": "h2", "b": "h2"}


def first_lab(host: Host) -> str:
    return next(iter(host.slices))


async def test_heartbeats_are_answered_and_move_the_end(rig: Rig) -> None:
    first, _ = await deployed(rig)
    leases = await listening(rig, first)
    await passed(rig, 50)
    await rig.fabric.put_host(first.facts.model_copy(update={"beat": "b1"}))
    await until(lambda: leases)
    assert leases == [Lease(host="h1", beat="b1", labs={first_lab(first): rig.controller.lab("pair").generation})]
    await lost(rig)
    await passed(rig, 59)
    assert places(rig) == {"a": "h1", "b": "h1"}
    await passed(rig, AFTER_S - 59)
    assert places(rig) == {"a": "h2", "b": "h2"}


async def test_labs_without_the_option_need_no_answers(rig: Rig) -> None:
    first, _ = await deployed(rig, STAYING)
    leases = await listening(rig, first)
    await rig.fabric.put_host(first.facts.model_copy(update={"beat": "b1"}))
    await until(lambda: rig.controller.live.hosts["h1"].facts.beat == "b1")
    assert leases == []


async def test_a_host_that_never_said_that_it_goes_by_leases_is_waited_for(rig: Rig) -> None:
    first, _ = await deployed(rig, STAYING)
    first.obeys = False  # what it runs is the intent without a lease
    await lost(rig)
    await rig.controller.labs.deploy(DeployRequest(topology=LAB))
    await passed(rig, 600)
    assert places(rig) == {"a": "h1", "b": "h1"}


async def test_a_controller_that_was_started_anew_waits_from_then_on(rig: Rig) -> None:
    await deployed(rig)
    await lost(rig)
    await passed(rig, 55)
    await rig.restart()
    await until(lambda: "h2" in rig.controller.live.alive)
    await until(lambda: rig.controller.live.statuses(rig.controller.lab("pair").id))
    await passed(rig, 55)
    assert places(rig) == {"a": "h1", "b": "h1"}
    await passed(rig, 10)
    assert places(rig) == {"a": "h2", "b": "h2"}


async def test_a_controller_that_was_cut_off_or_held_up_waits_from_then_on(rig: Rig) -> None:
    await deployed(rig)
    await lost(rig)
    await passed(rig, 55)
    rig.fabric.connected = False
    await passed(rig, 1)
    rig.fabric.connected = True
    await passed(rig, 55)
    assert places(rig) == {"a": "h1", "b": "h1"}
    rig.seconds += 1000.0  # the machine was asleep
    await rig.controller.recovery.look()
    assert places(rig) == {"a": "h1", "b": "h1"}
    await passed(rig, AFTER_S)
    assert places(rig) == {"a": "h2", "b": "h2"}


async def test_a_pinned_node_waits_for_its_host(rig: Rig) -> None:
    await deployed(rig, PINNED)
    await lost(rig)
    await passed(rig, AFTER_S)
    assert places(rig)["b"] == "h1"


async def test_nodes_that_no_host_can_take_wait_and_are_tried_again(rig: Rig) -> None:
    await rig.add_host("h1")
    await rig.deploy(LAB)
    await rig.controller.recovery.look()
    await lost(rig)
    await passed(rig, AFTER_S)
    assert places(rig) == {"a": "h1", "b": "h1"}
    assert {node.state for node in rig.controller.lab("pair").nodes} == {NodeState.UNKNOWN}
    await rig.add_host("h2", management_subnet="172.30.1.0/24")
    await passed(rig, 20)
    assert places(rig) == {"a": "h2", "b": "h2"}
    assert kinds(rig).count("host.given-up") <= 2


async def test_no_heartbeat_is_answered_while_nodes_are_given_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = await deployed(rig)
    leases = await listening(rig, first)
    await lost(rig)
    given_away = rig.controller.recovery._give_away

    async def late(lab_id: str, host: str) -> str:
        await rig.fabric.put_host(first.facts.model_copy(update={"beat": "late"}))
        await until(lambda: "h1" in rig.controller.live.alive)
        return await given_away(lab_id, host)

    monkeypatch.setattr(rig.controller.recovery, "_give_away", late)
    await passed(rig, AFTER_S)
    assert leases == []
    assert places(rig) == {"a": "h2", "b": "h2"}


async def test_a_controller_that_is_busy_with_one_host_answers_the_heartbeats_of_all(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await deployed(rig)
    leases, going = await listening(rig, first), asyncio.Event()

    async def readdress(_host: str) -> None:
        going.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(rig.controller.labs, "readdress", readdress)
    await rig.fabric.put_host(second.facts.model_copy(update={"management_subnet": "172.30.2.0/24"}))
    await going.wait()
    await rig.fabric.put_host(first.facts.model_copy(update={"beat": "b1"}))
    await until(lambda: leases)
