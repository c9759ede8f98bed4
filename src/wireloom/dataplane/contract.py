"""The data-plane contract: ports, wires and segments of one host.

Rules that every implementation keeps (the conformance suite proves them):

* **Ensure, never assume.** Each call is idempotent and batched; after it the kernel holds what was asked.
* **Found by alias.** Every device carries a readable link alias from which ``observe`` rebuilds everything.
* **Transparent.** A wire carries every frame byte-exact, link-local groups and VLAN tags included.
* A call on a device that vanished meanwhile (its node stopped) is not an error: it is reported by ``observe``.
* Errors are ``DataPlaneFailed`` with the kernel's errno name and the device in ``details``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from wireloom.model.network import (
    DataPlaneState,
    HostPort,
    PortAlias,
    PortEvent,
    PortPlan,
    Segment,
    SegmentPlan,
    WirePlan,
)

__all__ = [
    "DataPlane",
    "DataPlaneState",
    "HostPort",
    "PortAlias",
    "PortEvent",
    "PortPlan",
    "Segment",
    "SegmentPlan",
    "WirePlan",
]


class DataPlane(Protocol):
    """One host's data plane."""

    name: str

    async def observe(self) -> DataPlaneState: ...

    async def ensure_ports(self, ports: Sequence[PortPlan]) -> None:
        """Make or mend ports. A namespace that vanished meanwhile is skipped (its node died)."""
        ...

    async def remove_ports(self, devices: Sequence[str]) -> None: ...

    async def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        """Join each pair both ways; an end that was joined elsewhere is moved atomically per direction."""
        ...

    async def remove_wires(self, wires: Sequence[WirePlan]) -> None:
        """Cut each pair; the devices stay."""
        ...

    async def set_carrier(self, carriers: dict[str, bool]) -> None:
        """Set host devices up or down; a veth's guest sees its carrier follow."""
        ...

    async def ensure_segment(self, segment: SegmentPlan) -> None: ...

    async def remove_segment(self, name: str) -> None: ...

    async def self_test(self) -> None:
        """Send a real frame end to end through a wire of throw-away ports. :raises DataPlaneFailed:"""
        ...

    def watch(self) -> AsyncIterator[PortEvent]: ...

    async def close(self) -> None:
        """Let go of sockets. Everything in the kernel stays."""
        ...
