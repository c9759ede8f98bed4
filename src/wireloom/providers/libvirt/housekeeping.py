"""What the host holds beside our domains: those of other installations, and files that interrupted steps left."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from wireloom.model.orphans import Leftover, OtherRuntime
from wireloom.providers.libvirt import domains
from wireloom.providers.libvirt.connection import Connections
from wireloom.providers.libvirt.images import FolderImages

__all__ = ["LibvirtHousekeeping"]


class LibvirtHousekeeping:
    """A :class:`~wireloom.providers.contract.Housekeeping`."""

    def __init__(self, connections: Connections, installation: str, images: FolderImages) -> None:
        self._connections = connections
        self._installation = installation
        self._images = images

    async def others(self) -> Sequence[OtherRuntime]:
        found = await self._connections.quick(partial(domains.of_others, installation=self._installation))
        return [
            OtherRuntime(
                runtime_id=domain.uuid, name=domain.name, identity=domain.labels.identity, running=domain.active
            )
            for domain in found
        ]

    async def leftovers(self) -> Sequence[Leftover]:
        return await self._images.leftovers()

    async def discard(self, leftover: Leftover) -> None:
        await self._images.discard(leftover)
