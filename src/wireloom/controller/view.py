"""What users see of a lab, from intent and observation. Pure."""

from __future__ import annotations

from typing import Any

from wireloom.controller.clocks import impairment_moved
from wireloom.controller.moves.views import move_view
from wireloom.controller.picture import LabPicture, LinkPicture, NodePicture, SegmentPicture
from wireloom.model.impairment import LinkImpairment
from wireloom.model.link_views import ImpairmentView, LinkView, SegmentView
from wireloom.model.moves import MovePhase
from wireloom.model.slice import SegmentIntent
from wireloom.model.state import LinkState, NodeState, NodeStatus, NodeStep, Readiness
from wireloom.model.views import LabSummary, LabView, NodeView
from wireloom.planning.segments import plug_vlans

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
        nodes=tuple(
            _moving(_node_view(node, picture.clocks.get(node.host, 0.0)), picture) for node in picture.nodes.values()
        ),
        links=tuple(_link_view(link, picture) for link in picture.links.values()),
        segments=tuple(_segment_view(segment) for segment in picture.segments.values()),
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


def _node_view(node: NodePicture, ahead_s: float) -> NodeView:
    """``ahead_s``: of its host's clock before the controller's, by which users are told times."""
    intent = node.intent
    observed = _observed_fields(node)
    if ahead_s and observed.get("started_at") is not None:
        observed["started_at"] -= ahead_s
    return NodeView(
        id=intent.id,
        name=intent.name,
        device=intent.device,
        provider=intent.provider,
        host=node.host,
        image=intent.image,
        power=intent.power,
        mgmt_ipv4=intent.mgmt_ipv4,
        **observed,
    )


def _moving(node: NodeView, picture: LabPicture) -> NodeView:
    """``node`` with how far its move is, where it moves."""
    moves = (move for move in picture.snapshot.moves if move.node_id == node.id)
    move = next((move for move in moves if move.phase is not MovePhase.UNDONE), None)
    if move is None:
        return node
    view = move_view(move, picture.snapshot, picture.statuses, picture.alive)
    shown: dict[str, Any] = {"moving_to": move.target}
    if move.phase in {MovePhase.LEAVING, MovePhase.CARRYING}:
        shown |= {"message": view.message, "done": view.done, "total": view.total}
    return node.model_copy(update=shown)


_OBSERVED = {"state", "ready", "error", "step", "message", "started_at", "timings", "configuring", "done", "total"}


def _observed_fields(node: NodePicture) -> dict[str, Any]:
    if node.record.problem is not None:
        return {"state": NodeState.FAILED, "ready": Readiness.NO, "error": node.record.problem}
    if not node.host:
        return _unknown("its host was removed: deploy the lab again", None)
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


def _link_view(link: LinkPicture, picture: LabPicture) -> LinkView:
    state, message = _link_state(link)
    by_user = picture.snapshot.impairments.get(link.intent.id, LinkImpairment())
    return LinkView(
        id=link.intent.id,
        a=link.a,
        b=link.b,
        kind="wire" if link.plug is None else "plug",
        mtu=link.status.mtu if link.status else link.mtu,
        up=link.intent.up,
        host=link.host,
        other_host=link.other_host,
        vlans=plug_vlans(link.plug, link.segment) if link.plug is not None and link.segment is not None else None,
        state=state,
        message=message,
        impairment=ImpairmentView(
            configured=link.intent.impairment,
            operational=_operational(link, picture),
            forward_origin="topology" if by_user.forward is None else "user",
            backward_origin="topology" if by_user.backward is None else "user",
        ),
    )


def _operational(link: LinkPicture, picture: LabPicture) -> LinkImpairment | None:
    if link.status is None or not link.alive:
        return None
    return impairment_moved(link.status.impairment, -picture.clocks.get(link.host, 0.0))


def _link_state(link: LinkPicture) -> tuple[LinkState, str]:
    refused = next((end for end in link.ends if end.record.problem is not None), None)
    if refused is not None:
        return LinkState.PENDING, f"{refused.intent.name} cannot run"
    if link.silent:
        return LinkState.PENDING, f"host {link.silent[0]} does not answer"
    if link.status is None:
        return LinkState.PENDING, "not made yet"
    return link.status.state, link.status.message


def _segment_view(segment: SegmentPicture) -> SegmentView:
    intent, status = segment.intent, segment.status
    state, message = LinkState.PENDING, "not made yet"
    if not segment.alive:
        message = f"host {segment.host} does not answer"
    elif status is not None:
        state, message = status.state, status.message
    return SegmentView(
        id=intent.id,
        name=intent.name,
        kind=intent.kind,
        host=segment.host,
        mtu=intent.mtu,
        tagging=intent.tagging,
        links=segment.links,
        state=state,
        message=message,
        details=_segment_details(intent) | (status.details if status else {}),
    )


def _segment_details(intent: SegmentIntent) -> dict[str, str]:
    """What the intent says already; the host adds to it."""
    details = {} if intent.nat is None else {"subnet": intent.nat.subnet, "gateway": intent.nat.gateway}
    if intent.uplink is not None:
        vlan = "" if intent.uplink.vlan is None else f", VLAN {intent.uplink.vlan}"
        details["uplink"] = f"{intent.uplink.device}{vlan}"
    elif intent.foreign:
        details["bridge"] = intent.device
    return details
