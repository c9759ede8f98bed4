"""One client of NATS, with one login: what a :class:`~wireloom.fabric.link.Link` is made of.

A link has one session, and for a moment two while its login is exchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import nats.errors
import structlog
from nats.aio.client import Client

from wireloom.errors import Unauthenticated, Unavailable
from wireloom.fabric.login import Login
from wireloom.fabric.subjects import inbox_prefix

__all__ = ["RECONNECT_WAIT_S", "Endpoint", "LoginRefused", "Session", "SessionOwner", "refusal"]

log = structlog.get_logger(__name__)

RECONNECT_WAIT_S: Final = 0.1
_PING_INTERVAL_S: Final = 5
_CONNECT_S: Final = 2
_CONNECT_TLS_S: Final = 4
#: The protocol's own constants: its errors have no other code.
_REFUSALS: Final = (
    "Authorization Violation",
    "Authorization failed",
    "User Authentication Expired",
    "User Authentication Revoked",
    "Account Authentication Expired",
)


class LoginRefused(Unauthenticated, Unavailable):
    """The servers do not let us in, now or any more. It is tried again, slowly: claims may be told to them late."""

    code = Unavailable.code
    http_status = Unavailable.http_status  # of our own login: whoever asked us has shown his


@dataclass(frozen=True)
class Endpoint:
    """Where NATS is and who we are there.

    :ivar urls: of one server or of several, of which any will do.
    :ivar ca: certificates (PEM) by which the servers are known; empty: those that the machine trusts.
    """

    urls: tuple[str, ...]
    name: str
    login: Login = field(default_factory=Login)
    ca: str = field(default="", repr=False)

    @property
    def inbox(self) -> str:
        return inbox_prefix(self.login.user or urlsplit(self.urls[0]).username or "")

    @property
    def address(self) -> str:
        """Hosts and ports without credentials, for messages."""
        return ", ".join(urlsplit(url).netloc.rpartition("@")[2] for url in self.urls)

    @property
    def secure(self) -> bool:
        """Whether a server without TLS is none of ours."""
        return bool(self.ca) or any(urlsplit(url).scheme == "tls" for url in self.urls)

    def tls(self) -> ssl.SSLContext:
        """How servers are to prove who they are."""
        context = ssl.create_default_context(cadata=self.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


class SessionOwner(Protocol):
    """Who is told what happens to a session."""

    async def session_error(self, session: Session, error: Exception) -> None: ...

    async def session_lost(self, session: Session) -> None: ...

    async def session_back(self, session: Session) -> None: ...

    async def session_ended(self, session: Session) -> None: ...


class Session:
    """A client that reconnects by itself until it is refused while it lives.

    :ivar login: used at each connect; may be replaced.
    :ivar busy: what still needs this client, for whoever wants to let it go.
    :ivar refused: why no server takes us, as soon as that is so.
    """

    def __init__(self, endpoint: Endpoint, owner: SessionOwner) -> None:
        self._endpoint = endpoint
        self._owner = owner
        self.login = endpoint.login
        self.client = Client()
        self.busy: set[asyncio.Future[Any]] = set()
        self._begun = False
        self.refusals = 0
        self.refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def connected(self) -> bool:
        return bool(self.client.is_connected)

    @property
    def address(self) -> str:
        """Where it connects to, for messages."""
        return self._endpoint.address

    @property
    def end(self) -> Exception | None:
        """Why the client gave up, when it did."""
        return self.client.last_error

    async def connect(self) -> None:
        """Connect, for as long as it takes; whoever waits gives up by a deadline of its own."""
        endpoint, self._begun = self._endpoint, True
        await self.client.connect(
            servers=list(endpoint.urls),
            name=endpoint.name,
            inbox_prefix=endpoint.inbox,
            connect_timeout=_CONNECT_TLS_S if endpoint.secure else _CONNECT_S,
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # seconds; fractions work
            max_reconnect_attempts=-1,
            ping_interval=_PING_INTERVAL_S,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_lost,
            reconnected_cb=self._on_back,
            closed_cb=self._on_end,
            tls=endpoint.tls() if endpoint.secure else None,
            **self._proof(),
        )

    async def dispose(self) -> None:
        """Let go; idempotent."""
        if not self._begun:
            return  # the client knows no end before a beginning
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError, asyncio.InvalidStateError):
            async with asyncio.timeout(2):
                await self.client.close()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """The session counts as busy until the end of the block."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.busy.add(done)
        try:
            yield
        finally:
            self.busy.discard(done)
            done.set_result(None)

    def hold(self, task: asyncio.Future[Any]) -> None:
        """The session is needed until ``task`` is done."""
        self.busy.add(task)
        task.add_done_callback(self.busy.discard)

    def count_refusal(self, why: str) -> int:
        """How many refusals there were in a row. When every server has refused, ``refused`` says why."""
        self.refusals += 1
        if self.refusals >= len(self._endpoint.urls) and not self.refused.done():
            self.refused.set_result(why)
        return self.refusals

    def forget_refusals(self) -> str:
        """A server took us. Returns the reason why none does: nothing."""
        self.refusals = 0
        return ""

    def _proof(self) -> dict[str, Any]:
        """How the client says who it is, read again at each connect; not before the server has shown who it is."""
        if self.login.claims:
            return {"user_jwt_cb": self._claims, "signature_cb": self._sign}
        if self.login.user:
            return {"user": self.login.user, "password": self._password}
        return {}

    def _claims(self) -> bytes:
        return self.login.claims.encode()

    def _sign(self, nonce: str) -> bytes:
        self._insist_on_tls()
        return self.login.answer(nonce)

    def _password(self) -> str:
        self._insist_on_tls()
        return self.login.password

    def _insist_on_tls(self) -> None:
        # The client follows a server that asks for no TLS, whatever the scheme: somebody in between could ask so.
        if self._endpoint.secure and not self.client._server_info.get("tls_required"):  # noqa: SLF001
            raise nats.errors.Error("nats: the server does not offer TLS")

    async def _on_error(self, error: Exception) -> None:
        log.debug("fabric.error", endpoint=self._endpoint.name, error=repr(error))
        await self._owner.session_error(self, error)

    async def _on_lost(self) -> None:
        await self._owner.session_lost(self)

    async def _on_back(self) -> None:
        await self._owner.session_back(self)

    async def _on_end(self) -> None:
        await self._owner.session_ended(self)


def refusal(error: Exception | None) -> str:
    """Why the server or we refuse the other, in words; empty when ``error`` is none of that."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    text = str(error).replace("'", "")
    if "does not offer TLS" in text:
        return "it does not offer TLS"
    return next((f"it refuses the login: {words}" for words in _REFUSALS if words in text), "")
