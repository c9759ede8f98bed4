"""What the kinds of data planes differ in: how host devices are joined to wires and segments.

Everything here is blocking and called from the data plane's one worker thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink
from wireloom.errors import DataPlaneFailed
from wireloom.model.network import DataPlaneAbilities, PlugPlan, Segment, SegmentPlan, Tunnel, TunnelPlan, WirePlan
from wireloom.model.vlans import Vlans

__all__ = ["Admission", "Joiner", "JoinerFactory", "Joins"]


@dataclass(frozen=True)
class Admission:
    """A host device that has just been made or mended: to be kept apart from the host, or put into ``segment``.

    :ivar master: index of the kernel's bridge that it is in now; 0: none.
    """

    device: str
    index: int
    master: int = 0
    segment: str | None = None


@dataclass(frozen=True)
class Joins:
    """How devices are joined now.

    :ivar peers: device → the one that its guest's frames come out of.
    :ivar plugs: device → (segment, as which port).
    :ivar tunnels: device → what joins it to another host.
    :ivar segments: of this installation, by name.
    :ivar bridges: of somebody else's, that ports can be plugged into.
    :ivar members: devices of somebody else's in these, by bridge, where the kernel itself does not show them.
    """

    peers: Mapping[str, str] = field(default_factory=dict)
    plugs: Mapping[str, tuple[str, Vlans | None]] = field(default_factory=dict)
    tunnels: Mapping[str, Tunnel] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)
    bridges: frozenset[str] = frozenset()
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Joiner(Protocol):
    """Wires and segments of one installation."""

    def abilities(self) -> DataPlaneAbilities:
        """What wires and segments can do here, found out anew; impairments are the host's and filled in by it."""
        ...

    def observe(self, links: Sequence[Link], ports: Sequence[Link]) -> Joins:
        """How ``ports`` are joined; ``links`` are all devices of the host."""
        ...

    def admit(self, ports: Sequence[Admission]) -> Mapping[str, DataPlaneFailed]:
        """Take ports in; what failed, by device."""
        ...

    def release(self, devices: Sequence[str]) -> None:
        """Forget devices that are about to be removed."""
        ...

    def ensure_wires(self, wires: Sequence[WirePlan]) -> None: ...

    def remove_wires(self, wires: Sequence[WirePlan]) -> None: ...

    def ensure_tunnels(self, tunnels: Sequence[TunnelPlan]) -> None: ...

    def remove_tunnels(self, devices: Sequence[str]) -> None: ...

    def ensure_segment(self, segment: SegmentPlan) -> None: ...

    def remove_segment(self, name: str) -> None: ...

    def mend(self) -> None:
        """See :meth:`~wireloom.dataplane.contract.DataPlane.mend`."""
        ...

    def ensure_plugs(self, plugs: Sequence[PlugPlan]) -> None: ...

    def remove_plugs(self, devices: Sequence[str]) -> None: ...

    def plugged(self) -> Sequence[str]:
        """Devices that this joiner has in segments."""
        ...

    def withdraw(self) -> None: ...

    def close(self) -> None: ...


class JoinerFactory(Protocol):
    """Makes a joiner in the worker thread, over the host's netlink socket."""

    def __call__(self, netlink: Netlink, installation: str) -> Joiner: ...
