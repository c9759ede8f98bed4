"""Password hashes as guests keep them: SHA-512 crypt ("$6$"), pure and with a salt that is given.

The algorithm is Ulrich Drepper's, "Unix crypt using SHA-256 and SHA-512"; the standard library no longer has it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

__all__ = ["salt_for", "sha512_crypt"]

_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS: Final = 5000
_SALT_LENGTH: Final = 16


def salt_for(node_id: str) -> str:
    """A salt that is always the same for one node, so that equal day-0 data gives an equal medium."""
    digest = hashlib.sha256(f"salt/{node_id}".encode()).digest()
    return base64.b64encode(digest, b"./")[:_SALT_LENGTH].decode()


def sha512_crypt(password: str, salt: str) -> str:
    """``$6$<salt>$<hash>``; at most 16 characters of ``salt`` count."""
    key, used = password.encode(), salt[:_SALT_LENGTH].encode()
    digest = _first_digest(key, used)
    long_key = _repeated(hashlib.sha512(key * len(key)).digest(), len(key))
    long_salt = _repeated(hashlib.sha512(used * (16 + digest[0])).digest(), len(used))
    for number in range(_ROUNDS):
        odd = number % 2
        mixed = long_key if odd else digest
        mixed += long_salt if number % 3 else b""
        mixed += long_key if number % 7 else b""
        mixed += digest if odd else long_key
        digest = hashlib.sha512(mixed).digest()
    return f"$6${used.decode()}${_encoded(digest)}"


def _first_digest(key: bytes, salt: bytes) -> bytes:
    other = hashlib.sha512(key + salt + key).digest()
    start = key + salt + _repeated(other, len(key))
    length = len(key)
    while length:
        start += other if length & 1 else key
        length >>= 1
    return hashlib.sha512(start).digest()


def _repeated(data: bytes, length: int) -> bytes:
    return (data * (length // len(data) + 1))[:length]


def _encoded(digest: bytes) -> str:
    """Three bytes, taken 21 apart and turned round, make four characters; the last byte makes two."""
    text, order = "", (0, 21, 42)
    for _ in range(21):
        text += _characters(digest[order[0]] << 16 | digest[order[1]] << 8 | digest[order[2]], 4)
        order = (order[1] + 1, order[2] + 1, order[0] + 1)
    return text + _characters(digest[63], 2)


def _characters(number: int, count: int) -> str:
    return "".join(_ALPHABET[number >> 6 * place & 63] for place in range(count))
