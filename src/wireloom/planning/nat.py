"""Subnets of segments with address translation. Pure; a database is what holds choices of several labs apart."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Final

from wireloom.errors import CapacityExceeded
from wireloom.model.identity import short_hash
from wireloom.model.slice import NatIntent

__all__ = ["NAT_POOL", "NAT_PREFIX", "choose_subnet", "nat_intent"]

#: Where subnets come from that the topology leaves out, and how large they are: 256 of 256 addresses.
NAT_POOL: Final = IPv4Network("10.99.0.0/16")
NAT_PREFIX: Final = 24


def choose_subnet(segment_id: str, taken: Iterable[str] = ()) -> str:
    """The subnet of a segment that names none: the same every time, and next to it where that is ``taken``.

    :raises CapacityExceeded: none is left.
    """
    networks = [IPv4Network(other) for other in taken]
    pool = tuple(NAT_POOL.subnets(new_prefix=NAT_PREFIX))
    first = int(short_hash("nat", segment_id), 16) % len(pool)
    for candidate in (*pool[first:], *pool[:first]):
        if not any(candidate.overlaps(other) for other in networks):
            return str(candidate)
    raise CapacityExceeded(
        f"no subnet of {NAT_POOL} is free for another segment with address translation",
        hint="destroy labs that are not needed, or name a `subnet` in the topology",
    )


def nat_intent(subnet: str, *, dhcp: bool) -> NatIntent:
    """The host has the first address of ``subnet``; DHCP hands out the upper half, the rest is for users to give."""
    network = IPv4Network(subnet)
    half = network.num_addresses // 2
    return NatIntent(
        subnet=str(network),
        gateway=str(network[1]),
        dhcp=(str(network[half]), str(network[-2])) if dhcp else None,
    )
