"""Probes between hosts that share wires, as bytes. Pure.

A message names both hosts and is signed with the secret of the pair, so that nobody else is answered, and nobody else's
word is taken. What makes it as long as it is to be is padding: it says of itself how long it was sent.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["HEARS", "KNOWS", "PROBE", "REPLY", "Message", "decode", "encode", "is_signed"]

PROBE: Final = 1
REPLY: Final = 2

#: Flags: the sender knows whether it hears the other host, and it does.
KNOWS: Final = 1
HEARS: Final = 2

_MAGIC: Final = b"wlprobe1"
#: Kind, flags, nonce, length of the whole message.
_HEAD: Final = struct.Struct(">BBQH")
_MAC: Final = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Message:
    """``nonce`` of a reply is that of the probe; ``size``: bytes of the whole message as it was sent."""

    kind: int
    flags: int
    nonce: int
    source: str
    target: str
    size: int = 0

    def signed(self) -> bytes:
        """What the signature is over."""
        names = b"".join(bytes([len(name)]) + name for name in (self.source.encode(), self.target.encode()))
        return _MAGIC + _HEAD.pack(self.kind, self.flags, self.nonce, self.size) + names


def encode(message: Message, secret: bytes, size: int = 0) -> bytes:
    """A datagram of ``size`` bytes, or of as many as it takes at least."""
    least = len(message.signed()) + _MAC
    sized = Message(message.kind, message.flags, message.nonce, message.source, message.target, max(size, least))
    return (sized.signed() + hmac.digest(secret, sized.signed(), "sha256")).ljust(sized.size, b"\0")


def decode(datagram: bytes) -> tuple[Message, bytes] | None:
    """A message and its signature; ``None``: the datagram is something else, or not whole."""
    try:
        kind, flags, nonce, size = _HEAD.unpack_from(datagram, len(_MAGIC))
        source, position = _name(datagram, len(_MAGIC) + _HEAD.size)
        target, position = _name(datagram, position)
    except (struct.error, IndexError, UnicodeDecodeError):
        return None
    if not datagram.startswith(_MAGIC) or size != len(datagram):
        return None
    return Message(kind, flags, nonce, source, target, size), datagram[position : position + _MAC]


def _name(datagram: bytes, position: int) -> tuple[str, int]:
    end = position + 1 + datagram[position]
    return datagram[position + 1 : end].decode(), end


def is_signed(message: Message, signature: bytes, secret: bytes) -> bool:
    """Whether who signed ``message`` knows ``secret``."""
    return hmac.compare_digest(signature, hmac.digest(secret, message.signed(), "sha256"))
