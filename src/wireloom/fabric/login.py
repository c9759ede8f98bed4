"""Who a process is on the fabric: a user with a password, or a key with claims that an account has signed."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from wireloom.errors import InvalidInput
from wireloom.fabric import nkeys
from wireloom.fabric.claims import read_claims

__all__ = ["Login"]


@dataclass(frozen=True)
class Login:
    """Either ``claims`` and ``seed``, or ``user`` and ``password``, or nothing where a server asks nobody.

    :ivar claims: what the account says of the key, signed (see :mod:`wireloom.fabric.claims`).
    :ivar seed: of the key; it never leaves the machine that made it.
    :ivar user: also for claims: the name in them.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    claims: str = field(default="", repr=False)
    seed: str = field(default="", repr=False)

    @classmethod
    def signed(cls, claims: str, seed: str) -> Login:
        """A login by claims. :raises InvalidInput: the claims are none, or are of another key."""
        content = read_claims(claims)
        if content.subject != nkeys.public_key(seed):
            raise InvalidInput("these claims are of another key")
        return cls(user=content.name, claims=claims, seed=seed)

    @property
    def public_key(self) -> str:
        """The key that claims are of; empty for a user with a password."""
        return nkeys.public_key(self.seed) if self.seed else ""

    @property
    def expires(self) -> int:
        """UNIX time by the clock of whoever signed; 0: never."""
        return read_claims(self.claims).expires if self.claims else 0

    def answer(self, nonce: str) -> bytes:
        """The signature that the server asks for, as its protocol wants it."""
        return base64.b64encode(nkeys.sign(self.seed, nonce.encode()))
