"""Any harness, with its providers at the far end of a real fabric."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fabric_rig import Rig as FabricRig
from fabric_rig import rig as fabric_rig

from wireloom.fabric.remote import RemoteProvider
from wireloom.fabric.remote_serving import serve_provider
from wireloom.providers.contract import Provider
from wireloom.testing.conformance.provider import ProviderHarness


class FabricHarness:
    """Takes everything from ``near``; each provider is served by an agent of its own and used through the fabric."""

    def __init__(self, near: ProviderHarness, fabric: FabricRig) -> None:
        self._near = near
        self._fabric = fabric
        self._numbers = itertools.count(1)
        self._served: list[Provider] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._near, name)

    async def provider(self, installation: str) -> Provider:
        host = f"h{next(self._numbers)}"
        near = await self._near.provider(installation)
        self._served.append(near)
        await serve_provider(await self._fabric.agent(host), host, near)
        return await RemoteProvider.connect(self._fabric.controller, host, near.name)

    async def close(self) -> None:
        for provider in self._served:
            await provider.close()


@asynccontextmanager
async def through_fabric(near: ProviderHarness, folder: Path) -> AsyncIterator[FabricHarness]:
    """A private nats-server in ``folder`` between the suite and the providers of ``near``."""
    async with fabric_rig(folder / "nats") as fabric:
        harness = FabricHarness(near, fabric)
        try:
            yield harness
        finally:
            await harness.close()
