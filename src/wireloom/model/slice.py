"""Intent: the part of a lab that one host runs, complete enough that an agent needs nothing else.

Verbs never act; they edit a slice. Counters say what cannot be said as a state: a restart is a higher
``restarts``, a wipe a higher ``incarnation``, and clearing errors (which every user verb does) a higher
``attention``. An agent compares them with what it recorded beside the runtime.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import Field

from wireloom.model.base import Value
from wireloom.model.device import Access, Console, Day0, Extract, LinkDown, Readiness, Secret, Step
from wireloom.model.dialogue import Cli
from wireloom.model.identity import Identity, short_hash
from wireloom.model.images import ImagePin
from wireloom.model.impairment import LinkImpairment
from wireloom.model.moves import MoveBase
from wireloom.model.network import Uplink
from wireloom.model.underlay import Encryption
from wireloom.model.vlans import Tagging, Vlans

__all__ = [
    "SLICE_SCHEMA",
    "SPEC_FIELDS",
    "Arrival",
    "Bind",
    "Condition",
    "Departure",
    "Management",
    "NatIntent",
    "NodeIntent",
    "PlugIntent",
    "PortIntent",
    "PortRef",
    "RemoteEnd",
    "RestartPolicy",
    "SegmentIntent",
    "Slice",
    "StoredConfig",
    "WireIntent",
]


#: Raised when an agent that does not know a change would do harm; one that it may pass over does not count.
SLICE_SCHEMA: Final = 1


class RestartPolicy(StrEnum):
    """What happens when a node ends by itself: start it again always, on a non-zero exit, or never."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class Condition(StrEnum):
    """What a dependency waits for."""

    RUNNING = "running"
    READY = "ready"


class Bind(Value):
    """A host path shown in the guest's file system."""

    source: str
    target: str
    read_only: bool = False


class PortIntent(Value):
    """One port of a node. ``device`` is the host-side network device, a pure hash of the node's id and index.

    ``role`` is ``mgmt`` (index 0, on the management network), ``data`` (may be wired), or ``spare`` (made up
    front so that a link can be added live; a wire turns it into a used port without touching the guest), or
    ``reserved`` (between management and data, never used; its index is below 0).

    ``position`` is where the guest finds the NIC, counted from 0.
    """

    index: int
    name: str
    guest_name: str
    device: str
    mac: str
    role: Literal["mgmt", "data", "spare", "reserved"] = "data"
    position: int = 0


class Management(Value):
    """The management network of the host: one bridge for nodes of every technology.

    :ivar subnet: e.g. ``172.30.128.0/20``; ``gateway`` is the host's own address in it.
    :ivar domain: DNS domain under which nodes are named ``<node>.<lab>.<domain>``.
    """

    subnet: str
    gateway: str
    domain: str = "wl"


class StoredConfig(Value):
    """A revision of the config store: its number, the hash of its text, and the text."""

    revision: int
    sha256: str
    text: str


#: What cannot change on a live runtime (ports join them where a provider fixes these at creation).
SPEC_FIELDS: Final = frozenset(
    {
        "name", "provider", "image", "cpu", "memory_mb", "disk_gb", "env", "binds", "settings", "startup_config",
        "startup_template", "day0",
    }
)  # fmt: skip


