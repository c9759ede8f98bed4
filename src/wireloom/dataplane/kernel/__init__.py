"""The data plane on plain kernel devices: veth pairs, taps, tc redirection, bridges."""

from __future__ import annotations

from wireloom.dataplane.kernel.plane import KernelDataPlane

__all__ = ["KernelDataPlane"]
