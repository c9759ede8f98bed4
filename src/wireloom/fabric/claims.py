"""Claims: what an operator says of accounts and an account of users, signed; as nats-server takes them. Pure.

Nothing here has a start of validity (``nbf``), because the clocks of whoever signs and of the server that reads may
differ by minutes. A revocation names a key and a time up to which claims of it do not count; a time far ahead revokes
the key for good, so that no clock matters there either.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from wireloom.errors import InvalidInput
from wireloom.fabric import nkeys
from wireloom.fabric.subjects import Permissions

__all__ = [
    "RESPONSE_S",
    "Claims",
    "Limits",
    "account_claims",
    "operator_claims",
    "permissions_of",
    "read_claims",
    "user_claims",
]

#: Seconds within which a question may be answered.
RESPONSE_S: Final = 600

_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}
_VERSION: Final = 2
_NO_LIMIT: Final = -1
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True)
class Limits:
    """What an account may store, in bytes; 0 and 0: no JetStream at all, as the system account must have it."""

    disk: int = _NO_LIMIT
    memory: int = _NO_LIMIT


@dataclass(frozen=True)
class Claims:
    """What is written in claims; reading does not check the signature.

    :ivar issued: UNIX seconds; also the order of versions of an account's claims.
    :ivar expires: UNIX seconds; 0: never.
    :ivar revoked: of an account: public keys, and the time up to which their claims do not count.
    """

    subject: str
    issuer: str
    name: str
    issued: int
    expires: int
    revoked: Mapping[str, int]
    body: Mapping[str, Any]


def operator_claims(seed: str, *, name: str, system_account: str, issued: int) -> str:
    """What the operator says of itself: the server trusts its key, and knows which account is the server's own."""
    return _signed(seed, nkeys.public_key(seed), name, issued, {"type": "operator", "system_account": system_account})


def account_claims(
    operator_seed: str, account: str, *, name: str, issued: int, limits: Limits, revoked: Mapping[str, int]
) -> str:
    """What the operator says of the account with the public key ``account``.

    :param revoked: public keys of users, and UNIX time up to which claims of theirs are refused.
    """
    body = {
        "type": "account",
        "limits": {
            **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _NO_LIMIT),
            "wildcards": True,
            **_storage(limits),
        },
        "default_permissions": {"pub": {}, "sub": {}},
        **({"revocations": dict(sorted(revoked.items()))} if revoked else {}),
    }
    return _signed(operator_seed, nkeys.check_public_key(account, nkeys.Kind.ACCOUNT), name, issued, body)


def user_claims(
    account_seed: str,
    public_key: str,
    *,
    name: str,
    issued: int,
    expires: int = 0,
    permissions: Permissions | None = None,
) -> str:
    """What the account says of the user with ``public_key``.

    :param expires: UNIX time; 0: never.
    :param permissions: subjects beside the answers to questions; ``None``: everything in the account.
    :raises InvalidInput: ``public_key`` is no public key of a user.
    """
    body: dict[str, Any] = {"type": "user", **dict.fromkeys(("subs", "data", "payload"), _NO_LIMIT)}
    if permissions is None:
        body |= {"pub": {}, "sub": {}}
    else:
        body |= {
            "pub": {
                "allow": list(permissions.publish),
                **({"deny": list(permissions.withheld)} if permissions.withheld else {}),
            },
            "sub": {"allow": list(permissions.subscribe)},
            "resp": {"max": 1, "ttl": RESPONSE_S * _SECOND_NS},
        }
    subject = nkeys.check_public_key(public_key, nkeys.Kind.USER)
    return _signed(account_seed, subject, name, issued, body, expires=expires)


def read_claims(text: str) -> Claims:
    """What is written in signed claims, whoever signed them. :raises InvalidInput: these are none."""
    try:
        document = json.loads(_unpad(text.strip().split(".")[1]))
        body = document["nats"]
        return Claims(
            subject=str(document["sub"]),
            issuer=str(document["iss"]),
            name=str(document.get("name", "")),
            issued=int(document.get("iat", 0)),
            expires=int(document.get("exp", 0)),
            revoked={str(key): int(time) for key, time in (body.get("revocations") or {}).items()},
            body=body,
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InvalidInput("these are no claims of a login") from error


def permissions_of(text: str) -> Permissions | None:
    """What the user of claims may do; ``None``: everything. :raises InvalidInput: these are none."""
    body = read_claims(text).body
    publish, subscribe = (tuple((body.get(side) or {}).get("allow") or ()) for side in ("pub", "sub"))
    withheld = tuple((body.get("pub") or {}).get("deny") or ())
    return Permissions(publish, subscribe, withheld) if publish or subscribe else None


def _storage(limits: Limits) -> dict[str, int]:
    if not limits.disk and not limits.memory:
        return {}
    return {"mem_storage": limits.memory, "disk_storage": limits.disk, "streams": _NO_LIMIT, "consumer": _NO_LIMIT}


def _signed(seed: str, subject: str, name: str, issued: int, body: Mapping[str, Any], *, expires: int = 0) -> str:
    content: dict[str, Any] = {
        "iat": issued,
        "iss": nkeys.public_key(seed),
        "name": name,
        "sub": subject,
        "nats": {**body, "version": _VERSION},
        **({"exp": expires} if expires else {}),
    }
    # The id is one of the content, so that equal claims are equal texts.
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    content["jti"] = base64.b32encode(digest).decode().rstrip("=")
    text = f"{_part(_HEADER)}.{_part(content)}"
    return f"{text}.{_pad_free(nkeys.sign(seed, text.encode()))}"


def _part(document: Mapping[str, Any]) -> str:
    return _pad_free(json.dumps(document, separators=(",", ":")).encode())


def _pad_free(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _unpad(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
