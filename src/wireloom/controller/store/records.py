"""Rows as frozen values. Times are UNIX seconds by the controller's clock."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from wireloom.controller.store.config_records import ActiveConfig
from wireloom.errors import WireloomError
from wireloom.model.base import Value
from wireloom.model.dialogue import Cli
from wireloom.model.impairment import LinkImpairment
from wireloom.model.moves import MovePhase, MoveReason
from wireloom.model.slice import NodeIntent
from wireloom.model.views import OperationState, OperationView

__all__ = [
    "Definitions",
    "Goal",
    "LabEdit",
    "LabRecord",
    "LabSnapshot",
    "MoveRecord",
    "NodeRecord",
    "OperationRecord",
    "OperationTargets",
    "RevisionRecord",
    "revision_digest",
]

Goal = Literal["running", "stopped", "absent", "linked", "configured"]


class LabRecord(Value):
    """A lab. ``generation`` rises with every verb, ``revision`` with every new topology text."""

    id: str
    name: str
    created_at: float
    generation: int
    revision: int
    removing: bool = False
    allow_privileged: bool = False


class RevisionRecord(Value):
    """One topology text of a lab and the files it names; ``sha256`` is over both."""

    lab_id: str
    number: int
    topology: str
    files: dict[str, str] = {}
    source: str = "topology.yml"
    sha256: str
    created_at: float


class NodeRecord(Value):
    """Intent of one node beside its topology: identity, place, power and counters.

    :ivar problem: wire form of the error by which preflight refused the node: it is in no slice until a later verb
        finds nothing wrong, or the engine that it lacked comes. Only a node that was never made can be refused.
    :ivar ports: data ports that it was last given, where its provider fixes them at creation; 0 before the first time.
    """

    id: str
    lab_id: str
    name: str
    device: str
    provider: str
    host: str = ""
    power: Literal["on", "off"] = "on"
    incarnation: int = 1
    restarts: int = 0
    attention: int = 0
    mgmt_ipv4: str | None = None
    ports: int | None = None
    problem: dict[str, Any] | None = None


class OperationTargets(Value):
    """What an operation waits for: ids of nodes, of links (``wires``), be they to other nodes or to segments, and of
    segments.

    ``named`` are the names of the nodes that the user gave the verb for, in that order; empty: no single ones.
    ``started`` holds, for nodes that must start anew, when their runtime had started at the time of the verb: the
    node counts only when it runs with another start time or the whole slice has converged. ``hosts`` holds, for nodes
    that move, where to.
    """

    nodes: tuple[str, ...] = ()
    wires: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    started: dict[str, float | None] = {}
    named: tuple[str, ...] = ()
    hosts: dict[str, str] = {}


class OperationRecord(Value):
    """A long-running verb and how far it was when last written."""

    id: str
    lab_id: str
    lab: str
    verb: str
    goal: Goal
    generation: int
    targets: OperationTargets = OperationTargets()
    state: OperationState = OperationState.RUNNING
    done: int = 0
    total: int = 0
    errors: tuple[dict[str, Any], ...] = ()
    created_at: float
    finished_at: float | None = None

    def failed(self, error: WireloomError, now: float) -> OperationRecord:
        """As it is when it ends at ``now`` by ``error``."""
        update = {"errors": (error.to_wire(),), "state": OperationState.FAILED, "finished_at": now}
        return self.model_copy(update=update)

    def view(self) -> OperationView:
        """As the API shows it."""
        return OperationView(**self.model_dump(exclude={"lab_id", "targets"}), nodes=self.targets.named)


class MoveRecord(Value):
    """A node on its way from ``source`` to ``target``; several of one node follow each other.

    :ivar token: shown by both hosts to each other. :ivar error: why it was undone, as the wire form of an error.
    """

    id: str
    lab_id: str
    node_id: str
    source: str
    target: str
    reason: MoveReason
    phase: MovePhase = MovePhase.QUEUED
    token: str = Field(default="", repr=False)
    error: dict[str, Any] | None = None
    created_at: float = 0
    changed_at: float = 0


class LabSnapshot(Value):
    """Everything stored of one lab, read in one transaction; ``hosts`` may still hold something of it.

    :ivar configs: what nodes are made with next, by node id, where the config store has a say.
    :ivar impairments: what users set by verbs, by id of the link; :ivar nat_subnets: subnet by id of the segment.
    :ivar vnis: number of the tunnel by id of the link between hosts; :ivar released: links that had one and need none
        any more, with the generation from which on that is so.
    :ivar moves: of its nodes, the oldest first.
    """

    lab: LabRecord
    revision: RevisionRecord
    nodes: tuple[NodeRecord, ...] = ()
    hosts: tuple[str, ...] = ()
    configs: dict[str, ActiveConfig] = {}
    impairments: dict[str, LinkImpairment] = {}
    nat_subnets: dict[str, str] = {}
    vnis: dict[str, int] = {}
    released: dict[str, int] = {}
    moves: tuple[MoveRecord, ...] = ()

    @property
    def moving(self) -> frozenset[str]:
        """Ids of the nodes that move, or wait for their turn to."""
        return frozenset(move.node_id for move in self.moves if move.phase is not MovePhase.UNDONE)

    def node(self, name: str) -> NodeRecord | None:
        """The node called ``name``."""
        return next((node for node in self.nodes if node.name == name), None)


class Definitions(Value):
    """What the nodes of a lab were deployed with, by node id, and the command lines that they name."""

    nodes: dict[str, NodeIntent] = {}
    clis: dict[str, Cli] = {}


class LabEdit(Value):
    """One change of a lab's intent, written in one transaction.

    :ivar lab: the lab as it shall be, with its new generation.
    :ivar expected_generation: what the change was computed from; ``None`` creates the lab.
    :ivar revision: a new revision, or ``None`` to keep the current one.
    :ivar nodes: all nodes of the lab; rows of others are deleted. A node with a host of ``subnets`` and without an
        address in it gets the first free one.
    :ivar subnets: management subnet by host.
    :ivar superseded: nodes, by id, that their topology gives another configuration than before: it takes the place of
        their active revision.
    :ivar impairments: all that hold beside the topology, by id of the link.
    :ivar nat_segments: all segments with address translation, by id, with the subnet that the user wants; a segment
        with an empty one keeps what it has, or gets the first free one.
    :ivar tunnelled: all links between hosts, by id: each has a number of its own. Those of others are given up, and are
        free again once every host has come as far as this generation. ``None`` leaves what is stored.
    :ivar definitions: what all nodes of the lab are deployed with; ``None`` leaves what is stored.
    :ivar moves: all moves of its nodes; ``None`` leaves what is stored. Those of nodes that are gone go.
    :ivar operation: what follows the change; ``None``: nothing does.
    """

    lab: LabRecord
    expected_generation: int | None
    revision: RevisionRecord | None = None
    nodes: tuple[NodeRecord, ...] = ()
    subnets: dict[str, str] = {}
    superseded: frozenset[str] = frozenset()
    impairments: dict[str, LinkImpairment] = {}
    nat_segments: dict[str, str] = {}
    tunnelled: frozenset[str] | None = None
    definitions: Definitions | None = None
    moves: tuple[MoveRecord, ...] | None = None
    operation: OperationRecord | None = None


def revision_digest(topology: str, files: dict[str, str]) -> str:
    """The content id of a revision, hexadecimal SHA-256."""
    return hashlib.sha256(json.dumps([topology, sorted(files.items())]).encode()).hexdigest()
