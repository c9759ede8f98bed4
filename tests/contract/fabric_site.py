"""A controller's fabric with signed logins, and what stands for its database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fabric_rig import Rig, rig

from wireloom.errors import NotPermitted, Unauthenticated, WireloomError
from wireloom.fabric import nkeys
from wireloom.fabric.connection import Fabric
from wireloom.fabric.keys import new_seed
from wireloom.fabric.login import Login
from wireloom.fabric.logins import SignedLogins
from wireloom.fabric.renewal import serve_renewals
from wireloom.model.slice import Slice


class Ring:
    """The database's part: which key is whose."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.gone: set[str] = set()

    async def revoked(self) -> set[str]:
        return set(self.gone)

    async def admit(self, host: str, public_key: str) -> None:
        if public_key in self.gone or self.keys.setdefault(public_key, host) != host:
            raise NotPermitted("not this key")

    async def settle(self, host: str, public_key: str) -> None:
        self.gone |= {key for key, owner in self.keys.items() if owner == host and key != public_key}


class Site:
    """A server, a controller that looks after logins, and agents with logins of their own."""

    def __init__(self, fabric: Rig, *, ahead_s: float = 0) -> None:
        self.rig = fabric
        self.ring = Ring()
        self.clock_ahead_s = ahead_s
        server = fabric.server
        self.logins = SignedLogins(
            server.keys,
            urls=(server.url,),
            ca=server.ca,
            told=server.keep_account,
            clock=lambda: time.time() + self.clock_ahead_s,
        )

    async def login(self, host: str) -> Login:
        seed = new_seed(nkeys.Kind.USER)
        await self.ring.admit(host, nkeys.public_key(seed))
        return Login.signed(self.logins.sign(host, nkeys.public_key(seed)), seed)

    async def revoke(self, *logins: Login) -> None:
        self.ring.gone |= {login.public_key for login in logins}
        await self.logins.enforce()

    async def refused(self, login: Login) -> bool:
        try:
            fabric = await Fabric.connect(
                self.rig.server.url, name="x", login=login, ca=self.rig.server.ca, creates_stores=False, timeout_s=5
            )
        except Unauthenticated:
            return True
        await fabric.close()
        return False


@asynccontextmanager
async def site_at(folder: Path, *, ahead_s: float = 0) -> AsyncIterator[Site]:
    async with rig(folder) as fabric:
        site = Site(fabric, ahead_s=ahead_s)
        await site.logins.start(site.ring)
        await serve_renewals(fabric.controller, site.logins, site.ring)
        try:
            yield site
        finally:
            await site.logins.stop()


def a_slice(generation: int) -> Slice:
    return Slice(installation="test", lab_id="l1", lab="lab", generation=generation)


async def cut_off(fabric: Fabric) -> bool:
    return bool(fabric.refused) and not fabric.connected


async def stored(controller: Fabric, document: Slice) -> None:
    """Put the intent as soon as the cluster has found who leads it."""
    async with asyncio.timeout(40):
        while True:
            try:
                return await controller.put_intent("h1", document)
            except WireloomError:
                await asyncio.sleep(0.2)
