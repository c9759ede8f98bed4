"""A chain of small containers: from the deploy call until every node runs and every wire carries frames, against the
Docker API alone (create and start, no network, the same number at once) in the same run; and taking it down again.

The whole product is measured: HTTP call, database, fabric, agent, engine, kernel. Rounds alternate, medians count.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Final

import aiodocker
from common import Result, compared, median, parser, report

from wireloom.model.views import DeployRequest
from wireloom.testing.installation import Installation, own_folder

IMAGE: Final = "wireloom/linux:latest"
COMMAND: Final = ["sleep", "infinity"]
PARALLEL: Final = 4
LABEL: Final = "wireloom.benchmark"


def chain(count: int) -> str:
    """A topology of ``count`` hosts in a row."""
    settings = {"command": COMMAND, "entrypoint": []}
    nodes = {f"n{i}": {"device": "linux", "image": IMAGE, "settings": settings} for i in range(count)}
    links = [[f"n{i}:eth1", f"n{i + 1}:eth2"] for i in range(count - 1)]
    return json.dumps({"name": "lab", "nodes": nodes, "links": links})


async def bare(count: int) -> tuple[float, float]:
    """Seconds to create and start, and to remove, ``count`` containers by the Docker API."""
    docker = aiodocker.Docker()
    slots = asyncio.Semaphore(PARALLEL)
    made: list[aiodocker.containers.DockerContainer] = []

    async def make(number: int) -> None:
        async with slots:
            body = {
                "Image": IMAGE,
                "Entrypoint": [],
                "Cmd": COMMAND,
                "Labels": {LABEL: "1"},
                "HostConfig": {"NetworkMode": "none", "CapAdd": ["NET_ADMIN", "NET_RAW"]},
            }
            container = await docker.containers.create(body, name=f"wlbench-{number}")
            made.append(container)
            await container.start()

    async def remove(container: aiodocker.containers.DockerContainer) -> None:
        async with slots:
            await container.delete(force=True, v=True)

    try:
        up = await timed(lambda: asyncio.gather(*(make(number) for number in range(count))))
        down = await timed(lambda: asyncio.gather(*(remove(container) for container in made)))
    finally:
        await docker.close()
    return up, down


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def ours(host: Installation, count: int) -> tuple[float, float]:
    """Seconds to deploy a chain until packets pass, and to destroy it."""

    async def deploy() -> None:
        async with host.client() as client:
            operation = await client.deploy(DeployRequest(topology=chain(count)))
            final = await client.wait(operation, timeout_s=300)
            assert final.state == "done", final
            check_packets(await host_runtimes(host, count))

    async def destroy() -> None:
        async with host.client() as client:
            await client.wait(await client.destroy("lab"), timeout_s=300)

    return await timed(deploy), await timed(destroy)


async def host_runtimes(host: Installation, count: int) -> tuple[int, int]:
    """Process ids of the last two nodes of the chain."""
    docker = aiodocker.Docker()
    try:
        found: dict[str, int] = {}
        for name in (f"n{count - 2}", f"n{count - 1}"):
            filters = {"label": [f"wireloom.installation={host.id}", f"wireloom.node={name}"]}
            container = (await docker.containers.list(filters=json.dumps(filters)))[0]
            found[name] = (await container.show())["State"]["Pid"]
        return found[f"n{count - 2}"], found[f"n{count - 1}"]
    finally:
        await docker.close()


def check_packets(pids: tuple[int, int]) -> None:
    """A ping over the chain's last wire must be answered at once."""
    for pid, port, address in ((pids[0], "eth1", "10.1.1.1/30"), (pids[1], "eth2", "10.1.1.2/30")):
        subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "address", "add", address, "dev", port], check=True)
    ping = ["nsenter", "-t", str(pids[0]), "-n", "ping", "-c", "1", "-W", "2", "10.1.1.2"]
    subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)


async def measure(counts: list[int], rounds: int) -> list[Result]:
    results = []
    with own_folder(show_logs=False) as folder:
        host = Installation(folder)
        await host.up()
        try:
            for count in counts:
                pairs = [(await bare(count), await ours(host, count)) for _ in range(rounds)]
                for index, what, limit in ((0, "deployed", 1.15), (1, "destroyed", 1.3)):
                    baseline, own = (median([pair[side][index] for pair in pairs]) for side in (0, 1))
                    ratio = median([pair[1][index] / pair[0][index] for pair in pairs])
                    name = f"{count} containers {what}"
                    results.append(compared(name, own, baseline, "s", ratio=ratio, at_most=limit))
        finally:
            await host.down()
    return results


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--counts", type=int, nargs="+", default=[40, 100])
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    report("deploy", asyncio.run(measure(arguments.counts, arguments.rounds)), arguments.json)
