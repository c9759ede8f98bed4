"""The data-plane contract: ports, wires and segments of one host.

Rules that every implementation keeps (the conformance suite proves them):

* **Ensure, never assume.** Each call is idempotent and batched; after it the host holds what was asked.
* **Found by alias.** Every device carries a readable link alias from which ``observe`` rebuilds everything.
* **Transparent.** A wire carries every frame byte-exact, link-local groups and VLAN tags included.
* A call on a device that vanished meanwhile (its node stopped) is not an error: it is reported by ``observe``.
* Errors are ``DataPlaneFailed`` with the kernel's errno name and the device in ``details``.

Implementations share :mod:`wireloom.dataplane.host`, which makes the devices, and differ in how they join them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol

from wireloom.model.network import (
    DataPlaneAbilities,
    DataPlaneState,
    HostPort,
    ImpairmentPlan,
    LargestPayload,
    PathTest,
    PlugPlan,
    PortAlias,
    PortCounters,
    PortEvent,
    PortPlan,
    ProbeEnd,
    Segment,
    SegmentPlan,
    Tunnel,
    TunnelPlan,
    WirePlan,
)

__all__ = [
    "SELF_TEST_LAB",
    "DataPlane",
    "DataPlaneAbilities",
    "DataPlaneState",
    "HostPort",
    "ImpairmentPlan",
    "LargestPayload",
    "PathTest",
    "PlugPlan",
    "PortAlias",
    "PortCounters",
    "PortEvent",
    "PortPlan",
    "ProbeEnd",
    "Segment",
    "SegmentPlan",
    "Tunnel",
    "TunnelPlan",
    "WirePlan",
]


#: The lab id of the throw-away ports of a self-test.
SELF_TEST_LAB: Final = "self-test"


class DataPlane(Protocol):
    """One host's data plane."""

    name: str

    async def abilities(self) -> DataPlaneAbilities:
        """What this host can do; found out by trying, and tried again with each call where something was missing."""
        ...

    async def observe(self) -> DataPlaneState: ...

    async def ensure_ports(self, ports: Sequence[PortPlan]) -> None:
        """Make or mend ports. A namespace that vanished meanwhile is skipped (its node died)."""
        ...

    async def remove_ports(self, devices: Sequence[str]) -> None: ...

    async def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        """Join each pair both ways; an end that was joined elsewhere is moved atomically per direction.

        An end that was in a segment leaves it.
        """
        ...

    async def remove_wires(self, wires: Sequence[WirePlan]) -> None:
        """Cut each pair; the devices stay."""
        ...

    async def ensure_tunnels(self, tunnels: Sequence[TunnelPlan]) -> None:
        """Join each device to its other end on another host; whatever it was joined to before it leaves.

        A number that another port of this host had is taken over from it. A device that does not exist is left out.
        Whether the other host can be reached is not looked at, and no carrier depends on it.

        :raises InvalidInput: two of them share a device or a number, or one has no fit address or number.
        """
        ...

    async def remove_tunnels(self, devices: Sequence[str]) -> None:
        """Cut devices off from other hosts; those that are joined to something on this host are left alone."""
        ...

    async def set_carrier(self, carriers: dict[str, bool]) -> None:
        """Set host devices up or down; a veth's guest sees its carrier follow."""
        ...

    async def ensure_segment(self, segment: SegmentPlan) -> None:
        """Make or mend a segment with its uplink.

        :raises Conflict: the uplink carries addresses of the host, and the plan does not say to move them.
        :raises Unsupported: the host lacks what it needs; ``abilities`` says so beforehand.
        """
        ...

    async def remove_segment(self, name: str) -> None:
        """Remove a segment of ours; its ports stay, unplugged, and its uplink gets back what was taken from it."""
        ...

    async def mend(self) -> None:
        """Put back what others took away of it without a word, such as rules of the host's firewall; for calling now
        and then. What events tell of, or ``observe`` shows, is left to those who look there.

        :raises DataPlaneFailed: the host refuses.
        """
        ...

    async def ensure_plugs(self, plugs: Sequence[PlugPlan]) -> None:
        """Put each device into its segment, as the port that the plan says; one that was wired leaves its wire.

        A device or a segment that does not exist is left out.
        """
        ...

    async def remove_plugs(self, devices: Sequence[str]) -> None:
        """Take devices out of whatever segment they are in; the devices stay."""
        ...

    async def impair(self, plans: Sequence[ImpairmentPlan]) -> None:
        """Impair what each device passes on, exactly as its plan says.

        :raises Unsupported: this kernel lacks what a plan needs; the others are carried out.
        """
        ...

    async def counters(self) -> Mapping[str, PortCounters]:
        """Counters of all ports of this installation, by device."""
        ...

    async def largest_payload(
        self, sender: ProbeEnd, receiver: ProbeEnd, most: int, *, patience_s: float, limit_s: float
    ) -> LargestPayload:
        """The largest frame, up to ``most`` bytes of payload, that gets from one guest's NIC to the other's. Really
        sent, of an ethertype for experiments.

        :param patience_s: how long each frame may take; ``limit_s``: all together, after which what is known must do.
        :raises Unsupported: nobody can send for the sender's guest.
        :raises NotFound: an end has gone.
        """
        ...

    async def self_test(self) -> tuple[PathTest, ...]:
        """Send a real frame over each kind of path, through throw-away ports."""
        ...

    async def withdraw(self) -> None:
        """Undo every wire and segment of this installation, whoever is to join its ports from now on; ports stay."""
        ...

    def watch(self) -> AsyncIterator[PortEvent]: ...

    async def close(self) -> None:
        """Let go of sockets. Everything on the host stays."""
        ...
