"""The configuration of a nats-server, private or shared, as text. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["Cluster", "Files", "ServerSettings", "Tls", "Trust", "render"]

#: A slice travels as one message; the server's own default of 1 MB is a lab of some hundred nodes on one host.
_MAX_PAYLOAD: Final = 8 * 1024 * 1024
_MAX_STORE: Final = 2 * 1024 * 1024 * 1024
_MAX_MEMORY: Final = 64 * 1024 * 1024
_MAX_LOG: Final = 16 * 1024 * 1024
#: Seconds that a client has to say who it is; more than the server's own, because whole clusters come back at once.
_LOGIN_S: Final = 5


@dataclass(frozen=True)
class Trust:
    """Whom the server believes: public keys and signed claims, nothing secret.

    :ivar accounts: claims by the public key of the account; a server keeps later ones that it has been told.
    """

    operator: str
    system_account: str
    accounts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tls:
    """Files. ``ca`` is needed where the server asks others for their certificate."""

    chain: Path
    key: Path
    ca: Path | None = None


@dataclass(frozen=True)
class Cluster:
    """Servers that are one. They know each other by certificates of the same authority.

    :ivar routes: ``host:port`` of every member's ``port``; a server's own among them does no harm.
    """

    name: str
    port: int
    routes: Sequence[str]
    tls: Tls


@dataclass(frozen=True)
class Files:
    """Where a private server tells its parent about itself."""

    pid: Path
    ports: Path
    log: Path


@dataclass(frozen=True)
class ServerSettings:
    """What the configuration depends on.

    :ivar port: -1 lets the server choose and write it into the folder ``files.ports``.
    :ivar claims: folder for the claims of accounts that the server is told.
    """

    name: str
    listen: str
    port: int
    store: Path
    claims: Path
    trust: Trust
    tls: Tls | None = None
    files: Files | None = None
    cluster: Cluster | None = None


def render(settings: ServerSettings) -> str:
    """The configuration file; it holds no secrets."""
    lines = [
        f"server_name: {_text(settings.name)}",
        f"host: {_text(settings.listen)}",
        f"port: {settings.port}",
        f"max_payload: {_MAX_PAYLOAD}",
        *_files(settings.files),
        "jetstream {",
        f"  store_dir: {_text(settings.store)}",
        f"  max_file_store: {_MAX_STORE}",
        f"  max_memory_store: {_MAX_MEMORY}",
        "}",
        f"authorization {{ timeout: {_LOGIN_S} }}",
        *(_tls(settings.tls, "", verify=False) if settings.tls else ()),
        *(_cluster(settings.cluster) if settings.cluster else ()),
        *_trust(settings.trust, settings.claims),
    ]
    return "\n".join(lines) + "\n"


def _files(files: Files | None) -> list[str]:
    if files is None:
        return []
    return [
        f"pid_file: {_text(files.pid)}",
        f"ports_file_dir: {_text(files.ports)}",
        f"log_file: {_text(files.log)}",
        f"logfile_size_limit: {_MAX_LOG}",
    ]


def _trust(trust: Trust, claims: Path) -> list[str]:
    return [
        f"operator: {_text(trust.operator)}",
        f"system_account: {_text(trust.system_account)}",
        "resolver {",
        "  type: full",
        f"  dir: {_text(claims)}",
        "  allow_delete: false",
        '  interval: "2m"',
        "}",
        "resolver_preload {",
        *(f"  {account}: {_text(text)}" for account, text in sorted(trust.accounts.items())),
        "}",
    ]


def _cluster(cluster: Cluster) -> list[str]:
    return [
        "cluster {",
        f"  name: {_text(cluster.name)}",
        f"  port: {cluster.port}",
        "  no_advertise: true",
        "  routes: [" + ", ".join(_text(f"nats-route://{route}") for route in cluster.routes) + "]",
        *_tls(cluster.tls, "  ", verify=True),
        "}",
    ]


def _tls(tls: Tls, indent: str, *, verify: bool) -> list[str]:
    inner = [f"cert_file: {_text(tls.chain)}", f"key_file: {_text(tls.key)}"]
    if tls.ca is not None:
        inner.append(f"ca_file: {_text(tls.ca)}")
    inner += [f"verify: {str(verify).lower()}", f"timeout: {_LOGIN_S}"]
    return [f"{indent}tls {{", *(f"{indent}  {line}" for line in inner), f"{indent}}}"]


def _text(value: str | Path) -> str:
    # Quoted strings of the server's configuration language know the escapes that JSON uses for what occurs in paths;
    # quotes also keep "$KV" from being taken for a variable.
    return json.dumps(str(value), ensure_ascii=False)
