"""The way out of a capture: what its reader has not taken yet waits here, up to a bound."""

from __future__ import annotations

import contextlib
import os
from collections import deque

__all__ = ["Outlet"]


class Outlet:
    """A pipe that never holds up who writes to it.

    A ring has only so many blocks, and the kernel starts a new one for every moment in which a frame came: a reader
    that pauses would soon cost frames, however few there are. Here they take no more room than they need.

    :ivar waiting: bytes that wait.
    """

    def __init__(self, descriptor: int, most: int) -> None:
        self._descriptor = descriptor
        self._most = most
        self._pieces: deque[memoryview] = deque()
        self.waiting = 0
        os.set_blocking(descriptor, False)

    @property
    def full(self) -> bool:
        """Nothing more is to be put in for now."""
        return self.waiting >= self._most

    def put(self, data: bytes) -> None:
        """Add ``data``, and write what goes out at once. :raises BrokenPipeError: the reader is gone."""
        if data:
            self._pieces.append(memoryview(data))
            self.waiting += len(data)
        self.push()

    def push(self) -> None:
        """Write as much as the pipe takes now. :raises BrokenPipeError: the reader is gone."""
        with contextlib.suppress(BlockingIOError):
            while self._pieces:
                written = os.write(self._descriptor, self._pieces[0])
                self.waiting -= written
                rest = self._pieces.popleft()[written:]
                if rest:
                    self._pieces.appendleft(rest)

    def finish(self) -> None:
        """Write all that is left, however long the reader takes. :raises BrokenPipeError: the reader is gone."""
        os.set_blocking(self._descriptor, True)
        self.push()
