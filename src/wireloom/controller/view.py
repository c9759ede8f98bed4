"""What users see of a lab, from intent and observation. Pure."""

from __future__ import annotations

from typing import Any

from wireloom.controller.picture import LabPicture, NodePicture, WirePicture
from wireloom.model.state import LinkState, NodeState, NodeStatus, NodeStep, Readiness
from wireloom.model.views import LabSummary, LabView, LinkView, NodeView

__all__ = ["lab_summary", "lab_view"]


def lab_view(picture: LabPicture) -> LabView:
    """The lab with every node and link as it is now, as far as that is known."""
    lab = picture.snapshot.lab
    return LabView(
        lab=lab.name,
        id=lab.id,
        revision=lab.revision,
        generation=lab.generation,
        removing=lab.removing,
        converged=picture.converged,
        nodes=tuple(_node_view(node) for node in picture.nodes.values()),
        links=tuple(_link_view(wire) for wire in picture.wires.values()),
    )


def lab_summary(picture: LabPicture, view: LabView) -> LabSummary:
    """One line for the table of labs; ``view`` is the lab's own."""
    return LabSummary(
        lab=view.lab,
        nodes=len(view.nodes),
        running=sum(node.state is NodeState.RUNNING for node in view.nodes),
        ready=sum(node.ready is Readiness.YES for node in view.nodes),
        failed=sum(node.state is NodeState.FAILED for node in view.nodes),
        links=len(view.links),
        revision=view.revision,
        created_at=picture.snapshot.lab.created_at,
        state=_one_word(view),
    )


def _one_word(view: LabView) -> str:
    states = [node.state for node in view.nodes]
    if view.removing:
        return "removing"
    for state in (NodeState.FAILED, NodeState.UNKNOWN):
        if state in states:
            return state.value
    running = sum(state is NodeState.RUNNING for state in states)
    if running == len(states):
        return "running"
    return "partial" if running or NodeState.CREATING in states else "stopped"


def _node_view(node: NodePicture) -> NodeView:
    intent = node.intent
    return NodeView(
        id=intent.id,
        name=intent.name,
        device=intent.device,
        provider=intent.provider,
        host=node.host,
        image=intent.image,
        power=intent.power,
        mgmt_ipv4=intent.mgmt_ipv4,
        **_observed_fields(node),
    )


_OBSERVED = {"state", "ready", "error", "step", "message", "started_at", "timings", "configuring"}


def _observed_fields(node: NodePicture) -> dict[str, Any]:
    if node.record.problem is not None:
        return {"state": NodeState.FAILED, "ready": Readiness.NO, "error": node.record.problem}
    if not node.alive:
        return _unknown(f"host {node.host} does not answer", node.status)
    if node.status is not None:
        return node.status.model_dump(include=_OBSERVED)
    if not node.fresh:
        return _unknown(f"host {node.host} has not looked yet", None)
    return {"state": NodeState.ABSENT, "ready": Readiness.NO}


def _unknown(message: str, last: NodeStatus | None) -> dict[str, Any]:
    return {
        "state": NodeState.UNKNOWN,
        "ready": Readiness.UNKNOWN,
        "message": message,
        "step": last.step if last else NodeStep.WAITING,
        "error": last.error if last else None,
    }


def _link_view(wire: WirePicture) -> LinkView:
    state, message = _link_state(wire)
    mtu = wire.status.mtu if wire.status else wire.intent.mtu
    return LinkView(id=wire.intent.id, a=wire.a, b=wire.b, mtu=mtu, state=state, message=message)


def _link_state(wire: WirePicture) -> tuple[LinkState, str]:
    refused = next((end for end in wire.ends if end.record.problem is not None), None)
    if refused is not None:
        return LinkState.PENDING, f"{refused.intent.name} cannot run"
    if not wire.alive:
        return LinkState.PENDING, f"host {wire.ends[0].host} does not answer"
    if wire.status is None:
        return LinkState.PENDING, "not made yet"
    return wire.status.state, wire.status.message
