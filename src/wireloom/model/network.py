"""Values about networking on one host: ports, wires and segments as they should be, and as the kernel shows them."""

from __future__ import annotations

from wireloom.model.attachment import Attachment
from wireloom.model.base import Value

__all__ = [
    "DataPlaneState",
    "HostPort",
    "PortAlias",
    "PortEvent",
    "PortPlan",
    "Segment",
    "SegmentPlan",
    "WirePlan",
]


class PortAlias(Value):
    """Who a host device belongs to; written as the link alias ``wireloom i=… l=… n=… p=… name=lab/node/port``."""

    installation: str
    lab_id: str
    node_id: str
    index: int
    name: str  # "<lab>/<node>/<port>", for people reading `ip link`

    def text(self) -> str:
        """The alias as stored; at most 255 bytes (IFALIASZ is 256)."""
        head = f"wireloom i={self.installation} l={self.lab_id} n={self.node_id} p={self.index} name="
        return head + self.name[: 255 - len(head)]

    @classmethod
    def parse(cls, text: str) -> PortAlias | None:
        """The reverse of :meth:`text`; ``None`` for an alias that is not ours."""
        if not text.startswith("wireloom "):
            return None
        fields = dict(item.split("=", 1) for item in text.split(" ")[1:] if "=" in item)
        try:
            return cls(
                installation=fields["i"],
                lab_id=fields["l"],
                node_id=fields["n"],
                index=int(fields["p"]),
                name=fields["name"],
            )
        except (KeyError, ValueError):
            return None


class PortPlan(Value):
    """A host port that should exist.

    :ivar device: host-side device name; ``guest_name`` and ``mac`` are the guest's side (namespace attachments).
    :ivar mtu: bytes, both sides.
    :ivar segment: bridge-like segment that the port is plugged into, by name; ``None`` for a port to be wired.
    :ivar addresses: set on the guest's side (namespace attachments only), e.g. ``172.30.128.5/20``.
    :ivar gateway: default route set on the guest's side.
    :ivar carrier: whether the host side is up from the start.
    """

    device: str
    alias: PortAlias
    attachment: Attachment
    guest_name: str
    mac: str
    mtu: int = 1500
    segment: str | None = None
    addresses: tuple[str, ...] = ()
    gateway: str | None = None
    carrier: bool = False


class WirePlan(Value):
    """Two host devices joined both ways. ``mtu`` is set on both host sides (and the guest side of a veth)."""

    a: str
    b: str
    mtu: int = 1500


class SegmentPlan(Value):
    """A shared medium: the management bridge and, later, switches. ``address`` is the host's own in it."""

    name: str
    alias: str
    address: str | None = None
    mtu: int = 1500


class HostPort(Value):
    """A host device of ours as the kernel shows it.

    :ivar peer: the device that frames arriving from the guest are redirected to, or ``None``.
    :ivar up: the host side is administratively up (for a veth that is the guest's carrier).
    :ivar carrier: the guest's side is up too.
    """

    device: str
    alias: PortAlias
    kind: str  # "veth" | "tap"
    mtu: int
    up: bool
    carrier: bool
    peer: str | None = None
    segment: str | None = None


class Segment(Value):
    name: str
    alias: str
    up: bool


class DataPlaneState(Value):
    """Everything of this installation that the kernel holds now, by device name."""

    ports: dict[str, HostPort] = {}
    segments: dict[str, Segment] = {}


class PortEvent(Value):
    """A device of ours changed or went; ``device`` is empty when events were lost (observe again)."""

    device: str = ""
    removed: bool = False