class NodeIntent(Value):
    """One node as it should be, with everything of its device already resolved.

    :ivar cpu: cores (fractions allowed where the provider can), ``memory_mb``: MiB.
    :ivar disk_gb: the system disk has at least so many GiB, where the provider has one; 0: as the image has it.
    :ivar env_templates: names in ``env`` whose values are the device's own templates, to be filled in on the host.
    :ivar settings: the provider's own settings (device file merged with the topology).
    :ivar ports_fixed: the provider makes ports with the runtime only: a change of the declared ports (not of their
        roles) then needs a new runtime.
    :ivar startup_template: template that is filled in on the host and comes before ``startup_config``; both may be
        empty.
    :ivar stored_config: the active revision of the node's stored configuration; it takes the place of
        ``startup_config`` when the node is next made, and never makes it be made anew.
    :ivar config_chosen: what it is made with next was the user's choice.
    :ivar config_choice: counts these choices. What the agent reads by itself takes the place of the last one only when
        the node has been made since.
    :ivar extract_on_stop: its configuration is read before it is stopped, where its device says how.
    :ivar link_down: how a link that is down shows at its ports; see :attr:`wireloom.model.device.Device.link_down`.
    :ivar cli: name of its command line in :attr:`Slice.clis`; empty: it has none.
    :ivar post_boot: commands run in the guest once per boot after readiness.
    :ivar secrets: which of :attr:`Slice.secrets` it is given when it is made; another content makes it not anew.
    :ivar privileged_allowed: the user who deployed may run privileged nodes.
    """

    id: str
    name: str
    device: str
    provider: str
    image: str
    power: Literal["on", "off"] = "on"
    incarnation: int = 1
    restarts: int = 0
    attention: int = 0
    restart_policy: RestartPolicy = RestartPolicy.ON_FAILURE
    depends_on: dict[str, Condition] = {}  # node id → condition
    cpu: float = 1
    memory_mb: int = 256
    disk_gb: float = 0
    env: dict[str, str] = {}
    env_templates: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()
    labels: dict[str, str] = {}
    settings: dict[str, Any] = {}
    ports: tuple[PortIntent, ...] = ()
    ports_fixed: bool = False
    mgmt_ipv4: str | None = None
    startup_config: str | None = None
    startup_template: str = ""
    stored_config: StoredConfig | None = None
    config_chosen: bool = False
    config_choice: int = 0
    extract_on_stop: bool = True
    day0: tuple[Day0, ...] = ()
    console: tuple[Console, ...] = ()
    ready: Readiness = Readiness()
    run: tuple[Step, ...] = ()
    extract: Extract = Extract()
    load: tuple[Step, ...] = ()
    link_down: LinkDown = "carrier"
    cli: str = ""
    access: Access = Access()
    post_boot: tuple[str, ...] = ()
    stop_grace_s: float = 5
    secrets: tuple[Secret, ...] = ()
    privileged_allowed: bool = False

    def spec_hash(self) -> str:
        """Hash of what cannot change on a live runtime; a different hash means the runtime must be made anew."""
        fixed = self.model_dump(mode="json", include=set(SPEC_FIELDS))
        ports = self.made_ports() if self.ports_fixed else []
        # Sorted keys at every depth: equal content gives an equal hash, however it was put together.
        return short_hash(json.dumps([fixed, ports], sort_keys=True), length=16)

    def made_ports(self) -> list[tuple[int, str, str]]:
        """What the guest is given of its ports when it is made: index, name in the guest, hardware address."""
        return [(port.index, port.guest_name, port.mac) for port in self.ports]

    def port(self, index: int) -> PortIntent | None:
        return next((port for port in self.ports if port.index == index), None)


class PortRef(Value):
    """A port of a node: (node id, port index)."""

    node_id: str
    index: int


class RemoteEnd(Value):
    """The end of a wire that another host has; its node is not in this slice.

    :ivar end: which of the wire's ends it is. :ivar host: who has it.
    :ivar vni: the number of the tunnel between them, leased for this wire alone; 0: none is leased yet.
    :ivar name: ``node:port`` for people. :ivar link_down: of its node, as in :class:`NodeIntent`.
    :ivar encryption: what its frames are hidden by on their way.
    """

    end: Literal["a", "b"]
    host: str
    vni: int = 0
    name: str = ""
    link_down: LinkDown = "carrier"
    encryption: Encryption = "none"


class WireIntent(Value):
    """A point-to-point link between two ports. ``up`` is the user's wish; ``mtu`` in bytes.

    ``impairment.forward`` is from ``a`` to ``b``.

    :ivar remote: the end on another host, whose slice has the wire too, with the same id; ``None``: both are here.
    """

    id: str
    a: PortRef
    b: PortRef
    mtu: int = 1500
    up: bool = True
    impairment: LinkImpairment = LinkImpairment()
    remote: RemoteEnd | None = None

    @property
    def ends(self) -> tuple[PortRef, ...]:
        """The ports that it ends at, on whichever hosts."""
        return self.a, self.b

    @property
    def local_ends(self) -> tuple[PortRef, ...]:
        """The ports of this host that it ends at: both, or the one that is not :attr:`remote`."""
        if self.remote is None:
            return self.a, self.b
        return (self.b,) if self.remote.end == "a" else (self.a,)


