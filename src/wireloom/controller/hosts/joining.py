"""How a host joins: a one-time token, made by a user, buys its agent a login on the fabric.

::

    user ── make_token ──► wl1.<id>.<secret>.<fingerprint of the API's authority>
                                  │ carried to the host by the user
    host ── makes a key pair, keeps the seed ── join(token, name, public key) ──► claims, addresses, authority

What is stored of a token is the hash of its secret. An interrupted join is repeated with the same key and token, which
uses up nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final

import structlog

from wireloom.controller.hosts.registry import HostRegistry, check_labels
from wireloom.controller.journal import Journal
from wireloom.controller.store.host_records import JoinToken
from wireloom.controller.store.hosts import HostStore
from wireloom.errors import InvalidInput, NotPermitted, Unsupported, WireloomError
from wireloom.fabric.logins import FabricLogins
from wireloom.model.host_tokens import TOKEN_PREFIX, read_token, token_text
from wireloom.model.host_views import (
    LONGEST_TOKEN_LIFE_S,
    JoinAnswer,
    JoinRequest,
    JoinTokenRequest,
    JoinTokenView,
    MadeJoinToken,
)

__all__ = ["ApiAddress", "Joining"]

log = structlog.get_logger(__name__)

_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MOST_USES: Final = 1000


@dataclass(frozen=True)
class ApiAddress:
    """Where this controller's API is reached.

    :ivar url: for hosts elsewhere, as far as it is known. :ivar ca: PEM of the authority of its certificate; empty:
        it is served without TLS, or with a certificate of the user's own.
    :ivar fingerprint: SHA-256 of that authority's certificate, hexadecimal.
    """

    url: str = ""
    ca: str = ""
    fingerprint: str = ""


class Joining:
    """Tokens, and what they buy. ``logins``: ``None`` where the fabric's logins are not ours to sign."""

    def __init__(
        self,
        *,
        installation: str,
        store: HostStore,
        registry: HostRegistry,
        journal: Journal,
        logins: FabricLogins | None,
    ) -> None:
        self._installation = installation
        self._store = store
        self._registry = registry
        self._journal = journal
        self._logins = logins
        #: Set when the API is served.
        self.address = ApiAddress()

    # ---------------------------------------------------------------- tokens

    async def make_token(self, request: JoinTokenRequest) -> MadeJoinToken:
        """A new token; its secret is in the answer and nowhere else.

        :raises InvalidInput: :raises Unsupported: hosts cannot join here.
        """
        self._signer()
        _check(request)
        secret = secrets.token_urlsafe(32)
        token = JoinToken(
            id=secrets.token_hex(6),
            sha256=_digest(secret),
            host=request.host,
            labels=request.labels,
            note=request.note,
            uses_left=request.uses,
        )
        token = await self._store.add_token(token, request.life_s)
        self._journal.tell("host.token", f"a token to join was made{f' for {token.host}' if token.host else ''}")
        text = token_text(token.id, secret, self.address.fingerprint)
        return MadeJoinToken(token=text, url=self.address.url, details=_view(token))

    async def tokens(self) -> list[JoinTokenView]:
        """Tokens by which somebody can join still."""
        return [_view(token) for token in await self._store.tokens() if token.uses_left > 0]

    async def revoke_token(self, token_id: str) -> None:
        """Nobody joins by it any more; hosts that did stay. :raises NotFound:"""
        await self._store.revoke_token(token_id)

    # ---------------------------------------------------------------- joining

    @staticmethod
    def is_token(text: str) -> bool:
        """Whether ``text`` looks like a token to join; whether it is good is for :meth:`join` to say."""
        return text.startswith(TOKEN_PREFIX)

    async def join(self, token: str, request: JoinRequest, *, seen_as: str) -> JoinAnswer:
        """Let a host in.

        :param seen_as: the name or address under which the host has reached this API.
        :raises NotPermitted: the token is not good. :raises Conflict: the host's name is taken.
        :raises InvalidInput: the name or the key is none. :raises Unavailable: the fabric is away.
        """
        logins = self._signer()
        if not _HOST.fullmatch(request.host):
            raise InvalidInput(f"{request.host!r} is no name of a host", hint="a DNS label; set `host` there")
        parts = read_token(token)
        # Where we are told we were reached goes into a certificate: not by the word of just anybody.
        await self._store.check_token(token_id=parts.id, sha256=_digest(parts.secret))
        # Before the token is used up: a wrong key or an unreachable fabric must cost nobody a token.
        claims = logins.sign(request.host, request.public_key)
        place = await logins.place(seen_as=seen_as)
        revoked = await self._admit(parts.id, parts.secret, request)
        await self._registry.load()
        self._registry.written(request.host)
        if revoked:
            await self._enforce(request.host)
        self._journal.tell("host.joined", f"host {request.host} joined")
        log.info("host joined", host=request.host, version=request.version, token=parts.id)
        return JoinAnswer(
            installation=self._installation,
            host=request.host,
            fabric_urls=place.urls,
            fabric_ca=place.ca,
            claims=claims,
            labels=self._registry.record(request.host).labels,
        )

    async def _admit(self, token_id: str, secret: str, request: JoinRequest) -> list[str]:
        try:
            return await self._store.join(
                token_id=token_id, sha256=_digest(secret), host=request.host, public_key=request.public_key
            )
        except NotPermitted as error:
            log.warning("a host was refused", host=request.host, token=token_id, reason=error.message)
            raise

    async def _enforce(self, host: str) -> None:
        """Cut off who has the name so far. What cannot be told to the servers now, they are told later."""
        try:
            await self._signer().enforce()
        except WireloomError as error:
            log.warning("earlier login not cut off yet", host=host, error=str(error))

    def _signer(self) -> FabricLogins:
        if self._logins is None:
            raise Unsupported(
                "hosts cannot join here: the fabric's logins are users and passwords of somebody else",
                hint="have the NATS servers trust this installation's keys: docs/how-to/existing-nats.md",
            )
        return self._logins


def _check(request: JoinTokenRequest) -> None:
    if request.host and not _HOST.fullmatch(request.host):
        raise InvalidInput(f"{request.host!r} is no name of a host", hint="a DNS label: a-z, 0-9 and hyphens")
    if not 1 <= request.uses <= _MOST_USES:
        raise InvalidInput(f"a token has 1 to {_MOST_USES} uses")
    if request.host and request.uses != 1:
        raise InvalidInput("a token for one host has one use")
    if not 1 <= request.life_s <= LONGEST_TOKEN_LIFE_S:
        raise InvalidInput(f"a token lives from a second to {LONGEST_TOKEN_LIFE_S / 86400:g} days")
    check_labels(request.labels)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _view(token: JoinToken) -> JoinTokenView:
    return JoinTokenView.model_validate(token.model_dump())
