"""Changes for many readers, none of which can make the controller remember without bound.

A reader's mailbox keeps the newest message of each lab, host, operation, image and job (older ones are replaced, which
loses nothing), and a limited number of events. When events overflow, the oldest go and a ``resync`` message says how
many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from wireloom.model.views import StreamMessage

__all__ = ["Hub", "Mailbox"]

EVENT_LIMIT: Final = 512

_KEY_FIELD: Final = {
    "lab": "lab", "removed": "lab", "host": "host", "operation": "id", "image": "id", "image-removed": "id",
    "job": "id", "host-removed": "host",
}  # fmt: skip

#: A thing and its removal share a key: a reader that slept through a removal must not see the thing last.
_KEPT_AS: Final = {"removed": "lab", "image-removed": "image", "host-removed": "host"}


class Mailbox:
    """What one reader has not read yet. ``lab`` limits it to messages of that lab."""

    def __init__(self, lab: str | None = None) -> None:
        self.lab = lab
        self._newest: dict[tuple[str, str], StreamMessage] = {}
        self._events: deque[StreamMessage] = deque()
        self._dropped = 0
        self._filled = asyncio.Event()

    def put(self, message: StreamMessage) -> None:
        """Add a message of interest; never blocks."""
        if self.lab is not None and not _concerns(message, self.lab):
            return
        if message.type == "event":
            self._events.append(message)
            if len(self._events) > EVENT_LIMIT:
                self._events.popleft()
                self._dropped += 1
        else:
            key = _key(message)
            self._newest.pop(key, None)  # so that it moves to the end: order of last change
            self._newest[key] = message
        self._filled.set()

    async def take(self) -> list[StreamMessage]:
        """Everything unread, at least one message."""
        await self._filled.wait()
        self._filled.clear()
        messages = [*self._newest.values(), *self._events]
        if self._dropped:
            messages.insert(0, StreamMessage(type="resync", data={"dropped": self._dropped}))
        self._newest.clear()
        self._events.clear()
        self._dropped = 0
        return messages


class Hub:
    """Hands each message to every open mailbox."""

    def __init__(self) -> None:
        self._boxes: set[Mailbox] = set()

    def publish(self, message: StreamMessage) -> None:
        """Give ``message`` to all readers; never blocks."""
        for box in self._boxes:
            box.put(message)

    @contextmanager
    def subscribe(self, lab: str | None = None) -> Iterator[Mailbox]:
        """An open mailbox for the length of the block."""
        box = Mailbox(lab)
        self._boxes.add(box)
        try:
            yield box
        finally:
            self._boxes.discard(box)


def _key(message: StreamMessage) -> tuple[str, str]:
    kind = _KEPT_AS.get(message.type, message.type)
    return kind, str(message.data.get(_KEY_FIELD.get(message.type, ""), ""))


def _concerns(message: StreamMessage, lab: str) -> bool:
    return message.type in {"host", "host-removed", "resync"} or message.data.get("lab") == lab
