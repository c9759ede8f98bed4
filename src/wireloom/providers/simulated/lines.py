"""Consoles of simulated guests."""

from __future__ import annotations

import asyncio

from wireloom.providers.simulated.world import SimulatedRuntime, SimulatedWorld

__all__ = ["EchoStream", "SimulatedLine"]


class SimulatedLine:
    """A serial line: gives what the guest writes from now on, until it goes down or is restarted."""

    def __init__(self, world: SimulatedWorld, runtime: SimulatedRuntime, line: int) -> None:
        self._world = world
        self._runtime = runtime
        self._line = line
        self._boot = runtime.boots
        self._position = len(runtime.line(line))
        self._closed = False

    async def read(self) -> bytes:
        while not self._closed and self._runtime.up and self._runtime.boots == self._boot:
            changed = self._runtime.changed
            if text := bytes(self._runtime.line(self._line)[self._position :]):
                self._position += len(text)
                return text
            await changed.wait()
        return b""

    async def write(self, data: bytes) -> None:
        if not self._closed and self._runtime.up:
            self._world.type(self._runtime, self._line, data)

    async def resize(self, columns: int, rows: int) -> None:
        """A serial line has no size."""

    async def close(self) -> None:
        self._closed = True
        self._runtime.notify()


class EchoStream:
    """A terminal that gives back what is typed."""

    def __init__(self) -> None:
        self._typed: asyncio.Queue[bytes] = asyncio.Queue()
        self._closed = False

    async def read(self) -> bytes:
        return b"" if self._closed else await self._typed.get()

    async def write(self, data: bytes) -> None:
        if data and not self._closed:
            self._typed.put_nowait(data)

    async def resize(self, columns: int, rows: int) -> None:
        del columns, rows

    async def close(self) -> None:
        self._closed = True
        self._typed.put_nowait(b"")
