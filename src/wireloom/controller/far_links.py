"""A link between two hosts, from what each of them says of its own end. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wireloom.fabric.documents import HostFacts
from wireloom.model.impairment import LinkImpairment
from wireloom.model.slice import Slice
from wireloom.model.state import LinkState, WireStatus
from wireloom.model.underlay import Path, Way

__all__ = ["is_settled", "joined_status", "way_warnings"]

#: Which of two states says more of a link that is not up.
_WEIGHT = {LinkState.FAILED: 0, LinkState.DOWN: 1, LinkState.PENDING: 2, LinkState.UP: 3}


def joined_status(first: tuple[str, WireStatus | None], second: tuple[str, WireStatus | None]) -> WireStatus | None:
    """What (host, its status) of the first end and of the second one are together; ``None``: neither says anything.

    The link is up when both say so. Else what is wrong at one end comes before what follows from it at the other.
    """
    ends = (first, second)
    told = [(host, status) for host, status in ends if status is not None]
    if not told:
        return None
    silent = next((host for host, status in ends if status is None), None)
    host, chief = min(told, key=lambda item: _rank(item[1]))
    state, message = chief.state, chief.message
    if silent is not None and state is LinkState.UP:
        state, message = LinkState.PENDING, f"host {silent} has not made its end yet"
    elif message and state is not LinkState.UP and not chief.follows and len({item.message for _, item in told}) > 1:
        message = f"{message} (host {host})"
    return chief.model_copy(
        update={
            "state": state,
            "message": message,
            "mtu": min(status.mtu for _, status in told),
            "impairment": _both_ways(first[1], second[1]),
        }
    )


def _rank(status: WireStatus) -> tuple[bool, bool, int]:
    """The lower the more it says of why the link is not up."""
    return status.state is LinkState.UP, status.follows, _WEIGHT[status.state]


def is_settled(first: WireStatus | None, second: WireStatus | None) -> bool:
    """Whether what both ends say goes together: no end waits for a word of the other, or has not heard the last one."""
    if first is None or second is None:
        return False
    return all(_agrees(mine, other) for mine, other in ((first, second), (second, first)))


def _agrees(mine: WireStatus, other: WireStatus) -> bool:
    """What ``mine`` has heard of the other end is what that one says now."""
    return mine.far == "up" or not (other.follows or other.state is LinkState.UP)


def _both_ways(first: WireStatus | None, second: WireStatus | None) -> LinkImpairment:
    """Each direction is made, and read back, at the end that it goes to."""
    to_first = first.impairment if first is not None else LinkImpairment()
    to_second = second.impairment if second is not None else LinkImpairment()
    return LinkImpairment(
        forward=to_second.forward,
        backward=to_first.backward,
        forward_until=to_second.forward_until,
        backward_until=to_first.backward_until,
    )


def way_warnings(slices: Mapping[str, Slice], facts: Mapping[str, HostFacts]) -> Iterator[str]:
    """What is known to be wrong with ways that links between hosts take."""
    ways = {(host, path.host): path for host, told in facts.items() for path in told.paths}
    largest: dict[tuple[str, str], int] = {}
    for host, document in slices.items():
        for wire in document.wires:
            if wire.remote is not None:
                pair = (host, wire.remote.host)
                largest[pair] = max(largest.get(pair, 0), wire.mtu)
    for (host, other), mtu in largest.items():
        path = ways.get((host, other), Path(host=other))
        way = Way(remote=path.address, mtu=path.mtu)
        if path.problem:
            yield f"host {host}: {path.problem}"
        elif path.mtu and mtu > way.whole_frames:
            frames = f"frames of more than {way.whole_frames} bytes {way.beyond}"
            yield f"links from {host} to {other} have an MTU of up to {mtu}: {frames}"
