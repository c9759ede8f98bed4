"""Whether the kernel can limit the CPU time of a domain."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cpu_quota_works"]


def cpu_quota_works(root: Path = Path("/sys/fs/cgroup")) -> bool:
    """Whether the ``cpu`` controller with its bandwidth limit is there, in either version of control groups."""
    unified = root / "cgroup.controllers"
    if unified.is_file():
        return "cpu" in unified.read_text().split()
    return (root / "cpu" / "cpu.cfs_quota_us").is_file()
