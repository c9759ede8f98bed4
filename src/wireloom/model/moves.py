"""Nodes that move from one host to another: what both hosts are told, what they say, and what users see.

::

    queued ── leaving ── carrying ── arriving ── (gone)
       └─────────┴───────────┘ undone: the node starts again where it was; kept to tell why

============  ================================================================  ==================================
phase         the source's slice                                                the target's slice
============  ================================================================  ==================================
queued        the node as it was                                                nothing
leaving       the node, off, and a :class:`Departure`                           nothing
carrying      the node, off, and the departure                                  an :class:`Arrival`
arriving      the departure alone: what it has of the node is kept              the node as it should be, the arrival
(gone)        nothing: what it has of the node is removed                       the node as it should be
============  ================================================================  ==================================

So the node may run by at most one slice, whichever of their versions each host has: it is off in every version of the
source's slice from the first that mentions the departure, and the target has it only after the source has said that it
is stopped and the target that it has all of it, verified.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from wireloom.model.base import Value

__all__ = [
    "ArrivalStatus",
    "DepartureStatus",
    "MoveBase",
    "MovePhase",
    "MoveReason",
    "MoveRequest",
    "MoveView",
    "MovesView",
]

MoveReason = Literal["user", "topology", "drain", "recovery"]


class MovePhase(StrEnum):
    """How far a move is; see the module's text."""

    QUEUED = "queued"
    LEAVING = "leaving"
    CARRYING = "carrying"
    ARRIVING = "arriving"
    UNDONE = "undone"


class MoveBase(Value):
    """What both hosts are told of a move.

    :ivar move: its id. :ivar host: the other host.
    :ivar relay: where a controller passes on what the source sends to who fetches it, below its API.
    :ivar token: what both show to each other and to the controller; good for this move alone.
    """

    move: str
    node_id: str
    name: str
    provider: str
    host: str
    relay: str = ""
    token: str = Field(default="", repr=False)


class DepartureStatus(Value):
    """What the source says: the node is stopped and may be fetched (``ready``), or not yet.

    :ivar total: bytes that are to be carried, where that is known. :ivar url: where the target may fetch them itself;
        empty: by the relay only. :ivar error: wire form of what went wrong; it is tried again.
    """

    move: str
    node_id: str
    ready: bool = False
    total: int = 0
    url: str = ""
    error: dict[str, Any] | None = None


class ArrivalStatus(Value):
    """What the target says: ``ready``, everything is there and verified; ``adopted``, it has become the node's.

    :ivar error: wire form of what went wrong; it is tried again, unless it is not retryable.
    """

    move: str
    node_id: str
    ready: bool = False
    adopted: bool = False
    done: int = 0
    total: int = 0
    error: dict[str, Any] | None = None


class MoveRequest(Value):
    """``POST /labs/{lab}/moves``: nodes by name, and where to. ``host`` empty: the best other host for each.

    :ivar dry_run: say what would happen, and do nothing.
    """

    nodes: tuple[str, ...]
    host: str = ""
    dry_run: bool = False


class MoveView(Value):
    """One move. ``done`` of ``total`` bytes are carried; ``message``: what it waits for; times are UNIX seconds.

    ``problem`` is set in previews of what cannot be, with ``error`` as its wire form.
    """

    id: str = ""
    lab: str
    node: str
    source: str
    target: str
    reason: MoveReason = "user"
    phase: MovePhase = MovePhase.QUEUED
    done: int = 0
    total: int = 0
    message: str = ""
    error: dict[str, Any] | None = None
    created_at: float = 0


class MovesView(Value):
    """Answer to a move: what moves, and the operation that follows it (``None`` for a dry run)."""

    moves: tuple[MoveView, ...] = ()
    operation: str = ""
