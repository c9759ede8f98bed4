"""Clocks of hosts beside the controller's: they may differ by minutes, and no time of one is compared with the other.

What a host is told of times is in its own clock's, and what it tells is brought into the controller's. How far they are
apart is known from heartbeats, which say when they were sent. They take a while to come, and an old one may be read
again, so what they say is never too little by more than that: of the latest few the largest is right.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from wireloom.model.impairment import LinkImpairment
from wireloom.model.slice import Slice

__all__ = ["NOTABLE_S", "HostClock", "impairment_moved", "slice_moved"]

#: Less than this is the way of a heartbeat, and nothing that anybody would notice.
NOTABLE_S: Final = 3.0
_HEARTBEATS: Final = 5


class HostClock:
    """Of one host. ``ahead_s``: seconds that its clock is ahead of the controller's; 0 where that is not notable.

    It changes only when the clocks have drifted notably since: what is made with it must not change all the time.
    """

    def __init__(self) -> None:
        self._heard: deque[float] = deque(maxlen=_HEARTBEATS)
        self.ahead_s = 0.0

    def heard(self, sent: float, received: float) -> bool:
        """A heartbeat: when it was sent by the host's clock, and received by the controller's; whether that changes
        :attr:`ahead_s`. ``sent`` is 0 where the host does not say."""
        if sent <= 0:
            return False
        self._heard.append(sent - received)
        ahead = max(self._heard)
        if abs(ahead - self.ahead_s) <= NOTABLE_S:
            return False
        before, self.ahead_s = self.ahead_s, ahead if abs(ahead) > NOTABLE_S else 0.0
        return before != self.ahead_s


def impairment_moved(impairment: LinkImpairment, seconds: float) -> LinkImpairment:
    """With its ends in time so many seconds later."""
    if not seconds or not impairment.ends:
        return impairment
    forward, backward = impairment.forward_until, impairment.backward_until
    return impairment.model_copy(
        update={
            "forward_until": None if forward is None else forward + seconds,
            "backward_until": None if backward is None else backward + seconds,
        }
    )


def slice_moved(document: Slice, seconds: float) -> Slice:
    """``document`` for a host whose clock is so many seconds ahead of the controller's."""
    if not seconds:
        return document
    wires = tuple(
        wire.model_copy(update={"impairment": impairment_moved(wire.impairment, seconds)}) for wire in document.wires
    )
    plugs = tuple(
        plug.model_copy(update={"impairment": impairment_moved(plug.impairment, seconds)}) for plug in document.plugs
    )
    return document.model_copy(update={"wires": wires, "plugs": plugs})
