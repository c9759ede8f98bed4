"""What the HTTP API takes and gives about hosts, beside :class:`~wireloom.model.views.HostView`.

=======  ====================================  ======================  ==========================
method   path (below ``/api/v1``)              body                    answer
=======  ====================================  ======================  ==========================
GET      /hosts/{host}                                                 HostDetails
GET      /ca                                                           text (PEM); needs no token
POST     /hosts/join                           JoinRequest             JoinAnswer; the join token is the bearer token
GET      /join-tokens                                                  list[JoinTokenView]
POST     /join-tokens                          JoinTokenRequest        MadeJoinToken
DELETE   /join-tokens/{id}
POST     /hosts/{host}/labels                  LabelsRequest           HostView
POST     /hosts/{host}/cordon                  CordonRequest           HostView
POST     /hosts/{host}/uncordon                                        HostView
POST     /hosts/{host}/drain                   DrainRequest            HostView
POST     /hosts/{host}/rotate                                          HostDetails
GET      /hosts/{host}/removal                                         RemovalPreview
DELETE   /hosts/{host}?force=                                          RemovalPreview
=======  ====================================  ======================  ==========================
"""

from __future__ import annotations

from typing import Final

from wireloom.model.base import Value
from wireloom.model.views import HostView

__all__ = [
    "LONGEST_TOKEN_LIFE_S",
    "CordonRequest",
    "DrainRequest",
    "HostDetails",
    "HostKeyView",
    "HostLab",
    "JoinAnswer",
    "JoinRequest",
    "JoinTokenRequest",
    "JoinTokenView",
    "LabelsRequest",
    "LostNode",
    "MadeJoinToken",
    "RemovalPreview",
]

LONGEST_TOKEN_LIFE_S: Final = 30 * 24 * 3600.0


class JoinTokenRequest(Value):
    """Make a right to join.

    :ivar host: the only name that may join by it, also when a host of that name is there (it comes back, with a new
        disk, say); empty: any name that is free.
    :ivar labels: what the host gets. :ivar uses: how many hosts may join by it. :ivar life_s: seconds.
    """

    host: str = ""
    labels: dict[str, str] = {}
    note: str = ""
    uses: int = 1
    life_s: float = 3600.0


class JoinTokenView(Value):
    """A token without its secret. ``expires_at``: UNIX seconds by the controller's clock."""

    id: str
    host: str = ""
    labels: dict[str, str] = {}
    note: str = ""
    uses_left: int
    created_at: float
    expires_at: float


class MadeJoinToken(Value):
    """The one time that the token itself is told. ``url``: where the API is reached, as far as it is known."""

    token: str
    url: str
    details: JoinTokenView


class JoinRequest(Value):
    """``public_key`` is that of a key pair which the host made; the other half never leaves it."""

    host: str
    public_key: str
    version: str = ""


class JoinAnswer(Value):
    """What the host's agent needs to log in.

    :ivar fabric_urls: of the fabric's servers, without credentials. :ivar claims: its login, signed.
    :ivar fabric_ca: certificates (PEM) by which the servers are known; empty: no TLS.
    :ivar labels: what the host was given.
    """

    installation: str
    host: str
    fabric_urls: tuple[str, ...]
    claims: str
    fabric_ca: str = ""
    labels: dict[str, str] = {}


class LabelsRequest(Value):
    """Labels to set; ``None`` takes one away."""

    labels: dict[str, str | None]


class CordonRequest(Value):
    reason: str = ""


class DrainRequest(Value):
    """Whether the nodes of the host are to move away; ``False`` ends a drain, and leaves the host cordoned."""

    draining: bool = True


class HostLab(Value):
    """What a host has of a lab. ``cpus`` and ``memory_mb``: the most that its nodes there may take."""

    lab: str
    nodes: int
    running: int = 0
    cpus: float = 0
    memory_mb: int = 0


class HostKeyView(Value):
    """A key by which the host's agent logs in, or did. Times are UNIX seconds."""

    public_key: str
    issued_at: float
    revoked_at: float | None = None


class HostDetails(Value):
    """A host with what is on it."""

    host: HostView
    labs: tuple[HostLab, ...] = ()
    keys: tuple[HostKeyView, ...] = ()


class LostNode(Value):
    """A node on a host that is to be removed. ``what``: what of it is there and nowhere else."""

    lab: str
    node: str
    state: str
    what: tuple[str, ...] = ()


class RemovalPreview(Value):
    """What removing a host means.

    :ivar nodes: nodes there, with what of them would be lost. :ivar wires: links with an end there, as
        ``lab: a -- b``. :ivar images: of the library, that only this host has in its engines.
    :ivar refusals: why it is refused unless it is forced, in words; empty: it is not.
    :ivar consequences: what happens, in words.
    """

    host: str
    alive: bool
    labs: tuple[str, ...] = ()
    nodes: tuple[LostNode, ...] = ()
    wires: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    consequences: tuple[str, ...] = ()
