"""The keys that sign logins on the fabric: one file, mode 0600, which several controllers share by a copy of it.

Whoever has this file can let anybody in. The servers have no copy of it: they know public keys and signed claims.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from wireloom.errors import InvalidInput, NotFound
from wireloom.fabric import nkeys
from wireloom.fabric.claims import Limits, account_claims, operator_claims, user_claims
from wireloom.fabric.login import Login
from wireloom.fabric.nkeys import Kind
from wireloom.records import read_record, write_record

__all__ = ["CONTROLLER_USER", "FabricKeys", "new_seed"]

CONTROLLER_USER: Final = "controller"
_ACCOUNT: Final = "wireloom"
_NO_STORE: Final = Limits(disk=0, memory=0)


def new_seed(kind: Kind) -> str:
    """The seed of a new key."""
    return nkeys.encode_seed(kind, secrets.token_bytes(nkeys.SECRET_BYTES))


@dataclass(frozen=True)
class FabricKeys:
    """Seeds by what they are of.

    :ivar account: in which everything of ours lives; its key signs logins.
    :ivar system: the servers' own account, over which claims of accounts are pushed.
    :ivar issued: UNIX seconds when they were made.
    """

    operator: str = field(repr=False)
    account: str = field(repr=False)
    system: str = field(repr=False)
    system_user: str = field(repr=False)
    controller: str = field(repr=False)
    issued: int

    @classmethod
    def new(cls) -> FabricKeys:
        """Keys that nobody has."""
        return cls(
            operator=new_seed(Kind.OPERATOR),
            account=new_seed(Kind.ACCOUNT),
            system=new_seed(Kind.ACCOUNT),
            system_user=new_seed(Kind.USER),
            controller=new_seed(Kind.USER),
            issued=int(time.time()),
        )

    @classmethod
    def ensure(cls, path: Path) -> FabricKeys:
        """The keys in ``path``, made on first use; of two processes that begin at once, both get the same. Blocking.

        :raises InvalidInput: the file is there and holds no keys: it is never written over.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                cls.new().save(draft)
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink(missing_ok=True)
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> FabricKeys:
        """:raises NotFound: no such file. :raises InvalidInput: it holds no keys. Blocking."""
        if not path.exists():
            raise NotFound(
                f"no keys of the fabric in {path}", hint="copy the file from where `wireloom fabric config` made it"
            )
        try:
            keys = cls(**(read_record(path) or {}))
            keys.operator_claims, keys.controller_login, keys.system_login  # noqa: B018 - tries every seed
        except (TypeError, InvalidInput) as error:
            raise InvalidInput(
                f"{path} holds no keys of the fabric",
                hint="restore it from a copy; or remove it, and have hosts join anew",
            ) from error
        return keys

    def save(self, path: Path) -> None:
        """Write them for the owner only. Blocking."""
        write_record(path, asdict(self), mode=0o600)

    @property
    def account_key(self) -> str:
        """Public key of the account."""
        return nkeys.public_key(self.account)

    @property
    def system_key(self) -> str:
        """Public key of the servers' own account."""
        return nkeys.public_key(self.system)

    @property
    def operator_claims(self) -> str:
        """What servers are told to trust."""
        return operator_claims(self.operator, name="wireloom", system_account=self.system_key, issued=self.issued)

    @property
    def system_claims(self) -> str:
        """The claims of the servers' own account, which never change."""
        return account_claims(
            self.operator, self.system_key, name="SYS", issued=self.issued, limits=_NO_STORE, revoked={}
        )

    def account_claims(self, *, issued: int = 0, revoked: dict[str, int] | None = None) -> str:
        """The claims of our account; servers keep the ones with the latest ``issued``. 0: the first ones ever."""
        return account_claims(
            self.operator,
            self.account_key,
            name=_ACCOUNT,
            issued=issued or self.issued,
            limits=Limits(),
            revoked=revoked or {},
        )

    @property
    def controller_login(self) -> Login:
        """The login that may do everything in the account; it never expires, because the keys beside it do not."""
        claims = user_claims(self.account, nkeys.public_key(self.controller), name=CONTROLLER_USER, issued=self.issued)
        return Login.signed(claims, self.controller)

    @property
    def system_login(self) -> Login:
        """The login that may push claims of accounts."""
        claims = user_claims(self.system, nkeys.public_key(self.system_user), name="system", issued=self.issued)
        return Login.signed(claims, self.system_user)
