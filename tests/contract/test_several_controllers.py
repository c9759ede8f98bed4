"""Two real controllers on one PostgreSQL and one NATS server: one dies, the other leads on, nothing is done twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from postgres_rig import PostgresServer, postgres_server

from wireloom.client import Client, find_endpoint
from wireloom.controller.store import Store
from wireloom.errors import WireloomError
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import HostFacts
from wireloom.fabric.login import Login
from wireloom.model.runtime import Capabilities
from wireloom.model.slice import Slice
from wireloom.model.state import LinkState, NodeState, NodeStatus, Readiness, SliceStatus, WireStatus
from wireloom.model.views import DeployRequest, OperationState
from wireloom.paths import Paths

LAB = """\
name: {name}
defaults: {{device: linux, provider: simulated}}
nodes:
  a:
  b:
links:
  - [a:eth1, b:eth1]
"""
START_S, SOON_S = 60.0, 20.0
TOKEN = "a-token-that-both-have"  # noqa: S105


class Host:
    """An agent that obeys at once, and counts what it is told."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.told: list[Slice] = []

    async def beat(self) -> None:
        able = Capabilities(name="simulated", ports_fixed=True, fractional_cpu=True, binds=True)
        while True:
            facts = HostFacts(
                host="h1",
                version="1",
                installation="",
                time=0,
                memory_mb=8192,
                management_subnet="172.30.0.0/24",
                providers=(able,),
            )
            with contextlib.suppress(WireloomError):
                await self.fabric.put_host(facts)
            await asyncio.sleep(1)

    async def obey(self) -> None:
        async with aclosing(cast(Any, self.fabric.watch_intents("h1"))) as changes:
            async for change in changes:
                if change.value is not None:
                    self.told.append(change.value)
                    await self.fabric.put_observation(_status(change.value))


def _status(lab: Slice) -> SliceStatus:
    nodes = () if lab.removed else lab.nodes
    return SliceStatus(
        host="h1",
        lab_id=lab.lab_id,
        lab=lab.lab,
        generation=lab.generation,
        observed_at=0,
        converged=True,
        nodes=tuple(
            NodeStatus(
                id=node.id,
                name=node.name,
                provider=node.provider,
                state=NodeState.RUNNING if node.power == "on" else NodeState.STOPPED,
                ready=Readiness.YES if node.power == "on" else Readiness.NO,
                started_at=1.0 if node.power == "on" else None,
            )
            for node in nodes
        ),
        wires=() if lab.removed else tuple(_wire(wire.id, lab) for wire in lab.wires),
    )


def _wire(key: str, lab: Slice) -> WireStatus:
    on = all(node.power == "on" for node in lab.nodes)
    mtu = next(wire.mtu for wire in lab.wires if wire.id == key)
    return WireStatus(id=key, state=LinkState.UP if on else LinkState.DOWN, mtu=mtu)


