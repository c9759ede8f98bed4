"""What an agent costs while nothing happens: processor time and memory with 100 running nodes.

The agent is a process of its own with everything that it has in real life (SDKs of both engines, SSH, heartbeat with
host facts, periodic full observation, a real fabric), but the nodes and the kernel below it are simulated inside that
process, whose memory therefore counts too. Once the lab has converged and every node is ready, the process is watched
from outside, through ``/proc``, for at least one full observation. Processor time is a share of one core.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common import Result, measured, parser, report

from wireloom.fabric.connection import Fabric
from wireloom.fabric.server import NatsServer
from wireloom.model.device import Probe, Readiness
from wireloom.model.identity import device_name, mac_address
from wireloom.model.slice import NodeIntent, PortIntent, PortRef, Slice, WireIntent
from wireloom.model.state import SliceStatus
from wireloom.testing.installation import own_folder, until

if TYPE_CHECKING:
    from wireloom.providers.contract import Provider
    from wireloom.providers.simulated import SimulatedWorld

    MakeProvider = Callable[[str, SimulatedWorld], Provider]

HOST, INSTALLATION, IMAGE = "h1", "benchmark-idle", "simulated/image"
PROVIDER: Final = "simulated"
CPU_LIMIT_PERCENT, MEMORY_LIMIT_MB = 1, 120
CONVERGED_S: Final = 120
#: What follows the last change (reports, log lines) is not idleness yet.
CALM_S: Final = 5


def node(number: int) -> NodeIntent:
    """One node with a management port and two others, ready when it says so in its log."""
    name = f"n{number}"
    ports = tuple(
        PortIntent(
            index=index,
            name=f"eth{index}",
            guest_name=f"eth{index}",
            device=device_name("p", name, index),
            mac=mac_address(name, index),
            role="mgmt" if index == 0 else "data",
        )
        for index in range(3)
    )
    ready = Readiness(probes=(Probe(kind="log", pattern="login:"),), timeout_s=30)
    return NodeIntent(
        id=f"id-{name}", name=name, device="linux", provider=PROVIDER, image=IMAGE, ports=ports, ready=ready
    )


def chain(count: int) -> Slice:
    """Nodes in a row."""
    nodes = tuple(node(number) for number in range(count))
    wires = tuple(
        WireIntent(id=f"w{i}", a=PortRef(node_id=a.id, index=1), b=PortRef(node_id=b.id, index=2))
        for i, (a, b) in enumerate(itertools.pairwise(nodes))
    )
    return Slice(installation=INSTALLATION, lab_id="lab-1", lab="lab", generation=1, nodes=nodes, wires=wires)


def settled(status: SliceStatus) -> bool:
    return (
        status.converged
        and all(node.ready == "yes" for node in status.nodes)
        and all(wire.state == "up" for wire in status.wires)
    )


# -- the agent's process ---------------------------------------------------------------------------------------


async def agent(data_dir: Path, make_provider: MakeProvider | None = None) -> None:
    """As the composition root makes it, over a simulated host; ``make_provider`` replaces the simulated provider."""
    from wireloom.agent.facts import host_facts
    from wireloom.agent.login import AgentLogin
    from wireloom.agent.reconciler import ManagementPlane
    from wireloom.agent.service import AgentParts, AgentService
    from wireloom.agent.ssh import InstallationKey, SshShell
    from wireloom.app import make_providers
    from wireloom.dataplane.kernel import KernelDataPlane
    from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
    from wireloom.logs import configure
    from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld
    from wireloom.settings import Settings

    settings = Settings(host=HOST, data_dir=data_dir)
    configure(settings)
    # Not used, but a real agent holds them: their libraries are part of its memory.
    unused = (make_providers(settings, INSTALLATION), KernelDataPlane(INSTALLATION))
    login = await AgentLogin.wait(data_dir, 10)
    fabric = await Fabric.connect(login.urls, name="agent", login=login.login, ca=login.ca, creates_stores=False)
    world = SimulatedWorld()
    world.add_image(IMAGE)
    provider = (make_provider or SimulatedProvider)(INSTALLATION, world)
    key = InstallationKey.ensure(data_dir / "keys")
    service = AgentService(
        AgentParts(
            host=HOST,
            installation=INSTALLATION,
            host_boot="boot",
            data_dir=data_dir,
            fabric=fabric,
            providers={PROVIDER: provider},
            dataplane=SimulatedDataPlane(INSTALLATION, SimulatedNetwork()),
            management=ManagementPlane(),
            segment="wlbidle",
            shell=SshShell(key, data_dir / "nodes"),
            authorized_keys=key.public_line,
            facts=partial(host_facts, settings, installation=INSTALLATION, kvm=False, kvm_reason=""),
            heartbeat_s=settings.heartbeat_s,
            resync_s=settings.resync_s,
        )
    )
    try:
        await service.run()
    finally:
        await fabric.close()
        del unused


# -- the watcher -----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def agent_process(server: NatsServer, folder: Path, program: str = __file__) -> AsyncIterator[int]:
    """Process id of an agent that is logged in at ``server``: ``program`` with ``--agent``."""
    from wireloom.agent.login import AgentLogin

    login = await server.agent(HOST)
    AgentLogin(INSTALLATION, (server.url,), claims=login.claims, seed=login.seed).save(folder)
    with (folder / "agent.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, program, "--agent", str(folder), stdout=log, stderr=log
        )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def give(fabric: Fabric, lab: Slice) -> None:
    """Put the intent as soon as the stores of the new fabric are there."""

    async def put() -> bool:
        await fabric.put_intent(HOST, lab)
        return True

    await until(put, "the fabric takes no intent")


async def converged(fabric: Fabric) -> None:
    """Wait until the agent reports that everything is as intended."""
    async with asyncio.timeout(CONVERGED_S):
        async for change in fabric.watch_observations():
            if change.value is not None and settled(change.value):
                return


def processor_s(pid: int) -> float:
    """Seconds that all threads of the process have spent on a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, field: str) -> float:
    """``VmRSS`` (resident now) or ``VmHWM`` (resident at most), in units of 10^6 bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field + ":"))


async def measure(nodes: int, seconds: float) -> list[Result]:
    with own_folder(show_logs=False) as folder:
        server = NatsServer(folder / "fabric")
        await server.start()
        try:
            fabric = await Fabric.connect(server.url, name="benchmark", login=server.controller)
            try:
                async with agent_process(server, folder) as pid:
                    await give(fabric, chain(nodes))
                    await converged(fabric)
                    await asyncio.sleep(CALM_S)
                    before = processor_s(pid)
                    await asyncio.sleep(seconds)
                    share = 100 * (processor_s(pid) - before) / seconds
                    resident, most = memory_mb(pid, "VmRSS"), memory_mb(pid, "VmHWM")
            finally:
                await fabric.close()
        finally:
            await server.stop()
    name = f"agent idle with {nodes} nodes"
    return [
        measured(f"{name}: processor", share, "% of a core", at_most=CPU_LIMIT_PERCENT),
        measured(f"{name}: memory", resident, "MB", at_most=MEMORY_LIMIT_MB),
        measured(f"{name}: memory at most since its start", most, "MB"),
    ]


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--nodes", type=int, default=100)
    options.add_argument("--seconds", type=float, default=65, help="longer than the pace of full observations")
    options.add_argument("--agent", type=Path, metavar="FOLDER", help="be the agent's process (used by this program)")
    arguments = options.parse_args()
    if arguments.agent is not None:
        asyncio.run(agent(arguments.agent))
    else:
        report("idle agent", asyncio.run(measure(arguments.nodes, arguments.seconds)), arguments.json)
