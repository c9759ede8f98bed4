"""The agent's planner: compare one slice with what is observed on the host, and say what to do and why.

``plan(slice, observed, now)`` is pure. Its properties, held by tests:

* the plan of a converged lab is empty, and so is the plan after carrying a plan out;
* a node that is wanted, right and running is never touched;
* what concerns one node never stops another.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from wireloom.model.network import DataPlaneState
from wireloom.model.runtime import Capabilities, RuntimeStatus
from wireloom.model.slice import Condition, NodeIntent, RestartPolicy, Slice
from wireloom.model.state import Readiness, RuntimePhase
from wireloom.model.underlay import Encryption, FarEnd, Way
from wireloom.planning.wires import WirePlans, plan_wires

__all__ = [
    "LIVE_PHASES",
    "NO_MOVES",
    "WIRED_VERBS",
    "Moves",
    "NodeAction",
    "NodeRecord",
    "Observed",
    "Plan",
    "Verb",
    "Waiting",
    "moves_of",
    "plan",
]

LIVE_PHASES = frozenset({RuntimePhase.GATED, RuntimePhase.RUNNING, RuntimePhase.SUSPENDED})


class Verb(StrEnum):
    """What the runner does to a node."""

    UP = "up"  # create if absent, start, plug, release: from whatever phase it is in
    STOP = "stop"
    RESTART = "restart"  # stop it; UP follows, as soon as its dependencies allow
    RECREATE = "recreate"  # destroy the runtime, keep its storage; UP follows
    WIPE = "wipe"  # destroy the runtime and its storage; UP follows
    REMOVE = "remove"  # destroy the runtime and everything the node has on the host


#: What is not begun while the host's networking does not answer: the node could not be brought up (again).
WIRED_VERBS = frozenset({Verb.UP, Verb.RESTART, Verb.RECREATE, Verb.WIPE})


@dataclass(frozen=True)
class NodeRecord:
    """What the agent remembers of a node, in the node's own folder.

    :ivar restarts: the intent's counter that the last start satisfied; ``attention`` likewise.
    :ivar incarnation: of the storage in the folder.
    :ivar host_boot: the host's boot id when the node was last known to be started; after a reboot of the host nodes
        are started again. Empty while its engine is lost: what ended with its engine is started again too.
    :ivar failures: in a row; ``retry_at``: not before (UNIX seconds); ``terminal``: wait for the user.
    :ivar failed: the verb that failed last; ``error``: first cause, as the wire form of an error.
    :ivar provider: the provider that the node was last made with, whether or not its runtime can be seen now.
    :ivar loaded: which startup configuration was loaded over the console; empty: none.
    :ivar config_choice: the user's choice of a configuration that the node was last made with.
    :ivar restart_for: why the agent itself asks for a restart; empty: it does not. Held until the node is up again.
    :ivar stuck: the first cause of such restarts in a row, as the wire form of an error.
    :ivar arrived: the move by which the folder came from another host; empty: by none.
    :ivar number: from 1, that no other node of the host has, where the node's device asks for one; else 0.
    """

    restarts: int = 0
    attention: int = 0
    incarnation: int = 0
    host_boot: str = ""
    failures: int = 0
    retry_at: float = 0
    terminal: bool = False
    failed: str = ""
    error: dict[str, Any] | None = None
    provider: str = ""
    configured_boot: float = 0  # start time of the boot whose post-boot commands have run
    config_choice: int = 0
    loaded: str = ""
    restart_for: str = ""
    stuck: dict[str, Any] | None = None
    number: int = 0
    arrived: str = ""


@dataclass(frozen=True)
class Observed:
    """What the agent sees on its host, as far as one lab is concerned.

    :ivar runtimes: by node id, of nodes of this lab, wanted or not.
    :ivar records: by node id; every node that has a folder has a record.
    :ivar ready: readiness by node id; absent means unknown.
    :ivar busy: nodes with an action in flight.
    :ivar outage: why the host's networking does not answer; ``network`` is what was known before. Empty: it does.
    :ivar capabilities: by provider name.
    :ivar fenced: why no node of the lab may run on this host now; empty: they may. Whoever says so stops them.
    :ivar ways: how tunnels to other hosts are made, by host and encryption; one that is missing is not known (yet).
    :ivar far_ends: what other hosts told of their ends of wires, by host and id of the wire.
    """

    runtimes: Mapping[str, RuntimeStatus] = field(default_factory=dict)
    records: Mapping[str, NodeRecord] = field(default_factory=dict)
    ready: Mapping[str, Readiness] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    network: DataPlaneState = field(default_factory=DataPlaneState)
    outage: str = ""
    capabilities: Mapping[str, Capabilities] = field(default_factory=dict)
    host_boot: str = ""
    fenced: str = ""
    ways: Mapping[tuple[str, Encryption], Way] = field(default_factory=dict)
    far_ends: Mapping[tuple[str, str], FarEnd] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeAction:
    verb: Verb
    node_id: str
    reason: str


@dataclass(frozen=True)
class Waiting:
    """A node that should move but cannot yet. ``until`` is a time when to look again, if one is known."""

    node_id: str
    reason: str
    until: float | None = None


@dataclass(frozen=True)
class Plan:
    """Everything to do for one lab on this host; node actions are independent of each other."""

    nodes: tuple[NodeAction, ...] = ()
    wires: WirePlans = field(default_factory=WirePlans)
    waiting: tuple[Waiting, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing to do and nothing to wait for."""
        return not (self.nodes or self.waiting or not self.wires.empty)

    @property
    def wake_at(self) -> float | None:
        """When waiting, or an impairment, ends by time alone, if one does."""
        times = (*(waiting.until for waiting in self.waiting), self.wires.wake_at)
        return min((time for time in times if time is not None), default=None)


