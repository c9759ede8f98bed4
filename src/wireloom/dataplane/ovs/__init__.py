"""The data plane on Open vSwitch: the same ports as the kernel's, joined by flows and by learning bridges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from wireloom.dataplane.host.netlink import Netlink
from wireloom.dataplane.host.plane import HostDataPlane
from wireloom.dataplane.ovs.daemon import restarts, run_folder
from wireloom.dataplane.ovs.joiner import OvsJoiner
from wireloom.model.network import PortEvent

__all__ = ["OvsDataPlane"]


class OvsDataPlane(HostDataPlane):
    """Joins by Open vSwitch.

    :param folder: where Open vSwitch keeps its sockets.
    :param tunnels_by_flows: whether Open vSwitch itself carries wires to other hosts. By default it does where its
        datapath is the kernel's; the one in user space can only from addresses that are on bridges of its own.
    """

    name = "ovs"

    def __init__(self, installation: str, folder: Path | None = None, *, tunnels_by_flows: bool | None = None) -> None:
        self._folder = folder or run_folder()

        def make(netlink: Netlink, installation: str) -> OvsJoiner:
            return OvsJoiner(netlink, installation, self._folder, tunnels_by_flows=tunnels_by_flows)

        super().__init__(installation, make)

    def watch(self) -> AsyncIterator[PortEvent]:
        """Also tells when ovs-vswitchd ends and is there again: wires have to be made anew then."""
        return _merged(super().watch(), restarts(self._folder, self._closed))


async def _merged(*sources: AsyncIterator[PortEvent]) -> AsyncIterator[PortEvent]:
    """What any of ``sources`` tells, until one of them ends."""
    events: asyncio.Queue[PortEvent | None] = asyncio.Queue()

    async def forward(source: AsyncIterator[PortEvent]) -> None:
        try:
            async for event in source:
                events.put_nowait(event)
        finally:
            events.put_nowait(None)

    tasks = [asyncio.create_task(forward(source)) for source in sources]
    try:
        while (event := await events.get()) is not None:
            yield event
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
