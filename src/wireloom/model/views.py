"""What the HTTP API takes and gives. The OpenAPI document, the SDK and the studio's types are made from this.

=======  ============================================  ============================  =====================
method   path (below ``/api/v1``)                      body                          answer
=======  ============================================  ============================  =====================
GET      /status                                                                     StatusView
GET      /hosts                                                                      list[HostView]
POST     /plan                                         DeployRequest                 PlanView
POST     /labs                                         DeployRequest                 OperationView
GET      /labs                                                                       list[LabSummary]
GET      /labs/{lab}                                                                 LabView
DELETE   /labs/{lab}                                                                 OperationView
GET      /labs/{lab}/topology                                                        text (YAML)
POST     /labs/{lab}/actions                           ActionRequest                 OperationView
GET      /labs/{lab}/events                                                          list[Event]
GET      /events                                                                     list[Event]
POST     /labs/{lab}/nodes/{node}/exec                 ExecRequest                   ExecView
GET      /labs/{lab}/nodes/{node}/post-boot                                          list[BootRecord]
GET      /labs/{lab}/nodes/{node}/log?follow=                                        stream of bytes
WS       /labs/{lab}/nodes/{node}/console              binary frames both ways; JSON text frames: ``{"columns","rows"}``
                                                       or ConsoleCommand to the node, ``{"notice": ConsoleNotice}`` back
GET      /labs/{lab}/nodes/{node}/console                                            list[ConsoleLine]
WS       /stream?lab=                                  StreamMessage, one per change
GET      /operations/{id}                                                            OperationView
POST     /tickets                                                                    TicketView (opens one WebSocket)
POST     /prune                                        PruneRequest                  list[Orphan]
=======  ============================================  ============================  =====================

Devices have theirs in :mod:`wireloom.model.device_views`, configurations in :mod:`wireloom.model.config_views`, links
and segments in :mod:`wireloom.model.link_views`.

Every request carries ``Authorization: Bearer <token>``. Errors are ``{"error": <wire form of a WireloomError>}``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from wireloom.model.base import Value
from wireloom.model.device_views import ValueView
from wireloom.model.link_views import LinkRequest, LinkView, SegmentView
from wireloom.model.state import NodeState, NodeStep, Readiness

__all__ = [
    "ActionRequest",
    "ChangeView",
    "DeployRequest",
    "ExecRequest",
    "ExecView",
    "HostUse",
    "HostView",
    "LabSummary",
    "LabView",
    "LinkRequest",
    "LinkView",
    "NodeView",
    "OperationState",
    "OperationView",
    "PlanView",
    "SegmentView",
    "StatusView",
    "StreamMessage",
    "TicketView",
]


class DeployRequest(Value):
    """A topology as text, and the files that it names (startup configurations), path as written → text.

    ``source`` is the file's name for diagnostics. ``allow_privileged`` is the user's consent, needed beside
    the device's own declaration.
    """

    topology: str
    files: dict[str, str] = {}
    source: str = "topology.yml"
    allow_privileged: bool = False


class ActionRequest(Value):
    """A verb on nodes, by name; an empty list means all nodes (``wipe`` needs at least one)."""

    verb: Literal["start", "stop", "restart", "wipe"]
    nodes: tuple[str, ...] = ()


class ExecRequest(Value):
    command: tuple[str, ...]
    timeout_s: float = 60


class ExecView(Value):
    """Output as text (undecodable bytes replaced). ``channel`` answered; ``tried``: why earlier ones did not;
    ``skipped``: those of the chain that the node does not have.
    """

    exit_code: int
    stdout: str
    stderr: str
    channel: str
    tried: dict[str, str] = {}
    skipped: dict[str, str] = {}


class TicketView(Value):
    """Opens one WebSocket until ``expires_at`` (UNIX seconds), as the subprotocol ``ticket.<ticket>``."""

    ticket: str
    expires_at: float


class ChangeView(Value):
    """One line of a plan. ``action``: add, change, restart, recreate, remove, none, refuse."""

    kind: Literal["node", "link", "segment", "lab"]
    name: str
    action: Literal["add", "change", "restart", "recreate", "remove", "refuse"]
    reasons: tuple[str, ...] = ()
    host: str = ""


class PlacementView(Value):
    """Where a node would be. ``host``: empty when no host can take it. ``rejected``: reason by host that cannot."""

    host: str = ""
    reasons: tuple[str, ...] = ()
    rejected: dict[str, str] = {}


class PlanView(Value):
    """What deploying would change. ``problems`` are preflight findings that would stop single nodes, ``warnings``
    stop nothing. ``profiles``: by node that comes or changes, its values with where they come from.
    ``placement``: by every node of the lab, its host and why."""

    lab: str
    changes: tuple[ChangeView, ...] = ()
    problems: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    profiles: dict[str, tuple[ValueView, ...]] = {}
    placement: dict[str, PlacementView] = {}


class NodeView(Value):
    """``configuring``: it runs, and post-boot commands of this boot are still to run. ``done`` of ``total``: bytes of
    its image, while that comes, or of what is carried while it moves; 0 of 0: nothing comes. ``moving_to``: the host
    that it moves to, or waits for its turn to; empty: it stays.
    """

    name: str
    device: str
    provider: str
    host: str
    image: str
    state: NodeState
    ready: Readiness
    mgmt_ipv4: str | None = None
    error: dict[str, Any] | None = None
    step: NodeStep = NodeStep.WAITING
    message: str = ""
    started_at: float | None = None
    timings: dict[str, float] = {}
    id: str = ""
    power: Literal["on", "off"] = "on"
    configuring: bool = False
    done: int = 0
    total: int = 0
    moving_to: str = ""


class LabView(Value):
    lab: str
    nodes: tuple[NodeView, ...] = ()
    links: tuple[LinkView, ...] = ()
    segments: tuple[SegmentView, ...] = ()
    id: str = ""
    revision: int = 0
    generation: int = 0
    converged: bool = False
    removing: bool = False


class LabSummary(Value):
    lab: str
    nodes: int
    running: int
    ready: int
    failed: int
    links: int
    revision: int
    created_at: float
    state: str = ""  # one word for the table: running, partial, stopped, failed, removing, unknown


class HostUse(Value):
    """What labs take of a host: the most that their nodes which are on may use. ``cpus``: cores."""

    labs: tuple[str, ...] = ()
    nodes: int = 0
    running: int = 0
    cpus: float = 0
    memory_mb: int = 0


class HostView(Value):
    """A host as its agent described it; ``alive`` is false when its heartbeat ran out.

    :ivar images: how many images of the library are there, whole. :ivar image_room: bytes left where images are kept.
        ``None``: not told yet.
    :ivar silent_s: seconds since its agent was heard, when this was answered.
    :ivar closed: why it takes no new nodes, in words; empty: it takes them.
    :ivar clock_ahead_s: seconds that its clock is ahead of the controller's; 0 where that is not notable. Times in
        ``facts`` are by that clock.
    :ivar draining: its nodes are to move away. :ivar joined_at: by a token; UNIX seconds.
    :ivar use: what labs take of it; told in answers, not on the stream, where labs say it themselves.
    """

    host: str
    alive: bool
    facts: dict[str, Any] | None = None
    last_seen: float | None = None
    images: int | None = None
    image_room: int | None = None
    labels: dict[str, str] = {}
    cordoned: bool = False
    cordon_reason: str = ""
    draining: bool = False
    joined_at: float | None = None
    closed: str = ""
    clock_ahead_s: float = 0.0
    use: HostUse | None = None
    silent_s: float | None = None


class StatusView(Value):
    version: str
    installation: str
    fabric: bool
    hosts: tuple[HostView, ...] = ()
    labs: int = 0
    nodes: int = 0
    running: int = 0


class OperationState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class OperationView(Value):
    """A long-running verb. ``done`` of ``total`` nodes and links have reached the operation's goal.

    ``goal``: running (nodes run and are wired), stopped, absent, linked, configured (texts read or loaded).
    ``errors`` are wire forms, one per node. ``nodes``: names of those that the verb was given for;
    empty: no single ones.
    """

    id: str
    lab: str
    verb: str
    state: OperationState
    goal: Literal["running", "stopped", "absent", "linked", "configured"]
    done: int = 0
    total: int = 0
    generation: int = 0
    created_at: float
    finished_at: float | None = None
    errors: tuple[dict[str, Any], ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The lab, and the nodes of it that the verb was given for."""
        return f"{self.lab} {', '.join(self.nodes)}" if self.nodes else self.lab


class StreamMessage(Value):
    """One change on the WebSocket. ``type`` names which field of ``data`` applies: lab (LabView), event (Event),
    operation (OperationView), host (HostView), host-removed (``{"host"}``), removed (``{"lab"}``), resync
    (``{"dropped"}``: so many events were dropped because the reader was slow; the newest value of everything else
    still comes), image (ImageView), image-removed (``{"id", "name"}``), job (JobView: work on the image library).
    """

    type: Literal[
        "lab", "event", "operation", "host", "host-removed", "removed", "resync", "image", "image-removed", "job"
    ]
    data: dict[str, Any]
