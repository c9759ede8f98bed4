"""An undo stack for effects that take several steps."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType

import structlog

from wireloom.errors import WireloomError

__all__ = ["Undo"]

log = structlog.get_logger(__name__)


class Undo:
    """``async with Undo() as undo: …; undo.add(step); …; undo.commit()``.

    Leaving the block without :meth:`commit`, by error or cancellation, runs the steps in reverse order. A step
    that fails is logged and does not keep the others from running.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    def add(self, what: str, step: Callable[[], Awaitable[object]]) -> None:
        """Remember how to take ``what`` back."""
        self._steps.append((what, step))

    def commit(self) -> None:
        """Keep everything."""
        self._steps.clear()

    async def __aenter__(self) -> Undo:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for what, step in reversed(self._steps):
            try:
                with contextlib.suppress(TimeoutError):
                    await step()
            except WireloomError as failure:
                log.warning("undo failed", what=what, error=failure.to_wire())
        self._steps.clear()
