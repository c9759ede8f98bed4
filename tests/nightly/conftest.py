"""One set of three hosts for the whole lane: making it takes longer than most of what is shown on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from many_hosts_rig import ManyHosts, many_hosts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[ManyHosts]:
    """Three hosts without labs."""
    async with many_hosts() as made:
        yield made


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_before(rig: ManyHosts) -> AsyncIterator[None]:
    """A test that failed has left its lab, cut cables and dead programs: the next one begins as the first did."""
    yield
    await rig.reset()
