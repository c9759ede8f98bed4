"""Frames of several rings in the order of time. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from wireloom.sniffer.ring import BLOCK_AGE_MS, Frame

__all__ = ["HOLD_NS", "Merge"]

#: A ring hands a frame over after two turns of its timer at the latest, so an earlier frame of another one is there.
HOLD_NS = (2 * BLOCK_AGE_MS + 5) * 1_000_000
#: Bytes that are held at most. Where more come, blocks are full before they are old, and order is nearly right already.
_HOLD_MOST = 1 << 20


class Merge:
    """Holds frames for a moment, so that a request and its answer stand in their order.

    :param rings: how many there may be.
    """

    def __init__(self, rings: int) -> None:
        self._alone = rings == 1
        self._held: list[Frame] = []
        self._bytes = 0

    def add(self, frames: Sequence[Frame]) -> None:
        """Frames that a ring has handed over."""
        self._held += frames
        self._bytes += sum(len(frame.data) for frame in frames)
        if not self._alone:
            self._held.sort(key=lambda frame: frame.time_ns)

    def due(self, now_ns: int) -> list[Frame]:
        """What may go now; frames of the future do, because somebody has set the clock back."""
        if self._alone or self._bytes > _HOLD_MOST:
            return self.rest()
        ready = [frame for frame in self._held if not now_ns - HOLD_NS < frame.time_ns <= now_ns]
        if ready:
            self._held = [frame for frame in self._held if now_ns - HOLD_NS < frame.time_ns <= now_ns]
            self._bytes = sum(len(frame.data) for frame in self._held)
        return ready

    def rest(self) -> list[Frame]:
        """All that is held."""
        held, self._held, self._bytes = self._held, [], 0
        return held

    def wait_ms(self, now_ns: int) -> float | None:
        """How long until the first one may go; ``None``: none is held."""
        if not self._held:
            return None
        return max(0.0, (self._held[0].time_ns + HOLD_NS - now_ns) / 1_000_000)
