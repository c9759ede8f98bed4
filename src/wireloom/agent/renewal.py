"""The agent's own login: renewed in time with a new key, changed when asked, read anew when it is refused."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import structlog

from wireloom.agent.login import AgentLogin
from wireloom.errors import InvalidInput, Unsupported, WireloomError
from wireloom.fabric import nkeys
from wireloom.fabric.claims import permissions_of, read_claims
from wireloom.fabric.keys import new_seed
from wireloom.fabric.login import Login
from wireloom.fabric.methods import Method
from wireloom.fabric.renewal import (
    RENEW,
    ROTATE,
    SETTLE,
    RenewQuestion,
    RotateAnswer,
    RotateQuestion,
    SettleQuestion,
)
from wireloom.fabric.subjects import agent_permissions
from wireloom.model.base import Value

__all__ = ["LoginKeeper", "renewal_due"]

log = structlog.get_logger(__name__)

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)

_LOOK_EVERY_S: Final = 5.0
_RETRY_S: Final = 300.0
#: A login that permits other things than this version uses is renewed, but not again and again: an older controller
#: cannot sign a better one.
_PERMISSIONS_EVERY_S: Final = 86400.0


class _Fabric(Protocol):
    """What is needed of :class:`~wireloom.fabric.connection.Fabric`."""

    @property
    def connected(self) -> bool: ...

    @property
    def refused(self) -> str: ...

    async def exchange_login(self, login: Login, *, urls: Sequence[str] = (), ca: str = "") -> asyncio.Task[None]: ...

    async def ask_controllers(self, host: str, method: Method[Q, A], question: Q) -> A: ...

    async def serve(self, host: str, method: Method[Q, A], handler: Callable[[Q], Awaitable[A]]) -> None: ...


def renewal_due(claims: str) -> float:
    """UNIX time when a third of the login's life is over; clocks that differ by minutes make no difference."""
    content = read_claims(claims)
    return content.issued + (content.expires - content.issued) / 3 if content.expires else float("inf")


def _way_in(login: AgentLogin) -> tuple[Login, tuple[str, ...], str]:
    return login.login, login.urls, login.ca


class LoginKeeper:
    """Keeps the login of ``host`` good, on the connection that uses it. A login by password stays as it is."""

    def __init__(
        self,
        *,
        host: str,
        data_dir: Path,
        login: AgentLogin,
        fabric: _Fabric,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._data_dir = data_dir
        self._login = login
        self._fabric = fabric
        self._clock = clock
        self._settled = ""
        self._not_before = 0.0
        self._permissions_at = 0.0
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Look after the login for ever, and change it when a controller asks."""
        await self._fabric.serve(self._host, ROTATE, self._rotate)
        try:
            while True:
                try:
                    await self._look()
                except WireloomError as error:
                    log.warning("login not renewed", error=str(error))
                    self._not_before = self._clock() + _RETRY_S
                except Exception:
                    log.exception("looking after the login failed")  # a full disk, say: tried again
                    self._not_before = self._clock() + _RETRY_S
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def rotate(self) -> AgentLogin:
        """A new key, in use when this returns; the earlier one is revoked as soon as nothing needs it any more.

        :raises Unsupported: the login is a password. :raises Unavailable: no controller answers.
        :raises NotPermitted: this host was removed.
        """
        async with self._changing:
            if not self._login.claims:
                raise Unsupported("this host's login on the fabric is a password", hint="change it on the NATS server")
            seed = new_seed(nkeys.Kind.USER)
            public_key = nkeys.public_key(seed)
            answer = await self._fabric.ask_controllers(self._host, RENEW, RenewQuestion(public_key=public_key))
            login = replace(
                self._login,
                claims=answer.claims,
                seed=seed,
                urls=answer.urls or self._login.urls,
                ca=answer.ca or self._login.ca,
            )
            # In use first, then in the file: what is in the file has been taken by a server.
            retired = await self._fabric.exchange_login(login.login, urls=login.urls, ca=login.ca)
            await asyncio.to_thread(login.save, self._data_dir)
            self._login = login
            log.info("login renewed", key=public_key)
            self._in_background(self._settle_after(retired, public_key))
            return login

    async def _rotate(self, question: RotateQuestion) -> RotateAnswer:
        del question
        login = (await self.rotate()).login
        return RotateAnswer(public_key=login.public_key, expires=login.expires)

    async def _look(self) -> None:
        if not self._login.claims:
            return
        if not self._fabric.connected:
            await self._read_anew()
            return
        key = self._login.login.public_key
        if self._settled != key and not self._tasks:
            await self._settle(key)
        if self._due():
            await self.rotate()

    def _due(self) -> bool:
        now = self._clock()
        if now < self._not_before:
            return False
        if now >= renewal_due(self._login.claims):
            return True
        if now < self._permissions_at or permissions_of(self._login.claims) == agent_permissions(self._host):
            return False
        self._permissions_at = now + _PERMISSIONS_EVERY_S
        return True

    async def _settle_after(self, retired: asyncio.Task[None], public_key: str) -> None:
        # The server ends connections of a revoked key: what is still answered over the earlier one comes first.
        await asyncio.gather(retired, return_exceptions=True)
        with contextlib.suppress(WireloomError):  # tried again by the loop
            await self._settle(public_key)

    async def _settle(self, public_key: str) -> None:
        await self._fabric.ask_controllers(self._host, SETTLE, SettleQuestion(public_key=public_key))
        self._settled = public_key

    async def _read_anew(self) -> None:
        """Somebody may have let this host join again, or servers are elsewhere: then the file says so."""
        try:
            stored = await asyncio.to_thread(AgentLogin.load, self._data_dir)
            if stored is None or _way_in(stored) == _way_in(self._login):
                return
        except InvalidInput as error:
            log.warning("the stored login is none", error=str(error))
            return
        if stored.installation != self._login.installation:
            log.error("the stored login is of another installation: start the agent anew")
            return
        log.info("using the login in the file", key=stored.login.public_key)
        await self._fabric.exchange_login(stored.login, urls=stored.urls, ca=stored.ca)
        self._login = stored

    def _in_background(self, doing: Any) -> None:
        task = asyncio.get_running_loop().create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
