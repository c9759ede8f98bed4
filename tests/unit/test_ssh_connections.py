"""Which connections to guests are kept, and when they go: with the runtime, for want of use, with the agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest
from agent_rig import IMAGE, INSTALLATION, Agent, Host, make_lab, make_node, settled

from wireloom.agent.channels import Login
from wireloom.agent.reconciler import ManagementPlane
from wireloom.agent.service import AgentParts, AgentService
from wireloom.agent.ssh import InstallationKey, SshShell
from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
from wireloom.errors import Unavailable
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import HostFacts
from wireloom.model.device import Access
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld


@dataclass
class Connection:
    """To a guest that lets one in, and refuses every session."""

    address: str
    closed: bool = False

    def is_closed(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    async def create_process(self, **what: Any) -> None:
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "no sessions")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Every connection that was made."""
    connections: list[Connection] = []

    async def connect(address: str, **options: Any) -> Connection:
        connections.append(Connection(address))
        return connections[-1]

    monkeypatch.setattr("wireloom.agent.ssh.asyncssh.connect", connect)
    return connections


def shell(folder: Path, *, idle_s: float = 60) -> SshShell:
    return SshShell(InstallationKey.ensure(folder / "keys"), folder / "nodes", idle_s=idle_s)


async def connect(shell: SshShell, node: str, *, instance: str = "1", port: int = 22) -> None:
    login = Login(node, node, instance, f"address of {node}", Access(ssh_port=port))
    with contextlib.suppress(Unavailable):  # it refuses sessions, and stays connected
        await shell.run(login, "true", timeout_s=5)


def left(connections: list[Connection]) -> list[str]:
    return [connection.address for connection in connections if not connection.closed]


async def test_the_connections_of_a_node_are_closed_when_it_is_forgotten(
    tmp_path: Path, made: list[Connection]
) -> None:
    guests = shell(tmp_path)
    for node, port in (("a", 22), ("a", 830), ("b", 22)):
        await connect(guests, node, port=port)
    guests.forget("a")
    guests.forget("a")
    assert left(made) == ["address of b"]
    await guests.close()
    assert left(made) == []


async def test_another_runtime_of_the_node_has_a_connection_of_its_own(tmp_path: Path, made: list[Connection]) -> None:
    guests = shell(tmp_path)
    await connect(guests, "a", instance="1")
    await connect(guests, "a", instance="2")
    assert [connection.closed for connection in made] == [True, False]
    await guests.close()


async def test_nothing_is_left_of_a_target_that_nobody_uses(tmp_path: Path, made: list[Connection]) -> None:
    guests = shell(tmp_path, idle_s=0)
    await connect(guests, "a")
    async with asyncio.timeout(60):
        while left(made):  # noqa: ASYNC110 - a timer has no event
            await asyncio.sleep(0)
    assert not guests._lines
    await connect(guests, "a")
    assert len(made) == 2
    await guests.close()


async def test_the_agent_lets_go_of_a_guest_whose_runtime_goes_whoever_did_that(tmp_path: Path) -> None:
    host = Host(tmp_path)
    node = make_node("a")
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await agent.until(settled())
        again = node.model_copy(update={"restarts": 1})
        agent.reconciler.set_slice("lab-1", make_lab(again, generation=2))
        await agent.until(settled(2))
        assert agent.gone == []
        agent.reconciler.set_slice("lab-1", make_lab(again.model_copy(update={"memory_mb": 512}), generation=3))
        await agent.until(settled(3))
        assert agent.gone == ["id-a"]
        world = host.worlds["alpha"]
        first = world.by_node("a").runtime_id
        world.remove(world.by_node("a"))
        await agent.until(lambda status: settled(3)(status) and status.nodes[0].runtime_id != first)
        assert agent.gone == ["id-a"] * 2
        agent.reconciler.set_slice("lab-1", make_lab(generation=4))
        await agent.until(lambda status: status.generation == 4 and status.converged)
        assert agent.gone == ["id-a"] * 3


class Deaf:
    """A fabric on which nobody says anything."""

    async def serve(self, *_: Any) -> None: ...

    serve_console = serve_stream = put_host = put_observation = publish_event = on_lease = put_ends = serve

    def on_rebuilt(self, _: Any) -> None: ...

    async def watch_intents(self, _: str) -> AsyncGenerator[None, None]:
        await asyncio.Event().wait()
        yield


async def test_an_agent_that_stops_closes_its_connections(tmp_path: Path, made: list[Connection]) -> None:
    world = SimulatedWorld()
    world.add_image(IMAGE)
    guests = shell(tmp_path)
    parts = AgentParts(
        host="h1",
        installation=INSTALLATION,
        host_boot="boot-1",
        data_dir=tmp_path,
        fabric=cast("Fabric", Deaf()),
        providers={"alpha": SimulatedProvider(INSTALLATION, world, name="alpha")},
        dataplane=SimulatedDataPlane(INSTALLATION, SimulatedNetwork()),
        management=ManagementPlane(),
        segment="wlbtest",
        shell=guests,
        authorized_keys="",
        facts=lambda: HostFacts.model_construct(problems=()),
    )
    await connect(guests, "a")
    running = asyncio.create_task(AgentService(parts).run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done(), running.exception()
    assert left(made) == ["address of a"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert left(made) == []
