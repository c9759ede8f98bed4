"""Texts of the management network: files of dnsmasq, the block in the host's own hosts file. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from wireloom.agent.gateway.dnsmasq import daemon_lines
from wireloom.agent.management.entries import NodeEntry
from wireloom.model.identity import short_hash
from wireloom.model.slice import Management

__all__ = ["dnsmasq_config", "full_name", "with_block"]

_LEASE: Final = "12h"
_MOST_LEASES: Final = 65536


def full_name(entry: NodeEntry, domain: str) -> str:
    """The node's DNS name, ``<node>.<lab>.<domain>``."""
    return f"{entry.node}.{entry.lab}.{domain}".lower()


def dnsmasq_config(
    management: Management, entries: Iterable[NodeEntry], *, bridge: str, user: str, folder: Path
) -> str:
    """The whole configuration: DHCP by MAC and DNS on ``bridge`` and nowhere else; other names go to the host's
    resolvers. Each lab has its search domain, so that its nodes know each other by their short names.
    """
    network = ipaddress.IPv4Network(management.subnet)
    domain = management.domain
    nodes = sorted(entries)
    lines = [
        *daemon_lines(user, folder, bridge),
        f"domain={domain}",
        f"local=/{domain}/",
        "domain-needed",
        "bogus-priv",
        f"dhcp-range={network.network_address},static,{network.netmask},{_LEASE}",
        f"dhcp-lease-max={_MOST_LEASES}",
        f"dhcp-option=option:router,{management.gateway}",
        f"dhcp-option=option:dns-server,{management.gateway}",
        "dhcp-authoritative",
        "dhcp-ignore-names",
        "dhcp-no-override",
        # Addresses are fixed by MAC: there is nothing to remember.
        "leasefile-ro",
        *(
            f"dhcp-option=tag:{_lab_tag(lab)},option:{option},{lab.lower()}.{domain}"
            for lab in sorted({entry.lab for entry in nodes})
            for option in ("domain-name", "domain-search")
        ),
        *(f"dhcp-host={entry.mac},set:{_lab_tag(entry.lab)},{entry.address}" for entry in nodes),
        *(f"host-record={full_name(entry, domain)},{entry.address}" for entry in nodes),
    ]
    return "\n".join(lines) + "\n"


def with_block(text: str, installation: str, lines: Sequence[str]) -> str:
    """``text`` of a hosts file with the installation's marked block replaced by ``lines`` (removed when empty).

    Everything outside the markers stays byte for byte. A marker without its counterpart is removed alone, because the
    lines beside it may be anybody's.
    """
    begin, end = f"# wireloom {installation} begin", f"# wireloom {installation} end"
    kept = _without_block(text.splitlines(keepends=True), begin, end)
    if lines:
        if kept and not kept[-1].endswith("\n"):
            kept[-1] += "\n"
        kept += [f"{line}\n" for line in (begin, *lines, end)]
    return "".join(kept)


def _without_block(lines: list[str], begin: str, end: str) -> list[str]:
    stripped = [line.strip() for line in lines]
    while begin in stripped and end in stripped[stripped.index(begin) :]:
        first = stripped.index(begin)
        last = stripped.index(end, first)
        del lines[first : last + 1], stripped[first : last + 1]
    return [line for line, bare in zip(lines, stripped, strict=True) if bare not in (begin, end)]


def _lab_tag(lab: str) -> str:
    return f"l{short_hash(lab, length=8)}"
