"""NATS nkeys: Ed25519 keys as text, with the kind of their owner in the first letters. Pure.

A public key is ``base32(prefix byte, 32 bytes of key, checksum)``, e.g. ``UB4S…`` for a user. A seed is
``base32(2 prefix bytes, 32 bytes of secret, checksum)``, e.g. ``SUAG…``; whoever has it can sign as its owner.
"""

from __future__ import annotations

import base64
import binascii
from enum import Enum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wireloom.errors import InvalidInput

__all__ = ["SECRET_BYTES", "Kind", "check_public_key", "encode_seed", "kind_of", "public_key", "sign", "verify"]

SECRET_BYTES: Final = 32
_SEED_PREFIX: Final = 18 << 3  # makes the first letter an S
_CHECKSUM_BYTES: Final = 2


class Kind(Enum):
    """Who a key belongs to; the value is the prefix byte, the letter the first one of the public key."""

    OPERATOR = 14 << 3  # O
    ACCOUNT = 0  # A
    USER = 20 << 3  # U


def encode_seed(kind: Kind, secret: bytes) -> str:
    """The seed of a new key from 32 random bytes. :raises InvalidInput: another number of bytes."""
    if len(secret) != SECRET_BYTES:
        raise InvalidInput(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
    head = bytes((_SEED_PREFIX | (kind.value >> 5), (kind.value & 31) << 3))
    return _encode(head + secret)


def public_key(seed: str) -> str:
    """The public key of ``seed``. :raises InvalidInput: it is no seed."""
    kind, private = _private(seed)
    return _encode(bytes((kind.value,)) + private.public_key().public_bytes_raw())


def sign(seed: str, data: bytes) -> bytes:
    """64 bytes that prove that the owner of ``seed`` has seen ``data``. :raises InvalidInput: it is no seed."""
    return _private(seed)[1].sign(data)


def verify(public: str, data: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is that of the owner of ``public``. :raises InvalidInput: it is no public key."""
    raw = _decode(public)
    _kind(raw[0])
    try:
        Ed25519PublicKey.from_public_bytes(raw[1:]).verify(signature, data)
    except InvalidSignature:
        return False
    except ValueError as error:
        raise InvalidInput("this is no public key") from error
    return True


def kind_of(public: str) -> Kind:
    """Who a public key belongs to. :raises InvalidInput: it is no public key."""
    raw = _decode(public)
    if len(raw) != 1 + SECRET_BYTES:
        raise InvalidInput("this is no public key")
    return _kind(raw[0])


def check_public_key(text: str, kind: Kind) -> str:
    """``text``, when it is a public key of ``kind``. :raises InvalidInput: it is not; say a seed, sent by mistake."""
    if kind_of(text) is not kind:
        raise InvalidInput(f"this is no public key of the kind {kind.name.lower()}")
    return text


def _private(seed: str) -> tuple[Kind, Ed25519PrivateKey]:
    raw = _decode(seed)
    if len(raw) != 2 + SECRET_BYTES or raw[0] & 0xF8 != _SEED_PREFIX:
        raise InvalidInput("this is no seed of a key")
    return _kind((raw[0] & 7) << 5 | raw[1] >> 3), Ed25519PrivateKey.from_private_bytes(raw[2:])


def _kind(prefix: int) -> Kind:
    try:
        return Kind(prefix)
    except ValueError as error:
        raise InvalidInput("this is a key of an unknown kind") from error


def _encode(raw: bytes) -> str:
    checksum = binascii.crc_hqx(raw, 0).to_bytes(_CHECKSUM_BYTES, "little")
    return base64.b32encode(raw + checksum).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (ValueError, binascii.Error) as error:
        raise InvalidInput("this is no key: it has letters that no key has") from error
    body, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    if not body or binascii.crc_hqx(body, 0).to_bytes(_CHECKSUM_BYTES, "little") != checksum:
        raise InvalidInput("this is no key: its checksum does not fit, so a letter is wrong or missing")
    return body
