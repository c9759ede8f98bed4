"""Rules in the host's firewall by ``iptables`` or ``ip6tables``, old or on nftables. Blocking: for threads.

A table is read as a whole and changed in one step, so there is no moment with half of the rules.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from wireloom.commands import run_blocking
from wireloom.errors import DataPlaneFailed

__all__ = ["NetworkOf", "Rule", "difference", "read_rules", "settle"]

#: Seconds to wait for the lock that other programs may hold.
_PATIENCE: Final = ("-w", "10")


@dataclass(frozen=True)
class Rule:
    """One rule: its table, its chain, and the rest as arguments; an ``optional`` one may be refused.

    No argument has spaces or quotes: nothing of ours needs them, and the programs quote each in a way of its own.
    """

    table: str
    chain: str
    match: tuple[str, ...]
    optional: bool = False

    @property
    def meaning(self) -> frozenset[tuple[str, ...]]:
        """Its options with their values, in no order: the programs tell them in one of their own."""
        options: list[tuple[str, ...]] = []
        negated = False
        for word in self.match:
            if word == "!":
                negated = True
            elif word.startswith("-") or not options:
                options.append(("!", word) if negated else (word,))
                negated = False
            else:
                options[-1] += (word,)
        return frozenset(options)

    def value(self, option: str) -> str:
        """What follows ``option``; empty where the rule has no such one."""
        return self.match[self.match.index(option) + 1] if option in self.match[:-1] else ""

    def line(self, verb: str) -> str:
        """As the programs read and write it; ``verb`` is ``-A``, ``-I`` or ``-D``."""
        return " ".join((verb, self.chain, *self.match))


#: Names the network of ours that a rule is for; ``None``: the rule is somebody else's.
NetworkOf = Callable[[Rule], str | None]


def read_rules(table: str, listing: str) -> list[Rule]:
    """The rules in ``listing`` (of ``iptables -S``) that carry a comment, as all of ours do."""
    found = []
    for line in listing.splitlines():
        words = shlex.split(line) if " --comment " in line else []
        if len(words) > 2 and words[0] == "-A":
            found.append(Rule(table, words[1], tuple(words[2:])))
    return found


def difference(present: Sequence[Rule], wanted: Sequence[Rule], network_of: NetworkOf) -> list[str]:
    """The lines that turn ``present`` into ``wanted``, of one table.

    The rules of a network in a chain count as one: where they differ, in number or in order, all of them are made anew
    in front of everybody's, the first of ``wanted`` first.
    """
    have, want = _grouped(present, network_of), _grouped(wanted, network_of)
    lines: list[str] = []
    for place in dict.fromkeys((*have, *want)):
        old, new = have.get(place, []), want.get(place, [])
        if [rule.meaning for rule in old] != [rule.meaning for rule in new]:
            lines += [rule.line("-D") for rule in old]
            lines += [rule.line("-I") for rule in reversed(new)]
    return lines


def settle(program: str, tables: Collection[str], wanted: Sequence[Rule], network_of: NetworkOf) -> None:
    """Have exactly ``wanted`` of all rules in ``tables`` that are ours; idempotent.

    :raises DataPlaneFailed: the firewall cannot be read, or refuses a rule that is not optional.
    :raises Unavailable: it is not installed, and rules are wanted.
    """
    if not wanted and shutil.which(program) is None:
        return
    for table in tables:
        _settle(program, table, [rule for rule in wanted if rule.table == table], network_of)


def _settle(program: str, table: str, wanted: Sequence[Rule], network_of: NetworkOf) -> None:
    required = [rule for rule in wanted if not rule.optional]
    problem = ""
    # The second time without those that may be left out. Or somebody else has changed the table meanwhile.
    for some in (wanted, required):
        lines = difference(_present(program, table, required), some, network_of)
        if not lines:
            return
        text = "\n".join((f"*{table}", *lines, "COMMIT", ""))
        result = run_blocking(f"{program}-restore", *_PATIENCE, "--noflush", stdin=text)
        if result.code == 0:
            return
        problem = result.errors or f"{program}-restore ended with {result.code}"
    raise _refused(program, table, f"does not take its rules: {problem}")


def _present(program: str, table: str, required: Sequence[Rule]) -> list[Rule]:
    listing = run_blocking(program, *_PATIENCE, "-t", table, "-S")
    if listing.code != 0 and required:
        raise _refused(program, table, f"cannot be read: {listing.errors}")
    # A kernel may be without a table that is only of use, and not needed.
    return read_rules(table, listing.output)


def _grouped(rules: Sequence[Rule], network_of: NetworkOf) -> dict[tuple[str, str], list[Rule]]:
    """Rules of ours by chain and network, each in its order."""
    groups: dict[tuple[str, str], list[Rule]] = {}
    for rule in rules:
        network = network_of(rule)
        if network is not None:
            groups.setdefault((rule.chain, network), []).append(rule)
    return groups


def _refused(program: str, table: str, what: str) -> DataPlaneFailed:
    return DataPlaneFailed(
        f"the table {table} of the host's firewall {what}",
        hint=f"`{program} -t {table} -S` on the host shows it; without the rules packets of nodes may be dropped",
        details={"operation": f"{program} -t {table}", "errno": ""},
    )
