"""The counters of a lab's ports as a stream: one line of JSON for each look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from wireloom.agent.network import HostNetwork
from wireloom.agent.world import now
from wireloom.dataplane.contract import DataPlane
from wireloom.model.counters import CountersSample, PortRates, PortSample, rates
from wireloom.model.network import PortCounters

__all__ = ["CountersStream", "SharedCounters"]

#: Readings that are asked for within this time are one: many watchers cost no more than one.
_SHARED_S: Final = 0.1


class SharedCounters:
    """All counters of the host, read once for everybody who wants them at the same time."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._lock = asyncio.Lock()
        self._read_at = -_SHARED_S
        self._counters: Mapping[str, PortCounters] = {}

    async def read(self) -> tuple[float, Mapping[str, PortCounters]]:
        """(When, on the monotonic clock; counters by device)."""
        async with self._lock:
            if time.monotonic() - self._read_at >= _SHARED_S:
                self._counters = await self._dataplane.counters()
                self._read_at = time.monotonic()
            return self._read_at, self._counters


class CountersStream:
    """A :class:`~wireloom.providers.contract.ByteStream` that only gives. A slow reader gets fewer samples."""

    def __init__(self, network: HostNetwork, counters: SharedCounters, lab_id: str, interval_s: float) -> None:
        self._network = network
        self._counters = counters
        self._lab_id = lab_id
        self._interval_s = interval_s
        self._next_at = time.monotonic()
        self._before: tuple[float, Mapping[str, PortCounters]] | None = None
        self._closed = asyncio.Event()

    async def read(self) -> bytes:
        """The next sample, when it is due; ``b""`` when the stream was closed."""
        try:
            async with asyncio.timeout(max(self._next_at - time.monotonic(), 0)):
                await self._closed.wait()
            return b""
        except TimeoutError:
            pass
        self._next_at = max(self._next_at + self._interval_s, time.monotonic())
        return (await self._sample()).model_dump_json().encode() + b"\n"

    async def write(self, data: bytes) -> None:
        """Nobody listens."""

    async def resize(self, columns: int, rows: int) -> None:
        """It has no size."""

    async def close(self) -> None:
        self._closed.set()

    async def _sample(self) -> CountersSample:
        read_at, counters = await self._counters.read()
        ports = tuple(
            sample
            for device, port in sorted(self._network.ports.items(), key=lambda item: item[1].alias.name)
            if port.alias.lab_id == self._lab_id and device in counters
            for sample in [self._port(device, read_at, counters[device])]
        )
        self._before = (read_at, counters)
        return CountersSample(time=now(), ports=ports)

    def _port(self, device: str, read_at: float, counters: PortCounters) -> PortSample:
        alias = self._network.ports[device].alias
        node, _, name = alias.name.partition("/")[2].partition("/")
        speed = PortRates()
        if self._before is not None and device in self._before[1]:
            speed = rates(self._before[1][device], counters, read_at - self._before[0])
        return PortSample(
            node_id=alias.node_id, index=alias.index, node=node, port=name, counters=counters, rates=speed
        )
