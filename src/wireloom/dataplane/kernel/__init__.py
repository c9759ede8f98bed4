"""The data plane on plain kernel devices: veth pairs, taps, tc redirection, bridges."""

from __future__ import annotations

from wireloom.dataplane.host.plane import HostDataPlane
from wireloom.dataplane.kernel.joiner import KernelJoiner

__all__ = ["KernelDataPlane"]


class KernelDataPlane(HostDataPlane):
    """Joins by redirection and bridges."""

    name = "kernel"

    def __init__(self, installation: str) -> None:
        super().__init__(installation, KernelJoiner)
