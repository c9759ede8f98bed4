"""The agent's login: its file, when it is renewed, and what is done when it is refused."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wireloom.agent.login import AgentLogin
from wireloom.agent.renewal import LoginKeeper, renewal_due
from wireloom.errors import InvalidInput, Unauthenticated, Unavailable, Unsupported
from wireloom.fabric import nkeys
from wireloom.fabric.claims import user_claims
from wireloom.fabric.keys import FabricKeys, new_seed
from wireloom.fabric.login import Login
from wireloom.fabric.logins import agent_claims
from wireloom.fabric.renewal import RENEW, SETTLE, RenewAnswer, RenewQuestion, SettleAnswer, SettleQuestion

KEYS = FabricKeys.new()
NOW = 1_800_000_000.0
DAY = 86400.0


def a_login(now: float = NOW, *, installation: str = "i1") -> AgentLogin:
    seed = new_seed(nkeys.Kind.USER)
    claims = agent_claims(KEYS, "h1", nkeys.public_key(seed), days=90, now=now)
    return AgentLogin(installation, ("nats://127.0.0.1:1",), claims=claims, seed=seed)


class TestFile:
    def test_it_is_for_the_owner_only_and_read_as_it_was_written(self, tmp_path: Path) -> None:
        login = replace(a_login(), ca="PEM", urls=("tls://a:1", "tls://b:2"))
        login.save(tmp_path)
        assert AgentLogin.load(tmp_path) == login
        assert stat.S_IMODE(AgentLogin.path(tmp_path).stat().st_mode) == 0o600

    def test_one_of_an_earlier_version_is_read(self, tmp_path: Path) -> None:
        path = AgentLogin.path(tmp_path)
        path.parent.mkdir()
        path.write_text(json.dumps({"installation": "i", "url": "nats://n:4222", "user": "u", "password": "p"}))
        login = AgentLogin.load(tmp_path)
        assert login is not None
        assert login.urls == ("nats://n:4222",)
        assert login.login == Login(user="u", password="p")  # noqa: S106

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"urls": ["nats://n"]}'])
    def test_what_is_none_counts_as_not_there_yet(self, tmp_path: Path, text: str) -> None:
        path = AgentLogin.path(tmp_path)
        path.parent.mkdir()
        path.write_text(text)
        assert AgentLogin.load(tmp_path) is None

    def test_claims_of_another_key_are_refused(self) -> None:
        with pytest.raises(InvalidInput):
            _ = replace(a_login(), seed=new_seed(nkeys.Kind.USER)).login

    def test_secrets_do_not_show(self) -> None:
        login = replace(a_login(), password="hidden")  # noqa: S106
        assert not [secret for secret in (login.seed, login.claims, "hidden") if secret in repr(login)]


class FakeFabric:
    """Controllers that sign, and a connection that takes or refuses."""

    def __init__(self) -> None:
        self.connected = True
        self.refused = ""
        self.asked: list[tuple[str, str]] = []
        self.used: list[Login] = []
        self.controllers = True
        self.takes = True

    async def exchange_login(self, login: Login, *, urls: Sequence[str] = (), ca: str = "") -> asyncio.Task[None]:
        if not self.takes:
            raise Unauthenticated("refused")
        self.used.append(login)
        self.connected, self.refused = True, ""
        return asyncio.get_running_loop().create_task(asyncio.sleep(0))

    async def ask_controllers(self, host: str, method: Any, question: Any) -> Any:
        if not self.controllers:
            raise Unavailable("no controller answers")
        self.asked.append((method.name, question.public_key))
        if method is RENEW:
            assert isinstance(question, RenewQuestion)
            return RenewAnswer(claims=agent_claims(KEYS, host, question.public_key, days=90, now=NOW + 40 * DAY))
        assert method is SETTLE
        assert isinstance(question, SettleQuestion)
        return SettleAnswer()

    async def serve(self, host: str, method: Any, handler: Callable[[Any], Awaitable[Any]]) -> None:
        self.handler = handler


class Stand:
    def __init__(self, folder: Path, login: AgentLogin, *, now: float = NOW) -> None:
        self.folder = folder
        self.fabric = FakeFabric()
        self.now = now
        login.save(folder)
        self.keeper = LoginKeeper(host="h1", data_dir=folder, login=login, fabric=self.fabric, clock=lambda: self.now)

    async def look(self) -> None:
        await self.keeper._look()
        await asyncio.gather(*self.keeper._tasks)

    @property
    def stored(self) -> AgentLogin:
        login = AgentLogin.load(self.folder)
        assert login is not None
        return login


def test_a_login_is_due_after_a_third_of_its_life_and_an_endless_one_never() -> None:
    assert renewal_due(a_login().claims) == NOW + 30 * DAY
    endless = user_claims(KEYS.account, nkeys.public_key(new_seed(nkeys.Kind.USER)), name="x", issued=1)
    assert renewal_due(endless) == float("inf")


async def test_with_its_first_words_an_agent_says_which_key_it_uses_and_once(tmp_path: Path) -> None:
    login = a_login()
    stand = Stand(tmp_path, login)
    await stand.look()
    await stand.look()
    assert stand.fabric.asked == [("settle", login.login.public_key)]
    assert stand.stored == login


async def test_renewal_uses_the_new_key_before_it_is_kept_and_kept_before_the_old_one_goes(tmp_path: Path) -> None:
    login = a_login()
    stand = Stand(tmp_path, login, now=NOW + 31 * DAY)
    stand.keeper._settled = login.login.public_key
    await stand.look()
    new = stand.stored.login.public_key
    assert new != login.login.public_key
    assert [used.public_key for used in stand.fabric.used] == [new]
    assert stand.fabric.asked == [("renew", new), ("settle", new)]
    assert stand.stored.installation == "i1"


async def test_a_new_login_that_no_server_takes_is_not_kept(tmp_path: Path) -> None:
    login = a_login()
    stand = Stand(tmp_path, login, now=NOW + 31 * DAY)
    stand.fabric.takes = False
    with pytest.raises(Unauthenticated):
        await stand.look()
    assert stand.stored == login
    assert [method for method, _ in stand.fabric.asked] == ["settle", "renew"]


async def test_without_a_controller_the_login_stays(tmp_path: Path) -> None:
    stand = Stand(tmp_path, a_login(), now=NOW + 31 * DAY)
    stand.fabric.controllers = False
    with pytest.raises(Unavailable):
        await stand.look()
    assert not stand.fabric.used


async def test_a_login_that_permits_other_things_than_this_version_needs_is_renewed_once_a_day(
    tmp_path: Path,
) -> None:
    login = a_login()
    other = agent_claims(KEYS, "earlier", login.login.public_key, days=90, now=NOW)
    stand = Stand(tmp_path, replace(login, claims=other))
    await stand.look()
    assert len(stand.fabric.used) == 1
    stand.keeper._login = replace(login, claims=other)  # an older controller signed the same again
    await stand.look()
    assert len(stand.fabric.used) == 1
    stand.now += DAY + 1
    await stand.look()
    assert len(stand.fabric.used) == 2


async def test_a_refused_agent_takes_the_login_that_was_left_in_its_file(tmp_path: Path) -> None:
    stand = Stand(tmp_path, a_login())
    stand.fabric.connected, stand.fabric.refused = False, "revoked"
    await stand.look()
    assert not stand.fabric.used
    new = a_login()
    new.save(tmp_path)
    await stand.look()
    assert stand.fabric.used == [new.login]


async def test_a_login_of_another_installation_is_not_taken_by_a_running_agent(tmp_path: Path) -> None:
    stand = Stand(tmp_path, a_login())
    stand.fabric.connected, stand.fabric.refused = False, "revoked"
    a_login(installation="i2").save(tmp_path)
    await stand.look()
    assert not stand.fabric.used


async def test_a_password_is_neither_renewed_nor_changed(tmp_path: Path) -> None:
    stand = Stand(tmp_path, AgentLogin("i", ("nats://n:1",), "u", "p"))
    await stand.look()
    assert not stand.fabric.asked
    with pytest.raises(Unsupported):
        await stand.keeper.rotate()
