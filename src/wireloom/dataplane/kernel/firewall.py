"""Lets frames on our segments pass the host's firewall.

Where ``bridge-nf-call-iptables`` is on (container engines set it), frames between two ports of a bridge go through
the FORWARD chain, whose policy such engines set to DROP. A bridge's own switch can only add to that, so each segment
gets one rule that accepts what stays on it. On a bridge of somebody else's the rules are for our ports alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from wireloom.commands import run_blocking
from wireloom.errors import DataPlaneFailed

__all__ = ["accept", "forget"]

#: Program by the setting that sends bridged frames through its tables.
_PROGRAMS: Final = {
    "iptables": Path("/proc/sys/net/bridge/bridge-nf-call-iptables"),
    "ip6tables": Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
}
#: All host ports of nodes, by how their names begin.
_OUR_PORTS: Final = "wlp+"


def _rule(name: str, *which: str) -> list[str]:
    bridged = ["-m", "physdev", "--physdev-is-bridged", *which]
    return ["FORWARD", "-i", name, "-o", name, *bridged, "-m", "comment", "--comment", "wireloom", "-j", "ACCEPT"]


def _rules_for_ours(name: str) -> list[list[str]]:
    return [_rule(name, "--physdev-in", _OUR_PORTS), _rule(name, "--physdev-out", _OUR_PORTS)]


def accept(name: str, *, ours_alone: bool = False) -> None:
    """Accept frames between ports of the bridge ``name``; without effect where nothing would eat them.

    :param ours_alone: only frames from and to ports of nodes: the bridge is somebody else's.
    :raises DataPlaneFailed: the firewall refused the rule.
    """
    rules = _rules_for_ours(name) if ours_alone else [_rule(name)]
    for program, setting in _PROGRAMS.items():
        if not setting.exists() or shutil.which(program) is None:
            continue
        for rule in rules:
            _insert(program, rule, name)


def _insert(program: str, rule: list[str], name: str) -> None:
    if run_blocking(program, "-w", "-C", *rule).code == 0:
        return
    outcome = run_blocking(program, "-w", "-I", *rule)
    if outcome.code != 0:
        raise DataPlaneFailed(
            f"the firewall does not take the rule for segment {name}: {outcome.errors}",
            hint="frames between ports of the segment may be dropped by the FORWARD chain",
            details={"device": name, "operation": f"{program} -I FORWARD", "errno": ""},
        )


def forget(name: str) -> None:
    """Remove the rules of a bridge; harmless when there are none."""
    for program in _PROGRAMS:
        if shutil.which(program) is not None:
            for rule in (_rule(name), *_rules_for_ours(name)):
                run_blocking(program, "-w", "-D", *rule)
