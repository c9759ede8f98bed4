"""The text of a token by which a host joins: ``wl1.<id>.<secret>.<fingerprint>``. Pure.

It has letters, digits, ``-``, ``_`` and dots only, so no shell takes it apart, and it never begins with a hyphen. The
fingerprint is the SHA-256 of the certificate of the authority that the API's own is signed by: a host that has the
token knows whom it speaks to. It is empty where the API's certificate is one that the machine itself can judge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from wireloom.errors import InvalidInput

__all__ = ["TOKEN_PREFIX", "TokenParts", "read_token", "token_text"]

TOKEN_PREFIX: Final = "wl1."  # noqa: S105 - the form of every token
_FORM: Final = re.compile(r"wl1\.([0-9a-f]{12})\.([A-Za-z0-9_-]{43})\.([0-9a-f]{64})?")


@dataclass(frozen=True)
class TokenParts:
    """``fingerprint`` is empty where none is needed."""

    id: str
    secret: str = field(repr=False)
    fingerprint: str


def token_text(token_id: str, secret: str, fingerprint: str) -> str:
    """The token in one word."""
    return f"{TOKEN_PREFIX}{token_id}.{secret}.{fingerprint}"


def read_token(text: str) -> TokenParts:
    """:raises InvalidInput: it is no token, or only a part of one."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(
            "this is no token to join, or only a part of one",
            hint="it is what `wireloom host token` printed, one word that begins with wl1.",
        )
    return TokenParts(id=found[1], secret=found[2], fingerprint=found[3] or "")
