"""The fabric of a controller, put together: a private server or an existing one, who signs logins, who is introduced.

Part of the composition root (:mod:`wireloom.app`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from wireloom.agent.login import AgentLogin
from wireloom.agent.renewal import renewal_due
from wireloom.errors import InvalidInput, Unsupported
from wireloom.fabric import nkeys
from wireloom.fabric.claims import read_claims
from wireloom.fabric.connection import Fabric
from wireloom.fabric.keys import FabricKeys, new_seed
from wireloom.fabric.login import Login
from wireloom.fabric.logins import Place, SignedLogins
from wireloom.fabric.server import NatsServer
from wireloom.fabric.subjects import agent_user
from wireloom.settings import Settings

__all__ = ["ControllerSide", "controller_fabric"]

log = structlog.get_logger(__name__)

_CONNECT_S: Final = 10.0
_REPLICAS: Final = 3


@dataclass(frozen=True)
class ControllerSide:
    """``logins``: ``None`` where the fabric's logins are passwords. ``near``: how processes of this machine log in."""

    settings: Settings
    fabric: Fabric
    logins: SignedLogins | None
    keys: FabricKeys | None
    near: AgentLogin

    async def introduce(self, installation: str, *, api_url: str = "", api_ca: str = "") -> None:
        """Leave a login for the agent of this machine, unless it has a good one.

        With its first words the agent tells the controllers which key it uses, so nothing is stored here.
        """
        login = replace(self.near, installation=installation, api_url=api_url, api_ca=api_ca)
        if self.logins is not None:
            login = await asyncio.to_thread(self._signed, login, self.logins)
        await asyncio.to_thread(login.save, self.settings.data_dir)

    def _signed(self, login: AgentLogin, logins: SignedLogins) -> AgentLogin:
        stored = AgentLogin.load(self.settings.data_dir)
        if stored is not None and self._good(stored, login.installation):
            return replace(login, claims=stored.claims, seed=stored.seed)
        seed = new_seed(nkeys.Kind.USER)
        claims = logins.sign(self.settings.host, nkeys.public_key(seed))
        return replace(login, claims=claims, seed=seed)

    def _good(self, stored: AgentLogin, installation: str) -> bool:
        """Whether a stored login is this account's, of this host, and not so old that it may run out."""
        try:
            if not stored.claims or self.keys is None or self.logins is None:
                return False
            now, claims, login = self.logins.now(), read_claims(stored.claims), stored.login
            mine = claims.issuer == self.keys.account_key and login.user == agent_user(self.settings.host)
            known = login.public_key not in self.logins.revoked
            return mine and known and stored.installation in ("", installation) and now < renewal_due(stored.claims)
        except InvalidInput:
            return False


@contextlib.asynccontextmanager
async def controller_fabric(settings: Settings) -> AsyncIterator[ControllerSide]:
    """The controller's connection for as long as the block runs.

    :raises Unavailable: no server answers, or the private one does not start.
    :raises Unauthenticated: the login is refused. :raises NotFound: :raises InvalidInput: keys or certificates.
    """
    if not settings.private_fabric:
        async with _existing(settings) as side:
            yield side
        return
    keys = await asyncio.to_thread(FabricKeys.ensure, settings.fabric_key_file)
    server = NatsServer(
        settings.data_dir / "fabric",
        keys=keys,
        listen=settings.fabric_listen,
        names=_list(settings.fabric_names),
        port=settings.fabric_port,
    )
    await server.start()
    try:
        logins = SignedLogins(
            keys,
            urls=(server.url,),
            ca=server.ca,
            days=settings.fabric_login_days,
            place=_Places(server, settings).place,
            told=server.keep_account,
        )
        near = AgentLogin("", (server.url,), ca=server.ca)
        async with _connected(settings, near, keys.controller_login, logins, keys) as side:
            yield side
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def _existing(settings: Settings) -> AsyncIterator[ControllerSide]:
    """Servers of somebody else's; with ``fabric_keys`` they trust keys of ours, else we have a password."""
    urls = tuple(_list(settings.fabric_url))
    ca = await asyncio.to_thread(_read, settings.fabric_ca) if settings.fabric_ca else ""
    if settings.fabric_keys is None:
        password = settings.fabric_password.get_secret_value()
        near = AgentLogin("", urls, settings.fabric_user, password, ca=ca)
        async with _connected(settings, near, near.login, None, None) as side:
            yield side
        return
    keys = await asyncio.to_thread(FabricKeys.load, settings.fabric_keys)

    async def place(seen_as: str) -> Place:
        del seen_as
        return Place(urls=urls, ca=ca)

    logins = SignedLogins(keys, urls=urls, ca=ca, days=settings.fabric_login_days, place=place)
    near = AgentLogin("", urls, ca=ca)
    async with _connected(settings, near, keys.controller_login, logins, keys) as side:
        yield side


@contextlib.asynccontextmanager
async def _connected(
    settings: Settings, near: AgentLogin, login: Login, logins: SignedLogins | None, keys: FabricKeys | None
) -> AsyncIterator[ControllerSide]:
    # A cluster of three goes on without one of them, and so do the stores.
    replicas = _REPLICAS if len(near.urls) >= _REPLICAS else 1
    fabric = await Fabric.connect(
        near.urls, name="controller", login=login, ca=near.ca, replicas=replicas, timeout_s=_CONNECT_S
    )
    try:
        yield ControllerSide(settings, fabric, logins, keys, near)
    finally:
        await fabric.close()


@dataclass(frozen=True)
class _Places:
    """Where hosts find the private server."""

    server: NatsServer
    settings: Settings

    async def place(self, seen_as: str) -> Place:
        """:raises Unsupported: it listens on loopback, and the host that asks is another one."""
        names = _list(self.settings.fabric_names)
        if not self.server.listens_beyond_loopback:
            if seen_as and not _is_loopback(seen_as):
                raise Unsupported(
                    "other hosts cannot reach the fabric: its server listens on loopback only",
                    hint='set `fabric_listen = "0.0.0.0"` in the controller\'s settings, and start it again',
                )
            names = [seen_as] if seen_as else []
        elif not names and seen_as:
            await self.server.reached_as(seen_as)
            names = [seen_as]
        return Place(urls=tuple(self.server.url_at(name) for name in names), ca=self.server.ca)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise InvalidInput(f"certificates cannot be read: {error}", hint="see the setting fabric_ca") from error
