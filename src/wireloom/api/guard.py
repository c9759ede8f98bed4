"""Who may speak to the API. Plain ASGI, so that no route and no WebSocket can be left out.

* ``Host`` must name an address that we listen on, and ``Origin`` (which browsers send) must be that same address: a
  page of another site whose name was made to resolve to 127.0.0.1 is refused before anything is looked at.
* ``Authorization: Bearer <token>`` is compared in constant time. No token is ever taken from a URL, because URLs end
  up in logs. A WebSocket may bring a ticket instead (see ``tickets.py``).
* Hosts have tokens of their own, each good for one thing: reading stored files, or continuing one upload.
"""

from __future__ import annotations

import hmac
import ipaddress
import uuid
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from wireloom.api.failures import error_response
from wireloom.api.tickets import SUBPROTOCOL, TICKET_PREFIX, Tickets
from wireloom.errors import InternalError, InvalidInput, NotPermitted, Unauthenticated, WireloomError

__all__ = ["ErrorBoundary", "Guard", "Narrow", "refuse"]

log = structlog.get_logger(__name__)

_SMALL_BYTES = 16 * 1024
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Narrow(Protocol):
    """Tokens that open one thing only."""

    async def __call__(self, method: str, path: str, token: str) -> bool: ...


class Guard:
    """Lets through what comes from a permitted origin with the right token.

    :param listen_host: the address listened on; one that takes any (``0.0.0.0``) takes any ``Host`` too.
    :param narrow: asked about tokens that are not the installation's.
    :param public: methods and paths that need no token. :param small: those whose requests are small, and may come
        from anybody: a large one is not read at all.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        listen_host: str,
        tickets: Tickets,
        narrow: Narrow,
        public: frozenset[tuple[str, str]] = frozenset(),
        small: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        if not token:
            raise ValueError("a token cannot be empty")
        self._app = app
        self._token = token.encode()
        self._tickets = tickets
        self._narrow = narrow
        self._public = public
        self._small = small
        self._names = None if _is_any(listen_host) else _LOOPBACK_NAMES | {listen_host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = (
            self._address_problem(headers)
            or self._size_problem(scope, headers)
            or await self._access_problem(scope, headers)
        )
        if problem is not None:
            await refuse(scope, receive, send, problem)
        elif SUBPROTOCOL in scope.get("subprotocols", ()):
            await self._app(scope, receive, _answering_subprotocol(send))
        else:
            await self._app(scope, receive, send)

    def _address_problem(self, headers: Headers) -> WireloomError | None:
        host = headers.get("host", "")
        if self._names is not None and _name_of(host) not in self._names:
            return NotPermitted("this server does not answer to that name", hint="use the address it listens on")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return NotPermitted("requests from pages of other sites are refused")
        return None

    def _size_problem(self, scope: Scope, headers: Headers) -> WireloomError | None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) not in self._small:
            return None
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) <= _SMALL_BYTES:
            return None
        return InvalidInput(f"this request is larger than {_SMALL_BYTES} bytes, or does not say how large it is")

    async def _access_problem(self, scope: Scope, headers: Headers) -> WireloomError | None:
        ticket = next((item for item in scope.get("subprotocols", ()) if item.startswith(TICKET_PREFIX)), None)
        if scope["type"] != "websocket" or ticket is None:
            return await self._token_problem(scope, headers)
        if self._tickets.take(ticket.removeprefix(TICKET_PREFIX)):
            return None
        return Unauthenticated("the ticket is wrong, too old or used up", hint="ask for a new one: POST /tickets")

    async def _token_problem(self, scope: Scope, headers: Headers) -> WireloomError | None:
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        given = rest.strip() if scheme.lower() == "bearer" else ""
        if hmac.compare_digest(given.encode(), self._token):
            return None
        if scope["type"] == "http" and (scope["method"], scope["path"]) in self._public:
            return None
        if given and scope["type"] == "http" and await self._narrow(scope["method"], scope["path"], given):
            return None
        return Unauthenticated(
            "the token is wrong" if given else "the token is missing or wrong",
            hint="send `Authorization: Bearer TOKEN`; the local token is in the data folder",
        )


class ErrorBoundary:
    """The API's edge: a defect becomes an ``InternalError`` with an incident id, and one log line with its trace."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] in {"http.response.start", "websocket.accept"}
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception:
            incident = uuid.uuid4().hex[:12]
            log.exception("defect in the API", incident=incident, path=scope.get("path", ""))
            if started:
                raise  # the answer is under way: cutting the connection is all that is left
            problem = InternalError(
                "an internal error", hint=f"look for incident {incident} in the log", details={"incident": incident}
            )
            await refuse(scope, receive, send, problem)


async def refuse(scope: Scope, receive: Receive, send: Send, problem: WireloomError) -> None:
    """Answer a request, or a WebSocket's handshake, with an error."""
    response = error_response(problem)
    if scope["type"] == "websocket":
        websocket = WebSocket(scope, receive, send)
        await websocket.send_denial_response(response)
    else:
        await response(scope, receive, send)


def _answering_subprotocol(send: Send) -> Send:
    """A browser ends a connection none of whose subprotocols is answered."""

    async def answering(message: Message) -> None:
        if message["type"] == "websocket.accept":
            message = {**message, "subprotocol": SUBPROTOCOL}
        await send(message)

    return answering


def _name_of(host: str) -> str:
    """The name in a ``Host`` header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_any(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False