@dataclass
class Site:
    """What the controllers share, and the controllers."""

    folder: Path
    postgres: PostgresServer
    database: str
    nats: str
    host: Host
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def paths(self, name: str) -> Paths:
        place = self.folder / name
        return Paths(data_dir=place / "data", run_dir=place / "run", log_dir=place / "log")

    async def start(self, name: str) -> Client:
        paths = self.paths(name)
        paths.token_file.parent.mkdir(parents=True, exist_ok=True)
        paths.token_file.touch(0o600)
        paths.token_file.write_text(TOKEN)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("WIRELOOM_")}
        own = {
            "DATA_DIR": str(paths.data_dir),
            "RUN_DIR": str(paths.run_dir),
            "LOG_DIR": str(paths.log_dir),
            "HOST": name,
            "LISTEN_PORT": str(free_port()),
            "DATABASE_URL": self.database,
            "FABRIC_URL": self.nats,
            "FABRIC_USER": "wireloom",
            "FABRIC_PASSWORD": "secret",
        }
        with (self.folder / f"{name}.txt").open("ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "wireloom.cli", "controller"],
                env={**clean, **{f"WIRELOOM_{key}": value for key, value in own.items()}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        async def up() -> bool:
            return paths.controller_file.exists()

        await eventually(up, START_S, lambda: (self.folder / f"{name}.txt").read_text()[-3000:])
        return self.client(name)

    def client(self, name: str) -> Client:
        return Client(find_endpoint({}, self.paths(name)), timeout_s=20)

    def end(self, name: str, sign: int = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        process.send_signal(sign)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


async def eventually(check: Callable[[], Awaitable[bool]], timeout_s: float, why: Callable[[], str] = str) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not await check():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"did not come true: {why()}") from None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def nats_server(folder: Path) -> AsyncIterator[str]:
    port, configuration = free_port(), folder / "nats.conf"
    configuration.write_text(
        f'host: 127.0.0.1\nport: {port}\nmax_payload: 8388608\njetstream {{ store_dir: "{folder}/store" }}\n'
        'authorization { users = [ { user: "wireloom", password: "secret" } ] }\n'
    )
    process = await asyncio.create_subprocess_exec("nats-server", "-c", str(configuration), "-l", str(folder / "nats"))
    try:
        await asyncio.sleep(1)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    with postgres_server() as postgres:
        database = postgres.database("several")
        async with nats_server(tmp_path) as nats:
            fabric = await Fabric.connect(nats, name="h1", login=Login(user="wireloom", password="secret"))  # noqa: S106
            host = Host(fabric)
            made = Site(tmp_path, postgres, database, nats, host)
            tasks = [asyncio.create_task(host.beat()), asyncio.create_task(host.obey())]
            try:
                yield made
            finally:
                for name in list(made.processes):
                    made.end(name)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await fabric.close()


async def deploy(client: Client, name: str) -> None:
    async def knows_the_host() -> bool:
        return any(host.host == "h1" and host.alive for host in await client.hosts())

    await eventually(knows_the_host, SOON_S)
    view = await client.deploy(DeployRequest(topology=LAB.format(name=name)))
    await done(client, view.id)


async def done(client: Client, operation: str) -> None:
    async def ended() -> bool:
        return (await client.operation(operation)).finished_at is not None

    await eventually(ended, SOON_S)
    assert (await client.operation(operation)).state is OperationState.DONE


async def power(client: Client, lab: str) -> set[str]:
    return {node.power for node in (await client.lab(lab)).nodes}


async def test_another_controller_leads_on_and_a_database_may_be_restarted(site: Site) -> None:
    async with await site.start("one") as one, await site.start("two") as two:
        await deploy(one, "first")

        async def seen() -> bool:
            return "first" in {lab.lab for lab in await two.labs()}

        await eventually(seen, SOON_S)
        # A verb at the one that does not lead: its leader hears of it and tells the host.
        stopped = await two.stop("first")
        await done(two, stopped.id)
        await done(one, stopped.id)

        told = len(site.host.told)
        site.end("one", signal.SIGKILL)
        store = await Store.open(site.database)
        try:

            async def alone() -> bool:
                return len(await store.leases.controllers()) == 1

            await eventually(alone, SOON_S)
        finally:
            await store.close()
        started = await two.start("first")
        await done(two, started.id)
        generations = [lab.generation for lab in site.host.told]
        assert generations == sorted(generations), "an older intent was never told again"
        wanted = {(lab.generation, lab.model_dump_json()) for lab in site.host.told[told - 1 :]}
        assert len(wanted) == 2, "the host was told of nothing but of what was stored, and of the start"

        site.postgres.stop()
        with pytest.raises(WireloomError):
            await two.stop("first")
        site.postgres.start_again()

        async def answers() -> bool:
            with contextlib.suppress(WireloomError):
                await done(two, (await two.stop("first")).id)
                return True
            return False

        await eventually(answers, START_S)
        assert site.host.told[-1].nodes[0].power == "off"
