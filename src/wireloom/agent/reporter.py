"""Reports: each lab's status and history, sent when they change and not more often than people can see."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from wireloom.errors import WireloomError
from wireloom.fabric.documents import Event, EventLevel
from wireloom.model.state import SliceStatus
from wireloom.planning.history import changes

__all__ = ["ReportSink", "Reporter", "Tell", "untold"]

log = structlog.get_logger(__name__)

#: After a report, before the next one: what a large lab's status costs agent and controller grows with its nodes.
_PAUSE_S = 0.1
_PAUSE_PER_NODE_S = 0.003
_LONGEST_PAUSE_S = 0.5
_RETRY_S = 1.0
#: History waiting for the fabric is bounded; the oldest lines go first.
_HISTORY_LIMIT = 2_000


class Tell(Protocol):
    """Adds a line about a lab and a node, by their names, to the history."""

    def __call__(self, lab: str, node: str, kind: str, message: str, level: EventLevel = EventLevel.INFO) -> None: ...


def untold(lab: str, node: str, kind: str, message: str, level: EventLevel = EventLevel.INFO) -> None:
    """A :class:`Tell` of nobody who keeps a history."""


class ReportSink(Protocol):
    """Where reports go: the fabric, or a list in tests."""

    async def put_observation(self, status: SliceStatus) -> None: ...

    async def delete_observation(self, host: str, lab_id: str) -> None: ...

    async def publish_event(self, event: Event) -> None: ...


class Reporter:
    """Holds the latest status of each lab until the fabric took it; nothing is lost while the fabric is away."""

    def __init__(self, host: str, sink: ReportSink) -> None:
        self._host = host
        self._sink = sink
        self._sent: dict[str, SliceStatus] = {}
        self._pending: dict[str, SliceStatus | None] = {}
        self._history: list[Event] = []
        self._wake = asyncio.Event()

    def status(self, status: SliceStatus) -> None:
        """Take note of a lab's status; equal ones (but for the time) are not sent again."""
        # A lab that is about to be forgotten has no status, whatever was sent.
        before = self._pending.get(status.lab_id, self._sent.get(status.lab_id))
        if before is not None and before.model_copy(update={"observed_at": status.observed_at}) == status:
            return
        for change in changes(before, status):
            self.event(
                Event(
                    time=status.observed_at,
                    host=self._host,
                    lab=status.lab,
                    node=change.node,
                    kind=change.kind,
                    level=EventLevel(change.level),
                    message=change.message,
                    details=dict(change.details),
                )
            )
        self._pending[status.lab_id] = status
        self._wake.set()

    def forget(self, lab_id: str) -> None:
        """The lab is no concern of this host any more."""
        if lab_id in self._sent or lab_id in self._pending:
            self._pending[lab_id] = None
            self._wake.set()

    def resend(self) -> None:
        """The fabric may have lost everything: send each status again."""
        for lab_id, status in self._sent.items():
            self._pending.setdefault(lab_id, status)
        self._wake.set()

    def event(self, event: Event) -> None:
        self._history.append(event)
        del self._history[:-_HISTORY_LIMIT]
        self._wake.set()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            sent = 0
            try:
                sent = await self._flush()
            except WireloomError as error:
                log.warning("report not delivered", error=str(error))
                self._wake.set()
                await asyncio.sleep(_RETRY_S)
            await asyncio.sleep(min(_PAUSE_S + _PAUSE_PER_NODE_S * sent, _LONGEST_PAUSE_S))

    async def _flush(self) -> int:
        """Send what waits; how many nodes the reports were about."""
        nodes = 0
        for lab_id, status in list(self._pending.items()):
            if status is None:
                await self._sink.delete_observation(self._host, lab_id)
                self._sent.pop(lab_id, None)
            else:
                await self._sink.put_observation(status)
                nodes += len(status.nodes)
                self._sent[lab_id] = status
            if self._pending.get(lab_id) is status:
                del self._pending[lab_id]
        while self._history:
            await self._sink.publish_event(self._history[0])
            del self._history[0]
        return nodes
