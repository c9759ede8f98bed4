"""A topology as values: what a topology file says after reading, with device and file defaults applied."""

from __future__ import annotations

from typing import Any, Literal

from wireloom.model.base import Value
from wireloom.model.device import Need, Secret
from wireloom.model.impairment import LinkImpairment
from wireloom.model.provenance import Origin
from wireloom.model.slice import Bind, Condition, RestartPolicy
from wireloom.model.underlay import Encryption
from wireloom.model.vlans import Vlans

__all__ = ["HostLoss", "LinkEnd", "LinkSpec", "NodeSpec", "PlugSpec", "Position", "SegmentSpec", "Topology"]


class Position(Value):
    """Where the studio draws a node, in its own units."""

    x: float
    y: float


class LinkEnd(Value):
    """One end of a link: node by name, port by index; ``port`` is the vendor's name of it."""

    node: str
    index: int
    port: str

    def __str__(self) -> str:
        return f"{self.node}:{self.port}"


class LinkSpec(Value):
    """A point-to-point link. ``mtu`` in bytes; ``up`` is false for a link that the file declares down.

    ``impairment.forward`` is from ``a`` to ``b``.
    """

    a: LinkEnd
    b: LinkEnd
    mtu: int = 1500
    up: bool = True
    labels: dict[str, str] = {}
    impairment: LinkImpairment = LinkImpairment()

    @property
    def name(self) -> str:
        """``r1:eth1 -- r2:eth1``, ends in a fixed order so that turning a link round does not rename it."""
        return " -- ".join(str(end) for end in self.ends)

    @property
    def ends(self) -> tuple[LinkEnd, LinkEnd]:
        """Both ends, ordered by (node, index)."""
        first, second = sorted((self.a, self.b), key=lambda end: (end.node, end.index))
        return first, second


class NodeSpec(Value):
    """One node with every setting resolved: device → topology defaults → node; explicit wins.

    :ivar cpu: cores; ``memory_mb``: MiB.
    :ivar host: the host that the user wants it on; ``None`` lets placement choose.
    :ivar host_labels: that its host must have.
    :ivar apart: groups of which no two nodes may be on one host; ``apart_preferred``: rather not.
    :ivar startup_config: the configuration as text, taken as it is; ``None`` when the file gives none.
    :ivar startup_template: what comes before it and is filled in on the node's host: the device's default where the
        file gives nothing or something to add to it, or a template of the user.
    :ivar exec: commands run in the guest once per boot after it is ready.
    :ivar settings: the provider's own settings.
    :ivar spare_ports: NICs made up front beyond those in use, where a provider cannot add them later.
    :ivar management: whether the node is on the management network.
    :ivar extract_on_stop: its configuration is read before it is stopped.
    :ivar disk_gb: the system disk has at least so many GiB; 0: as the image has it.
    :ivar needs: what its host must have; see :data:`wireloom.model.device.Need`. :ivar image_needs: what it must have
        for the image, as the image library knows it.
    :ivar secrets: what its user has to have given before it can run.
    :ivar machines: further machines that it would be made of, which nothing can run yet.
    :ivar origins: where values come from, by ``cpu``, ``memory``, ``disk``, ``spare-ports``, ``image``, ``provider``
        and ``settings.<key>``.
    """

    name: str
    device: str
    provider: str
    image: str
    cpu: float
    memory_mb: int
    host: str | None = None
    host_labels: dict[str, str] = {}
    apart: tuple[str, ...] = ()
    apart_preferred: tuple[str, ...] = ()
    startup_config: str | None = None
    startup_template: str = ""
    env: dict[str, str] = {}
    binds: tuple[Bind, ...] = ()
    exec: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    depends_on: dict[str, Condition] = {}  # node name → condition
    restart: RestartPolicy = RestartPolicy.ON_FAILURE
    position: Position | None = None
    settings: dict[str, Any] = {}
    spare_ports: int = 4
    management: bool = True
    extract_on_stop: bool = True
    disk_gb: float = 0
    needs: tuple[Need, ...] = ()
    image_needs: tuple[Need, ...] = ()
    secrets: tuple[Secret, ...] = ()
    machines: tuple[str, ...] = ()
    origins: dict[str, Origin] = {}


class SegmentSpec(Value):
    """A shared medium that many ports plug into.

    :ivar kind: ``switch``: a switch of the lab; ``external``: the world outside by a device of the host; ``nat``: a way
        out with DHCP, DNS and address translation.
    :ivar mtu: bytes. :ivar qinq: its VLANs are tags of a provider, around whatever tags customers use (802.1ad).
    :ivar interface: for ``external``: a NIC of the host, or an existing bridge; ``vlan``: a VLAN on the NIC.
    :ivar move_addresses: for ``external``: the host's own addresses on the NIC may move to the segment meanwhile.
    :ivar subnet: for ``nat``; empty: Wireloom chooses one. ``dhcp``: whether it hands out addresses.
    :ivar host: the host that it is on; ``None``: where its nodes are.
    """

    name: str
    kind: Literal["switch", "external", "nat"]
    mtu: int = 1500
    qinq: bool = False
    interface: str = ""
    vlan: int | None = None
    move_addresses: bool = False
    subnet: str = ""
    dhcp: bool = True
    host: str | None = None
    labels: dict[str, str] = {}
    position: Position | None = None


class PlugSpec(Value):
    """A link from a port to a segment. ``vlans``: as which port of the switch; ``None``: it says nothing."""

    end: LinkEnd
    segment: str
    vlans: Vlans | None = None
    up: bool = True
    labels: dict[str, str] = {}
    impairment: LinkImpairment = LinkImpairment()

    @property
    def name(self) -> str:
        """``r1:eth1 -- lan``."""
        return f"{self.end} -- {self.segment}"


class HostLoss(Value):
    """What becomes of the lab's nodes on a host that is not heard any more.

    :ivar restart_elsewhere_after_s: seconds after which they are given to other hosts; ``None``: never, they are
        waited for. Their hosts then run them under a lease, see :mod:`wireloom.planning.leases`.
    """

    restart_elsewhere_after_s: float | None = None


class Topology(Value):
    """A lab as its file describes it. Nodes, links, segments and plugs keep the file's order.

    :ivar link_encryption: of links between hosts; ``None``: as the installation does it.
    """

    name: str
    description: str = ""
    nodes: tuple[NodeSpec, ...] = ()
    links: tuple[LinkSpec, ...] = ()
    segments: tuple[SegmentSpec, ...] = ()
    plugs: tuple[PlugSpec, ...] = ()
    on_host_loss: HostLoss = HostLoss()
    link_encryption: Encryption | None = None

    def segment(self, name: str) -> SegmentSpec | None:
        return next((segment for segment in self.segments if segment.name == name), None)

    def node(self, name: str) -> NodeSpec | None:
        return next((node for node in self.nodes if node.name == name), None)

    def ports_of(self, node: str) -> tuple[int, ...]:
        """Indexes of the node's ports that links use, ascending."""
        ends = [end for link in self.links for end in (link.a, link.b)] + [plug.end for plug in self.plugs]
        return tuple(sorted(end.index for end in ends if end.node == node))
