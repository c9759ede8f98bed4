"""An agent's loop over simulated worlds: real planner, runner and hooks, no engine and no kernel."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from wireloom.agent.actions import Actions
from wireloom.agent.channels import Channels, ChannelTarget, HeldLine, Login, SerialLines
from wireloom.agent.configs import PARSERS, NodeConfigs
from wireloom.agent.fencing import Fence, LeaseBook
from wireloom.agent.folder import FolderStore
from wireloom.agent.hooks.day0 import Day0Hook
from wireloom.agent.hooks.image import ImageHook
from wireloom.agent.hooks.ports import PortsHook
from wireloom.agent.hooks.secrets import SecretsHook
from wireloom.agent.hooks.wiring import WiringHook
from wireloom.agent.network import HostNetwork
from wireloom.agent.prune import Pruner
from wireloom.agent.readiness import ReadinessWatch
from wireloom.agent.reconciler import ManagementPlane, Reconciler
from wireloom.agent.reflexes import Reflexes
from wireloom.agent.reporter import Reporter
from wireloom.agent.runner import Runner
from wireloom.agent.surroundings import Surroundings
from wireloom.agent.underlay import NO_UNDERLAY, Underlay
from wireloom.agent.world import World
from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
from wireloom.errors import Unavailable, WireloomError
from wireloom.fabric.documents import Event, EventLevel
from wireloom.model.device import Probe, Readiness, Step
from wireloom.model.identity import device_name, mac_address
from wireloom.model.runtime import ExecResult, RuntimeStatus
from wireloom.model.slice import NodeIntent, PortIntent, PortRef, Slice, WireIntent
from wireloom.model.state import NodeStatus, SliceStatus
from wireloom.model.state import Readiness as ReadyState
from wireloom.providers.contract import ByteStream
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld
from wireloom.providers.simulated.world import CONTAINER_LIKE, MACHINE_LIKE

INSTALLATION = "test"
IMAGE = "simulated/image"


class NoShell:
    """There is no guest to log in to."""

    async def run(self, login: Login, command: str, *, timeout_s: float, stdin: bytes = b"") -> ExecResult:
        raise Unavailable("there is no SSH here")

    def terminal(self, login: Login, *, timeout_s: float) -> AbstractAsyncContextManager[ByteStream]:
        raise Unavailable("there is no SSH here")

    def subsystem(self, login: Login, name: str, *, timeout_s: float) -> AbstractAsyncContextManager[ByteStream]:
        raise Unavailable("there is no SSH here")


class NoLines:
    """There are no serial lines."""

    async def attach(
        self, target: ChannelTarget, line: int = 0, *, who: str, automation: bool = False, read_only: bool = False
    ) -> HeldLine:
        raise Unavailable("there is no serial line here")


class Reports:
    """What the fabric would have been told."""

    def __init__(self) -> None:
        self.statuses: dict[str, SliceStatus] = {}
        self.events: list[Event] = []
        self.deleted: list[str] = []

    async def put_observation(self, status: SliceStatus) -> None:
        self.statuses[status.lab_id] = status

    async def delete_observation(self, host: str, lab_id: str) -> None:
        self.deleted.append(lab_id)

    async def publish_event(self, event: Event) -> None:
        self.events.append(event)


class Host:
    """What outlives an agent: engines, kernel, folders."""

    installation = INSTALLATION
    name = "h1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worlds = {"alpha": SimulatedWorld(CONTAINER_LIKE), "beta": SimulatedWorld(MACHINE_LIKE)}
        self.network = SimulatedNetwork()
        self.boot = "boot-1"
        self.seconds = 1000.0  #: since it was booted
        self.lines: SerialLines = NoLines()
        for world in self.worlds.values():
            world.add_image(IMAGE)

    def dataplane(self) -> DataPlane:
        """The data plane of an agent's life."""
        return SimulatedDataPlane(self.installation, self.network)

    def providers(self) -> dict[str, SimulatedProvider]:
        """The providers of an agent's life, by name."""
        return {name: SimulatedProvider(self.installation, world, name=name) for name, world in self.worlds.items()}

    def underlay(self, heard: Callable[[Collection[str]], None], moved: Callable[[], None]) -> Underlay | None:
        """What an agent's life knows of other hosts; ``None``: there are none."""


