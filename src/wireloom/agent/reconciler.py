"""The loop: compare every slice with what the host shows, act on the difference, report.

It is woken by events (intent, engines, kernel, ends of its own actions) and by time when something waits; a slow
full resync is the safety net. It holds nothing that it could not read again, so it may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from wireloom.agent.actions import Actions
from wireloom.agent.folder import FolderStore
from wireloom.agent.moving.view import NO_MOVERS, MovesView
from wireloom.agent.network import HostNetwork
from wireloom.agent.pace import Pace
from wireloom.agent.readiness import ReadinessWatch
from wireloom.agent.reporter import Reporter
from wireloom.agent.segments import SegmentServices
from wireloom.agent.surroundings import switched_nodes
from wireloom.agent.underlay import NO_UNDERLAY, UnderlayView
from wireloom.agent.world import World, now
from wireloom.errors import WireloomError
from wireloom.fabric.documents import Event, EventLevel
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import NodeIntent, Slice
from wireloom.model.state import NodeStep, Readiness, RuntimePhase, SliceStatus
from wireloom.planning.cabling import Cabling
from wireloom.planning.link_status import link_statuses
from wireloom.planning.plan import LIVE_PHASES, Observed, Plan, plan
from wireloom.planning.status import node_status
from wireloom.planning.tunnels import told_ends

__all__ = ["ManagementPlane", "Reconciler"]

log = structlog.get_logger(__name__)

_RESYNC_S = 30.0
_MANAGEMENT_RETRY_S = 1.0
_CLOSE_S = 10.0
#: How soon networking that did not answer is asked again.
_OUTAGE_RETRY_S = 1.0


class ManagementPlane:
    """What the loop needs of the management network; see ``wireloom.agent.management``."""

    async def update(self, slices: Mapping[str, Slice], *, occupied: bool, segment_up: Callable[[], None]) -> None:
        """Make the network what the slices need; ``occupied`` says that nodes are left on the host.

        ``segment_up`` is called as soon as ports can be plugged into the segment: nodes need not wait for the rest.
        This one has nothing to make, so that is at once.
        """
        if occupied and any(lab.management is not None for lab in slices.values()):
            segment_up()

    async def close(self) -> None:
        """Let go of it; the network stays as it is."""


@dataclass
class LoopState:
    """Times of the last success, for the heartbeat."""

    last_pass: float = 0
    last_resync: float = 0
    resync_period_s: float = _RESYNC_S
    management_problem: str = ""
    segments_problem: str = ""
    problems: list[str] = field(default_factory=list)


class Reconciler:
    """One per agent. Slices come by :meth:`set_slice`; :meth:`run` never ends by itself.

    :param segments: services of segments; ``None``: they have none.
    :param held_config: hash of a node's configuration that waits for the controller; empty when none does.
    :param fenced: why nodes of a lab may not run now; empty: they may.
    :param on_node: told of each node, by its lab's id and its own, that came or went by an action or by itself.
    """

    def __init__(
        self,
        *,
        host: str,
        host_boot: str,
        world: World,
        network: HostNetwork,
        folders: FolderStore,
        actions: Actions,
        readiness: ReadinessWatch,
        management: ManagementPlane,
        reporter: Reporter,
        segments: SegmentServices | None = None,
        held_config: Callable[[str], str] = lambda _: "",
        on_node: Callable[[str, str], None] = lambda *_: None,
        underlay: UnderlayView = NO_UNDERLAY,
        fenced: Callable[[str], str] = lambda _: "",
    ) -> None:
        #: What is told of nodes that move; set by whoever moves them.
        self.moves: MovesView = NO_MOVERS
        self._fenced = fenced
        self._host = host
        self._host_boot = host_boot
        self.world = world
        self.network = network
        self.folders = folders
        self._actions = actions
        self._readiness_watch = readiness
        self._management = management
        self._segments = segments or SegmentServices()
        self._reporter = reporter
        self._held_config = held_config
        self._on_node = on_node
        self._underlay = underlay
        self.slices: dict[str, Slice] = {}
        self.readiness: dict[str, Readiness] = {}
        self._ready_at: dict[str, float] = {}
        self._ready_messages: dict[str, str] = {}
        self._unconfigured: set[str] = set()  # nodes that answer and wait for their configuration
        self._wake = asyncio.Event()
        self._management_due = True
        self._management_task: asyncio.Task[None] | None = None
        self.state = LoopState()

    # -- input ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may have changed: look soon."""
        self._wake.set()

    def set_slice(self, lab_id: str, document: Slice | None) -> None:
        """The controller's intent for one lab; ``None``: the lab is no concern of this host any more."""
        before = self.slices.pop(lab_id, None)
        if document is not None:
            self.slices[lab_id] = document
        elif before is not None:
            self._reporter.forget(lab_id)
            self._underlay.forget(lab_id)
        for node_id in switched_nodes(before, document) if before and document else ():
            self._on_node(lab_id, node_id)
        kept = {node.id for node in document.nodes} if document is not None and not document.removed else set()
        for node in before.nodes if before is not None else ():
            if node.id not in kept:
                self._forget_readiness(node.id)
        self.network.expect_segments(
            {segment.device for lab in self.slices.values() if not lab.removed for segment in lab.segments}
        )
        self._management_due = True
        self.wake()

    def nodes_removed(self) -> None:
        """Somebody took nodes off the host beside the loop: the management network may be of no use any more."""
        self._management_due = True
        self.wake()

    def runtime_changed(self, node_id: str, before: RuntimeStatus | None, after: RuntimeStatus | None) -> None:
        """An engine reported a change. One that was not ours counts against the node's budget."""
        for status in (before, after):
            if status is not None:
                self._on_node(status.identity.lab_id, node_id)
        if not self._actions.is_busy(node_id):
            self._tell_reboot(self._find(node_id), before, after)
            self._actions.note_exit(self._find(node_id), before, after)
            self._actions.note_loss(node_id, before, after)
            self.network.invalidate()
        self.wake()

    def _tell_reboot(
        self, found: tuple[Slice, NodeIntent] | None, before: RuntimeStatus | None, after: RuntimeStatus | None
    ) -> None:
        if found is None or before is None or after is None or before.runtime_id != after.runtime_id:
            return
        running = before.phase is RuntimePhase.RUNNING and after.phase is RuntimePhase.RUNNING
        if running and before.started_at != after.started_at:
            lab, node = found
            message = "it rebooted by itself: readiness and post-boot commands begin anew"
            self.tell(lab.lab, node.name, "node.rebooted", message)

    async def report_readiness(self, node_id: str, readiness: Readiness, message: str = "") -> None:
        """The readiness watch found out something; ``message`` says what is waited for."""
        if readiness is Readiness.YES:
            self._ready_at[node_id] = now()
            self._actions.note_ready(node_id)
        self.readiness[node_id] = readiness
        self._ready_messages[node_id] = message
        self.wake()

    # -- the loop ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reconcile for ever."""
        await self.resync()
        self.wake()
        resyncs = asyncio.create_task(self._resync_now_and_then(), name="resync")
        try:
            await self._loop()
        finally:
            resyncs.cancel()

    async def _loop(self) -> None:
        wake_at: float | None = None
        pace = Pace()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wake_at is None else max(wake_at - now(), 0)):
                    await self._wake.wait()
            await asyncio.sleep(pace.pause())
            self._wake.clear()
            began = time.monotonic()
            wake_at = await self._guarded_pass()
            pace.spent(time.monotonic() - began)

    async def close(self) -> None:
        """Let a change of the management network come to its end, then let go of it."""
        if self._management_task is not None:
            await asyncio.wait({self._management_task}, timeout=_CLOSE_S)
        await self._management.close()
        await self._segments.close()

    async def resync(self) -> None:
        """Observe everything anew. Networking that does not answer is asked again by each pass."""
        await self.world.resync()
        if await self._read_network(force=True):
            self.state.last_resync = now()

    async def _read_network(self, *, force: bool = False) -> bool:
        """Whether it is known what the host has of ports and links; where not, nodes go on as far as they can."""
        try:
            await self.network.refresh(force=force)
        except WireloomError:
            return False
        return True

    async def _resync_now_and_then(self) -> None:
        """The safety net, beside the loop: an engine that is slow to answer holds up nobody."""
        while True:
            await asyncio.sleep(self.state.resync_period_s)
            try:
                await self.resync()
            except WireloomError as error:
                log.warning("resync failed", error=str(error))
            except Exception:  # the supervisor's edge of the safety net
                log.exception("defect in a resync")
            self.wake()

    async def _guarded_pass(self) -> float | None:
        """One pass at the supervisor's edge: a failure is reported and never ends the loop."""
        try:
            wake_at = await self._pass()
        except WireloomError as error:
            log.warning("pass failed", error=str(error))
            self.state.problems[:] = [str(error)]
            return now() + 1
        except Exception as error:
            log.exception("defect in a pass")
            self.state.problems[:] = [f"defect: {error!r}"]
            return now() + 5
        self.state.problems.clear()
        self.state.last_pass = now()
        return wake_at

    async def _pass(self) -> float | None:
        await self._read_network()
        self._update_management()
        wake_times = []
        for lab in list(self.slices.values()):
            wake_times += await self._reconcile(lab)
        self.moves.look()
        again = self.network.retry_at(now())
        if again is not None:
            wake_times.append(again)
        if self.network.outage:
            wake_times.append(now() + _OUTAGE_RETRY_S)
        return min(wake_times, default=None)

    def _update_management(self) -> None:
        """Bring the networks behind the host up to date beside the nodes' own actions, one update at a time."""
        if not self._management_due or self._management_task is not None:
            return
        self._management_due = False
        self._management_task = asyncio.create_task(self._management_update(), name="management")

    async def _management_update(self) -> None:
        try:
            self.state.management_problem = await self._problem_of(self._update_network())
            self.state.segments_problem = await self._problem_of(self._segments.update(dict(self.slices)))
            if self.state.management_problem or self.state.segments_problem:
                self._management_due = True
                await asyncio.sleep(_MANAGEMENT_RETRY_S)
        finally:
            self._management_task = None
            self.wake()

    @staticmethod
    async def _problem_of(update: Awaitable[None]) -> str:
        """What keeps ``update`` from being done; empty: nothing does."""
        try:
            await update
        except WireloomError as error:
            log.warning("network of the host", error=error.to_wire())
            return str(error)
        return ""

    async def _update_network(self) -> None:
        wanted = any(lab.nodes for lab in self.slices.values() if not lab.removed)
        # A folder counts too: the engine that has its runtime may be away.
        occupied = wanted or bool(self.world.runtimes) or bool(self.folders.all())
        if not occupied:
            self.network.segment_there(False)
        await self._management.update(
            dict(self.slices), occupied=occupied, segment_up=lambda: self.network.segment_there(True)
        )

    async def _reconcile(self, lab: Slice) -> list[float]:
        """Act on one lab and report it; the times when to look again."""
        observed = self.observe(lab)
        self._watch_readiness(lab, observed)
        decided = plan(lab, observed, now())
        self._settle_records(lab, observed, decided)
        for action in decided.nodes:
            self._actions.start(lab, action, self.world.runtimes.get(action.node_id), self._action_done)
        await self._actions.wire(lab, decided.wires, self.world)
        after = self.observe(lab)
        if self.network.known and not after.outage:
            self._underlay.tell(lab.lab_id, told_ends(Cabling(lab, after)))
        if not self.network.settled and not self.network.outage:
            self.wake()
        self._reporter.status(self._status(lab, after, decided))
        return [] if decided.wake_at is None else [decided.wake_at]

    def observe(self, lab: Slice) -> Observed:
        """Everything the planner needs to know of one lab."""
        return Observed(
            runtimes={
                node_id: status
                for node_id, status in self.world.runtimes.items()
                if status.identity.lab_id == lab.lab_id
            },
            records={node_id: folder.record for node_id, folder in self.folders.of_lab(lab.lab_id).items()},
            ready=self.readiness,
            busy=self._actions.busy(lab.lab_id),
            network=self.network.state,
            outage=self.network.outage,
            capabilities=self.world.capabilities,
            host_boot=self._host_boot,
            fenced=self._fenced(lab.lab_id),
            ways=self._underlay.ways,
            far_ends=self._underlay.far_ends,
        )

    def _action_done(self, lab_id: str, node_id: str) -> None:
        self._on_node(lab_id, node_id)
        lab = self.slices.get(lab_id)
        if lab is None or lab.removed or not self.world.runtimes:
            self._management_due = True
        self.wake()

    def _settle_records(self, lab: Slice, observed: Observed, decided: Plan) -> None:
        """A node that is right has satisfied the user's last wish, although nothing had to be done for it."""
        acted = {action.node_id for action in decided.nodes} | observed.busy
        for node in lab.nodes:
            runtime = observed.runtimes.get(node.id)
            record = observed.records.get(node.id)
            if node.id in acted or record is None or runtime is None:
                continue
            if runtime.phase is not RuntimePhase.RUNNING:
                continue
            if record.attention < node.attention:
                self.folders.update(node.id, attention=node.attention, terminal=False, error=None, failures=0)
            if record.host_boot != self._host_boot:  # it has outlived the loss of its engine
                self.folders.update(node.id, host_boot=self._host_boot)

    # -- readiness and status ------------------------------------------------------------------------------

    def _watch_readiness(self, lab: Slice, observed: Observed) -> None:
        for node in lab.nodes:
            runtime = observed.runtimes.get(node.id)
            running = runtime is not None and runtime.phase is RuntimePhase.RUNNING
            if running and runtime is not None and node.id not in observed.busy and not lab.removed:
                if self._readiness_watch.ensure(self._actions.target(lab, node, runtime), runtime.started_at or 0):
                    self._forget_answers(node.id)  # what was known is of another boot
                if self.readiness.get(node.id) is Readiness.YES or node.id in self._unconfigured:
                    self._configure(lab, node, runtime)
            elif runtime is None or runtime.phase not in LIVE_PHASES or node.id in observed.busy:
                self._forget_readiness(node.id)

    def _configure(self, lab: Slice, node: NodeIntent, runtime: RuntimeStatus) -> None:
        """A node that answers gets its configuration, where no medium brought it, before it is ready; then its
        commands."""
        waits_for = self._actions.load_config(lab, node, runtime)
        if waits_for:
            if node.id not in self._unconfigured:
                self._unconfigured.add(node.id)
                self._actions.note_step(node.id, NodeStep.BOOT)
            self.readiness[node.id] = Readiness.NO
            self._ready_messages[node.id] = waits_for
            return
        if node.id in self._unconfigured:
            self._unconfigured.discard(node.id)
            self.readiness[node.id] = Readiness.YES
            self._ready_messages[node.id] = ""
            self._ready_at[node.id] = now()
            self._actions.note_ready(node.id)
        self._actions.post_boot(lab, node, runtime)

    def _forget_readiness(self, node_id: str) -> None:
        self._readiness_watch.forget(node_id)
        self._forget_answers(node_id)

    def _forget_answers(self, node_id: str) -> None:
        self._unconfigured.discard(node_id)
        self.readiness.pop(node_id, None)
        self._ready_at.pop(node_id, None)
        self._ready_messages.pop(node_id, None)

    def _status(self, lab: Slice, observed: Observed, decided: Plan) -> SliceStatus:
        nodes = () if lab.removed else lab.nodes
        leaving = (observed.runtimes.keys() | observed.records.keys()) - {node.id for node in nodes}
        leaving -= {item.node_id for item in lab.departures}  # their folders stay until they have come elsewhere
        refused = {**self._segments.problems, **self.network.problems}
        converged = decided.empty and not observed.busy and not leaving and self.network.settled
        links = link_statuses(lab, observed, refused)
        return SliceStatus(
            host=self._host,
            lab_id=lab.lab_id,
            lab=lab.lab,
            generation=lab.generation,
            observed_at=now(),
            converged=converged,
            lease_s=None if lab.removed else lab.lease_s,
            nodes=tuple(
                node_status(
                    node,
                    observed,
                    decided,
                    self._actions.progress(node.id),
                    ready_at=self._ready_at.get(node.id),
                    ready_message=self._ready_messages.get(node.id, ""),
                    transfer=self._actions.transfer(node.id),
                ).model_copy(update={"held_config": self._held_config(node.id)})
                for node in nodes
            ),
            wires=links.wires,
            plugs=links.plugs,
            segments=links.segments,
            departures=() if lab.removed else self.moves.departure_statuses(lab.lab_id),
            arrivals=() if lab.removed else self.moves.arrival_statuses(lab.lab_id),
        )

    def _find(self, node_id: str) -> tuple[Slice, NodeIntent] | None:
        for lab in self.slices.values():
            node = lab.node(node_id)
            if node is not None and not lab.removed:
                return lab, node
        return None

    def tell(self, lab: str, node: str, kind: str, message: str, level: EventLevel = EventLevel.INFO) -> None:
        """Add a line to the history."""
        self._reporter.event(
            Event(time=now(), host=self._host, lab=lab, node=node, kind=kind, level=level, message=message)
        )
