"""Clocks of hosts that are minutes apart from the controller's: no time of one is compared with the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent_rig import make_lab, make_node
from controller_rig import TWO_NODES, Host, Rig, make_rig, until

from wireloom.controller.clocks import HostClock, slice_moved
from wireloom.fabric.documents import Event
from wireloom.model.link_views import ImpairRequest, Parts

AHEAD_S = 300.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as rig:
        yield rig


def now() -> float:
    """The controller's clock in the rig."""
    return asyncio.get_running_loop().time()


async def shifted(rig: Rig, seconds: float = AHEAD_S) -> Host:
    """A host whose clock is ahead."""
    host = await rig.add_host("h1", time=now() + seconds)
    await until(lambda: rig.controller.live.ahead_s("h1") != 0)
    return host


def test_the_way_of_a_heartbeat_is_no_difference_of_clocks() -> None:
    clock = HostClock()
    assert [clock.heard(100.0 + i, 100.4 + i) for i in range(3)] == [False] * 3
    assert clock.ahead_s == 0


def test_a_clock_is_as_far_ahead_as_its_fastest_heartbeat_says() -> None:
    clock = HostClock()
    assert clock.heard(400.0, 100.2)
    assert clock.ahead_s == pytest.approx(299.8)
    assert not clock.heard(402.0, 112.0)  # an old heartbeat that is read again
    assert not clock.heard(404.0, 104.1)
    assert clock.ahead_s == pytest.approx(299.8)


def test_a_clock_that_was_set_is_noticed() -> None:
    clock = HostClock()
    clock.heard(400.0, 100.0)
    changed = [clock.heard(102.0 + i, 102.0 + i) for i in range(5)]
    assert any(changed)
    assert clock.ahead_s == 0


def test_a_host_that_does_not_say_its_time_is_taken_to_have_ours() -> None:
    clock = HostClock()
    assert not clock.heard(0, 1_700_000_000.0)
    assert clock.ahead_s == 0


async def test_an_impairment_ends_at_the_same_moment_on_a_host_with_another_clock(rig: Rig) -> None:
    host = await shifted(rig)
    await rig.deploy(TWO_NODES)
    begun = now()
    (link,) = rig.controller.lab("pair").links
    request = ImpairRequest(a=link.a, b=link.b, direction="forward", parts=Parts(delay_ms=10), for_s=60)
    await rig.ended(await rig.controller.links.impair("pair", request))
    (lab,) = host.slices.values()
    told = lab.wires[0].impairment.forward_until
    assert told is not None
    assert told == pytest.approx(begun + 60 + AHEAD_S, abs=5)
    configured = rig.controller.lab("pair").links[0].impairment.configured.forward_until
    assert configured is not None
    assert configured == pytest.approx(begun + 60, abs=5)


async def test_users_are_told_times_by_the_controllers_clock(rig: Rig) -> None:
    await shifted(rig)
    await rig.deploy(TWO_NODES)
    (status,) = rig.controller.live.statuses(rig.controller.lab("pair").id).values()
    raw = {node.name: node.started_at for node in status.nodes}
    for node in rig.controller.lab("pair").nodes:
        assert node.started_at == pytest.approx((raw[node.name] or 0) - AHEAD_S, abs=5)
    sent = now() + AHEAD_S
    await rig.fabric.publish_event(Event(time=sent, host="h1", kind="node.ready", message="is ready"))
    await until(lambda: any(event.kind == "node.ready" for event in rig.controller.journal.recent()))
    told = next(event for event in rig.controller.journal.recent() if event.kind == "node.ready")
    assert told.time == pytest.approx(sent - AHEAD_S, abs=5)
    assert rig.controller.hosts()[0].clock_ahead_s == pytest.approx(AHEAD_S, abs=5)


def test_a_slice_for_a_host_with_our_clock_is_as_it_was() -> None:
    lab = make_lab(make_node("a"), make_node("b"))
    assert slice_moved(lab, 0) is lab
    assert slice_moved(lab, 60.0) == lab  # nothing in it ends by itself
