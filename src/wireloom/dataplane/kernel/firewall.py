"""Lets frames on our segments pass the host's firewall.

Where ``bridge-nf-call-iptables`` is on (container engines set it), frames between two ports of a bridge go through
the FORWARD chain, whose policy such engines set to DROP. A bridge's own switch can only add to that, so each segment
gets one rule that accepts what stays on it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from wireloom.commands import run_blocking
from wireloom.errors import DataPlaneFailed

__all__ = ["accept_segment", "forget_segment"]

#: Program by the setting that sends bridged frames through its tables.
_PROGRAMS: Final = {
    "iptables": Path("/proc/sys/net/bridge/bridge-nf-call-iptables"),
    "ip6tables": Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
}


def _rule(name: str) -> list[str]:
    bridged = ["-m", "physdev", "--physdev-is-bridged"]
    return ["FORWARD", "-i", name, "-o", name, *bridged, "-m", "comment", "--comment", "wireloom", "-j", "ACCEPT"]


def accept_segment(name: str) -> None:
    """Accept frames between ports of the bridge ``name``; without effect where nothing would eat them.

    :raises DataPlaneFailed: the firewall refused the rule.
    """
    for program, setting in _PROGRAMS.items():
        if not setting.exists() or shutil.which(program) is None:
            continue
        if (run_blocking(program, "-w", "-C", *_rule(name))).code == 0:
            continue
        outcome = run_blocking(program, "-w", "-I", *_rule(name))
        if outcome.code != 0:
            raise DataPlaneFailed(
                f"the firewall does not take the rule for segment {name}: {outcome.errors}",
                hint="frames between ports of the segment may be dropped by the FORWARD chain",
                details={"device": name, "operation": f"{program} -I FORWARD", "errno": ""},
            )


def forget_segment(name: str) -> None:
    """Remove the rule of a segment; harmless when there is none."""
    for program in _PROGRAMS:
        if shutil.which(program) is not None:
            run_blocking(program, "-w", "-D", *_rule(name))
