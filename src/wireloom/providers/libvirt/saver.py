"""An image of a machine that is down: its system disk and what that stands on, in one file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from wireloom.errors import Conflict, RuntimeFailed
from wireloom.providers.libvirt import layout, qemu_img
from wireloom.providers.libvirt.disks import backing_file
from wireloom.providers.libvirt.domains import Domain
from wireloom.providers.newfile import check_room, new_file

__all__ = ["DiskSaver"]

_PRIVATE: Final = 0o600


class DiskSaver:
    """An :class:`~wireloom.providers.contract.ImageSaver`. Further disks and firmware variables are no part of it.

    :param get: the domain with that id. :raises NotFound:
    """

    def __init__(self, get: Callable[[str], Awaitable[Domain]]) -> None:
        self._get = get

    async def save(self, runtime_id: str, target: Path) -> None:
        disk = await self._resting_disk(runtime_id)
        base = await asyncio.to_thread(backing_file, disk)
        files = [disk] if base is None else [disk, base.resolve()]
        await asyncio.to_thread(check_room, target.parent, sum(file.stat().st_size for file in files if file.exists()))
        async with new_file(target) as part:
            try:
                await qemu_img.flatten(disk, "qcow2", part, *files[1:])
            except RuntimeFailed:
                await self._resting_disk(runtime_id)  # it was started meanwhile, and holds its disk
                raise
            part.chmod(_PRIVATE)
            await qemu_img.inspect(part)

    async def _resting_disk(self, runtime_id: str) -> Path:
        """:raises Conflict: the machine is on."""
        domain = await self._get(runtime_id)
        if domain.active:
            raise Conflict("the node runs", hint="stop it, then save it")
        for disk in domain.disks:
            if layout.is_system_disk(disk):
                return disk
        raise RuntimeFailed("the virtual machine has no system disk of ours")
