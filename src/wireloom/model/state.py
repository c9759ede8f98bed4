"""States. ``running``, ``ready`` and ``wired`` are three separate facts, and unknown is a value."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from wireloom.model.base import Value
from wireloom.model.impairment import LinkImpairment
from wireloom.model.moves import ArrivalStatus, DepartureStatus

__all__ = [
    "LinkState",
    "NodeState",
    "NodeStatus",
    "NodeStep",
    "PlugStatus",
    "Readiness",
    "RuntimePhase",
    "SegmentStatus",
    "SliceStatus",
    "WireStatus",
]


class RuntimePhase(StrEnum):
    """What an engine says of one runtime, in words common to all providers.

    ::

        absent ── create ──> created ── start ──> gated ── release ──> running
                                ^                                        │
                                └──────────── start ──── exited <────────┘
    """

    ABSENT = "absent"
    CREATED = "created"  # never started
    GATED = "gated"  # started, but none of the guest's own code has run: ports can still be made
    RUNNING = "running"
    SUSPENDED = "suspended"
    EXITED = "exited"  # stopped, crashed or powered off; storage is kept
    UNKNOWN = "unknown"


class NodeState(StrEnum):
    """The state of a node as users see it."""

    ABSENT = "absent"
    CREATING = "creating"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Readiness(StrEnum):
    YES = "yes"
    NO = "no"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


class LinkState(StrEnum):
    UP = "up"
    DOWN = "down"
    PENDING = "pending"
    FAILED = "failed"


class NodeStep(StrEnum):
    """How far a node is on its way up; the columns of the deploy table."""

    WAITING = "waiting"
    IMAGE = "image"
    CREATE = "create"
    WIRE = "wire"
    BOOT = "boot"
    READY = "ready"


class NodeStatus(Value):
    """What an agent observed of one node.

    ``error`` is the wire form of a :class:`~wireloom.errors.WireloomError`, kept until success or until the
    user clears it. ``held_config`` is the hash of a configuration, read before a stop, that the agent holds until the
    controller has it. ``timings`` maps a step to the seconds it took on the last way up. ``done`` of ``total``: bytes
    of its image, while that comes; 0 of 0: nothing comes. ``configuring``: it runs, and post-boot commands of this boot
    are still to run. Times are UNIX seconds by the agent's clock.
    """

    id: str
    name: str
    provider: str
    state: NodeState
    ready: Readiness = Readiness.UNKNOWN
    step: NodeStep = NodeStep.WAITING
    phase: RuntimePhase = RuntimePhase.UNKNOWN
    message: str = ""
    error: dict[str, Any] | None = None
    mgmt_ipv4: str | None = None
    runtime_id: str | None = None
    started_at: float | None = None
    ready_at: float | None = None
    failures: int = 0
    timings: dict[str, float] = {}
    done: int = 0
    total: int = 0
    held_config: str = ""
    configuring: bool = False


class WireStatus(Value):
    """What an agent observed of one wire. ``name``: of its ends; ``impairment`` is read back from the kernel.

    :ivar far: of a wire to another host, what that one said of its end: it brings a signal (``up``), it does not
        (``down``), or nothing yet (``unknown``). Empty: both ends are here.
    :ivar follows: the end here is as it should be, and is not up only because of the other one.
    """

    id: str
    state: LinkState
    mtu: int
    message: str = ""
    impairment: LinkImpairment = LinkImpairment()
    name: str = ""
    far: Literal["", "up", "down", "unknown"] = ""
    follows: bool = False


class PlugStatus(Value):
    """What an agent observed of one link to a segment; see :class:`WireStatus`."""

    id: str
    state: LinkState
    mtu: int
    message: str = ""
    impairment: LinkImpairment = LinkImpairment()
    name: str = ""


class SegmentStatus(Value):
    """What an agent observed of one segment. ``details`` are facts for people, e.g. ``subnet`` or ``uplink``."""

    id: str
    state: LinkState
    message: str = ""
    details: dict[str, str] = {}
    name: str = ""


class SliceStatus(Value):
    """The whole observation of one lab on one host.

    :ivar generation: the generation of the slice that this observation was compared with.
    :ivar converged: the plan was empty and nothing was in flight when it was taken.
    :ivar lease_s: :attr:`wireloom.model.slice.Slice.lease_s` that the host goes by; ``None``: it runs them for ever.
    """

    host: str
    lab_id: str
    lab: str
    generation: int
    observed_at: float
    converged: bool = False
    lease_s: float | None = None
    nodes: tuple[NodeStatus, ...] = ()
    wires: tuple[WireStatus, ...] = ()
    plugs: tuple[PlugStatus, ...] = ()
    segments: tuple[SegmentStatus, ...] = ()
    departures: tuple[DepartureStatus, ...] = ()
    arrivals: tuple[ArrivalStatus, ...] = ()
