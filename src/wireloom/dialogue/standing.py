"""How long a text must have stood unchanged before it is acted on: the less it is known, the longer."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

from wireloom.dialogue.grammar import Found
from wireloom.dialogue.reader import Front

__all__ = ["Phase", "Standing", "for_login", "for_prompt", "for_reaction"]

Phase = Literal["login", "command"]


class Standing(IntEnum):
    """For how long a text stands."""

    NEW = 0
    SETTLED = 1
    DOUBTFUL = 2
    PATIENT = 3

    @property
    def seconds(self) -> float:
        return (0.0, 0.2, 0.6, 2.0)[self]

    @classmethod
    def of(cls, front: Front, now: float, factor: float) -> Standing:
        """How long ``front`` has stood; ``factor`` is by how much the guest is slower."""
        return max(standing for standing in cls if standing is cls.NEW or now >= standing.since(front, factor))

    @classmethod
    def next_at(cls, front: Front, now: float, factor: float) -> float | None:
        """When ``front`` will have stood longer than it has now; ``None``: longer makes no difference."""
        standing = cls.of(front, now, factor)
        return None if standing is cls.PATIENT else cls(standing + 1).since(front, factor)

    def since(self, front: Front, factor: float) -> float:
        """When ``front`` has stood for so long."""
        return front.since + self.seconds * factor


def for_reaction(front: Front, found: Found, phase: Phase) -> Standing:
    """What an answer to ``found`` needs."""
    if found.reaction.raw and front.unfinished and found.end >= len(front.text.rstrip()):
        return Standing.NEW
    if front.unfinished or phase == "login":
        return Standing.SETTLED
    return Standing.PATIENT  # a line of output that ended is hardly a question


def for_prompt(front: Front, *, known: bool, echoed: bool) -> Standing:
    """What a prompt after a typed line needs: one seen before, after the line's echo, cannot be anything else."""
    if not echoed:
        return Standing.PATIENT  # it may be an old one, and the answer is still to come
    if not known:
        return Standing.DOUBTFUL
    return Standing.NEW if front.unfinished else Standing.SETTLED


def for_login(front: Front, *, parting: bool) -> Standing:
    """What a login needs that is asked for after the first prompt."""
    return Standing.SETTLED if front.unfinished or parting else Standing.PATIENT
