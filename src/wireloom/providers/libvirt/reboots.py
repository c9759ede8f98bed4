"""Reboots from inside: the guest is reset, its emulator and its serial log go on. Each is the begin of another boot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from weakref import WeakValueDictionary

import structlog

from wireloom.errors import WireloomError
from wireloom.model.runtime import EventKind
from wireloom.providers.libvirt import bootlog, domains
from wireloom.providers.libvirt.connection import Connections
from wireloom.providers.libvirt.domains import Domain
from wireloom.providers.libvirt.events import EventHub
from wireloom.providers.libvirt.metadata import Run

__all__ = ["Reboots"]

log = structlog.get_logger(__name__)


class Reboots:
    """Notes reboots beside the log and in the domain's definition, then tells of them as ``STARTED``.

    :param find: the domain of that UUID, if it is ours.
    """

    def __init__(
        self, connections: Connections, hub: EventHub, find: Callable[[str], Awaitable[Domain | None]]
    ) -> None:
        self._connections = connections
        self._hub = hub
        self._find = find
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def note(self, uuid: str) -> None:
        """libvirt has told of a reboot, of any domain of the host."""
        try:
            async with self._locks.setdefault(uuid, asyncio.Lock()):
                news = await self._begin_anew(uuid)
        except OSError as error:
            log.warning("reboot cannot be noted", domain=uuid, reason=str(error))
        except WireloomError:
            self._hub.publish(EventKind.RESYNC)  # what became of it cannot be told now
        else:
            if news:
                self._hub.publish(EventKind.STARTED, uuid)

    async def _begin_anew(self, uuid: str) -> bool:
        domain = await self._find(uuid)
        if domain is None or domain.run is None or not domain.run.released:
            return False
        run = Run(started_at=round(time.time(), 3), released=True)  # as precise as the definition keeps it
        if not await asyncio.to_thread(bootlog.begin_boot_in_place, domain.logs, uuid, run.started_at):
            return False
        await self._connections.quick(partial(domains.begin_anew, uuid=uuid, run=run))
        return True
