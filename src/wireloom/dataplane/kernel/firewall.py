"""Keeps the host's firewall off our segments.

Where ``bridge-nf-call-iptables`` is on (container engines set it), frames between two ports of a bridge go through
the host's IP tables: the FORWARD chain, whose policy such engines set to DROP, and before it connection tracking and
address translation. A bridge's own switch can only add to that. So each segment gets a rule that accepts what stays on
it, and one that keeps its packets out of connection tracking, and with it out of translation, unless the host itself
speaks there. On a bridge of somebody else's only our ports are accepted.

Nobody tells when rules go, or when an engine that starts later brings the need for them: so callers say it again now
and then.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wireloom.iptables import Rule, settle

__all__ = ["Passage", "accept", "forget"]

#: Program by the setting that sends bridged frames through its tables.
_PROGRAMS: Final = {
    "iptables": Path("/proc/sys/net/bridge/bridge-nf-call-iptables"),
    "ip6tables": Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
}
_TABLES: Final = ("filter", "raw")
#: All host ports of nodes, by how their names begin.
_OUR_PORTS: Final = "wlp+"
_COMMENT: Final = "wireloom"
_MARK: Final = ("-m", "comment", "--comment", _COMMENT)


@dataclass(frozen=True)
class Passage:
    """A bridge that frames are to pass.

    :ivar host_speaks: the host has an address there, and what it routes for others may need to be tracked.
    :ivar foreign: it is somebody else's: only frames from and to ports of nodes pass.
    """

    bridge: str
    host_speaks: bool = False
    foreign: bool = False

    def rules(self) -> Sequence[Rule]:
        if self.foreign:
            return self._accepted("--physdev-in", _OUR_PORTS), self._accepted("--physdev-out", _OUR_PORTS)
        return (self._accepted(),) if self.host_speaks else (self._accepted(), self._untracked())

    def _accepted(self, *which: str) -> Rule:
        bridged = ("-m", "physdev", *which, "--physdev-is-bridged")
        return Rule("filter", "FORWARD", ("-i", self.bridge, "-o", self.bridge, *bridged, *_MARK, "-j", "ACCEPT"))

    def _untracked(self) -> Rule:
        # A kernel without the target for it has no harm but the tracking itself.
        words = ("-i", self.bridge, *_MARK, "-j", "CT", "--notrack")
        return Rule("raw", "PREROUTING", words, optional=True)


def accept(*passages: Passage) -> None:
    """Let frames between ports of bridges pass; without effect where nothing would eat them.

    :raises DataPlaneFailed: the firewall refused a rule.
    """
    _settle(_programs(), {passage.bridge: passage.rules() for passage in passages})


def forget(name: str) -> None:
    """Remove the rules of a bridge, ours or not; harmless when there are none."""
    _settle(_installed(), {name: ()})


def _settle(programs: Iterator[str], wanted: Mapping[str, Sequence[Rule]]) -> None:
    """Have exactly ``wanted`` of each bridge, and nothing of bridges that somebody, or a killed agent, removed."""

    def network_of(rule: Rule) -> str | None:
        if rule.value("--comment") != _COMMENT:
            return None
        bridge = rule.value("-i")
        # Looked up after the rule was read: another agent makes the bridge before its rules.
        return bridge if bridge in wanted or not _exists(bridge) else None

    rules = [rule for some in wanted.values() for rule in some]
    for program in programs:
        settle(program, _TABLES, rules, network_of)


def _exists(device: str) -> bool:
    try:
        socket.if_nametoindex(device)
    except OSError:
        return False
    return True


def _programs() -> Iterator[str]:
    """Those whose tables bridged frames go through."""
    return (program for program in _installed() if _PROGRAMS[program].exists())


def _installed() -> Iterator[str]:
    return (program for program in _PROGRAMS if shutil.which(program) is not None)
