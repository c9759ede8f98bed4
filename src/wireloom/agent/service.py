"""The agent as a service: wires its parts together and keeps their loops going."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from wireloom.agent.actions import Actions
from wireloom.agent.channels import Channels, RemoteShell
from wireloom.agent.consoles import Consoles
from wireloom.agent.folder import FolderStore
from wireloom.agent.hooks.base import Hook
from wireloom.agent.hooks.day0 import Day0Hook
from wireloom.agent.hooks.image import ImageHook
from wireloom.agent.hooks.ports import PortsHook
from wireloom.agent.hooks.wiring import WiringHook
from wireloom.agent.network import HostNetwork
from wireloom.agent.prune import Pruner
from wireloom.agent.questions import Questions
from wireloom.agent.readiness import ReadinessWatch
from wireloom.agent.reconciler import ManagementPlane, Reconciler
from wireloom.agent.reporter import Reporter
from wireloom.agent.runner import Runner
from wireloom.agent.world import World, now
from wireloom.dataplane.contract import DataPlane
from wireloom.errors import WireloomError
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import HostFacts, LoopHealth
from wireloom.model.state import Readiness
from wireloom.providers.contract import Provider

__all__ = ["AgentService"]

log = structlog.get_logger(__name__)

_RESTART_LOOP_S = 1.0

FactsReader = Callable[[], HostFacts]


class AgentService:
    """One host's agent. ``run`` returns only by cancellation; nodes and wires outlive it.

    :param host_boot: the host's boot id, which changes when the host is rebooted.
    :param facts: reads what the host is; called off the loop before each heartbeat.
    :param segment: name of the management segment, into which management ports are plugged.
    """

    def __init__(
        self,
        *,
        host: str,
        installation: str,
        host_boot: str,
        data_dir: Path,
        fabric: Fabric,
        providers: Mapping[str, Provider],
        dataplane: DataPlane,
        management: ManagementPlane,
        segment: str,
        shell: RemoteShell,
        authorized_keys: str,
        facts: FactsReader,
        heartbeat_s: float = 2.0,
        resync_s: float = 30.0,
    ) -> None:
        self._host = host
        self._fabric = fabric
        self._providers = providers
        self._dataplane = dataplane
        self._facts = facts
        self._heartbeat_s = heartbeat_s
        self._folders = FolderStore(data_dir / "nodes", installation)
        self._network = HostNetwork(dataplane)
        self._channels = Channels(shell)
        self._consoles = Consoles()
        self._reporter = Reporter(host, fabric)
        self._readiness = ReadinessWatch(self._channels, self._on_readiness)
        self.world = World(providers, lambda *change: self.reconciler.runtime_changed(*change))  # noqa: PLW0108 - made below
        self._actions = Actions(
            providers=providers,
            folders=self._folders,
            network=self._network,
            channels=self._channels,
            wake=lambda: self.reconciler.wake(),  # noqa: PLW0108 - made below
        )
        ports = PortsHook(self._network, segment)
        hooks: tuple[Hook, ...] = (ImageHook(), Day0Hook(authorized_keys), ports, WiringHook(self._network))
        runner = Runner(
            providers=providers,
            folders=self._folders,
            hooks=hooks,
            ports=ports,
            host_boot=host_boot,
            progress=self._actions.note_step,
        )
        self._actions.bind(runner, self.world)
        self.reconciler = Reconciler(
            host=host,
            host_boot=host_boot,
            world=self.world,
            network=self._network,
            folders=self._folders,
            actions=self._actions,
            readiness=self._readiness,
            management=management,
            reporter=self._reporter,
        )
        self.reconciler.state.resync_period_s = resync_s
        pruner = Pruner(world=self.world, network=self._network, folders=self._folders, runner=runner)
        self._questions = Questions(
            reconciler=self.reconciler,
            actions=self._actions,
            channels=self._channels,
            consoles=self._consoles,
            pruner=pruner,
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        self._folders.load()
        await self.world.resync()
        await self._questions.serve(self._fabric, self._host)
        self._fabric.on_rebuilt(self._reporter.resend)
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "reconcile": self.reconciler.run,
            "intents": self._follow_intents,
            "kernel": self._follow_kernel,
            "reports": self._reporter.run,
            "heartbeat": self._heartbeat,
        }
        for name in self._providers:
            loops[f"events-{name}"] = lambda name=name: self.world.watch(name)  # type: ignore[misc]
        try:
            async with asyncio.TaskGroup() as group:
                for name, loop in loops.items():
                    group.create_task(self._keep(name, loop), name=name)
        finally:
            await self._close()

    async def _close(self) -> None:
        await self._actions.close()
        await self._readiness.close()
        await self._consoles.close()
        for provider in self._providers.values():
            await provider.close()
        await self._dataplane.close()

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """The supervisor's edge of one loop: it ends only with the agent."""
        while True:
            try:
                await loop()
            except WireloomError as error:
                log.warning("loop failed", loop=name, error=error.to_wire())
            except Exception:  # one loop's defect must not end the others
                log.exception("defect in a loop", loop=name)
            await asyncio.sleep(_RESTART_LOOP_S)

    async def _on_readiness(self, node_id: str, readiness: Readiness) -> None:
        await self.reconciler.report_readiness(node_id, readiness)

    async def _follow_intents(self) -> None:
        async for change in self._fabric.watch_intents(self._host):
            self.reconciler.set_slice(change.lab_id, change.value)

    async def _follow_kernel(self) -> None:
        self._network.invalidate()
        async for _ in self._dataplane.watch():
            self._network.invalidate()
            self.reconciler.wake()

    async def _heartbeat(self) -> None:
        while True:
            facts = await asyncio.to_thread(self._facts)
            await self._fabric.put_host(self._complete(facts))
            await asyncio.sleep(self._heartbeat_s)

    def _complete(self, facts: HostFacts) -> HostFacts:
        state = self.reconciler.state
        stale = state.resync_period_s * 2
        loops = (
            LoopHealth(name="reconcile", last_success=state.last_pass, stale_after_s=stale),
            LoopHealth(name="resync", last_success=state.last_resync, stale_after_s=stale),
        )
        missing = [
            f"{name}: {capabilities.problem}"
            for name, capabilities in sorted(self.world.capabilities.items())
            if not capabilities.available
        ]
        return facts.model_copy(
            update={
                "time": now(),
                "providers": tuple(capabilities for _, capabilities in sorted(self.world.capabilities.items())),
                "loops": loops,
                "problems": (*facts.problems, *missing, *state.problems),
                "labs": len(self.reconciler.slices),
                "nodes": len(self.world.runtimes),
            }
        )
