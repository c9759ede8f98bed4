"""The thread of a data plane: jobs one after another, with a tool that is made anew for whoever was away."""

from __future__ import annotations

import asyncio
import threading

import pytest

from wireloom.dataplane.host.worker import Worker
from wireloom.errors import DataPlaneFailed, Unavailable


class Tool:
    made: list[Tool]

    def __init__(self) -> None:
        self.thread = threading.current_thread().name
        self.closed = False
        self.made.append(self)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def fresh() -> None:
    Tool.made = []


def refuse(error: Exception) -> None:
    raise error


async def test_jobs_share_a_tool_that_is_made_in_their_thread() -> None:
    worker = Worker("bench", Tool)
    assert not Tool.made
    threads = await asyncio.gather(*(worker.do(lambda tool: tool.thread) for _ in range(3)))
    assert set(threads) == {Tool.made[0].thread}
    assert threads[0].startswith("bench")
    worker.close()


async def test_what_was_found_out_of_somebody_who_is_away_is_found_out_anew() -> None:
    worker = Worker("bench", Tool)
    with pytest.raises(Unavailable):
        await worker.do(lambda _: refuse(Unavailable("the switch does not run")))
    with pytest.raises(DataPlaneFailed):
        await worker.do(lambda _: refuse(DataPlaneFailed("no room")))
    await worker.do(lambda _: None)
    assert [tool.closed for tool in Tool.made] == [True, False]
    worker.close()


async def test_closed_worker_lets_go_of_its_tool_behind_its_jobs() -> None:
    worker = Worker("bench", Tool)
    go_on = threading.Event()
    at_work = asyncio.create_task(worker.do(lambda tool: (go_on.wait(5), tool.closed)))
    await asyncio.sleep(0)
    worker.close()
    worker.close()
    go_on.set()
    assert await at_work == (True, False)
    with pytest.raises(Unavailable):
        await worker.do(lambda _: None)
