"""Actions in flight: starts the runner's verbs as tasks, keeps count of failures, and knows each node's progress."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from wireloom.agent.background import Background
from wireloom.agent.boot_work import BootWork
from wireloom.agent.channels import Channels, ChannelTarget
from wireloom.agent.config_load import ConfigLoad
from wireloom.agent.folder import FolderStore
from wireloom.agent.network import HostNetwork
from wireloom.agent.post_boot import PostBoot
from wireloom.agent.reporter import Tell, untold
from wireloom.agent.runner import ACTION_DEADLINE_S, Runner
from wireloom.agent.stuck import StuckNodes
from wireloom.agent.world import World, now
from wireloom.errors import (
    DataPlaneFailed,
    DeadlineExceeded,
    GuestFailed,
    InternalError,
    NotFound,
    RuntimeFailed,
    Unavailable,
    WireloomError,
)
from wireloom.model.post_boot import BootRecord
from wireloom.model.runtime import Capabilities, RuntimeStatus
from wireloom.model.slice import NodeIntent, RestartPolicy, Slice
from wireloom.model.state import NodeStep, RuntimePhase
from wireloom.planning.failures import after_failure
from wireloom.planning.plan import LIVE_PHASES, WIRED_VERBS, NodeAction, NodeRecord, Verb
from wireloom.planning.wires import WirePlans
from wireloom.providers.contract import Provider

__all__ = ["Actions"]

log = structlog.get_logger(__name__)

#: Docker gives its nodes 15 seconds to end when it is stopped itself.
_ENGINE_STOPS_WITHIN_S = 20.0

#: What a node has to end by itself when it is cut off, and its engine to see to it.
_CUT_OFF_GRACE_S = 3.0
_CUT_OFF_S = 30.0

#: How often it is shown how far a transfer is.
_SHOW_TRANSFER_S = 1.0

#: Told of the end of an action: the lab's id and the node's.
Done = Callable[[str, str], None]


@dataclass
class _Progress:
    step: NodeStep = NodeStep.WAITING
    since: float = field(default_factory=time.monotonic)
    timings: dict[str, float] = field(default_factory=dict)
    transfer: tuple[int, int] = (0, 0)
    shown_at: float = 0

    def enter(self, step: NodeStep) -> None:
        if step is self.step:
            return
        moment = time.monotonic()
        if self.step is not NodeStep.WAITING:
            passed = self.timings.get(self.step, 0.0) + moment - self.since
            self.timings[self.step] = round(passed, 3)
        self.step, self.since, self.transfer = step, moment, (0, 0)


class Actions:
    """At most one action per node at a time."""

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        folders: FolderStore,
        network: HostNetwork,
        channels: Channels,
        wake: Callable[[], None],
        tell: Tell = untold,
        authorized_keys: str = "",
    ) -> None:
        self._providers = providers
        self._folders = folders
        self._network = network
        self._wake = wake
        self._tasks: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._unstoppable: set[str] = set()  # nodes whose action in flight takes them down for good
        self._background = Background(wake)
        self.stuck = StuckNodes(folders, tell, wake)
        work = BootWork(folders, self._background, self._runtime, tell, stuck=self.stuck)
        self._post_boot = PostBoot(channels, folders, work)
        self._config_load = ConfigLoad(channels, folders, work, authorized_keys=authorized_keys)
        self._progress: dict[str, _Progress] = {}
        self._ended_at: dict[str, float] = {}
        self._runner: Runner | None = None
        self._world: World | None = None

    def bind(self, runner: Runner, world: World) -> None:
        """Complete the circle: the runner reports its steps to us, and we start its verbs."""
        self._runner, self._world = runner, world

    @property
    def runner(self) -> Runner:
        assert self._runner is not None, "bind() comes first"  # noqa: S101 - composition error, not input
        return self._runner

    @property
    def world(self) -> World:
        assert self._world is not None, "bind() comes first"  # noqa: S101 - composition error, not input
        return self._world

    # -- what is known -------------------------------------------------------------------------------------

    def is_busy(self, node_id: str) -> bool:
        return node_id in self._tasks

    def busy(self, lab_id: str) -> frozenset[str]:
        """Nodes of the lab with an action in flight."""
        return frozenset(node_id for node_id, (lab, _) in self._tasks.items() if lab == lab_id)

    def progress(self, node_id: str) -> tuple[NodeStep, Mapping[str, float]]:
        """The step that the node is in, and the seconds that earlier steps took."""
        progress = self._progress.get(node_id)
        return (progress.step, progress.timings) if progress else (NodeStep.WAITING, {})

    def note_step(self, node_id: str, step: NodeStep) -> None:
        """A hook or leaf began. The lab's status shows it."""
        self._progress.setdefault(node_id, _Progress()).enter(step)
        self._wake()

    def transfer(self, node_id: str) -> tuple[int, int]:
        """Bytes that are there, of those that come in the node's step; 0 of 0: none come."""
        progress = self._progress.get(node_id)
        return progress.transfer if progress else (0, 0)

    def note_transfer(self, node_id: str, done: int, total: int) -> None:
        """Bytes have come. The lab's status shows it now and then."""
        progress = self._progress.setdefault(node_id, _Progress())
        progress.transfer = (done, total)
        moment = time.monotonic()
        if moment - progress.shown_at >= _SHOW_TRANSFER_S:
            progress.shown_at = moment
            self._wake()

    def note_ready(self, node_id: str) -> None:
        """The node's way up is over, if we saw it begin."""
        if node_id in self._progress:
            self._progress[node_id].enter(NodeStep.READY)

    def target(self, lab: Slice, node: NodeIntent, runtime: RuntimeStatus) -> ChannelTarget:
        """What is needed to reach ``node`` of ``lab`` over any of its channels."""
        return ChannelTarget(
            node,
            self._providers[node.provider],
            self._capabilities(node.provider),
            runtime.runtime_id,
            lab.clis.get(node.cli),
        )

    def _capabilities(self, provider: str) -> Capabilities:
        return self.world.capabilities.get(provider) or Capabilities(name=provider, available=False)

    def _runtime(self, node_id: str) -> RuntimeStatus | None:
        return self.world.runtimes.get(node_id)

    # -- verbs ---------------------------------------------------------------------------------------------

    def start(self, lab: Slice, action: NodeAction, runtime: RuntimeStatus | None, done: Done) -> None:
        """Carry ``action`` out in the background; ``done`` is called at its end."""
        node_id = action.node_id
        log.info("action", lab=lab.lab, node=node_id, verb=action.verb, reason=action.reason)
        if action.verb is Verb.UP:
            self._progress[node_id] = _Progress()
        if action.verb is Verb.REMOVE:
            self._unstoppable.add(node_id)
        task = asyncio.create_task(self._run(lab, action, runtime, done), name=f"{action.verb}-{node_id}")
        self._tasks[node_id] = (lab.lab_id, task)

    async def interrupt(self, lab_id: str) -> None:
        """End what is in flight for nodes of the lab, but for what takes them down; nothing counts as failed."""
        tasks = [task for key, (lab, task) in self._tasks.items() if lab == lab_id and key not in self._unstoppable]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut_off(self, status: RuntimeStatus, provider: str) -> None:
        """End the node at once, whatever it does, and begin it anew when it may run again. Nothing is read from it."""
        node = status.identity
        self._unstoppable.add(node.node_id)
        task = asyncio.create_task(self._cut_off(status, provider), name=f"cut-off-{node.node_id}")
        self._tasks[node.node_id] = (node.lab_id, task)

    async def _cut_off(self, status: RuntimeStatus, provider: str) -> None:
        node_id = status.identity.node_id
        try:
            with contextlib.suppress(OSError):  # it is started again all the same, unless its policy forbids it
                self._folders.update(node_id, host_boot="")
            async with asyncio.timeout(_CUT_OFF_S):
                await self._providers[provider].stop(status.runtime_id, _CUT_OFF_GRACE_S)
                found = await self._providers[provider].observe(status.runtime_id)
            self.world.enter(provider, node_id, next(iter(found), None))
        except (WireloomError, TimeoutError) as error:  # whoever asked looks again and asks anew
            log.error("node not cut off", node=status.identity.node, error=str(error))
        finally:
            self._release(node_id)
            self._wake()

    def _release(self, node_id: str) -> None:
        self._tasks.pop(node_id, None)
        self._unstoppable.discard(node_id)

    async def _run(self, lab: Slice, action: NodeAction, runtime: RuntimeStatus | None, done: Done) -> None:
        node_id = action.node_id
        node = lab.node(node_id)
        try:
            failure = await self._attempt(lab, action, node, runtime)
            if failure is not None:
                await self._failed(lab, action, node, failure)
        except Exception:  # nobody awaits this task: its edge is here
            log.exception("defect in the aftermath of an action", node=node_id, verb=action.verb)
        finally:
            self._release(node_id)
            done(lab.lab_id, node_id)
        with contextlib.suppress(WireloomError):  # an engine that is away is looked at when it is back
            await self.world.catch_up(node_id)

    async def _attempt(
        self, lab: Slice, action: NodeAction, node: NodeIntent | None, runtime: RuntimeStatus | None
    ) -> WireloomError | None:
        """Carry the action out; what went wrong, if anything."""
        try:
            # The runner times an UP itself, because waiting for a turn is no fault of the node.
            async with asyncio.timeout(None if action.verb is Verb.UP else ACTION_DEADLINE_S):
                await self._verb(lab, action, node, runtime)
        except WireloomError as error:
            return error
        except TimeoutError:
            return DeadlineExceeded(f"{action.verb} took too long")
        except OSError as error:
            return RuntimeFailed(
                f"the host refused: {error}", hint="check the free space and rights of the data folder"
            )
        except Exception as error:  # the supervisor's edge of one action
            log.exception("defect in an action", node=action.node_id, verb=action.verb)
            return InternalError(f"defect: {error!r}")
        return None

    async def _verb(
        self, lab: Slice, action: NodeAction, node: NodeIntent | None, runtime: RuntimeStatus | None
    ) -> None:
        if action.verb is Verb.REMOVE:
            await self._remove(lab, action.node_id, runtime)
            return
        if node is None:
            return
        capabilities = self._capabilities(node.provider)
        after: RuntimeStatus | None = None
        if action.verb is Verb.UP:
            after = await self.runner.up(lab, node, runtime, capabilities)
        elif action.verb is Verb.WIPE:
            await self.runner.wipe(lab, node, runtime, capabilities)
        elif runtime is not None:
            after = await self._verb_on_runtime(action.verb, lab, node, runtime, capabilities)
        self.world.enter(node.provider, node.id, after)

    async def _verb_on_runtime(
        self, verb: Verb, lab: Slice, node: NodeIntent, runtime: RuntimeStatus, capabilities: Capabilities
    ) -> RuntimeStatus | None:
        if verb in {Verb.STOP, Verb.RESTART}:
            return await self.runner.stop(lab, node, runtime, capabilities)
        await self.runner.recreate(lab, node, runtime, capabilities)
        return None

    async def _remove(self, lab: Slice, node_id: str, runtime: RuntimeStatus | None) -> None:
        folder = self._folders.get(node_id)
        identity = runtime.identity if runtime else folder.identity if folder else None
        if identity is not None:
            provider = self.world.provider_of(node_id)
            await self.runner.remove(lab, identity, runtime, provider)
        self.world.enter("", node_id, None)
        self._progress.pop(node_id, None)
        self._ended_at.pop(node_id, None)
        self._background.forget(node_id)
        self._config_load.forget(node_id)

    # -- failures ------------------------------------------------------------------------------------------

    async def _failed(self, lab: Slice, action: NodeAction, node: NodeIntent | None, error: WireloomError) -> None:
        node_id = action.node_id
        error.node = error.node or (node.name if node else None)
        log.warning("action failed", lab=lab.lab, node=error.node or node_id, error=error.to_wire())
        name = node.provider if node else self.world.provider_of(node_id)
        if name is not None and isinstance(error, Unavailable):
            await self.world.resync_provider(name)
            if not self._capabilities(name).available:
                return  # the engine's fault, not the node's: planning waits for the engine
            if action.verb in WIRED_VERBS and await self._network_is_away():
                return  # likewise
        with contextlib.suppress(OSError):  # a full disk must not keep the failure from being counted
            if node is not None:
                self._folders.ensure(lab.identity(node))
        vanished = name is not None and await self._observe_after_failure(name, node_id)
        if vanished and isinstance(error, NotFound):
            error = GuestFailed("its runtime was removed by somebody else", node=error.node)
        self._record_failure(node_id, action.verb, error, node.attention if node else None)

    async def _network_is_away(self) -> bool:
        with contextlib.suppress(WireloomError):
            await self._network.refresh(force=True)
        return bool(self._network.outage)

    async def _observe_after_failure(self, name: str, node_id: str) -> bool:
        """Look at the node; whether the runtime that it had is there no more."""
        runtime = self.world.runtimes.get(node_id)
        try:
            statuses = await self._providers[name].observe(runtime.runtime_id if runtime else None)
        except WireloomError:
            return False
        found = next((status for status in statuses if status.identity.node_id == node_id), None)
        self.world.enter(name, node_id, found)
        return runtime is not None and found is None

    def _record_failure(
        self, node_id: str, verb: str, error: WireloomError, attention: int | None, ran_s: float = 0.0
    ) -> None:
        folder = self._folders.get(node_id)
        record = folder.record if folder else NodeRecord()
        updated = after_failure(
            record,
            error.to_wire(),
            now=now(),
            attention=record.attention if attention is None else attention,
            verb=verb,
            ran_s=ran_s,
        )
        try:
            self._folders.update(node_id, **vars(updated))
        except OSError as problem:
            log.warning("record not written", node=node_id, problem=str(problem))

    def note_exit(
        self,
        found: tuple[Slice, NodeIntent] | None,
        before: RuntimeStatus | None,
        after: RuntimeStatus | None,
    ) -> None:
        """A node that was running ended behind our back: count it where its policy starts it again."""
        if found is None or before is None or before.phase is not RuntimePhase.RUNNING:
            return
        if after is not None and after.phase is not RuntimePhase.EXITED:
            return
        _, node = found
        code = after.exit_code if after else None
        policy = node.restart_policy
        restarts = policy is RestartPolicy.ALWAYS or (policy is RestartPolicy.ON_FAILURE and code != 0)
        if node.power == "off" or not (after is None or restarts):  # one that was removed is always made again
            return
        what = f"it ended by itself with exit code {code}" if after else "its runtime was removed by somebody else"
        ran_s = now() - before.started_at if before.started_at else 0.0
        error = GuestFailed(what, node=node.name, hint="see its boot log with `wireloom logs`")
        self._record_failure(node.id, Verb.UP, error, node.attention, ran_s)

    def note_loss(self, node_id: str, before: RuntimeStatus | None, after: RuntimeStatus | None) -> None:
        """A node's engine was lost. A node that ends with its engine is started again whatever its exit code, which
        says how the engine ended it and nothing of the guest.
        """
        if before is None or after is None:
            return
        if before.phase in LIVE_PHASES and after.phase is RuntimePhase.EXITED:
            self._ended_at[node_id] = now()
        if after.phase is not RuntimePhase.UNKNOWN:
            return
        # An engine that is told to stop ends its nodes first and goes a moment later.
        live = before.phase in LIVE_PHASES or now() - self._ended_at.pop(node_id, 0) < _ENGINE_STOPS_WITHIN_S
        provider = self.world.provider_of(node_id)
        if live and provider is not None and not self._capabilities(provider).available and self._folders.get(node_id):
            self._folders.update(node_id, host_boot="")

    # -- wires and post-boot -------------------------------------------------------------------------------

    async def wire(self, lab: Slice, plans: WirePlans, world: World) -> None:
        """Carry out the networking part of a plan; what needs an engine goes on in the background."""
        await self._network.change(plans)
        for node_id in {*plans.plug, *plans.runtime_carriers}:
            node, runtime = lab.node(node_id), world.runtimes.get(node_id)
            if node is None or runtime is None:
                continue
            job = self._engine_wiring(
                lab, node, runtime, plans.plug.get(node_id, ()), plans.runtime_carriers.get(node_id, {})
            )
            self._background.start(f"wire-{node_id}", job)

    async def _engine_wiring(
        self,
        lab: Slice,
        node: NodeIntent,
        runtime: RuntimeStatus,
        indexes: tuple[int, ...],
        carriers: Mapping[int, bool],
    ) -> None:
        provider = self._providers[node.provider]
        if indexes:
            await self.runner.plug(lab, node, runtime, self._capabilities(node.provider), indexes)
            missing = [port.name for i in indexes if (port := node.port(i)) and port.device not in self._network.ports]
            if missing:  # an error, because otherwise it would be tried again at once
                raise DataPlaneFailed(f"not plugged: {', '.join(missing)}", node=node.name)
        if carriers and provider.abilities.carrier is not None:
            await provider.abilities.carrier.set_carrier(runtime.runtime_id, carriers)
            await self.world.look(node.provider, node.id, runtime.runtime_id)

    def load_config(self, lab: Slice, node: NodeIntent, runtime: RuntimeStatus) -> str:
        """Load the configuration of a node that gets it over its console; what it waits for, empty when it has it."""
        return self._config_load.ensure(lab, self.target(lab, node, runtime), runtime)

    def post_boot(self, lab: Slice, node: NodeIntent, runtime: RuntimeStatus) -> None:
        """Run the node's post-boot commands once for this boot."""
        self._post_boot.ensure(lab.lab, self.target(lab, node, runtime), runtime)

    def post_boot_records(self, node_id: str) -> tuple[BootRecord, ...]:
        """What post-boot commands did in the newest boots of the node."""
        return self._post_boot.records(node_id)

    async def close(self) -> None:
        """Let go of what is in flight; it is carried on by the next agent."""
        await self._background.close()
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
