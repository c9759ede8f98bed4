"""An agent has its data plane mend now and then what nobody tells of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, cast

from agent_rig import INSTALLATION, NoShell

from wireloom.agent.channels import KeptShell
from wireloom.agent.reconciler import ManagementPlane
from wireloom.agent.service import AgentParts, AgentService
from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
from wireloom.errors import DataPlaneFailed
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import HostFacts


class LonelyShell(NoShell):
    """There is no guest."""

    async def close(self) -> None: ...

    def forget(self, _: str) -> None: ...


class Heard:
    """A fabric on which nobody says anything; keeps the last that a host said of itself."""

    def __init__(self) -> None:
        self.problems: tuple[str, ...] = ()

    async def put_host(self, facts: HostFacts) -> None:
        self.problems = facts.problems

    async def serve(self, *_: Any) -> None: ...

    serve_console = serve_stream = put_observation = publish_event = put_shelf = put_ends = on_lease = serve

    def on_rebuilt(self, _: Any) -> None: ...

    async def watch_intents(self, _: str) -> AsyncGenerator[None, None]:
        await asyncio.Event().wait()
        yield

    watch_library = watch_peers = watch_ends = watch_intents


async def eventually(check: Callable[[], bool]) -> None:
    for _ in range(2000):
        if check():
            return
        await asyncio.sleep(0.002)
    raise TimeoutError


async def test_it_mends_again_and_again_and_tells_what_cannot_be_mended(tmp_path: Path) -> None:
    network, heard = SimulatedNetwork(), Heard()
    parts = AgentParts(
        host="h1",
        installation=INSTALLATION,
        host_boot="boot-1",
        data_dir=tmp_path,
        fabric=cast("Fabric", heard),
        providers={},
        dataplane=SimulatedDataPlane(INSTALLATION, network),
        management=ManagementPlane(),
        segment="wlbtest",
        shell=cast("KeptShell", LonelyShell()),
        authorized_keys="",
        facts=lambda: HostFacts(host="h1", installation=INSTALLATION, version="1", time=0),
        heartbeat_s=0.002,
        guard_s=0.002,
    )
    running = asyncio.create_task(AgentService(parts).run())
    await eventually(lambda: network.calls["mend"] > 2)
    network.fail("mend", DataPlaneFailed("the firewall is shut"), times=10**9)
    await eventually(lambda: "segments: the firewall is shut" in heard.problems)
    network.faults.clear()
    await eventually(lambda: heard.problems == ())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    mended = network.calls["mend"]
    await asyncio.sleep(0.01)
    assert network.calls["mend"] == mended, "it goes on after the agent's end"
