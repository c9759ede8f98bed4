"""Keeps the host's firewall off our segments.

Where ``bridge-nf-call-iptables`` is on (container engines set it), frames between two ports of a bridge go through
the host's IP tables: the FORWARD chain, whose policy such engines set to DROP, and before it connection tracking and
address translation. A bridge's own switch can only add to that. So each segment gets a rule that accepts what stays on
it, and one that keeps its packets out of connection tracking, and with it out of translation, unless the host itself
speaks there. On a bridge of somebody else's only our ports are accepted.
"""

from __future__ import annotations

import shlex
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from wireloom.commands import run_blocking
from wireloom.errors import DataPlaneFailed

__all__ = ["accept", "accept_our_ports", "forget"]

#: Program by the setting that sends bridged frames through its tables.
_PROGRAMS: Final = {
    "iptables": Path("/proc/sys/net/bridge/bridge-nf-call-iptables"),
    "ip6tables": Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
}
#: All host ports of nodes, by how their names begin.
_OUR_PORTS: Final = "wlp+"
_MARK: Final = ("-m", "comment", "--comment", "wireloom")
_COMMENT: Final = {"--comment", "wireloom"}

#: Table, chain, and the rest of a rule.
_Rule = tuple[str, str, Sequence[str]]


def accept(name: str, *, host_speaks: bool) -> None:
    """Let frames between ports of the bridge ``name`` pass; without effect where nothing would eat them.

    :param host_speaks: the host has an address there, and what it routes for others may need to be tracked.
    :raises DataPlaneFailed: the firewall refused the rule.
    """
    for program in _programs():
        _insert(program, _accepted(name), name)
        if host_speaks:
            _delete(program, _untracked(name))
        else:
            # A kernel without the target for it has no harm but the tracking itself.
            _add(program, _untracked(name))


def forget(name: str) -> None:
    """Remove the rules of a bridge, ours or not; harmless when there are none.

    Rules of bridges that do not exist any more go too: somebody else removed these, or a killed agent did.
    """
    present = {device for _, device in socket.if_nameindex()} - {name}
    for program in _installed():
        for table, chain in (("filter", "FORWARD"), ("raw", "PREROUTING")):
            for rule in run_blocking(program, "-w", "-t", table, "-S", chain).output.splitlines():
                words = shlex.split(rule)
                if _COMMENT.issubset(words) and words[:3] == ["-A", chain, "-i"] and words[3] not in present:
                    run_blocking(program, "-w", "-t", table, "-D", *words[1:])


def accept_our_ports(name: str) -> None:
    """Let frames from and to ports of nodes pass the bridge ``name``, which is somebody else's.

    :raises DataPlaneFailed: the firewall refused the rule.
    """
    for program in _programs():
        for rule in _accepted_for_ours(name):
            _insert(program, rule, name)


def _programs() -> Iterator[str]:
    """Those whose tables bridged frames go through."""
    return (program for program in _installed() if _PROGRAMS[program].exists())


def _installed() -> Iterator[str]:
    return (program for program in _PROGRAMS if shutil.which(program) is not None)


def _accepted(name: str, *which: str) -> _Rule:
    bridged = ("-m", "physdev", "--physdev-is-bridged", *which)
    return "filter", "FORWARD", ("-i", name, "-o", name, *bridged, *_MARK, "-j", "ACCEPT")


def _accepted_for_ours(name: str) -> tuple[_Rule, _Rule]:
    return _accepted(name, "--physdev-in", _OUR_PORTS), _accepted(name, "--physdev-out", _OUR_PORTS)


def _untracked(name: str) -> _Rule:
    return "raw", "PREROUTING", ("-i", name, *_MARK, "-j", "CT", "--notrack")


def _add(program: str, rule: _Rule) -> str:
    """Add a rule in front if it is not there; what the firewall says against it, if anything."""
    table, chain, rest = rule
    if run_blocking(program, "-w", "-t", table, "-C", chain, *rest).code == 0:
        return ""
    outcome = run_blocking(program, "-w", "-t", table, "-I", chain, *rest)
    return "" if outcome.code == 0 else outcome.errors or f"{program} ended with {outcome.code}"


def _insert(program: str, rule: _Rule, name: str) -> None:
    if problem := _add(program, rule):
        raise DataPlaneFailed(
            f"the firewall does not take the rule for segment {name}: {problem}",
            hint="frames between ports of the segment may be dropped by the FORWARD chain",
            details={"device": name, "operation": f"{program} -I FORWARD", "errno": ""},
        )


def _delete(program: str, rule: _Rule) -> None:
    table, chain, rest = rule
    run_blocking(program, "-w", "-t", table, "-D", chain, *rest)
