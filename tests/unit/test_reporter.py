"""Reports: sent when they change, held while the fabric is away, never lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from wireloom.agent.reporter import Reporter
from wireloom.errors import Unavailable
from wireloom.fabric.documents import Event
from wireloom.model.state import NodeState, NodeStatus, SliceStatus


class Sink:
    def __init__(self) -> None:
        self.statuses: list[SliceStatus] = []
        self.events: list[Event] = []
        self.deleted: list[str] = []
        self.away = False

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the fabric is away")

    async def put_observation(self, status: SliceStatus) -> None:
        self._check()
        self.statuses.append(status)

    async def delete_observation(self, host: str, lab_id: str) -> None:
        self._check()
        self.deleted.append(lab_id)

    async def publish_event(self, event: Event) -> None:
        self._check()
        self.events.append(event)


def status(state: NodeState, at: float = 1.0) -> SliceStatus:
    node = NodeStatus(id="n", name="r1", provider="docker", state=state)
    return SliceStatus(host="h", lab_id="l", lab="lab", generation=1, observed_at=at, nodes=(node,))


@contextlib.asynccontextmanager
async def running(reporter: Reporter) -> AsyncIterator[None]:
    task = asyncio.create_task(reporter.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_equal_status_is_not_sent_again() -> None:
    sink = Sink()
    reporter = Reporter("h", sink)
    async with running(reporter):
        reporter.status(status(NodeState.RUNNING))
        await asyncio.sleep(0.1)
        reporter.status(status(NodeState.RUNNING, at=2.0))
        await asyncio.sleep(0.1)
    assert len(sink.statuses) == 1
    assert [event.kind for event in sink.events] == ["node.running"]


async def test_the_latest_status_and_all_history_arrive_after_the_fabric_was_away() -> None:
    sink = Sink()
    sink.away = True
    reporter = Reporter("h", sink)
    async with running(reporter):
        reporter.status(status(NodeState.CREATING))
        reporter.status(status(NodeState.RUNNING))
        await asyncio.sleep(0.1)
        sink.away = False
        await asyncio.sleep(1.3)
    assert sink.statuses[-1].nodes[0].state is NodeState.RUNNING
    assert [event.kind for event in sink.events] == ["node.creating", "node.running"]


async def test_everything_is_sent_again_when_the_store_was_lost() -> None:
    sink = Sink()
    reporter = Reporter("h", sink)
    async with running(reporter):
        reporter.status(status(NodeState.RUNNING))
        await asyncio.sleep(0.1)
        reporter.resend()
        await asyncio.sleep(0.15)
    assert len(sink.statuses) == 2
