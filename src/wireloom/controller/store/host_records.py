"""Rows of hosts as frozen values. Times are UNIX seconds by the controller's clock."""

from __future__ import annotations

from wireloom.model.base import Value

__all__ = ["HostKey", "HostRecord", "JoinToken"]


class HostRecord(Value):
    """What is stored of a host, whether its agent is there or not.

    :ivar management_subnet: as its agent told it last; empty: not told yet.
    :ivar labels: what users say of it, for placement.
    :ivar cordoned: takes no new nodes; those that are there stay. ``cordon_reason``: in the user's words.
    :ivar draining: takes no new nodes, and those that are there move away.
    :ivar joined_at: when it joined by a token; ``None``: it stands beside the controller, or came before tokens.
    """

    name: str
    management_subnet: str = ""
    labels: dict[str, str] = {}
    cordoned: bool = False
    cordon_reason: str = ""
    draining: bool = False
    joined_at: float | None = None

    @property
    def schedulable(self) -> bool:
        """Whether new nodes may be placed there, as far as users decide it; its agent may still be away."""
        return not (self.cordoned or self.draining)


class HostKey(Value):
    """The public key by which the agent of ``host`` logs in to the fabric.

    :ivar token_id: by which token it was accepted.
    """

    public_key: str
    host: str
    token_id: str
    issued_at: float
    revoked_at: float | None = None


class JoinToken(Value):
    """A right to join. Its secret is known to who made it alone; here is its SHA-256 in hexadecimal.

    :ivar host: the only name that may join by it, also when a host of that name is there; empty: any free name.
    :ivar labels: what the host gets when it joins.
    :ivar created_at: and ``expires_at``: UNIX seconds by the database's clock.
    """

    id: str
    sha256: str
    host: str = ""
    labels: dict[str, str] = {}
    note: str = ""
    uses_left: int = 1
    created_at: float = 0
    expires_at: float = 0
