"""The guard that has things ensured now and then."""

from __future__ import annotations

import asyncio

from wireloom.agent.guard import Guard
from wireloom.errors import DataPlaneFailed

SOON_S = 0.001


async def test_it_mends_again_after_a_failure_and_tells_of_it_until_then() -> None:
    told: list[str] = []
    mended = asyncio.Event()

    async def mend() -> None:
        told.append(guard.problem)
        if len(told) == 1:
            raise DataPlaneFailed("no rules today")
        if len(told) == 3:
            mended.set()

    guard = Guard("the firewall", mend, SOON_S)
    guard.start()
    await asyncio.wait_for(mended.wait(), 60)
    await guard.close()
    assert told[:3] == ["", "the firewall: no rules today", ""]


async def test_it_waits_for_its_turn() -> None:
    mended = asyncio.Event()

    async def mend() -> None:
        mended.set()

    guard = Guard("the firewall", mend, SOON_S)
    async with guard.turn:
        guard.start()
        await asyncio.sleep(SOON_S * 5)
        assert not mended.is_set()
    await asyncio.wait_for(mended.wait(), 60)
    await guard.close()


async def test_what_it_mends_at_its_end_is_done_and_nothing_after() -> None:
    begun, go_on, done = asyncio.Event(), asyncio.Event(), []

    async def mend() -> None:
        begun.set()
        await go_on.wait()
        done.append(1)

    guard = Guard("the firewall", mend, SOON_S)
    guard.start()
    await asyncio.wait_for(begun.wait(), 60)
    closing = asyncio.create_task(guard.close())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    assert done == [1]


async def test_one_that_never_began_can_be_closed() -> None:
    async def mend() -> None:
        raise AssertionError

    await Guard("the firewall", mend, SOON_S).close()
