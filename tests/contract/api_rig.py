"""A controller that is served over real HTTP, on a memory fabric, with a client and a host that obeys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from controller_rig import TWO_NODES, Host, until

from wireloom.api import create_app
from wireloom.client import Client, find_endpoint
from wireloom.controller.controller import Controller
from wireloom.controller.service import ControllerService
from wireloom.devices import DeviceFolder
from wireloom.model.views import DeployRequest
from wireloom.settings import Settings
from wireloom.testing.memory_fabric import MemoryFabric

PAIR = DeployRequest(topology=TWO_NODES)


class Api:
    """A served controller, a client for it, and a host that obeys."""

    def __init__(self, folder: Path) -> None:
        self.fabric = MemoryFabric()
        self.settings = Settings(data_dir=folder / "data", run_dir=folder / "run", listen_port=0, host="h1")
        self.service = ControllerService(
            self.settings,
            fabric=self.fabric,
            make_app=create_app,
            devices=DeviceFolder(self.settings.paths.device_folder),
            settings_schemas={},
        )
        self.host = Host(self.fabric)
        self.client: Client
        self.controller: Controller

    async def run(self) -> AsyncIterator[Api]:
        controller = self.controller = await self.service.start()
        agent = asyncio.create_task(self.host.run())
        try:
            await until(lambda: "h1" in controller.live.alive)
            async with Client(find_endpoint({}, self.settings.paths), timeout_s=5) as self.client:
                yield self
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
            await self.service.stop()

    async def deploy(self) -> None:
        await self.client.wait(await self.client.deploy(PAIR), timeout_s=5)
