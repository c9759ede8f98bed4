"""Choosing addresses and subnets. Pure; unique constraints of the database are what holds them apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from wireloom.errors import CapacityExceeded
from wireloom.model.slice import Management

__all__ = ["free_addresses", "holds", "management", "overlapping"]


def management(subnet: str, domain: str) -> Management:
    """The management network on ``subnet``; the host itself has the first address."""
    return Management(subnet=subnet, gateway=str(IPv4Network(subnet)[1]), domain=domain)


def holds(subnet: str, address: str) -> bool:
    """Whether a node may have ``address`` in ``subnet``: not the network's, the gateway's or the broadcast's."""
    network, wanted = IPv4Network(subnet), IPv4Address(address)
    return wanted in network and network[2] <= wanted < network.broadcast_address


def free_addresses(subnet: str, taken: Collection[str]) -> Iterator[str]:
    """Free addresses for nodes, lowest first. :raises CapacityExceeded: instead of coming to an end."""
    network = IPv4Network(subnet)
    for number in range(int(network[2]), int(network.broadcast_address)):
        candidate = str(IPv4Address(number))
        if candidate not in taken:
            yield candidate
    raise CapacityExceeded(
        f"the management network {subnet} has no free address",
        hint="destroy labs that are not needed, or give the host a larger management subnet",
    )


def overlapping(subnet: str, taken: Iterable[str]) -> str | None:
    """The first of ``taken`` that shares addresses with ``subnet``."""
    network = IPv4Network(subnet)
    return next((other for other in taken if IPv4Network(other).overlaps(network)), None)
