"""What the HTTP API takes and gives of links and segments.

=======  ============================================  ============================  =====================
method   path (below ``/api/v1``)                      body                          answer
=======  ============================================  ============================  =====================
GET      /labs/{lab}/links?a=&b=                                                     list[LinkView]
POST     /labs/{lab}/links                             LinkRequest                   OperationView
POST     /labs/{lab}/impairments                       ImpairRequest                 OperationView
POST     /labs/{lab}/impairments/clear                 ClearRequest                  OperationView
GET      /impairment-presets                                                         list[Preset]
POST     /labs/{lab}/segments                          SegmentRequest                OperationView
POST     /labs/{lab}/link-checks                       LinkEnds                      MtuAnswer
GET      /labs/{lab}/counters?interval=                                              lines of CountersSample
POST     /hosts/{host}/self-test                                                     SelfTestAnswer
=======  ============================================  ============================  =====================

A link joins two ports, or a port and a segment; an end is ``node:interface``, or the name of a segment.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from wireloom.model.base import Value
from wireloom.model.impairment import LinkImpairment
from wireloom.model.state import LinkState
from wireloom.model.vlans import Tagging, Vlans

__all__ = [
    "ClearRequest",
    "Direction",
    "ImpairRequest",
    "ImpairmentView",
    "LinkEnds",
    "LinkRequest",
    "LinkView",
    "Origin",
    "Parts",
    "SegmentRequest",
    "SegmentView",
]

Direction = Literal["forward", "backward", "both"]
Origin = Literal["topology", "user"]


class LinkEnds(Value):
    """A link by its ends, in any order. Forward is from ``a`` to ``b``."""

    a: str
    b: str


class LinkRequest(LinkEnds):
    """A verb on one link.

    :ivar to: for ``move``: where ``b`` goes; ``a`` stays. One revision, and no moment without either of the two.
    :ivar mtu: in bytes, of a link to another port. :ivar vlan: of an access port; ``trunk``: VLANs that carry a tag,
        as in a topology file (``10``, ``20-29``); ``native``: the VLAN of frames without one.
    :ivar restart: a machine that has no NIC left may be restarted to get more.
    """

    verb: Literal["add", "remove", "up", "down", "move"]
    to: str = ""
    mtu: int | None = None
    vlan: int | None = None
    trunk: tuple[str, ...] = ()
    native: int | None = None
    restart: bool = False

    @model_validator(mode="after")
    def _says_where_to(self) -> Self:
        if (self.verb == "move") != bool(self.to):
            raise ValueError("a link is moved `to` another end, and no other verb has one")
        return self


class Parts(Value):
    """Parts of an impairment, in the units of :class:`~wireloom.model.impairment.Impairment`; ``None``: not said."""

    delay_ms: float | None = None
    jitter_ms: float | None = None
    loss: float | None = None
    duplicate: float | None = None
    corrupt: float | None = None
    reorder: float | None = None
    rate_kbit: int | None = None
    limit: int | None = None


class ImpairRequest(LinkEnds):
    """Impair a link. What was set of a direction before is replaced; the other direction stays as it is.

    :ivar preset: name of a preset that ``parts`` are added to, or replaced in.
    :ivar for_s: seconds until what this sets is cleared by itself.
    """

    direction: Direction = "both"
    preset: str = ""
    parts: Parts = Parts()
    for_s: float | None = Field(None, gt=0, le=31_536_000)


class ClearRequest(Value):
    """Clear what impairs a link, whoever set it; without ends: all links of the lab."""

    a: str = ""
    b: str = ""

    @model_validator(mode="after")
    def _names_both(self) -> Self:
        if bool(self.a) != bool(self.b):
            raise ValueError("a link has two ends")
        return self


class ImpairmentView(Value):
    """What impairs a link. Forward is from the link's ``a`` to its ``b``.

    :ivar configured: as it should be. :ivar operational: as read back from the host; ``None``: not known.
    :ivar forward_origin: ``topology``, or ``user``: set or cleared by a verb, which wins; ``backward_origin`` likewise.
    """

    configured: LinkImpairment = LinkImpairment()
    operational: LinkImpairment | None = None
    forward_origin: Origin = "topology"
    backward_origin: Origin = "topology"


class LinkView(Value):
    """A link. ``a`` and ``b`` are ``node:interface`` as the vendor writes it; ``b`` of a link to a segment is its name.

    ``up`` is what the user wants; ``state`` what is. ``vlans``: as which port of the segment, where it has VLANs.
    """

    a: str
    b: str
    state: LinkState
    mtu: int
    message: str = ""
    id: str = ""
    kind: Literal["wire", "plug"] = "wire"
    up: bool = True
    host: str = ""
    other_host: str = ""
    vlans: Vlans | None = None
    impairment: ImpairmentView = ImpairmentView()


class SegmentView(Value):
    """A segment of a lab on one host. ``links``: how many end at it; ``details``: e.g. ``subnet`` or ``uplink``."""

    name: str
    kind: Literal["switch", "external", "nat"]
    state: LinkState
    host: str
    mtu: int = 1500
    tagging: Tagging = "none"
    message: str = ""
    links: int = 0
    details: dict[str, str] = {}
    id: str = ""


class SegmentRequest(Value):
    """Add a segment, or remove one with all links to it; fields as in a topology file."""

    verb: Literal["add", "remove"]
    name: str
    kind: Literal["switch", "external", "nat"] = "switch"
    mtu: int | None = None
    qinq: bool = False
    interface: str = ""
    vlan: int | None = None
    move_addresses: bool = False
    subnet: str = ""
    dhcp: bool = True
