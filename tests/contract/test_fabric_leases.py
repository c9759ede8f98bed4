"""Leases on a real server: they reach the one host they are for, and no agent can give any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fabric_rig import Rig, eventually, rig

from wireloom.fabric.documents import Lease


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as made:
        yield made


async def listening(fabric: Rig, host: str) -> list[Lease]:
    heard: list[Lease] = []
    agent = await fabric.agent(host)
    await agent.on_lease(host, heard.append)
    await agent.intents(host)  # the server has the subscription when it answers what came after
    return heard


async def test_a_lease_reaches_its_host_alone(fabric: Rig) -> None:
    first, second = await listening(fabric, "h1"), await listening(fabric, "h2")
    lease = Lease(host="h1", beat="b", labs={"l": 3})
    await fabric.controller.send_lease(lease)
    await fabric.controller.send_lease(Lease(host="h2", beat="c"))

    async def both() -> bool:
        return bool(first) and bool(second)

    await eventually(both)
    assert (first, [item.beat for item in second]) == ([lease], ["c"])


async def test_leases_come_again_after_the_server_was_killed(fabric: Rig) -> None:
    heard = await listening(fabric, "h1")
    await fabric.kill()

    async def again() -> bool:
        await fabric.controller.send_lease(Lease(host="h1", beat="b"))
        await asyncio.sleep(0.1)
        return bool(heard)

    await eventually(again, timeout_s=15)


async def test_an_agent_can_give_no_lease_to_anybody(fabric: Rig) -> None:
    heard = await listening(fabric, "h1")
    other, own = await fabric.agent("h2"), await fabric.agent("h1")
    for agent in (other, own):
        await agent.send_lease(Lease(host="h1", beat="forged", labs={"l": 1}))
        await agent.intents("h1" if agent is own else "h2")
    await fabric.controller.send_lease(Lease(host="h1", beat="true"))

    async def something() -> bool:
        return bool(heard)

    await eventually(something)
    assert [lease.beat for lease in heard] == ["true"]


async def test_an_agent_hears_no_lease_of_another_host(fabric: Rig) -> None:
    curious: list[Lease] = []
    agent = await fabric.agent("h2")
    await agent.on_lease("h1", curious.append)
    heard = await listening(fabric, "h1")
    await fabric.controller.send_lease(Lease(host="h1", beat="b"))

    async def something() -> bool:
        return bool(heard)

    await eventually(something)
    assert curious == []
