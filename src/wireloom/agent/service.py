"""The agent as a service: wires its parts together and keeps their loops going."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from wireloom.agent.actions import Actions
from wireloom.agent.capture import Captures
from wireloom.agent.channels import Channels, KeptShell
from wireloom.agent.configs import PARSERS, NodeConfigs
from wireloom.agent.consoles import Consoles
from wireloom.agent.dataplane_health import DataPlaneHealth
from wireloom.agent.fencing import Fence, LeaseBook
from wireloom.agent.fencing.guard import GuardStarter
from wireloom.agent.folder import FolderStore
from wireloom.agent.guard import GUARD_S, Guard
from wireloom.agent.hooks.base import Hook
from wireloom.agent.hooks.day0 import Day0Hook
from wireloom.agent.hooks.image import ImageHook
from wireloom.agent.hooks.ports import PortsHook
from wireloom.agent.hooks.secrets import SecretsHook
from wireloom.agent.hooks.wiring import WiringHook
from wireloom.agent.housekeeping import HostHousekeeping
from wireloom.agent.images import ImageQuestions
from wireloom.agent.inventory import ImageCount
from wireloom.agent.later_intents import LaterIntents
from wireloom.agent.library import ControllerWay, ImageKeeper, Rules
from wireloom.agent.link_questions import LinkQuestions
from wireloom.agent.moving import ArrivingImages, Movers
from wireloom.agent.network import HandOver, HostNetwork, nobody_hands_over
from wireloom.agent.prune import Pruner
from wireloom.agent.questions import Questions
from wireloom.agent.readiness import ReadinessWatch
from wireloom.agent.reconciler import ManagementPlane, Reconciler
from wireloom.agent.reflexes import Reflexes
from wireloom.agent.reporter import Reporter
from wireloom.agent.runner import Runner
from wireloom.agent.segments import SegmentServices
from wireloom.agent.surroundings import Surroundings
from wireloom.agent.underlay import Underlay, UnderlayRules
from wireloom.agent.world import World, now
from wireloom.dataplane.contract import DataPlane
from wireloom.errors import WireloomError
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import EngineFacts, EventLevel, HostFacts, LoopHealth
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import NodeIntent
from wireloom.model.state import Readiness
from wireloom.providers.contract import Provider

__all__ = ["AgentParts", "AgentService"]

log = structlog.get_logger(__name__)

_RESTART_LOOP_S = 1.0
_FIRST_LOOK_S = 5.0

FactsReader = Callable[[], HostFacts]


@dataclass(frozen=True, kw_only=True)
class AgentParts:
    """What an agent is made of; given by the composition root.

    :ivar host_boot: the host's boot id, which changes when the host is rebooted.
    :ivar facts: reads what the host is; called off the loop before each heartbeat.
    :ivar segment: name of the management segment, into which management ports are plugged.
    :ivar health: of the data plane, where others want to know what it can do, too.
    :ivar hand_over: has other data planes of this host give up what they hold, before this one begins.
    :ivar authorized_keys: lines that let the agent log in to guests.
    :ivar images: what the host wants of the image library by itself; ``way``: to the controllers' files.
    """

    host: str
    installation: str
    host_boot: str
    data_dir: Path
    fabric: Fabric
    providers: Mapping[str, Provider]
    dataplane: DataPlane
    management: ManagementPlane
    segment: str
    shell: KeptShell
    authorized_keys: str
    facts: FactsReader
    health: DataPlaneHealth | None = None
    hand_over: HandOver = nobody_hands_over
    segments: SegmentServices = field(default_factory=SegmentServices)
    captures_at_once: int = 64
    images: Rules = field(default_factory=Rules)
    way: ControllerWay = field(default_factory=ControllerWay)
    underlay: UnderlayRules = field(default_factory=UnderlayRules)
    heartbeat_s: float = 2.0
    resync_s: float = 30.0
    guard_s: float = GUARD_S
    guard_starter: GuardStarter | None = None


class _Answers(Protocol):
    """Handlers of some rows of ``wireloom.fabric.methods``."""

    async def serve(self, fabric: Fabric, host: str) -> None: ...


class AgentService:
    """One host's agent. ``run`` returns only by cancellation; nodes and wires outlive it."""

    def __init__(self, parts: AgentParts) -> None:
        self._parts = parts
        self._folders = FolderStore(parts.data_dir / "nodes", parts.installation)
        self._network = HostNetwork(parts.dataplane, parts.segments.admit, parts.hand_over)
        self._health = parts.health or DataPlaneHealth(parts.dataplane, look_s=parts.resync_s)
        self._guard = Guard("segments", parts.dataplane.mend, parts.guard_s)
        self._consoles = Consoles()
        self._channels = Channels(parts.shell, self._consoles, PARSERS)
        self._reporter = Reporter(parts.host, parts.fabric)
        self._readiness = ReadinessWatch(self._channels, self._on_readiness, self._on_failed_probe)
        self._actions = Actions(
            providers=parts.providers,
            folders=self._folders,
            network=self._network,
            channels=self._channels,
            wake=self._wake,
            tell=self._tell,
            authorized_keys=parts.authorized_keys,
        )
        self.world = World(
            parts.providers, self._on_runtime, self._actions.is_busy, self._wake, gone=parts.shell.forget
        )
        self._configs = NodeConfigs(
            channels=self._channels, folders=self._folders, runtime=self.world.runtimes.get, tell=self._tell
        )
        self._underlay = Underlay(
            parts.host, parts.fabric, parts.underlay, heard=self._on_far_ends, moved=self._on_ways
        )
        self._surroundings = Surroundings(self.world, self._network, self._underlay)
        self._beat_due = asyncio.Event()
        self._later = LaterIntents()
        self._fence = self._make_fence()
        self._images = self._make_image_keeper()
        self._image_count = ImageCount(parts.providers)
        runner = self._make_runner()
        self._actions.bind(runner, self.world)
        self.reconciler = self._make_reconciler()
        self._reflexes = Reflexes(
            network=self._network,
            world=self.world,
            surroundings=self._surroundings,
            providers=parts.providers,
            slices=self.reconciler.slices,
            busy=self._actions.busy,
        )
        self.reconciler.state.resync_period_s = parts.resync_s
        self._captures = Captures(
            self.reconciler.slices,
            self._tell,
            most=parts.captures_at_once,
            state=lambda: self._network.state,
        )
        self._movers = self._make_movers()
        self.reconciler.moves = self._movers
        self._answering = self._make_answers(runner)

    def _make_fence(self) -> Fence:
        return Fence(
            LeaseBook(self._parts.data_dir / "agent" / "leases.json", self._parts.host_boot),
            self._actions,
            self.world,
            wake=self._wake,
            tell=self._tell,
            beat_soon=self._beat_due.set,
        )

    def _make_reconciler(self) -> Reconciler:
        return Reconciler(
            host=self._parts.host,
            host_boot=self._parts.host_boot,
            world=self.world,
            network=self._network,
            folders=self._folders,
            actions=self._actions,
            readiness=self._readiness,
            management=self._parts.management,
            segments=self._parts.segments,
            reporter=self._reporter,
            held_config=self._configs.held,
            on_node=self._on_node,
            underlay=self._underlay,
            fenced=self._fence.reason,
        )

    def _make_image_keeper(self) -> ImageKeeper:
        parts = self._parts
        return ImageKeeper(
            parts.host,
            parts.fabric,
            parts.data_dir,
            providers=parts.providers,
            rules=parts.images,
            slices=lambda: self.reconciler.slices,
            runtimes=self.world.runtimes,
            holding=self._holding,
            tell=self._tell,
            way=parts.way,
        )

    def _make_movers(self) -> Movers:
        parts = self._parts
        movers = Movers(
            parts.data_dir,
            providers=parts.providers,
            world=self.world,
            folders=self._folders,
            slices=self.reconciler.slices,
            is_busy=self._actions.is_busy,
            holding=self._holding,
            bring=ArrivingImages(parts.providers, self._images.stock).bring,
            wake=self._wake,
            adopted=lambda _: self._configs.load(),
            reach=parts.way.reach,
            trust=parts.way.trust,
            url=lambda: self._images.served_at,
        )
        self._images.others = movers.answer
        return movers

    def _holding(self, node_id: str) -> AbstractAsyncContextManager[None]:
        return self._actions.runner.holding(node_id)

    def _make_answers(self, runner: Runner) -> tuple[_Answers, ...]:
        """Everybody who answers questions of others."""
        pruner = Pruner(
            world=self.world,
            network=self._network,
            folders=self._folders,
            runner=runner,
            intended=self.reconciler.slices.keys,
            is_busy=self._actions.is_busy,
            housekeeping=HostHousekeeping(self._parts.providers, (self._images.remains,)),
        )
        questions = Questions(
            reconciler=self.reconciler,
            actions=self._actions,
            channels=self._channels,
            consoles=self._consoles,
            pruner=pruner,
        )
        links = LinkQuestions(
            reconciler=self.reconciler, actions=self._actions, network=self._network, health=self._health
        )
        configs = self._configs.questions(self.reconciler, self._actions)
        images = ImageQuestions(self._parts.providers, self._images.obtainable)
        return (questions, links, self._captures, configs, images, self._images, self._movers)

    def _make_runner(self) -> Runner:
        """The runner with its hooks in their order."""
        parts = self._parts
        ports = PortsHook(self._network, parts.segment)
        hooks: tuple[Hook, ...] = (
            ImageHook(self._images.stock, self._images.is_wanted),
            self._configs.hook,
            SecretsHook(),
            Day0Hook(parts.authorized_keys),
            ports,
            WiringHook(self._network, self._surroundings),
        )
        return Runner(
            providers=parts.providers,
            folders=self._folders,
            hooks=hooks,
            ports=ports,
            host_boot=parts.host_boot,
            progress=self._actions.note_step,
            transfer=self._actions.note_transfer,
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self._begin()
            self._guard.start()
            async with asyncio.TaskGroup() as group:
                for name, loop in self._loops().items():
                    group.create_task(self._keep(name, loop), name=name)
        finally:
            await self._close()

    async def _begin(self) -> None:
        self._folders.load()
        self._configs.load()
        self._parts.data_dir.joinpath("agent").mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fence.book.load()
        await self._parts.fabric.on_lease(self._parts.host, self._fence.heard)
        await self.world.resync()
        with contextlib.suppress(TimeoutError):  # who asks for our facts first should find what the host can do
            async with asyncio.timeout(_FIRST_LOOK_S):
                await self._health.look()
        for answers in self._answering:
            await answers.serve(self._parts.fabric, self._parts.host)
        self._parts.fabric.on_rebuilt(self._reporter.resend)
        self._parts.fabric.on_rebuilt(self._underlay.resend)
        await self._underlay.begin()

    def _loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "reconcile": self.reconciler.run,
            "fence": self._fence.run,
            "intents": self._follow_intents,
            "kernel": self._follow_kernel,
            "reflexes": self._reflexes.run,
            "reports": self._reporter.run,
            "heartbeat": self._heartbeat,
            "self-test": self._health.run,
            "abilities": self._health.follow_abilities,
            "image-count": self._image_count.run,
            **self._images.loops(),
            **self._underlay.loops(),
            **self._movers.loops(),
        }
        starter = self._parts.guard_starter
        if starter is not None:
            loops["fence-guard"] = lambda: starter.run(lambda: self._fence.book.holds_any)
        for name in self._parts.providers:
            loops[f"events-{name}"] = lambda name=name: self.world.watch(name)  # type: ignore[misc]
        return loops

    async def _close(self) -> None:
        await self._guard.close()
        await self._captures.close()
        await self._movers.close()
        await self._reflexes.close()
        await self._actions.close()
        await self._images.close()
        await self.reconciler.close()
        await self._readiness.close()
        await self._consoles.close()
        await self._parts.shell.close()
        for provider in self._parts.providers.values():
            await provider.close()
        await self._parts.dataplane.close()

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

    def _wake(self) -> None:
        self.reconciler.wake()

    def _on_runtime(self, node_id: str, before: RuntimeStatus | None, after: RuntimeStatus | None) -> None:
        self.reconciler.runtime_changed(node_id, before, after)

    def _on_far_ends(self, wires: Collection[str]) -> None:
        """Other hosts said something new of their ends: the carriers here follow."""
        for lab in self.reconciler.slices.values():
            for wire in lab.wires:
                if wire.remote is not None and wire.id in wires:
                    self._on_node(lab.lab_id, wire.local_ends[0].node_id)
        self._wake()

    def _on_ways(self) -> None:
        """Other hosts came, moved, or are reached otherwise than before."""
        self._beat_due.set()
        self._wake()

    def _on_node(self, lab_id: str, node_id: str) -> None:
        self._reflexes.node_changed(lab_id, node_id)

    def _tell(self, lab: str, node: str, kind: str, message: str, level: EventLevel = EventLevel.INFO) -> None:
        self.reconciler.tell(lab, node, kind, message, level)

    def _on_failed_probe(self, node: NodeIntent, error: WireloomError) -> None:
        self._actions.stuck.note(node, error)

    async def _on_readiness(self, node_id: str, readiness: Readiness, message: str) -> None:
        self._configs.note_readiness(node_id, readiness)
        await self.reconciler.report_readiness(node_id, readiness, message)

    async def _follow_intents(self) -> None:
        async for change in self._parts.fabric.watch_intents(self._parts.host):
            if not self._later.take(change.lab_id, change.value):
                continue
            self._fence.follow(change.lab_id, change.value)
            self.reconciler.set_slice(change.lab_id, change.value)

    async def _follow_kernel(self) -> None:
        self._network.invalidate()
        async for event in self._parts.dataplane.watch():
            self._reflexes.port_event(event)
            if not event.device:
                self._health.interrupted()
            self.reconciler.wake()

    async def _heartbeat(self) -> None:
        while True:
            facts = await asyncio.to_thread(self._parts.facts)
            self._beat_due.clear()
            # The word last: a lease counts from when the heartbeat was made.
            beat = self._fence.book.beat()
            complete = self._underlay.complete(self._complete(facts))
            await self._parts.fabric.put_host(complete.model_copy(update={"beat": beat}))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._parts.heartbeat_s):
                    await self._beat_due.wait()

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
                "engines": tuple(
                    EngineFacts(name=name, version=capabilities.version)
                    for name, capabilities in sorted(self.world.capabilities.items())
                ),
                "images_count": self._image_count.count,
                "providers": tuple(capabilities for _, capabilities in sorted(self.world.capabilities.items())),
                "dataplane": self._health.abilities,
                "loops": loops,
                "problems": (
                    *facts.problems,
                    *missing,
                    *filter(None, [self._network.outage, state.management_problem, state.segments_problem]),
                    *filter(None, [self._guard.problem]),
                    *self._later.problems,
                    *self._images.problems,
                    *self._underlay.problems,
                    *self._health.problems,
                    *state.problems,
                ),
                "labs": len(self.reconciler.slices),
                "nodes": len(self.world.runtimes),
            }
        )
