"""From raw observation to the states that users see. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import NodeIntent, PortRef, Slice, WireIntent
from wireloom.model.state import LinkState, NodeState, NodeStatus, NodeStep, Readiness, RuntimePhase, WireStatus
from wireloom.planning.plan import LIVE_PHASES, NodeRecord, Observed, Plan

__all__ = ["Progress", "node_status", "wire_status"]

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
) -> NodeStatus:
    """The status document of one node.

    :param ready_message: what its readiness waits for; said of a node that runs and waits for nothing else.
    """
    runtime = observed.runtimes.get(node.id)
    record = observed.records.get(node.id, NodeRecord())
    state = _node_state(node, observed, record)
    step, timings = progress
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


def wire_status(
    wire: WireIntent, wanted: Slice, observed: Observed, problems: Mapping[str, str] = MappingProxyType({})
) -> WireStatus:
    """The status document of one wire: ``up`` only when the kernel shows it joined and both ends alive.

    :param problems: what the kernel refused, by host device.
    """
    if not wire.up:
        return WireStatus(id=wire.id, state=LinkState.DOWN, mtu=wire.mtu, message="switched off by the user")
    ends = [_end(ref, wanted, observed) for ref in (wire.a, wire.b)]
    problem = next((text for _, text in ends if text), "")
    if problem:
        return WireStatus(id=wire.id, state=LinkState.PENDING, mtu=wire.mtu, message=problem)
    here, there = (observed.network.ports[device] for device, _ in ends)
    refused = next((problems[port.device] for port in (here, there) if port.device in problems), None)
    if refused is not None:
        return WireStatus(id=wire.id, state=LinkState.FAILED, mtu=wire.mtu, message=refused)
    if here.peer != there.device or there.peer != here.device:
        return WireStatus(id=wire.id, state=LinkState.PENDING, mtu=wire.mtu, message="not joined yet")
    if not (here.up and there.up):
        return WireStatus(id=wire.id, state=LinkState.PENDING, mtu=wire.mtu, message="carrier is still down")
    loose = next((port for port in (here, there) if port.kind == "tap" and not port.carrier), None)
    if loose is not None:  # its hypervisor let go of the tap, for instance because somebody deleted it
        text = f"{loose.alias.name} is not attached to its guest; restart the node"
        return WireStatus(id=wire.id, state=LinkState.PENDING, mtu=wire.mtu, message=text)
    return WireStatus(id=wire.id, state=LinkState.UP, mtu=min(here.mtu, there.mtu))


def _end(ref: PortRef, wanted: Slice, observed: Observed) -> tuple[str, str]:
    """``(device, problem)``; the problem is empty when this end is alive and plugged."""
    node = wanted.node(ref.node_id)
    port = node.port(ref.index) if node else None
    if node is None or port is None:
        return "", "one end is not in the lab"
    runtime = observed.runtimes.get(node.id)
    if runtime is None or runtime.phase is not RuntimePhase.RUNNING:
        return "", f"{node.name} is not running"
    if port.device not in observed.network.ports:
        return "", f"{node.name}:{port.name} is not plugged yet"
    if runtime.carriers.get(port.index) is False:
        return "", f"the carrier of {node.name}:{port.name} is still down"
    return port.device, ""
