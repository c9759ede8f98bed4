"""Names on the fabric: subjects, keys, buckets, and the permissions that follow from them. Pure.

A token (host, lab id, method, session) may hold any text; characters that mean something to NATS are written as
``=`` and two hexadecimal digits, so that a host named ``h1.example.net`` stays one token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = [
    "DESIRED",
    "ENDS",
    "EPOCH_KEY",
    "EVENTS_LIVE",
    "EVENTS_STREAM",
    "HOSTS",
    "HOST_TTL_S",
    "LIBRARY",
    "OBSERVED",
    "PEERS",
    "SHELVES",
    "Bucket",
    "Permissions",
    "agent_permissions",
    "agent_user",
    "control_subject",
    "decode_token",
    "encode_token",
    "event_subject",
    "inbox_prefix",
    "join_key",
    "lease_subject",
    "notice_subject",
    "open_subject",
    "rpc_subject",
    "split_key",
    "stream_subject",
]

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]")

#: Seconds without a heartbeat after which a host counts as gone.
HOST_TTL_S: Final = 15.0

#: Key in ``desired`` whose value names this life of the store; no host can be called so (not a DNS label).
EPOCH_KEY: Final = "_epoch"

#: Below which the server repeats what it has stored.
LIVE: Final = "live."

EVENTS_STREAM: Final = "events"
#: Where the server repeats each event once it is stored, with its sequence number.
EVENTS_LIVE: Final = f"{LIVE}events"


@dataclass(frozen=True)
class Bucket:
    """A key-value bucket: a stream with one message a key.

    The server repeats every stored change on ``live`` subjects with its sequence number, so that a reader can follow
    a bucket with a plain subscription, which permissions can restrict to its own keys.
    """

    name: str
    ttl_s: float | None = None

    @property
    def stream(self) -> str:
        return f"KV_{self.name}"

    def subject(self, key: str) -> str:
        """Where a value of ``key`` is published to be stored."""
        return f"$KV.{self.name}.{key}"

    def live(self, key: str) -> str:
        """Where the server repeats a stored change of ``key``."""
        return f"{LIVE}{self.name}.{key}"

    def key_of(self, subject: str) -> str:
        """The key that a :meth:`subject` or :meth:`live` subject names."""
        for prefix in (self.subject(""), self.live("")):
            if subject.startswith(prefix):
                return subject[len(prefix) :]
        raise ValueError(f"{subject} is not in bucket {self.name}")

    def direct_get(self, key: str) -> str:
        """The request subject that answers with the last value of ``key``."""
        return f"$JS.API.DIRECT.GET.{self.stream}.{self.subject(key)}"


DESIRED: Final = Bucket("desired")
OBSERVED: Final = Bucket("observed")
HOSTS: Final = Bucket("hosts", ttl_s=HOST_TTL_S)
LIBRARY: Final = Bucket("library")
SHELVES: Final = Bucket("shelves")
#: ``<host>`` → whom it has wires to, from controllers.
PEERS: Final = Bucket("peers")
#: ``<to>.<from>`` → what ends of wires between them are like, from one agent to the other.
ENDS: Final = Bucket("ends")


def encode_token(text: str) -> str:
    """``text`` as one token of a subject."""
    if not text:
        raise ValueError("a subject token cannot be empty")
    return "".join(
        char if _PLAIN.fullmatch(char) else "".join(f"={byte:02X}" for byte in char.encode()) for char in text
    )


def decode_token(token: str) -> str:
    """The reverse of :func:`encode_token`."""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), token.encode())
    return raw.decode()


def join_key(*parts: str) -> str:
    """A key from its parts, e.g. ``<host>.<lab id>``."""
    return ".".join(encode_token(part) for part in parts)


def split_key(key: str) -> tuple[str, ...]:
    """The parts of a key."""
    return tuple(decode_token(token) for token in key.split("."))


def rpc_subject(host: str, method: str) -> str:
    return f"rpc.{encode_token(host)}.{encode_token(method)}"


def open_subject(host: str, method: str) -> str:
    """Where a byte stream is asked for."""
    return f"rpc.{encode_token(host)}.open.{encode_token(method)}"


def stream_subject(host: str, session: str, direction: str) -> str:
    """Where frames of a byte stream travel; ``up`` is to the agent, ``down`` from it."""
    return f"stream.{encode_token(host)}.{encode_token(session)}.{direction}"


def event_subject(host: str) -> str:
    """Where history of ``host`` is published; events of no host go under ``_``."""
    return f"events.{encode_token(host) if host else '_'}"


def control_subject(host: str, method: str) -> str:
    """Where ``host`` asks the controllers; ``*`` for either: all of them."""
    return ".".join(("ctl", *(part if part == "*" else encode_token(part) for part in (host, method))))


def lease_subject(host: str) -> str:
    """Where controllers answer heartbeats of ``host`` with leases; nothing of it is stored."""
    return f"lease.{encode_token(host)}"


def notice_subject() -> str:
    """Where controllers tell each other that something has changed; agents neither read nor write it."""
    return "controllers.notice"


def agent_user(host: str) -> str:
    """The user name under which the agent of ``host`` logs in."""
    return f"agent-{encode_token(host)}"


def inbox_prefix(user: str) -> str:
    """Where replies to ``user`` go; each user has its own, so that nobody can listen to another's answers."""
    return f"_INBOX_{encode_token(user)}" if user else "_INBOX"


@dataclass(frozen=True)
class Permissions:
    """Subjects that a user may publish to and subscribe to; ``withheld``: publish to all the same not."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    withheld: tuple[str, ...] = ()


def agent_permissions(host: str) -> Permissions:
    """What the agent of ``host`` may do: read its own intent, write its own observation, answer its own questions."""
    token = encode_token(host)
    return Permissions(
        publish=(
            DESIRED.direct_get(EPOCH_KEY),
            DESIRED.direct_get(token),
            DESIRED.direct_get(f"{token}.*"),
            OBSERVED.subject(f"{token}.*"),
            HOSTS.subject(token),
            LIBRARY.direct_get(token),
            SHELVES.subject(token),
            PEERS.direct_get(token),
            ENDS.direct_get(f"{token}.*"),
            ENDS.subject(f"*.{token}"),
            event_subject(host),
            f"ctl.{token}.*",
            stream_subject(host, "any", "down").replace(".any.", ".*."),
        ),
        subscribe=(
            f"{inbox_prefix(agent_user(host))}.>",
            DESIRED.live(EPOCH_KEY),
            DESIRED.live(f"{token}.*"),
            LIBRARY.live(token),
            PEERS.live(token),
            ENDS.live(f"{token}.*"),
            lease_subject(host),
            f"rpc.{token}.>",
            stream_subject(host, "any", "up").replace(".any.", ".*."),
        ),
        # What a host could both write and read, it could have the server send anywhere in its own words.
        withheld=(ENDS.subject(f"{token}.{token}"),),
    )
