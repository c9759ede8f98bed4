"""Rules of the host's firewall for a network behind a bridge of ours.

Container engines set the policy of FORWARD to DROP, so what leaves and enters the bridge needs rules of its own there;
the same program holds the address translation, so that there is one mechanism, the engine's own. Every rule carries a
comment ``<mark>-<network>``, by which it is found again: one of an earlier network is stale and removed.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from wireloom.commands import run
from wireloom.errors import DataPlaneFailed
from wireloom.model.identity import short_hash

__all__ = [
    "Rule",
    "ensure_rules",
    "fenced_rules",
    "installation_mark",
    "owned_rules",
    "remove_rules",
    "segments_mark",
    "way_out_rules",
]

log = structlog.get_logger(__name__)

_PROGRAM = "iptables"
_TABLES = ("filter", "nat", "mangle")
_REPLIES = "RELATED,ESTABLISHED"


@dataclass(frozen=True)
class Rule:
    """One rule: its table, its chain, and the rest as arguments; an ``optional`` one may be refused."""

    table: str
    chain: str
    match: tuple[str, ...]
    optional: bool = False

    def command(self, verb: str) -> tuple[str, ...]:
        """The command line for ``-C``, ``-I`` or ``-D``; waits for the lock that other programs may hold."""
        return (_PROGRAM, "-w", "10", "-t", self.table, verb, self.chain, *self.match)


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
    """What keeps a network from other networks of nodes: nobody outside begins to talk to it, and from it nobody to
    those behind the bridge ``apart``. They come before whatever is accepted, hence another table.
    """
    rule = _Maker.of(mark, bridge, subnet)
    return (
        rule("mangle", "FORWARD", f"! -i {bridge} -o {bridge} -m conntrack --ctstate NEW", "DROP"),
        rule("mangle", "FORWARD", f"-i {bridge} -o {apart}", "DROP"),
    )


def way_out_rules(mark: str, bridge: str, subnet: str) -> tuple[Rule, ...]:
    """Everything that must be allowed and translated for ``subnet`` behind ``bridge``."""
    rule = _Maker.of(mark, bridge, subnet)
    return (
        rule("filter", "FORWARD", f"-s {subnet} -i {bridge} ! -o {bridge}", "ACCEPT"),
        rule("filter", "FORWARD", f"-d {subnet} ! -i {bridge} -o {bridge} -m conntrack --ctstate {_REPLIES}", "ACCEPT"),
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


def owned_rules(table: str, listing: str, mark: str) -> list[Rule]:
    """The rules in ``listing`` (of ``iptables -S``) whose comment begins with ``mark``."""
    found = []
    for line in listing.splitlines():
        words = shlex.split(line)
        if len(words) > 2 and words[0] == "-A" and _comment(words).startswith(f"{mark}-"):
            found.append(Rule(table, words[1], tuple(words[2:])))
    return found


def _comment(words: list[str]) -> str:
    return words[words.index("--comment") + 1] if "--comment" in words[:-1] else ""


async def ensure_rules(wanted: Iterable[Rule], mark: str) -> None:
    """Make what is missing, remove what is stale. :raises DataPlaneFailed: the firewall refused a rule."""
    wanted = list(wanted)
    current = {_comment(list(rule.match)) for rule in wanted}
    known: set[str] = set()  # networks that have rules already
    for rule in await _present(mark):
        comment = _comment(list(rule.match))
        if comment in current:
            known.add(comment)
        else:
            await run(*rule.command("-D"))
    for rule in wanted:
        if _comment(list(rule.match)) in known and (await run(*rule.command("-C"))).code == 0:
            continue
        result = await run(*rule.command("-I"))
        if result.code != 0 and rule.optional:
            log.debug("firewall.rule-left-out", rule=shlex.join(rule.match), error=result.errors)
        elif result.code != 0:
            raise DataPlaneFailed(
                f"the firewall does not take a rule: {result.errors}",
                hint="see `wireloom doctor`",
                details={"operation": shlex.join(rule.command("-I")), "errno": ""},
            )


async def remove_rules(mark: str) -> None:
    """Remove every rule of ``mark``; idempotent."""
    for rule in await _present(mark):
        await run(*rule.command("-D"))


async def _present(mark: str) -> list[Rule]:
    found: list[Rule] = []
    if shutil.which(_PROGRAM) is None:
        return found
    for table in _TABLES:
        listing = await run(_PROGRAM, "-w", "10", "-t", table, "-S")
        found += owned_rules(table, listing.output, mark)
    return found
