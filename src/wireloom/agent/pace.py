"""How soon the loop looks again: at once after a calm time, ever later while one pass follows the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Pace"]

#: Events that belong together arrive within this time.
SETTLE_S: Final = 0.005
#: Passes may take that much time in a row before they are slowed down: an edit of a running lab needs a few.
BURST_S: Final = 0.05
#: In the long run a pass is followed by a pause of so many times its length, so that looking never crowds out acting.
PAUSE_FACTOR: Final = 16
LONGEST_PAUSE_S: Final = 0.4


class Pace:
    """Passes spend from an allowance, which grows back with time up to ``BURST_S``. Times are of ``clock``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._allowance = BURST_S
        self._counted = clock()

    def spent(self, seconds: float) -> None:
        """A pass that ends now took so long."""
        self._grow()
        self._allowance = max(self._allowance - seconds, -LONGEST_PAUSE_S / PAUSE_FACTOR)

    def pause(self) -> float:
        """Seconds until the next pass may begin."""
        self._grow()
        return max(SETTLE_S, -self._allowance * PAUSE_FACTOR)

    def _grow(self) -> None:
        moment = self._clock()
        self._allowance = min(self._allowance + (moment - self._counted) / PAUSE_FACTOR, BURST_S)
        self._counted = moment
