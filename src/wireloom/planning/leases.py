"""Leases: how long a host may run a lab's nodes without a word of the controller, and when others may have them. Pure.

A lab may say that its nodes are started elsewhere when their host is lost. Nobody can stop them on a host that cannot
be reached, so the host does it by itself:

* Each heartbeat has a word of its own. The controller that leads the lab answers it with a lease, and notes *when it
  answered*. The host counts the lease from *when it sent* the heartbeat, which was earlier.
* A host whose lease is older than :func:`lease_s` stops the lab's nodes, and starts none before it has a lease again.
* The controller gives them to others when its last answer is older than :func:`given_up_after_s`, which is longer.
  One that has just begun to lead the lab counts from then.

Both count by a clock of their own that never jumps; no time is compared with that of another machine.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FENCE_S", "SHORTEST_LOSS_S", "given_up_after_s", "lease_s"]

#: What a host has to stop nodes whose lease ran out, by force, and to look at its clock in time.
FENCE_S: Final = 15.0
#: No lease is shorter: heartbeats must have a chance to get lost.
_SHORTEST_LEASE_S: Final = 15.0
#: A lab cannot ask for less.
SHORTEST_LOSS_S: Final = _SHORTEST_LEASE_S + FENCE_S
#: Share of the time that two clocks may differ in speed; far more than any crystal does.
_DRIFT: Final = 0.01


def lease_s(restart_elsewhere_after_s: float | None) -> float | None:
    """Seconds that a lease is good for on the host; ``None``: the lab's nodes need none."""
    if restart_elsewhere_after_s is None:
        return None
    return max(restart_elsewhere_after_s * (1 - _DRIFT) - FENCE_S, _SHORTEST_LEASE_S * (1 - _DRIFT))


def given_up_after_s(lease_s: float) -> float:
    """Seconds after the last answer when nodes under such a lease are stopped, and may be started elsewhere."""
    return (lease_s + FENCE_S) / (1 - _DRIFT)
