"""Texts of the management network: files of dnsmasq, the block in the host's own hosts file. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from wireloom.agent.management.entries import NodeEntry
from wireloom.model.identity import short_hash
from wireloom.model.slice import Management

__all__ = ["DnsmasqFiles", "dhcp_hosts", "dhcp_options", "dns_hosts", "dnsmasq_config", "full_name", "with_block"]

_LEASE: Final = "12h"


class DnsmasqFiles:
    """Where dnsmasq's files are: the configuration is read once, the other three again at each SIGHUP."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "dnsmasq.conf"
        self.dhcp_hosts = folder / "dhcp-hosts"
        self.dhcp_options = folder / "dhcp-options"
        self.dns_hosts = folder / "hosts"
        self.pid = folder / "dnsmasq.pid"
        self.handed_out = folder / "handed-out.json"


def full_name(entry: NodeEntry, domain: str) -> str:
    """The node's DNS name, ``<node>.<lab>.<domain>``."""
    return f"{entry.node}.{entry.lab}.{domain}".lower()


def dnsmasq_config(files: DnsmasqFiles, management: Management, *, bridge: str, user: str) -> str:
    """The configuration: DHCP by MAC and DNS on ``bridge`` and nowhere else; other names go to the host's resolvers."""
    network = ipaddress.IPv4Network(management.subnet)
    domain = management.domain
    lines = [
        "# Written by wireloom; changes are lost.",
        f"user={user}",
        f"pid-file={files.pid}",
        f"interface={bridge}",
        "except-interface=lo",
        # Follows the bridge when it is made anew, and binds to nothing else.
        "bind-dynamic",
        "no-hosts",
        f"addn-hosts={files.dns_hosts}",
        f"domain={domain}",
        f"local=/{domain}/",
        "domain-needed",
        "bogus-priv",
        f"dhcp-range={network.network_address},static,{network.netmask},{_LEASE}",
        f"dhcp-hostsfile={files.dhcp_hosts}",
        f"dhcp-optsfile={files.dhcp_options}",
        f"dhcp-option=option:router,{management.gateway}",
        f"dhcp-option=option:dns-server,{management.gateway}",
        "dhcp-authoritative",
        "dhcp-ignore-names",
        "dhcp-no-override",
        # Addresses are fixed by MAC: there is nothing to remember.
        "leasefile-ro",
    ]
    return "\n".join(lines) + "\n"


def dhcp_hosts(entries: Iterable[NodeEntry]) -> str:
    """One line a node: MAC, the tag of its lab, address."""
    return "".join(f"{entry.mac},set:{_lab_tag(entry.lab)},{entry.address}\n" for entry in sorted(entries))


def dhcp_options(entries: Iterable[NodeEntry], domain: str) -> str:
    """The search domain of each lab, so that nodes know each other by their short names."""
    labs = sorted({entry.lab for entry in entries})
    return "".join(
        f"tag:{_lab_tag(lab)},option:{option},{lab.lower()}.{domain}\n"
        for lab in labs
        for option in ("domain-name", "domain-search")
    )


def dns_hosts(entries: Iterable[NodeEntry], domain: str) -> str:
    """Addresses and full names, as in ``/etc/hosts``."""
    return "".join(f"{entry.address} {full_name(entry, domain)}\n" for entry in sorted(entries))


def with_block(text: str, installation: str, lines: Sequence[str]) -> str:
    """``text`` of a hosts file with the installation's marked block replaced by ``lines`` (removed when empty).

    Everything outside the markers stays byte for byte; a block whose end is missing ends at the end of the file only
    if nothing but our own lines could follow, so it is left alone and a new block is added.
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
