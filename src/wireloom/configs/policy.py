"""Rules of the config store: which revision is active, which ones may go, when the next extract is due. Pure.

A node's next life begins with its active revision, or, where none is active, with the ``startup-config`` of its
topology. **The newest explicit act of the user wins**: activating or uploading a revision, extracting by hand, or
writing another ``startup-config``. What the program extracts by itself (before a stop, by schedule) only goes on from
there: it never takes the place of a choice that the node has not been made with yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Kept", "expendable", "follows", "next_due"]


def follows(*, by_user: bool, chosen: int, made_with: int) -> bool:
    """Whether an extract becomes the active revision.

    Choices of the user are counted: a node that was made after the last one has used it.

    :param by_user: a person asked for the extract, which is itself the newest act.
    :param chosen: number of the user's last choice; 0: none was made yet.
    :param made_with: number of the last choice when the node was made that the text was read from.
    """
    return by_user or made_with >= chosen


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
