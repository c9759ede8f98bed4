"""From raw observation to the states that users see. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import NodeIntent
from wireloom.model.state import NodeState, NodeStatus, NodeStep, Readiness, RuntimePhase
from wireloom.planning.plan import LIVE_PHASES, NodeRecord, Observed, Plan

__all__ = ["Progress", "node_status"]

#: What an agent knows of an action in flight: step → seconds it took, and the step it is in.
Progress = tuple[NodeStep, Mapping[str, float]]


def node_status(
    node: NodeIntent,
    observed: Observed,
    plan: Plan,
    progress: Progress,
    *,
    ready_at: float | None = None,
    ready_message: str = "",
    transfer: tuple[int, int] = (0, 0),
) -> NodeStatus:
    """The status document of one node.

    :param ready_message: what its readiness waits for; said of a node that runs and waits for nothing else.
    :param transfer: bytes that are there, of those that come in its step.
    """
    runtime = observed.runtimes.get(node.id)
    record = observed.records.get(node.id, NodeRecord())
    state = _node_state(node, observed, record)
    step, timings = progress
    done, total = transfer if state is NodeState.CREATING else (0, 0)
    waiting = next((w.reason for w in plan.waiting if w.node_id == node.id), "")
    moving = node.id in observed.busy or any(action.node_id == node.id for action in plan.nodes)
    ended = runtime is not None and runtime.phase is RuntimePhase.EXITED and node.power == "on" and not moving
    ready = observed.ready.get(node.id, Readiness.UNKNOWN) if state is NodeState.RUNNING else Readiness.NO
    return NodeStatus(
        id=node.id,
        name=node.name,
        provider=node.provider,
        state=state,
        ready=ready,
        step=NodeStep.READY if ready is Readiness.YES else step,
        phase=runtime.phase if runtime else RuntimePhase.ABSENT,
        message=waiting or _what_ended(runtime, ended) or (ready_message if state is NodeState.RUNNING else ""),
        error=record.error,
        mgmt_ipv4=node.mgmt_ipv4,
        runtime_id=runtime.runtime_id if runtime else None,
        started_at=runtime.started_at if runtime else None,
        ready_at=ready_at,
        failures=record.failures,
        timings=dict(timings),
        done=done,
        total=total,
        configuring=state is NodeState.RUNNING and _configuring(node, runtime, record),
    )


def _configuring(node: NodeIntent, runtime: RuntimeStatus | None, record: NodeRecord) -> bool:
    boot = runtime.started_at if runtime else None
    return bool(node.post_boot) and record.configured_boot != (boot or 1)


def _what_ended(runtime: RuntimeStatus | None, ended: bool) -> str:
    return f"ended by itself, exit code {runtime.exit_code}" if ended and runtime else ""


def _node_state(node: NodeIntent, observed: Observed, record: NodeRecord) -> NodeState:
    capabilities = observed.capabilities.get(node.provider)
    if capabilities is None or not capabilities.available:
        return NodeState.UNKNOWN
    runtime = observed.runtimes.get(node.id)
    phase = runtime.phase if runtime else RuntimePhase.ABSENT
    if phase is RuntimePhase.UNKNOWN:
        return NodeState.UNKNOWN
    if phase is RuntimePhase.RUNNING and node.id not in observed.busy:
        return NodeState.RUNNING
    if record.terminal and record.attention >= node.attention:
        return NodeState.FAILED
    if node.id in observed.busy or phase in LIVE_PHASES:
        return NodeState.CREATING if node.power == "on" else NodeState.STOPPED
    if phase is RuntimePhase.EXITED:
        return NodeState.STOPPED
    return NodeState.CREATING if node.power == "on" else NodeState.ABSENT
