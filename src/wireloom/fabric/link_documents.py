"""Questions about links and the data plane below them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wireloom.model.base import Value
from wireloom.model.network import PathTest

__all__ = [
    "CountersOpen",
    "MtuAnswer",
    "MtuDirection",
    "MtuQuestion",
    "SelfTestAnswer",
    "SelfTestQuestion",
]


class CountersOpen(Value):
    """Open the counters of a lab's ports: at once and then every ``interval_s`` seconds one line of JSON, a
    :class:`~wireloom.model.counters.CountersSample`.
    """

    lab_id: str
    interval_s: float = Field(default=1, ge=0.2, le=60)


class MtuQuestion(Value):
    """How large may a frame be that passes over this link, each way? ``link_id``: of a wire or a plug."""

    lab_id: str
    link_id: str


class MtuDirection(Value):
    """One way over a link; ``source`` and ``target`` are ``node:port``, or the name of a segment.

    :ivar configured: MTU of the link as it is set, in bytes.
    :ivar largest: payload of the largest frame that passed, in bytes; 0: none did.
    :ivar method: ``sent``: frames were really sent; ``configured``: nobody can send for this guest, so that ``largest``
        is the smallest MTU on the way. ``reason`` says why.
    :ivar problem: empty, or what is wrong.
    """

    source: str
    target: str
    configured: int
    largest: int
    method: Literal["sent", "configured"]
    reason: str = ""
    problem: str = ""


class MtuAnswer(Value):
    """``forward``: from the link's first end to its second."""

    forward: MtuDirection
    backward: MtuDirection


class SelfTestQuestion(Value):
    """Send a real frame over each kind of path, now."""


class SelfTestAnswer(Value):
    """``time``: when it was done, UNIX seconds."""

    time: float
    paths: tuple[PathTest, ...] = ()
