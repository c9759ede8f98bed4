"""How an agent gets a new login from the controllers: with a new key, so that each renewal is a change of keys too.

1. The agent makes a key and asks with its public half (``renew``); from now on both keys are good.
2. It logs in with the new one, and keeps it in its file.
3. It says so (``settle``); from now on only the new one is good.

Killed anywhere in between, it comes back with a login that is good, and says again which one it uses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import structlog

from wireloom.errors import Unavailable
from wireloom.fabric.logins import FabricLogins, KeyRing
from wireloom.fabric.methods import Method
from wireloom.model.base import Value

__all__ = [
    "RENEW",
    "ROTATE",
    "SETTLE",
    "HostQuestions",
    "RenewAnswer",
    "RenewQuestion",
    "RotateAnswer",
    "RotateQuestion",
    "SettleAnswer",
    "SettleQuestion",
    "serve_renewals",
]

log = structlog.get_logger(__name__)

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)


class RenewQuestion(Value):
    """``public_key``: of a key that the asking host has just made."""

    public_key: str


class RenewAnswer(Value):
    """A further login. ``urls`` and ``ca``: where the fabric is now; empty: where it was."""

    claims: str
    urls: tuple[str, ...] = ()
    ca: str = ""


class SettleQuestion(Value):
    """``public_key``: of the key that the asking host logs in with."""

    public_key: str


class SettleAnswer(Value):
    """Every other key of the host is revoked."""


class RotateQuestion(Value):
    """Asks an agent for a new key, now."""


class RotateAnswer(Value):
    """``public_key``: of the new key, which is in use. ``expires``: UNIX seconds."""

    public_key: str
    expires: int


#: Questions of agents to controllers.
RENEW: Final = Method("renew", RenewQuestion, RenewAnswer)
SETTLE: Final = Method("settle", SettleQuestion, SettleAnswer)
#: A question of controllers to an agent.
ROTATE: Final = Method("rotate", RotateQuestion, RotateAnswer, deadline_s=30)


class HostQuestions(Protocol):
    """The controller's half of the fabric, as far as it is needed here."""

    async def serve_hosts(self, method: Method[Q, A], handler: Callable[[str, Q], Awaitable[A]]) -> None: ...


async def serve_renewals(fabric: HostQuestions, logins: FabricLogins, ring: KeyRing) -> None:
    """Answer the hosts' questions for logins, for as long as ``fabric`` lives; one of all controllers does."""

    async def renew(host: str, question: RenewQuestion) -> RenewAnswer:
        await ring.admit(host, question.public_key)
        claims = logins.sign(host, question.public_key)
        place = await logins.place()
        log.info("fabric.login-renewed", host=host)
        return RenewAnswer(claims=claims, urls=place.urls, ca=place.ca)

    async def settle(host: str, question: SettleQuestion) -> SettleAnswer:
        await ring.admit(host, question.public_key)  # the agent beside a controller was told its login without us
        await ring.settle(host, question.public_key)
        try:
            await logins.enforce()
        except Unavailable as error:  # the servers are told later
            log.warning("fabric.logins-not-told", host=host, error=str(error))
        return SettleAnswer()

    await fabric.serve_hosts(RENEW, renew)
    await fabric.serve_hosts(SETTLE, settle)
