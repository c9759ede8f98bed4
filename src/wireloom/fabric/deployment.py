"""Files for NATS servers that several machines share: their configuration, certificates, and the keys of controllers.

Written once and again: keys and the authority stay, configurations are rendered anew, certificates renewed in time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wireloom.errors import InvalidInput
from wireloom.fabric.addresses import is_name, split_address
from wireloom.fabric.authority import Authority
from wireloom.fabric.keys import FabricKeys
from wireloom.fabric.server_config import Cluster, ServerSettings, Tls, Trust, render

__all__ = ["CLIENT_PORT", "CLUSTER_PORT", "Deployment", "Written", "write_deployment"]

CLIENT_PORT: Final = 4222
CLUSTER_PORT: Final = 6222
_CLUSTER: Final = "wireloom"
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - a shared server is there to be reached; it asks for TLS


@dataclass(frozen=True)
class Deployment:
    """What to write.

    :ivar servers: name or address of each server, with ``:port`` where it is not 4222; more than one is a cluster.
    :ivar names: further names and addresses at which any of them is reached.
    :ivar at: the folder in which a server's files will be on its machine; ``None``: where they are written.
    :ivar store: below which a server stores what it is told, in a folder of its name, on its machine.
    :ivar listen: address on which servers listen.
    """

    servers: Sequence[str]
    names: Sequence[str] = ()
    cluster_port: int = CLUSTER_PORT
    at: Path | None = None
    store: Path = Path("/var/lib/wireloom-nats")
    listen: str = _EVERYWHERE


@dataclass(frozen=True)
class Written:
    """What was written.

    :ivar keys: for the controllers, and for nobody else. ``ca``: for everybody.
    :ivar configurations: of the servers, each in a folder that goes to its machine.
    :ivar urls: the setting ``fabric_url``.
    """

    keys: Path
    ca: Path
    configurations: tuple[Path, ...]
    urls: tuple[str, ...]


def write_deployment(folder: Path, deployment: Deployment) -> Written:
    """Write everything below ``folder``. Blocking, some milliseconds a server.

    :raises InvalidInput: no server, one twice, a port that is none; or keys that are there and cannot be read.
    """
    places = [split_address(text) for text in deployment.servers]
    if not places:
        raise InvalidInput("name the servers", hint="e.g. --server nats.example.net")
    for name in (*(name for name, _ in places), *deployment.names):
        if not is_name(name):
            raise InvalidInput(f"{name!r} is neither a name nor an address")
    if len(set(places)) != len(places):
        raise InvalidInput("a server is named twice")
    keys = FabricKeys.ensure(folder / "keys.json")
    authority = Authority(folder / "authority")
    members = _members(places, deployment.cluster_port)
    configurations = []
    for member in members:
        home = folder / member.label
        home.mkdir(mode=0o755, exist_ok=True)
        made = authority.ensure_server({member.name, "localhost", "127.0.0.1", *deployment.names}, name=member.label)
        for source, target in ((made.chain, "server.pem"), (made.key, "server.key")):
            _write(home / target, source.read_bytes(), source.stat().st_mode & 0o777)
        _write(home / "ca.pem", authority.certificate.encode(), 0o644)
        trust = Trust(
            operator=keys.operator_claims,
            system_account=keys.system_key,
            accounts={keys.account_key: keys.account_claims(), keys.system_key: keys.system_claims},
        )
        settings = _settings(deployment, trust, member, members, deployment.at or home.absolute())
        _write(home / "nats-server.conf", render(settings).encode(), 0o644)
        configurations.append(home / "nats-server.conf")
    return Written(
        keys=folder / "keys.json",
        ca=folder / "authority" / "ca.pem",
        configurations=tuple(configurations),
        urls=tuple(f"tls://{_bracketed(member.name)}:{member.port}" for member in members),
    )


@dataclass(frozen=True)
class _Member:
    """``label``: its name and its folder's. Several of one name differ by their ports."""

    name: str
    port: int
    cluster_port: int
    label: str


def _members(places: Sequence[tuple[str, int | None]], cluster_port: int) -> list[_Member]:
    names = [name for name, _ in places]
    members = []
    for index, (name, given) in enumerate(places):
        port = given or CLIENT_PORT
        plain = name.replace(":", "-")
        label = f"{plain}-{port}" if names.count(name) > 1 else plain
        members.append(_Member(name, port, cluster_port + names[:index].count(name), label))
    return members


def _settings(
    deployment: Deployment, trust: Trust, member: _Member, members: Sequence[_Member], home: Path
) -> ServerSettings:
    tls = Tls(chain=home / "server.pem", key=home / "server.key")
    cluster = None
    if len(members) > 1:
        routes = tuple(f"{_bracketed(other.name)}:{other.cluster_port}" for other in members)
        inner = Tls(chain=tls.chain, key=tls.key, ca=home / "ca.pem")
        cluster = Cluster(name=_CLUSTER, port=member.cluster_port, routes=routes, tls=inner)
    return ServerSettings(
        name=member.label,
        listen=deployment.listen,
        port=member.port,
        store=deployment.store / member.label / "store",
        claims=deployment.store / member.label / "claims",
        trust=trust,
        tls=tls,
        cluster=cluster,
    )


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace ``path`` in one step."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)
