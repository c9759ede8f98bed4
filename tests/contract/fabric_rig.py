"""A private fabric for one test: a real nats-server on a port and a store of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wireloom.fabric.connection import Fabric
from wireloom.fabric.login import Login
from wireloom.fabric.server import NatsServer


@dataclass
class Rig:
    """A server, a controller, and as many agents as a test asks for."""

    folder: Path
    server: NatsServer
    controller: Fabric
    opened: list[Fabric] = field(default_factory=list)

    async def agent(self, host: str) -> Fabric:
        return await self.login(await self.server.agent(host), creates_stores=False)

    async def login(self, login: Login, *, creates_stores: bool = True) -> Fabric:
        fabric = await Fabric.connect(
            self.server.url, name=login.user, login=login, ca=self.server.ca, creates_stores=creates_stores
        )
        self.opened.append(fabric)
        return fabric

    async def kill(self) -> None:
        """kill -9, and return when another child has taken its place."""
        dead = self.server.pid
        assert dead is not None
        os.kill(dead, signal.SIGKILL)

        async def replaced() -> bool:
            return self.server.pid not in (None, dead) and self.controller.connected

        await eventually(replaced, timeout_s=15)

    async def lose_store(self) -> None:
        """Stop the server, throw its store away, start it again."""
        await self.server.stop()
        shutil.rmtree(self.folder / "store")
        await self.server.start()


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    server = NatsServer(folder)
    await server.start()
    made = Rig(folder, server, None)  # type: ignore[arg-type]  # set in the next line
    try:
        made.controller = await made.login(server.controller)
        yield made
    finally:
        for fabric in made.opened:
            await fabric.close()
        await server.stop()


class Collector:
    """Reads an endless iterator in the background, so that a test can wait for what it wants to see."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self.seen: list[Any] = []
        self._changed = asyncio.Condition()
        self._task = asyncio.get_running_loop().create_task(self._run(source))

    async def _run(self, source: AsyncIterator[Any]) -> None:
        async for item in source:
            async with self._changed:
                self.seen.append(item)
                self._changed.notify_all()

    async def until(self, check: Callable[[list[Any]], bool], timeout_s: float = 15) -> list[Any]:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: check(self.seen) or self._task.done())
        assert not self._task.done(), "the iterator ended"
        return self.seen

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def eventually(check: Callable[[], Awaitable[bool]], timeout_s: float = 10) -> None:
    for _ in range(int(timeout_s / 0.05)):
        if await check():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError
