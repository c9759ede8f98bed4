"""A controller with its HTTP API, and agents of several hosts over simulated engines: one process, and real files.

Whoever is killed comes back with what is on his disk, in his engine, or in the database; nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from wireloom.agent.channels import KeptShell
from wireloom.agent.library import Rules
from wireloom.agent.reconciler import ManagementPlane
from wireloom.agent.service import AgentParts, AgentService
from wireloom.api import create_app
from wireloom.controller.controller import Controller
from wireloom.controller.http import HttpServer
from wireloom.controller.library.library import LibraryOptions
from wireloom.controller.store import Store
from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
from wireloom.devices import DeviceFolder
from wireloom.errors import Unavailable
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import HostFacts
from wireloom.model.moves import MovePhase
from wireloom.model.runtime import Capabilities
from wireloom.model.views import DeployRequest, NodeView, OperationState, OperationView
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld
from wireloom.providers.simulated.world import CONTAINER_LIKE
from wireloom.testing.memory_fabric import MemoryFabric

TOKEN = "t" * 40
SUBNETS = {"h1": "172.30.0.0/24", "h2": "172.30.1.0/24", "h3": "172.30.2.0/24"}


class NoShell:
    """There is no guest to log in to."""

    async def run(self, *_: Any, **__: Any) -> None:
        raise Unavailable("there is no SSH here")

    async def close(self) -> None: ...

    def forget(self, _: str) -> None: ...


class Host:
    """A machine: what outlives its agent.

    :param serve: address at which the agent serves others itself; empty: it dials out only.
    """

    def __init__(self, rig: MovesRig, name: str, serve: str) -> None:
        self.rig = rig
        self.name = name
        self.folder = rig.folder / name
        self.serve = serve
        self.world = SimulatedWorld(CONTAINER_LIKE)
        self.network = SimulatedNetwork()
        self.agent: AgentService | None = None
        self._running: asyncio.Task[None] | None = None
        power_on = self.world.power_on

        def guarded(runtime: Any) -> None:
            rig.check_alone(runtime.spec.identity.node_id, self)
            power_on(runtime)

        self.world.power_on = guarded  # type: ignore[method-assign]

    def start(self) -> None:
        """A new life of its agent."""
        installation = self.rig.controller.installation
        capabilities: Callable[[], tuple[Capabilities, ...]] = lambda: (  # noqa: E731
            self.world.capabilities.model_copy(update={"name": "simulated"}),
        )
        parts = AgentParts(
            host=self.name,
            installation=installation,
            host_boot="boot-1",
            data_dir=self.folder,
            fabric=cast("Fabric", self.rig.fabric),
            providers={"simulated": SimulatedProvider(installation, self.world)},
            dataplane=SimulatedDataPlane(installation, self.network),
            management=ManagementPlane(),
            segment="wlbtest",
            shell=cast("KeptShell", NoShell()),
            authorized_keys="",
            facts=lambda: HostFacts(
                host=self.name,
                installation=installation,
                version="1",
                time=0,
                memory_mb=8192,
                management_subnet=SUBNETS[self.name],
                providers=capabilities(),
            ),
            images=Rules(serve=self.serve),
            heartbeat_s=0.2,
        )
        self.agent = AgentService(parts)
        self._running = asyncio.create_task(self.agent.run())

    async def kill(self) -> None:
        """End the agent's life; nothing is tidied up."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self.agent = None
        self._running = None

    def has(self, node: str) -> bool:
        return any(runtime.spec.identity.node == node for runtime in self.world.runtimes.values())

    def files(self, node: str) -> dict[str, bytes]:
        """What the guest has in its file system."""
        return next(
            (dict(item.storage) for item in self.world.runtimes.values() if item.spec.identity.node == node), {}
        )


class MovesRig:
    """:ivar hosts: by name. :ivar kill_at: called when a move has reached a phase."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fabric = MemoryFabric()
        self.hosts: dict[str, Host] = {}
        self.controller: Controller
        self.store: Store
        self.double: list[str] = []
        self.at: dict[MovePhase | str, Callable[[], Any]] = {}
        self._server: HttpServer | None = None
        self._late: set[asyncio.Task[Any]] = set()

    async def up(self) -> None:
        """The controller, and its API."""
        devices = DeviceFolder(self.folder / "devices")
        self.store = await Store.open(f"sqlite+aiosqlite:///{self.folder / 'wireloom.sqlite'}")
        self.controller = await Controller.create(
            store=self.store,
            fabric=cast("Any", self.fabric),
            devices=devices.catalogue(),
            device_folder=devices,
            settings_schemas={},
            library=LibraryOptions(
                folder=self.folder / "library",
                secrets=self.folder / "secrets",
                references=self.folder / "images",
                own_host="h1",
            ),
        )
        await self.controller.start()
        self._server = HttpServer(create_app(self.controller, token=TOKEN, listen_host="127.0.0.1"))
        url = await self._server.start("127.0.0.1", 0)
        self.controller.library.distribution.serve_at(f"{url}/api/v1")
        take = self.controller.moves._take

        async def watched(before: Any, move: Any, step: Any) -> None:
            await take(before, move, step)
            action = self.at.pop(step.phase if step.kind == "go" else step.kind, None)
            if action is not None:
                # Beside the loop: what is killed may be the one that asks for it.
                task = asyncio.create_task(action())
                self._late.add(task)
                task.add_done_callback(self._late.discard)

        self.controller.moves._take = watched  # type: ignore[method-assign]

    async def down(self) -> None:
        self.controller.moves.relay.close()
        if self._server is not None:
            await self._server.stop()
        await self.controller.stop()
        await self.store.close()

    async def restart(self) -> None:
        """A new controller on the same database."""
        await self.down()
        await self.up()

    def add(self, name: str, serve: str = "") -> Host:
        host = self.hosts[name] = Host(self, name, serve)
        host.start()
        return host

    async def close(self) -> None:
        await asyncio.gather(*self._late, return_exceptions=True)
        for host in self.hosts.values():
            await host.kill()
        await self.down()
        assert not self.double, self.double

    # ---------------------------------------------------------------- checks

    def check_alone(self, node_id: str, here: Host) -> None:
        """A node is started: it runs nowhere else."""
        for other in self.hosts.values():
            for runtime in other.world.runtimes.values() if other is not here else ():
                if runtime.spec.identity.node_id == node_id and runtime.up:
                    self.double.append(
                        f"{runtime.spec.identity.node} is started on {here.name} and runs on {other.name}"
                    )

    async def until(self, check: Callable[[], object], what: str, within_s: float = 40) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    if check():
                        return
                    await asyncio.sleep(0.01)
        views = [view.model_dump_json(indent=1) for view in self.controller.board.views()]
        moves = [move for view in self.controller.board.views() for move in self.controller.moves.views(view.lab)]
        raise AssertionError(f"{what}: not reached; moves: {moves}; labs: {views}")

    def node(self, name: str, lab: str = "pair") -> NodeView:
        view = self.controller.lab(lab)
        return next(node for node in view.nodes if node.name == name)

    async def deploy(self, topology: str) -> OperationView:
        return await self.ended((await self.controller.labs.deploy(DeployRequest(topology=topology))).id)

    async def ended(self, operation_id: str) -> OperationView:
        """The operation, when it has ended."""

        def view() -> OperationView | None:
            record = self.controller.board.operation(operation_id)
            return record.view() if record is not None else None

        await self.until(lambda: (v := view()) is not None and v.state is not OperationState.RUNNING, "operation")
        found = view()
        assert found is not None
        return found

    async def clean(self, name: str, lab: str = "pair") -> None:
        """Wait until ``lab`` is converged, and nothing of node ``name`` is anywhere but where it is to be."""
        await self.until(lambda: self.controller.lab(lab).converged, "converged")
        home = self.node(name, lab).host
        node_id = self.node(name, lab).id
        others = [host for host in self.hosts.values() if host.name != home]
        await self.until(lambda: not any(host.has(name) for host in others), "old runtime gone")
        await self.until(lambda: not any((h.folder / "nodes" / node_id).exists() for h in others), "old folder gone")
        stages = [host.folder / "arrivals" for host in self.hosts.values()]
        left = [path for stage in stages if stage.exists() for path in stage.iterdir() if (path / "node").exists()]
        assert not left, left
