"""What host devices are to do to frames on purpose, and when that ends by itself."""

from __future__ import annotations

from collections.abc import Iterator

from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.network import ImpairmentPlan
from wireloom.planning.cabling import Cabling

__all__ = ["next_end", "plan_impairments"]


def plan_impairments(cabling: Cabling, now: float) -> Iterator[ImpairmentPlan]:
    """For each host device that does not do what it should. ``now`` in UNIX seconds."""
    wanted = _wanted(cabling, now)
    for device, port in cabling.ports.items():
        to_guest, from_guest = wanted.get(device, (None, None))
        if (to_guest, from_guest) != (port.to_guest, port.from_guest):
            yield ImpairmentPlan(device=device, to_guest=to_guest, from_guest=from_guest)


def next_end(cabling: Cabling, now: float) -> float | None:
    """When the next impairment ends by itself; ``None``: none does."""
    impairments = [*(wire.impairment for wire in cabling.wires), *(plug.impairment for plug in cabling.plugs)]
    ends = [
        end
        for item in impairments
        for part, end in ((item.forward, item.forward_until), (item.backward, item.backward_until))
        if part and part.parts and end is not None and end > now
    ]
    return min(ends, default=None)


def _wanted(cabling: Cabling, now: float) -> dict[str | None, tuple[Impairment | None, Impairment | None]]:
    """To the guest and from it, by device, of those that are to impair anything."""
    wanted: dict[str | None, tuple[Impairment | None, Impairment | None]] = {}
    for wire in cabling.wires:
        forward, backward = _directions(wire.impairment, now)
        if forward or backward:
            # Each direction is made where its frames leave the host: at the end that they go to, on its host.
            for ref in wire.local_ends:
                wanted[cabling.device(ref)] = (backward if ref == wire.a else forward, None)
    for plug in cabling.plugs:
        forward, backward = _directions(plug.impairment, now)
        if forward or backward:
            wanted[cabling.device(plug.port)] = (backward, forward)
    return wanted


def _directions(impairment: LinkImpairment, now: float) -> tuple[Impairment | None, Impairment | None]:
    """Forward and backward at ``now``; ``None`` for a direction that is whole."""
    current = impairment.at(now)
    forward, backward = (part.or_none() if part else None for part in (current.forward, current.backward))
    return forward, backward
