"""Events of our domains, from two sources: libvirt's lifecycle events and the emulators' own processes.

Everything here runs on the asyncio loop; libvirt's threads hand values over with ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from wireloom.model.runtime import EventKind, RuntimeEvent
from wireloom.providers.libvirt import process

__all__ = ["EventHub"]


class EventHub:
    """Fans events out to subscribers and remembers which domain belongs to which node."""

    def __init__(self) -> None:
        self._subscribers: set[asyncio.Queue[RuntimeEvent]] = set()
        self._nodes: dict[str, str] = {}
        self._pidfds: dict[str, int] = {}

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[RuntimeEvent]]:
        """A queue that gets every event from now on."""
        events: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._subscribers.add(events)
        try:
            yield events
        finally:
            self._subscribers.discard(events)

    def publish(self, kind: EventKind, uuid: str = "") -> None:
        event = RuntimeEvent(kind=kind, runtime_id=uuid, node_id=self._nodes.get(uuid, ""))
        for events in self._subscribers:
            events.put_nowait(event)

    def knows(self, uuid: str) -> bool:
        return uuid in self._nodes

    def remember(self, uuid: str, node_id: str) -> None:
        """``uuid`` is a domain of ours."""
        self._nodes[uuid] = node_id

    def forget(self, uuid: str) -> None:
        self._nodes.pop(uuid, None)
        self.release(uuid)

    def watch_process(self, uuid: str, name: str) -> None:
        """Publish ``EXITED`` at the moment the domain's emulator ends; idempotent."""
        if uuid in self._pidfds:
            return
        pid = process.process_id(name, uuid)
        descriptor = process.open_pidfd(pid) if pid is not None else None
        if descriptor is None:
            return
        self._pidfds[uuid] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._process_ended, uuid)

    def _process_ended(self, uuid: str) -> None:
        self.release(uuid)
        self.publish(EventKind.EXITED, uuid)

    def release(self, uuid: str) -> None:
        """Stop watching the domain's process."""
        descriptor = self._pidfds.pop(uuid, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        for uuid in list(self._pidfds):
            self.release(uuid)
