"""The configuration of dnsmasq for a segment of kind ``nat``. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wireloom.agent.gateway.dnsmasq import daemon_lines
from wireloom.model.slice import NatIntent, SegmentIntent, Slice

__all__ = ["LEASES", "NatSegment", "nat_config", "nat_segments"]

_LEASE: Final = "1h"
LEASES: Final = "leases"


@dataclass(frozen=True)
class NatSegment:
    """A segment with everything that its services are made from.

    :ivar device: its bridge. :ivar names: hardware address → name, of the nodes plugged into it.
    """

    device: str
    nat: NatIntent
    mtu: int
    names: tuple[tuple[str, str], ...] = ()


def nat_segments(slices: Mapping[str, Slice]) -> dict[str, NatSegment]:
    """Every segment of kind ``nat`` in ``slices``, by device."""
    found = {}
    for lab in slices.values():
        for segment in () if lab.removed else lab.segments:
            if segment.nat is not None:
                found[segment.device] = NatSegment(segment.device, segment.nat, segment.mtu, _names(lab, segment))
    return found


def _names(lab: Slice, segment: SegmentIntent) -> tuple[tuple[str, str], ...]:
    """A node with several ports in the segment has its name at the first."""
    nodes = {node.id: node for node in lab.nodes}
    names: dict[str, str] = {}
    for plug in sorted(lab.plugs, key=lambda plug: (plug.port.node_id, plug.port.index)):
        node = nodes.get(plug.port.node_id)
        port = node.port(plug.port.index) if node else None
        if plug.segment == segment.id and node is not None and port is not None:
            names.setdefault(node.name.lower(), port.mac)
    return tuple(sorted((mac, name) for name, mac in names.items()))


def nat_config(segment: NatSegment, user: str, folder: Path) -> str:
    """DHCP from a range, and DNS: nodes of the segment by their names, all else from the host's own resolvers."""
    lines = [*daemon_lines(user, folder, segment.device), "domain-needed", "bogus-priv", *_dhcp(segment, folder)]
    return "\n".join(lines) + "\n"


def _dhcp(segment: NatSegment, folder: Path) -> Iterator[str]:
    nat = segment.nat
    if nat.dhcp is None:
        return
    first, last = nat.dhcp
    yield f"dhcp-range={first},{last},{ipaddress.IPv4Network(nat.subnet).netmask},{_LEASE}"
    yield f"dhcp-leasefile={folder / LEASES}"
    yield f"dhcp-option=option:router,{nat.gateway}"
    yield f"dhcp-option=option:dns-server,{nat.gateway}"
    yield f"dhcp-option=option:mtu,{segment.mtu}"
    yield "dhcp-authoritative"
    yield "dhcp-no-override"
    for mac, name in segment.names:
        yield f"dhcp-host={mac},{name}"
