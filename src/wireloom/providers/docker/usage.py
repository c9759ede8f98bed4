"""Use of resources, read from the control group of a container's first process (both cgroup versions)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from wireloom.model.runtime import RuntimeStats

__all__ = ["read_usage"]

_ROOT: Final = Path("/sys/fs/cgroup")
_NANOSECONDS: Final = 1e9
_MICROSECONDS: Final = 1e6


def read_usage(pid: int) -> RuntimeStats | None:
    """CPU time and resident memory of the whole container; ``None`` where its group cannot be read from here."""
    try:
        groups = _groups(Path(f"/proc/{pid}/cgroup").read_text())
        if "memory" in groups:
            cpu = int((_ROOT / "cpuacct" / groups["cpuacct"] / "cpuacct.usage").read_text()) / _NANOSECONDS
            memory = _facts(_ROOT / "memory" / groups["memory"] / "memory.stat")["total_rss"]
        else:
            cpu = _facts(_ROOT / groups[""] / "cpu.stat")["usage_usec"] / _MICROSECONDS
            memory = _facts(_ROOT / groups[""] / "memory.stat")["anon"]
    except (OSError, KeyError):
        return None
    return RuntimeStats(cpu_seconds=cpu, memory_bytes=memory)


def _groups(text: str) -> dict[str, str]:
    """Controller to path below its mount, from cgroups(7) ``/proc/<pid>/cgroup``; version 2 has the controller ''."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    return found


def _facts(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split(" ", 1) for line in path.read_text().splitlines())}
