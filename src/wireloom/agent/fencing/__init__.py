"""Leases of nodes that may be started elsewhere when this host is lost; see :mod:`wireloom.planning.leases`."""

from wireloom.agent.fencing.fence import Fence
from wireloom.agent.fencing.leases import HeldLease, LeaseBook, boot_clock

__all__ = ["Fence", "HeldLease", "LeaseBook", "boot_clock"]
