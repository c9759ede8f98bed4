"""Tickets: how a browser, which cannot send an ``Authorization`` header with a WebSocket, opens one.

Whoever knows the token asks for a ticket and hands it over as a subprotocol, ``ticket.<ticket>``, beside
``wireloom``; it never stands in a URL. A ticket is signed with the token, so every replica of the controller takes
it; it lives for half a minute, and each replica takes it once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

__all__ = ["SUBPROTOCOL", "TICKET_PREFIX", "TICKET_S", "Tickets"]

#: The subprotocol that is answered; a browser insists on an answer to one of those that it offered.
SUBPROTOCOL: Final = "wireloom"
TICKET_PREFIX: Final = "ticket."
TICKET_S: Final = 30.0
_PURPOSE: Final = b"wireloom websocket ticket\0"


class Tickets:
    """Issues tickets and takes each once.

    :param token: the API's token; whoever knows it could make tickets, and needs none.
    :param clock: UNIX seconds.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._key = hashlib.sha256(_PURPOSE + token.encode()).digest()
        self._clock = clock
        self._used: dict[str, float] = {}  # ticket → when it expires

    def issue(self) -> tuple[str, float]:
        """A ticket, and the UNIX time until which it is good."""
        expires = self._clock() + TICKET_S
        content = f"{expires:.3f}.{secrets.token_hex(16)}"
        return f"{content}.{self._sign(content)}", expires

    def take(self, ticket: str) -> bool:
        """Whether ``ticket`` is good; it is not any more after that."""
        now = self._clock()
        content, _, signature = ticket.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(content).encode()):
            return False
        expires = float(content.rpartition(".")[0])  # ours, as its signature says
        self._used = {used: until for used, until in self._used.items() if until >= now}
        if expires < now or ticket in self._used:
            return False
        self._used[ticket] = expires
        return True

    def _sign(self, content: str) -> str:
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()
