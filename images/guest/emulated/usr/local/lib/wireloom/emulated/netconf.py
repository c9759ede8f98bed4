"""NETCONF, as little of it as reading a datastore takes (base:1.0 framing only)."""

from __future__ import annotations

import re
from collections.abc import Callable

from .script import ReadKey, Say, Script

__all__ = ["serve_netconf"]

_END = "]]>]]>"
_HELLO = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">'
    "<capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities>"
    "<session-id>1</session-id></hello>"
)


def serve_netconf(text: Callable[[], str]) -> Script[None]:
    """Answer ``get-config`` with the configuration as text, and ``close-session``; refuse the rest."""
    yield Say(_HELLO + _END)
    while True:
        message = ""
        while not message.endswith(_END):
            message += yield ReadKey()
        if "<hello" in message:
            continue
        found = re.search(r'message-id="([^"]*)"', message)
        number = found[1] if found is not None else "0"
        closes = "close-session" in message
        yield Say(_reply(number, "<ok/>" if closes else _answer(message, text)))
        if closes:
            return


def _answer(message: str, text: Callable[[], str]) -> str:
    if "get-config" not in message:
        return "<rpc-error><error-type>protocol</error-type><error-tag>operation-not-supported</error-tag></rpc-error>"
    # The text begins on a line of its own, as Junos sends it.
    return f"<data><configuration-text>\n{_escaped(text())}</configuration-text></data>"


def _reply(number: str, body: str) -> str:
    space = "urn:ietf:params:xml:ns:netconf:base:1.0"
    return f'<rpc-reply xmlns="{space}" message-id="{number}">{body}</rpc-reply>{_END}'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
