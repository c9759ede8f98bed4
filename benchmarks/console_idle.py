"""What an agent costs that owns 50 serial lines on which nothing happens.

The agent is a real process (see ``idle.py``); below it the nodes are simulated, but their serial lines are UNIX
sockets as an emulator's are, served by this program. First each line has one reader, attached over the fabric; then all
of them have left, and the agent goes on to own the lines. Processor time is a share of one core, watched from outside.
In between one line writes 10 MB/s while the others are silent: what the agent takes to carry that to one reader, and
by how much its memory grows, for information.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import idle
from common import Result, measured, parser, report
from idle import CALM_S, HOST, agent_process, chain, converged, give, memory_mb, processor_s

from wireloom.fabric.connection import Fabric
from wireloom.fabric.consoles import SharedConsole
from wireloom.fabric.documents import ConsoleOpen
from wireloom.fabric.methods import CONSOLE
from wireloom.fabric.server import NatsServer
from wireloom.testing.installation import own_folder

if TYPE_CHECKING:
    from wireloom.providers.contract import Provider
    from wireloom.providers.simulated import SimulatedWorld

CPU_LIMIT_PERCENT: Final = 5
FLOOD_BYTES: Final = 64 * 1024
FLOOD_PER_S: Final = 10_000_000


def socket_of(folder: Path, node: str) -> Path:
    return folder / "lines" / f"{node}.sock"


# -- the agent's process ---------------------------------------------------------------------------------------


def provider_with_sockets(folder: Path, installation: str, world: SimulatedWorld) -> Provider:
    """A simulated provider whose serial lines are the emulator's kind."""
    from wireloom.model.runtime import ConsoleRequest
    from wireloom.providers.contract import ByteStream
    from wireloom.providers.libvirt.console import open_serial
    from wireloom.providers.simulated import SimulatedProvider

    class WithSockets(SimulatedProvider):
        async def console(self, runtime_id: str, request: ConsoleRequest) -> ByteStream:
            return await open_serial(socket_of(folder, world.runtimes[runtime_id].spec.identity.node))

    return WithSockets(installation, world, name=idle.PROVIDER)


# -- the lines, and who reads them ------------------------------------------------------------------------------


class Lines:
    """The far ends of all lines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._servers: list[asyncio.Server] = []

    async def open(self, nodes: list[str]) -> None:
        (self._folder / "lines").mkdir()
        for node in nodes:

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, node: str = node) -> None:
                self._writers[node] = writer
                while await reader.read(1024):
                    pass

            self._servers.append(await asyncio.start_unix_server(connected, socket_of(self._folder, node)))

    async def flood(self, node: str, seconds: float) -> int:
        """Write 10 MB/s; the number of bytes that were taken."""
        loop = asyncio.get_running_loop()
        writer, began, sent = self._writers[node], loop.time(), 0
        while (passed := loop.time() - began) < seconds:
            if sent > passed * FLOOD_PER_S:
                await asyncio.sleep(0.002)
                continue
            writer.write(b"x" * FLOOD_BYTES)
            await writer.drain()
            sent += FLOOD_BYTES
        return sent

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for writer in self._writers.values():
            writer.close()


@contextlib.asynccontextmanager
async def attached(fabric: Fabric, nodes: list[str]) -> AsyncIterator[list[SharedConsole]]:
    """One reader of each node's line 0."""
    consoles: list[SharedConsole] = []
    for node in nodes:
        question = ConsoleOpen(lab_id="lab-1", node_id=f"id-{node}", line=0, who="benchmark", notices=True)
        consoles.append(await fabric.open_console(HOST, CONSOLE, question))
    readers = [asyncio.create_task(_read(console)) for console in consoles]
    try:
        yield consoles
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await asyncio.gather(*(console.close() for console in consoles))


async def _read(console: SharedConsole) -> None:
    while await console.read():
        pass


async def share(pid: int, seconds: float) -> float:
    """Percent of one core that the process takes while ``seconds`` pass."""
    before = processor_s(pid)
    await asyncio.sleep(seconds)
    return 100 * (processor_s(pid) - before) / seconds


async def watch(fabric: Fabric, lines: Lines, pid: int, nodes: list[str], seconds: float) -> list[Result]:
    name = f"agent with {len(nodes)} silent serial lines"
    async with attached(fabric, nodes):
        await asyncio.sleep(CALM_S)
        with_readers = await share(pid, seconds)
        before_mb = memory_mb(pid, "VmRSS")
        flood_s = min(seconds, 5.0)
        before = processor_s(pid)
        sent = await lines.flood(nodes[0], flood_s)
        flooded = 100 * (processor_s(pid) - before) / flood_s
        grown = memory_mb(pid, "VmHWM") - before_mb
    await asyncio.sleep(CALM_S)
    alone = await share(pid, seconds)
    return [
        measured(f"{name}, nobody attached: processor", alone, "% of a core", at_most=CPU_LIMIT_PERCENT),
        measured(f"{name}, a reader on each: processor", with_readers, "% of a core", at_most=CPU_LIMIT_PERCENT),
        measured("one of them floods: carried", sent / flood_s / 1e6, "MB/s"),
        measured("one of them floods: processor", flooded, "% of a core"),
        measured("one of them floods: memory grew by at most", grown, "MB"),
    ]


async def measure(count: int, seconds: float) -> list[Result]:
    nodes = [f"n{number}" for number in range(count)]
    with own_folder(show_logs=False) as folder:
        lines = Lines(folder)
        await lines.open(nodes)
        server = NatsServer(folder / "fabric")
        await server.start()
        try:
            fabric = await Fabric.connect(server.url, name="benchmark", login=server.controller)
            try:
                async with agent_process(server, folder, __file__) as pid:
                    await give(fabric, chain(count))
                    await converged(fabric)
                    return await watch(fabric, lines, pid, nodes, seconds)
            finally:
                await fabric.close()
        finally:
            await server.stop()
            lines.close()


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--lines", type=int, default=50)
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--agent", type=Path, metavar="FOLDER", help="be the agent's process (used by this program)")
    arguments = options.parse_args()
    if arguments.agent is not None:
        folder: Path = arguments.agent
        asyncio.run(idle.agent(folder, lambda installation, world: provider_with_sockets(folder, installation, world)))
    else:
        report("idle consoles", asyncio.run(measure(arguments.lines, arguments.seconds)), arguments.json)
