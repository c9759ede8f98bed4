"""A keystroke on a console and its echo: through API and fabric, over what the guest itself takes.

A private installation runs nodes whose terminal echoes what is typed; a console of each is open through the SDK
(WebSocket, controller, fabric, agent, engine). Keys are typed on one of them, one at a time, and the clock stops when
the echo is back. Before and after each, the same is done on a raw connection to the engine, attached to the same
terminal: that is the guest's own echo, and what is over it is ours. All consoles stay open throughout. A second
series has somebody type on ten other consoles at the same time, for information. Needs root and Docker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final, Protocol

from common import Result, measured, median, parser, report

from wireloom.client import Client
from wireloom.client.console import ConsoleStream
from wireloom.providers.docker.attach import attach_terminal
from wireloom.providers.docker.engine import Engine
from wireloom.testing.installation import Installation, installed, own_folder

__all__ = ["Echo"]

P50_LIMIT_MS, P95_LIMIT_MS = 1.0, 2.0
SUBNET: Final = "172.30.118.0/24"
HEARTBEAT_S: Final = "2"  # as users have it; tests are in more of a hurry
READY_S: Final = 180.0
ECHO_S: Final = 10.0
#: A terminal keeps what nobody reads, and takes 4 KiB of it; a new line of typing empties nothing, so it is short.
KEY: Final = b"k"
TYPISTS: Final = 10
PAUSE_S: Final = 0.1
NODE: Final = {
    "device": "linux",
    "provider": "docker",
    "settings": {"entrypoint": ["/bin/cat"], "command": [], "tty": True, "open_stdin": True},
}


class Typed(Protocol):
    """What the clock needs of a console."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


@dataclass
class Echo:
    """Milliseconds of single keys: ``ours`` and ``raw`` in pairs."""

    ours: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)

    def over(self, share: int) -> float:
        """By how much we are over the guest's own at the ``share``-th percentile."""
        return percentile(self.ours, share) - percentile(self.raw, share)


def percentile(values: Sequence[float], share: int) -> float:
    return quantiles(values, n=100)[share - 1]


def topology(nodes: int) -> str:
    return json.dumps({"name": "lab", "nodes": {f"n{number}": NODE for number in range(nodes)}})


async def echoed(stream: Typed, also: Typed) -> float:
    """Milliseconds from a key to its echo on ``stream``; ``also`` is attached to the same terminal and sees it too."""
    async with asyncio.timeout(ECHO_S):
        began = time.perf_counter()
        await stream.write(KEY)
        await stream.read()
        passed = time.perf_counter() - began
        await also.read()
    return passed * 1000


async def quiet(stream: Typed) -> None:
    """Take what is there, until nothing comes."""
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.3):
                await stream.read()


async def series(console: ConsoleStream, raw: Typed, keys: int) -> Echo:
    """``keys`` pairs; ours is first in every other one."""
    echo = Echo()
    await asyncio.gather(quiet(console), quiet(raw))
    for number in range(keys):
        for turn in ("ours", "raw") if number % 2 else ("raw", "ours"):
            if turn == "ours":
                echo.ours.append(await echoed(console, raw))
            else:
                echo.raw.append(await echoed(raw, console))
        if number % 500 == 499:  # the terminal's line buffer is finite
            await console.write(b"\r")
            await asyncio.gather(quiet(console), quiet(raw))
    return echo


@contextlib.asynccontextmanager
async def typing(consoles: Sequence[ConsoleStream]) -> AsyncIterator[None]:
    """Somebody types on each of ``consoles``, ten keys a second."""

    async def type_on(console: ConsoleStream) -> None:
        while True:
            await console.write(KEY + b"\r")
            await console.read()
            await asyncio.sleep(PAUSE_S)

    tasks = [asyncio.create_task(type_on(console)) for console in consoles]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def open_consoles(client: Client, count: int) -> AsyncIterator[list[ConsoleStream]]:
    """The terminal of each node's first process."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number in range(count):
            stream = await client.console("lab", f"n{number}", line=0, who="benchmark")
            stack.push_async_callback(stream.close)
            found.append(stream)
        yield found


async def measure(consoles: int, keys: int) -> list[Result]:
    with own_folder(show_logs=False) as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET=SUBNET, WIRELOOM_HEARTBEAT_S=HEARTBEAT_S) as host:
            await host.deploy(topology(consoles))
            engine = Engine(None)
            try:
                async with host.client() as client:
                    await client.wait_ready("lab", timeout_s=READY_S)
                    async with open_consoles(client, consoles) as opened:
                        raw = await attach_terminal(engine, container(host), 0)
                        still = await series(opened[0], raw, keys)
                        async with typing(opened[1 : TYPISTS + 1]):
                            busy = await series(opened[0], raw, keys)
                        await raw.close()
            finally:
                await engine.close()
    return results(consoles, still, busy)


def container(host: Installation) -> str:
    """The engine's id of node n0."""
    return host.runtimes()["n0"][0]


def results(consoles: int, still: Echo, busy: Echo) -> list[Result]:
    name = f"keystroke echo, {consoles} consoles open"
    return [
        measured(f"{name}: over the guest's own, p50", still.over(50), "ms", at_most=P50_LIMIT_MS),
        measured(f"{name}: over the guest's own, p95", still.over(95), "ms", at_most=P95_LIMIT_MS),
        measured(f"{name}: the whole way, p50", median(still.ours), "ms"),
        measured(f"{name}: the guest's own, p50", median(still.raw), "ms"),
        measured(f"{name}, {TYPISTS} others typing: over the guest's own, p50", busy.over(50), "ms"),
        measured(f"{name}, {TYPISTS} others typing: over the guest's own, p95", busy.over(95), "ms"),
    ]


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--consoles", type=int, default=50)
    options.add_argument("--keys", type=int, default=1000)
    arguments = options.parse_args()
    report("console echo", asyncio.run(measure(arguments.consoles, arguments.keys)), arguments.json)