class NatIntent(Value):
    """What makes a segment a way out: the host routes for it and hides it behind its own address.

    :ivar subnet: e.g. ``10.99.0.0/24``; ``gateway`` is the host's own address in it.
    :ivar dhcp: first and last address that are handed out; ``None``: no DHCP. DNS is the host's, at the gateway.
    """

    subnet: str
    gateway: str
    dhcp: tuple[str, str] | None = None


class SegmentIntent(Value):
    """A shared medium of the lab on this host.

    :ivar device: name of its bridge; a foreign bridge keeps its own (``foreign``).
    :ivar tagging: whether it has VLANs; :ivar uplink: for ``external`` ones; :ivar nat: for ``nat`` ones.
    """

    id: str
    name: str
    kind: Literal["switch", "external", "nat"]
    device: str
    mtu: int = 1500
    tagging: Tagging = "none"
    uplink: Uplink | None = None
    foreign: bool = False
    nat: NatIntent | None = None


class PlugIntent(Value):
    """A link between a port and a segment of this host. ``vlans`` where the segment has VLANs.

    ``impairment.forward`` is from the node to the segment. ``up`` is the user's wish.
    """

    id: str
    port: PortRef
    segment: str  # segment id
    vlans: Vlans | None = None
    up: bool = True
    impairment: LinkImpairment = LinkImpairment()

    @property
    def ends(self) -> tuple[PortRef, ...]:
        """The port that it ends at; its other end is the segment."""
        return (self.port,)


class Departure(MoveBase):
    """A node that leaves for ``host``: it is not started here, and what this host has of it stays until the end."""


class Arrival(MoveBase):
    """A node that comes from ``host``: what is carried of it is fetched ahead, and becomes the node's own as soon as
    the slice has the node.

    :ivar node: as it shall be; its image is made present ahead, too.
    :ivar url: where the other host itself serves it; empty: nowhere. :ivar total: bytes to be carried.
    """

    node: NodeIntent
    url: str = ""
    total: int = 0


class Slice(Value):
    """The intent document of one lab on one host. ``removed`` asks for everything of the lab to go.

    :ivar images: those of its nodes that are of the library, exactly; others are whatever the host has of their name.
    :ivar departures: of nodes that move away; :ivar arrivals: of nodes that move here; see :mod:`wireloom.model.moves`.
    :ivar lease_s: its nodes run only while the host's last lease for this lab is younger than so many seconds by the
        host's own clock that never jumps (see :mod:`wireloom.planning.leases`); ``None``: they need none.
    :ivar secrets: contents by name, of those that its nodes want and the controller has. Filled in for the host alone:
        not stored with the lab, not shown.
    """

    schema_version: int = SLICE_SCHEMA
    installation: str
    lab_id: str
    lab: str
    generation: int
    removed: bool = False
    management: Management | None = None
    nodes: tuple[NodeIntent, ...] = ()
    wires: tuple[WireIntent, ...] = ()
    segments: tuple[SegmentIntent, ...] = ()
    plugs: tuple[PlugIntent, ...] = ()
    clis: dict[str, Cli] = {}
    images: tuple[ImagePin, ...] = ()
    departures: tuple[Departure, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    lease_s: float | None = None
    secrets: dict[str, bytes] = Field(default_factory=dict, repr=False)

    def node(self, node_id: str) -> NodeIntent | None:
        return next((node for node in self.nodes if node.id == node_id), None)

    def pin(self, node: NodeIntent) -> ImagePin | None:
        """Exactly which image ``node`` is made of, where it is of the library."""
        wanted = (node.provider, node.image)
        return next((pin for pin in self.images if (pin.provider, pin.name) == wanted), None)

    def segment(self, segment_id: str) -> SegmentIntent | None:
        return next((segment for segment in self.segments if segment.id == segment_id), None)

    def identity(self, node: NodeIntent) -> Identity:
        """The identity of ``node`` in this lab."""
        return Identity(
            installation=self.installation, lab_id=self.lab_id, lab=self.lab, node_id=node.id, node=node.name
        )
