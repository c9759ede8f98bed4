"""Which versions of agents work together with this controller: those at most one minor version away."""

from __future__ import annotations

import re
from typing import Final

from wireloom import __version__

__all__ = ["skew_problem"]

_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


def skew_problem(host: str, controller: str = __version__) -> str:
    """Why an agent of version ``host`` may not be understood; empty: it is, or its version is not told.

    It is told, not refused: a lab that runs is worth more than a rule.
    """
    theirs, ours = _VERSION.match(host), _VERSION.match(controller)
    if theirs is None or ours is None:
        return ""
    (their_major, their_minor), (our_major, our_minor) = (tuple(map(int, each.groups())) for each in (theirs, ours))
    if their_major == our_major and abs(their_minor - our_minor) <= 1:
        return ""
    older = (their_major, their_minor) < (our_major, our_minor)
    return (
        f"the agent is of version {host}, more than one minor version from the controller's {controller}:"
        f" upgrade {'this host' if older else 'the controller'}"
    )
