"""Choosing management addresses. Pure; the database's unique constraint is what holds them apart."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network

from wireloom.errors import CapacityExceeded
from wireloom.model.slice import Management

__all__ = ["first_free", "holds", "management"]


def management(subnet: str, domain: str) -> Management:
    """The management network on ``subnet``; the host itself has the first address."""
    return Management(subnet=subnet, gateway=str(IPv4Network(subnet)[1]), domain=domain)


def holds(subnet: str, address: str) -> bool:
    """Whether a node may have ``address`` in ``subnet``: not the network's, the gateway's or the broadcast's."""
    network, wanted = IPv4Network(subnet), IPv4Address(address)
    return wanted in network and network[2] <= wanted < network.broadcast_address


def first_free(subnet: str, taken: Collection[str]) -> str:
    """The lowest free address for a node. :raises CapacityExceeded: there is none."""
    network = IPv4Network(subnet)
    for offset in range(2, network.num_addresses - 1):
        candidate = str(network[offset])
        if candidate not in taken:
            return candidate
    raise CapacityExceeded(
        f"the management network {subnet} has no free address",
        hint="destroy labs that are not needed, or give the host a larger management subnet",
    )
