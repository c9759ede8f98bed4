"""What a simulated runtime keeps, for another host."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wireloom.errors import Conflict, NotFound
from wireloom.providers.newfile import new_file
from wireloom.providers.simulated.world import SimulatedWorld

__all__ = ["SimulatedPorter"]

_FILE: Final = "carried.json"


class SimulatedPorter:
    """A :class:`~wireloom.providers.contract.StoragePorter`: the guest's file system is a table."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world

    async def pack(self, runtime_id: str | None, folder: Path) -> Mapping[str, str]:
        await self._world.before("pack", None)
        if runtime_id is None:
            return {}
        runtime = self._world.runtimes.get(runtime_id)
        if runtime is None:
            raise NotFound(f"no simulated runtime {runtime_id}")
        if runtime.up:
            raise Conflict("the runtime runs", hint="stop it first")
        target = folder / "storage" / _FILE
        if not runtime.boots and target.exists():
            return {}
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        text = json.dumps({name: base64.b64encode(data).decode() for name, data in runtime.storage.items()})
        async with new_file(target) as part:
            await asyncio.to_thread(part.write_text, text)
        return {}

    async def settle(self, folder: Path, image: str, facts: Mapping[str, str]) -> None:
        await self._world.before("settle", None)

    async def unpack(self, runtime_id: str, folder: Path) -> None:
        await self._world.before("unpack", None)
        source = folder / "storage" / _FILE
        if not source.exists():
            return
        runtime = self._world.runtimes.get(runtime_id)
        if runtime is None:
            raise NotFound(f"no simulated runtime {runtime_id}")
        stored = json.loads(await asyncio.to_thread(source.read_text))
        runtime.storage.update({name: base64.b64decode(data) for name, data in stored.items()})
        await asyncio.to_thread(source.unlink)