@dataclass(frozen=True)
class Moves:
    """Ids of nodes of a slice that leave the host, and of those that are not here yet."""

    leaving: frozenset[str] = frozenset()
    coming: frozenset[str] = frozenset()


NO_MOVES: Final = Moves()


def moves_of(wanted: Slice, records: Mapping[str, NodeRecord]) -> Moves:
    """Which nodes move; ``records``: what the host remembers of nodes."""
    if not (wanted.departures or wanted.arrivals):
        return NO_MOVES
    coming = {
        item.node_id
        for item in wanted.arrivals
        if records.get(item.node_id, NodeRecord()).arrived != item.move and wanted.node(item.node_id) is not None
    }
    return Moves(frozenset(item.node_id for item in wanted.departures) - coming, frozenset(coming))


def plan(wanted: Slice, observed: Observed, now: float) -> Plan:
    """What to do to make ``observed`` what ``wanted`` says. ``now`` in UNIX seconds."""
    actions: list[NodeAction] = []
    waiting: list[Waiting] = []
    nodes = {} if wanted.removed else {node.id: node for node in wanted.nodes}
    moving = NO_MOVES if wanted.removed else moves_of(wanted, observed.records)
    decisions = [
        _without_network(decision, observed)
        for decision in _decisions(nodes, moving, observed, now)
        if decision is not None
    ]
    going_down = {item.node_id for item in decisions if isinstance(item, NodeAction) and item.verb is not Verb.UP}
    for decision in decisions:
        held = _held_back(decision, nodes, going_down)
        if isinstance(held, NodeAction):
            actions.append(held)
        else:
            waiting.append(held)
    touched = observed.busy | {action.node_id for action in actions}
    # What is not known is left as it is.
    wires = WirePlans() if observed.outage else plan_wires(wanted, observed, touched, now)
    return Plan(tuple(actions), wires, tuple(waiting))


def _decisions(
    nodes: Mapping[str, NodeIntent], moving: Moves, observed: Observed, now: float
) -> Iterator[NodeAction | Waiting | None]:
    known = observed.runtimes.keys() | observed.records.keys()
    for node_id in sorted(known - nodes.keys() - moving.leaving - observed.busy):
        yield _decide_removal(node_id, observed, now)
    for node in nodes.values():
        if node.id in observed.busy:
            continue
        if node.id in moving.leaving:
            yield _decide_leaving(node, observed, now)
        elif node.id in moving.coming:
            yield _decide_coming(node.id, observed, now)
        else:
            yield _decide(node, nodes, observed, now)


