"""Rules of the host's firewall for a network behind a bridge of ours.

Container engines set the policy of FORWARD to DROP, so what leaves and enters the bridge needs rules of its own there;
the same program holds the address translation, so that there is one mechanism, the engine's own. Every rule carries a
comment ``<mark>-<network>``, by which it is found again: one of an earlier network is stale and removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wireloom.iptables import Rule, settle
from wireloom.model.identity import short_hash

__all__ = [
    "ensure_rules",
    "fenced_rules",
    "installation_mark",
    "is_marked",
    "remove_rules",
    "segments_mark",
    "way_out_rules",
]

_PROGRAM: Final = "iptables"
_TABLES: Final = ("filter", "nat", "mangle")
_REPLIES: Final = "-m conntrack --ctstate RELATED,ESTABLISHED"
#: Not even what connection tracking can make nothing of.
_NO_REPLIES: Final = "-m conntrack ! --ctstate RELATED,ESTABLISHED"


def installation_mark(installation: str) -> str:
    """What the comment of each rule of the management network begins with."""
    return f"wl-{short_hash(installation, length=8)}"


def segments_mark(installation: str) -> str:
    """The same for rules of segments; it begins with that of the installation."""
    return f"{installation_mark(installation)}n"


@dataclass(frozen=True)
class _Maker:
    """Makes rules with the comment of one network."""

    comment: str

    @classmethod
    def of(cls, mark: str, bridge: str, subnet: str) -> _Maker:
        return cls(f"{mark}-{short_hash(bridge, subnet, length=6)}")

    def __call__(self, table: str, chain: str, match: str, target: str, *, optional: bool = False) -> Rule:
        words = (*match.split(), "-m", "comment", "--comment", self.comment, "-j", *target.split())
        return Rule(table, chain, words, optional)


def fenced_rules(mark: str, bridge: str, subnet: str, apart: str) -> tuple[Rule, ...]:
    """What keeps a network from other networks of nodes and from the host: nobody outside begins to talk to it, and
    from it nobody to those behind the bridge ``apart``, nor to the host itself, but for DHCP, DNS and ping.

    They come before whatever is accepted elsewhere, hence another table: what returns there meets the others as ever.
    """
    rule = _Maker.of(mark, bridge, subnet)
    return (
        rule("mangle", "FORWARD", f"! -i {bridge} -o {bridge} {_NO_REPLIES}", "DROP"),
        rule("mangle", "FORWARD", f"-i {bridge} -o {apart}", "DROP"),
        rule("mangle", "INPUT", f"-i {bridge} {_REPLIES}", "RETURN"),
        rule("mangle", "INPUT", f"-i {bridge} -p icmp", "RETURN"),
        rule("mangle", "INPUT", f"-i {bridge} -p udp -m udp --dport 67", "RETURN"),
        rule("mangle", "INPUT", f"-d {subnet} -i {bridge} -p udp -m udp --dport 53", "RETURN"),
        rule("mangle", "INPUT", f"-d {subnet} -i {bridge} -p tcp -m tcp --dport 53", "RETURN"),
        rule("mangle", "INPUT", f"-i {bridge}", "DROP"),
    )


def way_out_rules(mark: str, bridge: str, subnet: str) -> tuple[Rule, ...]:
    """Everything that must be allowed and translated for ``subnet`` behind ``bridge``."""
    rule = _Maker.of(mark, bridge, subnet)
    return (
        rule("filter", "FORWARD", f"-s {subnet} -i {bridge} ! -o {bridge}", "ACCEPT"),
        rule("filter", "FORWARD", f"-d {subnet} ! -i {bridge} -o {bridge} {_REPLIES}", "ACCEPT"),
        rule("filter", "INPUT", f"-i {bridge} -p udp -m udp --dport 67", "ACCEPT"),
        rule("filter", "INPUT", f"-i {bridge} -p udp -m udp --dport 53", "ACCEPT"),
        rule("filter", "INPUT", f"-i {bridge} -p tcp -m tcp --dport 53", "ACCEPT"),
        rule("nat", "POSTROUTING", f"-s {subnet} ! -d {subnet} ! -o {bridge}", "MASQUERADE"),
        # Old guests take no answer of DHCP whose checksum was left to hardware that is not there.
        rule(
            *("mangle", "POSTROUTING", f"-o {bridge} -p udp -m udp --dport 68", "CHECKSUM --checksum-fill"),
            optional=True,
        ),
    )


def is_marked(rule: Rule, mark: str) -> bool:
    """Whether the rule's comment begins with ``mark``."""
    return rule.value("--comment").startswith(f"{mark}-")


async def ensure_rules(wanted: Iterable[Rule], mark: str) -> None:
    """Have exactly ``wanted`` of all rules of ``mark``: what is missing is made, what is stale is removed.

    :raises DataPlaneFailed: the firewall refused a rule.
    """
    rules = list(wanted)

    def network_of(rule: Rule) -> str | None:
        return rule.value("--comment") if is_marked(rule, mark) else None

    await asyncio.to_thread(settle, _PROGRAM, _TABLES, rules, network_of)


async def remove_rules(mark: str) -> None:
    """Remove every rule of ``mark``; idempotent."""
    await ensure_rules((), mark)
