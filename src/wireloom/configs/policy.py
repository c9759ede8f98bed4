"""Rules of the config store: which revision is active, which ones may go, when the next extract is due. Pure.

A node's next life begins with its active revision, or, where none is active, with the ``startup-config`` of its
topology. **The newest explicit act of the user wins**: activating or uploading a revision, extracting by hand, or
writing another ``startup-config``. What the program extracts by itself (before a stop, by schedule) only goes on from
there: it never takes the place of a choice that the node has not been made with yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Choice", "Kept", "expendable", "follows", "next_due"]

#: Who made the choice: the user by a revision, an extract, or a new ``startup-config`` in the topology.
Origin = Literal["user", "extract", "topology"]


@dataclass(frozen=True)
class Choice:
    """What a node will be made with next. ``sha256`` is of that text, empty for none at all."""

    origin: Origin
    sha256: str


def follows(choice: Choice | None, *, by_user: bool, made_from: str) -> bool:
    """Whether an extract becomes the active revision.

    :param by_user: a person asked for it.
    :param made_from: hash of the configuration that the node was made with; empty when it had none or it is unknown.
    """
    if by_user or choice is None or choice.origin == "extract":
        return True
    return made_from == choice.sha256


@dataclass(frozen=True)
class Kept:
    """A stored revision; ``created_at`` in UNIX seconds."""

    number: int
    created_at: float


def expendable(
    revisions: Sequence[Kept], *, active: int | None, keep: int, keep_days: float, now: float
) -> tuple[int, ...]:
    """Numbers of the revisions that retention takes away, oldest first; never the active one nor the newest.

    :param keep: how many of the newest stay, whatever their age; 0: all.
    :param keep_days: older ones go, if they are not among those; 0: whatever their age.
    """
    ordered = sorted(revisions, key=lambda revision: revision.number, reverse=True)
    if keep == 0 and keep_days == 0:
        return ()
    if keep == 0:
        candidates = [item for item in ordered[1:] if now - item.created_at > keep_days * 86400]
    else:
        over = ordered[max(keep, 1) :]
        candidates = [item for item in over if keep_days == 0 or now - item.created_at > keep_days * 86400]
    return tuple(sorted(item.number for item in candidates if item.number != active))


def next_due(*, every_s: float, extracted_at: float | None, tried_at: float | None, pause_s: float) -> float:
    """When a node is to be extracted again (UNIX seconds).

    :param extracted_at: of its last good extract; ``tried_at``: of the last attempt, good or not.
    :param pause_s: after an attempt that failed, before the next one.
    """
    due = 0.0 if extracted_at is None else extracted_at + every_s
    failed_since = tried_at is not None and (extracted_at is None or tried_at > extracted_at)
    return max(due, tried_at + min(pause_s, every_s)) if failed_since and tried_at is not None else due