def _without_network(decision: NodeAction | Waiting, observed: Observed) -> NodeAction | Waiting:
    if observed.outage and isinstance(decision, NodeAction) and decision.verb in WIRED_VERBS:
        return Waiting(decision.node_id, f"waits for the host's networking: {observed.outage}")
    return decision


def _held_back(
    decision: NodeAction | Waiting, nodes: Mapping[str, NodeIntent], going_down: Container[str]
) -> NodeAction | Waiting:
    """A start waits for a dependency that this very plan takes down."""
    if isinstance(decision, NodeAction) and decision.verb is Verb.UP:
        for other in nodes[decision.node_id].depends_on:
            if other in nodes and other in going_down:
                return Waiting(decision.node_id, f"waits for {nodes[other].name}, which goes down first")
    return decision


def _decide_leaving(node: NodeIntent, observed: Observed, now: float) -> NodeAction | Waiting | None:
    """What a node has is carried as it is: it is stopped, and nothing else."""
    missing = _missing_provider(node.provider, observed)
    if missing is not None:
        return Waiting(node.id, missing)
    runtime = observed.runtimes.get(node.id)
    phase = runtime.phase if runtime else RuntimePhase.ABSENT
    if phase is RuntimePhase.UNKNOWN:
        return Waiting(node.id, "its state is not known yet")
    if phase not in LIVE_PHASES:
        return None
    record = observed.records.get(node.id, NodeRecord())
    return _paused(Verb.STOP, node.id, record, now) or NodeAction(Verb.STOP, node.id, "it moves to another host")


def _decide_coming(node_id: str, observed: Observed, now: float) -> NodeAction | Waiting:
    """What it had here before it moved away once is older than what comes."""
    if node_id in observed.records or node_id in observed.runtimes:
        return _decide_removal(node_id, observed, now)
    return Waiting(node_id, "what is carried of it has not come yet")


def _decide_removal(node_id: str, observed: Observed, now: float) -> NodeAction | Waiting:
    """A node leaves nothing behind: where its engine cannot be asked now, the rest of it stays until it can."""
    record, runtime = observed.records.get(node_id, NodeRecord()), observed.runtimes.get(node_id)
    if record.provider:
        missing = _missing_provider(record.provider, observed)
        if missing is not None:
            return Waiting(node_id, missing)
    if runtime is not None and runtime.phase is RuntimePhase.UNKNOWN:
        return Waiting(node_id, "its state is not known yet")
    return _paused(Verb.REMOVE, node_id, record, now) or NodeAction(Verb.REMOVE, node_id, "no longer part of the lab")


def _missing_provider(name: str, observed: Observed) -> str | None:
    capabilities = observed.capabilities.get(name)
    if capabilities is not None and capabilities.available:
        return None
    return f"provider {name} is not available: {capabilities.problem if capabilities else 'this host does not have it'}"


def _decide(
    node: NodeIntent, nodes: Mapping[str, NodeIntent], observed: Observed, now: float
) -> NodeAction | Waiting | None:
    if observed.fenced and node.power == "on":
        return Waiting(node.id, observed.fenced)
    record = observed.records.get(node.id, NodeRecord())
    runtime = observed.runtimes.get(node.id)
    missing = _missing_provider(node.provider, observed)
    if missing is not None:
        return Waiting(node.id, missing)
    phase = runtime.phase if runtime else RuntimePhase.ABSENT
    if phase is RuntimePhase.UNKNOWN:
        return Waiting(node.id, "its state is not known yet")
    old = _storage_is_old(node, runtime, record)
    if node.power == "off" and not old:
        if phase not in LIVE_PHASES:
            return None
        return _paused(Verb.STOP, node.id, record, now) or NodeAction(Verb.STOP, node.id, "it should be stopped")
    blocked = _blocked_by_failure(node, record, now)
    if blocked is not None:
        return blocked if blocked.until is not None else None
    if old:
        return NodeAction(Verb.WIPE, node.id, "the user asked to wipe it")
    return _decide_power_on(node, nodes, observed, runtime, record)