class Agent:
    """One life of an agent on a host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.reports = Reports()
        self.providers = host.providers()
        self.folders = FolderStore(host.folder / "nodes", host.installation)
        self.network = HostNetwork(host.dataplane())
        channels = Channels(NoShell(), host.lines, PARSERS)
        self.readiness = ReadinessWatch(channels, self._on_readiness, self._on_failed_probe)
        self.actions = Actions(
            providers=self.providers,
            folders=self.folders,
            network=self.network,
            channels=channels,
            wake=self._wake,
            tell=self._tell,
        )
        self.gone: list[str] = []
        self.world = World(self.providers, self._on_runtime, self.actions.is_busy, self._wake, gone=self.gone.append)
        self.configs = NodeConfigs(
            channels=channels, folders=self.folders, runtime=self.world.runtimes.get, tell=self._tell
        )
        self.underlay = host.underlay(self._on_far_ends, self._wake)
        self.surroundings = Surroundings(self.world, self.network, self.underlay or NO_UNDERLAY)
        book = LeaseBook(host.folder / "leases.json", host.boot, lambda: host.seconds)
        self.fence = Fence(book, self.actions, self.world, wake=self._wake, tell=self._tell)
        self.runner = self._make_runner()
        self.actions.bind(self.runner, self.world)
        self.reporter = Reporter(host.name, self.reports)
        self.reconciler = Reconciler(
            host=host.name,
            underlay=self.underlay or NO_UNDERLAY,
            host_boot=host.boot,
            world=self.world,
            network=self.network,
            folders=self.folders,
            actions=self.actions,
            readiness=self.readiness,
            management=ManagementPlane(),
            reporter=self.reporter,
            held_config=self.configs.held,
            on_node=self._on_node,
            fenced=self.fence.reason,
        )
        self.reflexes = Reflexes(
            network=self.network,
            world=self.world,
            surroundings=self.surroundings,
            providers=self.providers,
            slices=self.reconciler.slices,
            busy=self.actions.busy,
        )
        self.config_questions = self.configs.questions(self.reconciler, self.actions)
        self.pruner = Pruner(
            world=self.world,
            network=self.network,
            folders=self.folders,
            runner=self.runner,
            intended=self.reconciler.slices.keys,
            is_busy=self.actions.is_busy,
        )

    def _make_runner(self) -> Runner:
        ports = PortsHook(self.network, "wlbtest")
        return Runner(
            providers=self.providers,
            folders=self.folders,
            hooks=(
                ImageHook(),
                self.configs.hook,
                SecretsHook(),
                Day0Hook("ssh-ed25519 AAAA"),
                ports,
                WiringHook(self.network, self.surroundings),
            ),
            ports=ports,
            host_boot=self.host.boot,
            progress=self.actions.note_step,
        )

    def _tell(self, lab: str, node: str, kind: str, message: str, level: EventLevel = EventLevel.INFO) -> None:
        self.reconciler.tell(lab, node, kind, message, level)

    def _wake(self) -> None:
        self.reconciler.wake()

    def _on_runtime(self, node_id: str, before: RuntimeStatus | None, after: RuntimeStatus | None) -> None:
        self.reconciler.runtime_changed(node_id, before, after)

    def _on_far_ends(self, wires: Collection[str]) -> None:
        for lab in self.reconciler.slices.values():
            for wire in lab.wires:
                if wire.id in wires:
                    self._on_node(lab.lab_id, wire.local_ends[0].node_id)
        self._wake()

    def _on_node(self, lab_id: str, node_id: str) -> None:
        self.reflexes.node_changed(lab_id, node_id)

    def _on_failed_probe(self, node: NodeIntent, error: WireloomError) -> None:
        self.actions.stuck.note(node, error)

    async def _on_readiness(self, node_id: str, readiness: ReadyState, message: str) -> None:
        self.configs.note_readiness(node_id, readiness)
        await self.reconciler.report_readiness(node_id, readiness, message)

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[Agent]:
        """Run the loops; leaving the block is a kill: nothing is tidied up on the host."""
        self.folders.load()
        self.configs.load()
        self.fence.book.load()
        await self.world.resync()
        loops = [
            asyncio.create_task(self.reconciler.run()),
            asyncio.create_task(self.reporter.run()),
            asyncio.create_task(self.fence.run()),
            asyncio.create_task(self._follow_kernel()),
            asyncio.create_task(self.reflexes.run()),
            *(asyncio.create_task(self.world.watch(name)) for name in self.providers),
            *(
                asyncio.create_task(_forever(loop))
                for loop in (self.underlay.loops() if self.underlay else {}).values()
            ),
        ]
        try:
            yield self
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self.reflexes.close()
            await self.actions.close()
            await self.readiness.close()

    def _far_loops(self) -> Iterable[Callable[[], Awaitable[None]]]:
        return self.underlay.loops().values() if self.underlay is not None else ()

    async def _follow_kernel(self) -> None:
        async for event in self.network.dataplane.watch():
            self.reflexes.port_event(event)
            self.reconciler.wake()

    async def until(
        self, check: Callable[[SliceStatus], bool], *, lab: str = "lab-1", within_s: float = 60
    ) -> SliceStatus:
        """The lab's first reported status for which ``check`` holds."""
        status: SliceStatus | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    status = self.reports.statuses.get(lab)
                    if status is not None and check(status):
                        return status
                    await asyncio.sleep(0.01)
        raise AssertionError(f"not reached; last status: {status and status.model_dump_json(indent=1)}")

    def node(self, name: str, lab: str = "lab-1") -> NodeStatus:
        return next(node for node in self.reports.statuses[lab].nodes if node.name == name)


async def _forever(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()


def make_node(name: str, provider: str = "alpha", **changes: object) -> NodeIntent:
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
    node = NodeIntent(
        id=f"id-{name}",
        name=name,
        device="d",
        provider=provider,
        image=IMAGE,
        ports=ports,
        run=(Step(channel="exec"),),
        ready=Readiness(probes=(Probe(kind="log", pattern="login:"),), timeout_s=5, interval_s=0.05),
    )
    return node.model_copy(update=changes)


def make_lab(*nodes: NodeIntent, generation: int = 1, removed: bool = False) -> Slice:
    """A chain: each node's port 1 is wired to the next node's port 2."""
    wires = tuple(
        WireIntent(id=f"w{i}", a=PortRef(node_id=a.id, index=1), b=PortRef(node_id=b.id, index=2))
        for i, (a, b) in enumerate(itertools.pairwise(nodes))
    )
    return Slice(
        installation=INSTALLATION,
        lab_id="lab-1",
        lab="lab",
        generation=generation,
        nodes=nodes,
        wires=wires,
        removed=removed,
    )


def settled(generation: int = 1) -> Callable[[SliceStatus], bool]:
    """The lab is converged, every node that should be on is ready, every wire is up."""

    def check(status: SliceStatus) -> bool:
        return (
            status.converged
            and status.generation == generation
            and all(node.ready == "yes" or node.state in {"stopped", "absent"} for node in status.nodes)
            and all(wire.state == "up" for wire in status.wires)
        )

    return check
