"""The largest packet that arrives, found with few questions. Pure but for the question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["LARGEST", "largest"]

#: Nobody's frames are larger.
LARGEST: Final = 9216
#: What ways usually carry, asked for first.
_USUAL: Final = (1500, 9000)


async def largest(passes: Callable[[int], Awaitable[bool]], least: int) -> int:
    """The largest size up to :data:`LARGEST` of which ``passes`` says yes; ``least`` is known to.

    Each no costs time, so what is usual is asked for before halves are.
    """
    low, high = least, LARGEST + 1
    for size in (*_USUAL, LARGEST):
        if low < size < high:
            if await passes(size):
                low = size
            else:
                high = size
        if high == low + 1:
            return low
        if size in _USUAL and low == size and not await _more(passes, low, high):
            return low
    while high > low + 1:
        middle = (low + high) // 2
        if await passes(middle):
            low = middle
        else:
            high = middle
    return low


async def _more(passes: Callable[[int], Awaitable[bool]], low: int, high: int) -> bool:
    return low + 1 < high and await passes(low + 1)