def _paused(verb: Verb, node_id: str, record: NodeRecord, now: float) -> Waiting | None:
    """A stop or removal that failed is tried again after a pause, and never given up: nobody could ask for it anew."""
    if record.failed != verb or record.retry_at <= now:
        return None
    return Waiting(node_id, f"try {record.failures + 1} to {verb} it after a failure", until=record.retry_at)


def _storage_is_old(node: NodeIntent, runtime: RuntimeStatus | None, record: NodeRecord) -> bool:
    if runtime is not None:
        return runtime.incarnation != node.incarnation
    return record.incarnation not in {0, node.incarnation}


def _blocked_by_failure(node: NodeIntent, record: NodeRecord, now: float) -> Waiting | None:
    if record.attention < node.attention:
        return None
    if record.terminal:
        return Waiting(node.id, "it failed, and waits for the user")
    if record.retry_at > now:
        return Waiting(node.id, f"try {record.failures + 1} after a failure", until=record.retry_at)
    return None


def _decide_power_on(
    node: NodeIntent,
    nodes: Mapping[str, NodeIntent],
    observed: Observed,
    runtime: RuntimeStatus | None,
    record: NodeRecord,
) -> NodeAction | Waiting | None:
    if runtime is not None and runtime.spec_hash != node.spec_hash():
        return NodeAction(Verb.RECREATE, node.id, "its definition changed")
    if runtime is not None and runtime.phase in LIVE_PHASES and record.restarts < node.restarts:
        return NodeAction(Verb.RESTART, node.id, "the user asked to restart it")
    if runtime is not None and runtime.phase in LIVE_PHASES and _is_to_restart(node, record):
        return NodeAction(Verb.RESTART, node.id, record.restart_for)
    reason = _reason_to_start(node, runtime, record, observed.host_boot)
    if reason is None:
        return None
    missing = _unmet_dependency(node, nodes, observed)
    if missing is not None:
        return Waiting(node.id, missing)
    return NodeAction(Verb.UP, node.id, reason)


def _reason_to_start(node: NodeIntent, runtime: RuntimeStatus | None, record: NodeRecord, host_boot: str) -> str | None:
    if runtime is None or runtime.phase is RuntimePhase.ABSENT:
        return "it does not exist yet"
    if runtime.phase is RuntimePhase.CREATED:
        return "it was never started"
    if runtime.phase is RuntimePhase.GATED:
        return "it waits for its ports"
    if runtime.phase is not RuntimePhase.EXITED:
        return None
    if record.attention < node.attention or record.restarts < node.restarts:
        return "the user asked to start it"
    if _is_to_restart(node, record):
        return f"restarted: {record.restart_for}"
    if record.host_boot != host_boot:
        return "the host or its engine was started anew"
    failed = runtime.exit_code != 0
    if node.restart_policy is RestartPolicy.ALWAYS or (failed and node.restart_policy is RestartPolicy.ON_FAILURE):
        return f"it ended (exit code {runtime.exit_code}) and its restart policy is {node.restart_policy}"
    return None


def _is_to_restart(node: NodeIntent, record: NodeRecord) -> bool:
    """The agent asks for a restart, and the user has not forbidden it."""
    return bool(record.restart_for) and node.restart_policy is not RestartPolicy.NEVER


def _unmet_dependency(node: NodeIntent, nodes: Mapping[str, NodeIntent], observed: Observed) -> str | None:
    for other_id, condition in node.depends_on.items():
        other = nodes.get(other_id)
        if other is None:
            continue
        runtime = observed.runtimes.get(other_id)
        running = runtime is not None and runtime.phase is RuntimePhase.RUNNING and other_id not in observed.busy
        ready = observed.ready.get(other_id) is Readiness.YES
        if not running or (condition is Condition.READY and not ready):
            return f"waits for {other.name} to be {condition}"
    return None
