"""Lets frames on our segments pass the host's firewall.

Where ``bridge-nf-call-iptables`` is on (container engines set it), frames between two ports of a bridge go through
the FORWARD chain, whose policy such engines set to DROP. A bridge's own switch can only add to that, so each segment
gets one rule that accepts what stays on it.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

from wireloom.errors import DataPlaneFailed, DeadlineExceeded

__all__ = ["accept_segment", "forget_segment"]

_DEADLINE_S: Final = 15.0
#: Program by the setting that sends bridged frames through its tables.
_PROGRAMS: Final = {
    "iptables": Path("/proc/sys/net/bridge/bridge-nf-call-iptables"),
    "ip6tables": Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
}


def _rule(name: str) -> list[str]:
    bridged = ["-m", "physdev", "--physdev-is-bridged"]
    return ["FORWARD", "-i", name, "-o", name, *bridged, "-m", "comment", "--comment", "wireloom", "-j", "ACCEPT"]


async def _run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_DEADLINE_S):
            _, errors = await process.communicate()
    except TimeoutError:
        raise DeadlineExceeded(f"{command[0]} did not end in {_DEADLINE_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, errors.decode(errors="replace").strip()


async def accept_segment(name: str) -> None:
    """Accept frames between ports of the bridge ``name``; without effect where nothing would eat them.

    :raises DataPlaneFailed: the firewall refused the rule.
    """
    for program, setting in _PROGRAMS.items():
        if not setting.exists() or shutil.which(program) is None:
            continue
        present, _ = await _run(program, "-w", "-C", *_rule(name))
        if present == 0:
            continue
        code, errors = await _run(program, "-w", "-I", *_rule(name))
        if code != 0:
            raise DataPlaneFailed(
                f"the firewall does not take the rule for segment {name}: {errors}",
                hint="frames between ports of the segment may be dropped by the FORWARD chain",
                details={"device": name, "operation": f"{program} -I FORWARD", "errno": ""},
            )


async def forget_segment(name: str) -> None:
    """Remove the rule of a segment; harmless when there is none."""
    for program in _PROGRAMS:
        if shutil.which(program) is not None:
            await _run(program, "-w", "-D", *_rule(name))
