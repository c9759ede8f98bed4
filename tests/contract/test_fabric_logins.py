"""Logins on a real nats-server: who is let in, who no more, keys that change under load, TLS, servers that go."""

from __future__ import annotations

import asyncio
import shutil
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fabric_rig import Collector, eventually
from fabric_site import Site, a_slice, cut_off, site_at

from wireloom.agent.login import AgentLogin
from wireloom.agent.renewal import LoginKeeper
from wireloom.errors import NotPermitted, Unauthenticated, Unavailable, WireloomError
from wireloom.fabric import nkeys
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import ExecAnswer, ExecQuestion
from wireloom.fabric.keys import new_seed
from wireloom.fabric.login import Login
from wireloom.fabric.methods import EXEC
from wireloom.fabric.renewal import RENEW, ROTATE, RenewQuestion, RotateQuestion
from wireloom.fabric.session import LoginRefused

QUESTION = ExecQuestion(lab_id="l1", node_id="n1", command=("true",))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path / "nats") as made:
        yield made


class TestRevocation:
    async def test_a_revoked_login_is_cut_off_at_once_and_cannot_come_back(self, site: Site) -> None:
        revoked, kept = await site.login("h1"), await site.login("h2")
        one = await site.rig.login(revoked, creates_stores=False)
        two = await site.rig.login(kept, creates_stores=False)
        began = time.monotonic()
        await site.revoke(revoked)
        await eventually(lambda: cut_off(one))
        assert time.monotonic() - began < 2
        assert await site.refused(revoked)
        with pytest.raises(LoginRefused):
            await one._link.publish("events.h1")
        assert two.connected
        assert not await site.refused(kept)

    async def test_a_host_that_returns_has_a_new_key_and_the_old_one_stays_out(self, site: Site) -> None:
        old = await site.login("h1")
        await site.revoke(old)
        assert not await site.refused(await site.login("h1"))
        assert await site.refused(old)

    @pytest.mark.parametrize("ahead_s", [-900.0, 900.0])
    async def test_clocks_that_differ_by_minutes_lock_nobody_out_and_let_nobody_in(
        self, tmp_path: Path, ahead_s: float
    ) -> None:
        async with site_at(tmp_path / "nats", ahead_s=ahead_s) as site:
            old, good = await site.login("h1"), await site.login("h2")
            fabric = await site.rig.login(old, creates_stores=False)
            await site.revoke(old)
            await eventually(lambda: cut_off(fabric))
            site.clock_ahead_s = -ahead_s  # another controller goes on
            assert await site.refused(old)
            later = await site.login("h3")
            assert not await site.refused(good)
            assert not await site.refused(later)
            await site.revoke(good)
            assert await site.refused(good)
            assert not await site.refused(later)

    async def test_a_server_that_forgot_everything_is_told_again(self, site: Site) -> None:
        revoked, kept = await site.login("h1"), await site.login("h2")
        await site.revoke(revoked)
        fabric = await site.rig.login(kept, creates_stores=False)
        await site.rig.server.stop()
        for folder in ("store", "claims"):
            shutil.rmtree(site.rig.folder / folder)
        await site.rig.server.start()
        assert await site.refused(revoked)  # the configuration knows it before anybody is asked

        async def back() -> bool:
            return fabric.connected

        await eventually(back)
        (site.rig.folder / "account.jwt").unlink()
        await site.rig.server.stop()
        shutil.rmtree(site.rig.folder / "claims")
        await site.rig.server.start()

        async def told() -> bool:
            return await site.refused(revoked)

        await eventually(told, timeout_s=15)
        await eventually(back)


class TestRotation:
    async def test_a_login_is_exchanged_under_load_without_losing_anything(self, site: Site) -> None:
        """Questions, their answers that are still being worked on, and intents all go on over the change."""
        agent = await site.rig.login(await site.login("h1"), creates_stores=False)
        asked: list[str] = []

        async def answer(question: ExecQuestion) -> ExecAnswer:
            asked.append(question.command[0])
            await asyncio.sleep(0.05)
            return ExecAnswer(exit_code=0, stdout=question.command[0].encode())

        await agent.serve("h1", EXEC, answer)
        await agent._link.flush()
        watch = Collector(agent.watch_intents("h1"))
        controller = site.rig.controller
        done = asyncio.Event()
        answered: list[str] = []

        async def ask() -> None:
            number = 0
            while not done.is_set():
                number += 1
                word = f"{id(asyncio.current_task())}-{number}"
                question = ExecQuestion(lab_id="l1", node_id="n1", command=(word,))
                answered.append((await controller.call("h1", EXEC, question, timeout_s=5)).stdout.decode())

        async def intend() -> int:
            generation = 0
            while not done.is_set():
                generation += 1
                await controller.put_intent("h1", a_slice(generation))
            return generation

        askers = [asyncio.create_task(ask()) for _ in range(8)]
        intending = asyncio.create_task(intend())
        for _ in range(5):
            await asyncio.sleep(0.2)
            await (await agent.exchange_login(await site.login("h1")))
        done.set()
        await asyncio.gather(*askers)
        last = await intending
        await watch.until(lambda seen: seen[-1].value.generation == last)
        assert len(answered) > 50
        assert sorted(asked) == sorted(answered)  # nothing was done twice either
        await watch.close()

    async def test_a_new_login_that_is_refused_leaves_the_earlier_one_in_use(self, site: Site) -> None:
        agent = await site.rig.login(await site.login("h1"), creates_stores=False)
        refused = await site.login("h1")
        await site.revoke(refused)
        with pytest.raises(Unauthenticated):
            await agent.exchange_login(refused)
        assert agent.connected
        await site.rig.controller.put_intent("h1", a_slice(3))
        assert (await agent.intents("h1"))["l1"].generation == 3

    async def test_a_controller_has_an_agent_change_its_key(self, site: Site, tmp_path: Path) -> None:
        first = await site.login("h1")
        async with kept(site, tmp_path, first) as agent:
            answer = await site.rig.controller.call("h1", ROTATE, RotateQuestion())
            stored = AgentLogin.load(tmp_path)
            assert stored is not None
            assert stored.login.public_key == answer.public_key != first.public_key
            assert stat.S_IMODE(AgentLogin.path(tmp_path).stat().st_mode) == 0o600

            async def settled() -> bool:
                return site.ring.gone == {first.public_key}

            await eventually(settled)
            assert await site.refused(first)
            assert agent.connected

    async def test_an_agent_that_is_killed_while_it_changes_its_key_comes_back(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = await site.login("h1")

        def killed(login: AgentLogin, folder: Path) -> None:
            raise OSError("killed before the file was written")

        with monkeypatch.context() as patch:
            async with kept(site, tmp_path, first):
                patch.setattr(AgentLogin, "save", killed)
                with pytest.raises(WireloomError):
                    await site.rig.controller.call("h1", ROTATE, RotateQuestion())
        assert AgentLogin.load(tmp_path) is not None
        assert not await site.refused(first)
        assert not site.ring.gone

        async with kept(site, tmp_path, first):
            async with asyncio.timeout(10):
                answer = await site.rig.controller.call("h1", ROTATE, RotateQuestion())
        # Killed before it could say so, perhaps: it says so again, and the half-made key of the first try goes too.
        stored = AgentLogin.load(tmp_path)
        assert stored is not None
        async with kept(site, tmp_path, stored.login):

            async def settled() -> bool:
                return len(site.ring.gone) == 2 and answer.public_key not in site.ring.gone

            await eventually(settled)
            assert await site.refused(first)
            assert not await site.refused(stored.login)

    async def test_a_login_is_renewed_before_it_runs_out(self, site: Site, tmp_path: Path) -> None:
        first = await site.login("h1")
        soon = time.time() + 31 * 86400  # of 90 days
        async with kept(site, tmp_path, first, now=soon):

            async def renewed() -> bool:
                stored = AgentLogin.load(tmp_path)
                return stored is not None and stored.login.public_key != first.public_key

            await eventually(renewed)

    async def test_a_removed_host_gets_in_again_by_the_login_that_it_is_given(self, site: Site, tmp_path: Path) -> None:
        first = await site.login("h1")
        async with kept(site, tmp_path, first) as agent:
            await site.revoke(first)
            await eventually(lambda: cut_off(agent))
            second = await site.login("h1")
            login = AgentLogin("i", (site.rig.server.url,), claims=second.claims, seed=second.seed)
            login.save(tmp_path)

            async def back() -> bool:
                return agent.connected

            await eventually(back, timeout_s=20)

    async def test_a_host_gets_no_login_of_another(self, site: Site) -> None:
        agent = await site.rig.login(await site.login("h1"), creates_stores=False)
        question = RenewQuestion(public_key=nkeys.public_key(new_seed(nkeys.Kind.USER)))
        answer = await agent.ask_controllers("h1", RENEW, question)
        assert answer.claims
        with pytest.raises(WireloomError):
            await agent._link.request("ctl.h2.renew", question.model_dump_json().encode(), timeout_s=0.5)
        with pytest.raises(NotPermitted):
            await (await site.rig.agent("h3")).ask_controllers("h3", RENEW, question)


@asynccontextmanager
async def kept(site: Site, folder: Path, login: Login, *, now: float | None = None) -> AsyncIterator[Fabric]:
    """An agent's connection, and what looks after its login."""
    stored = AgentLogin("i", (site.rig.server.url,), claims=login.claims, seed=login.seed, ca=site.rig.server.ca)
    stored.save(folder)
    fabric = await site.rig.login(login, creates_stores=False)
    clock = time.time if now is None else (lambda: now)
    keeper = LoginKeeper(host="h1", data_dir=folder, login=stored, fabric=fabric, clock=clock)
    task = asyncio.create_task(keeper.run())
    try:
        await fabric._link.flush()
        yield fabric
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await fabric.close()


class TestPermissions:
    async def test_what_an_agent_wrote_reaches_no_other_in_its_words(self, site: Site) -> None:
        """The server sends what is stored wherever somebody who may read it asks: nobody must take that for more."""
        one, two = await site.rig.agent("a"), await site.rig.agent("c")
        victim = await site.rig.agent("b")
        done: list[ExecQuestion] = []

        async def do(question: ExecQuestion) -> ExecAnswer:
            done.append(question)
            return ExecAnswer(exit_code=0)

        await victim.serve("b", EXEC, do)
        await site.rig.controller.put_intent("b", a_slice(1))
        watch = Collector(victim.watch_intents("b"))
        await watch.until(bool)
        headers = {
            "Wireloom-Key": "b.l1",
            "Nats-Stream": "KV_desired",
            "Nats-Subject": "$KV.desired.b.l1",
            "Nats-Sequence": "9999",
        }
        # Two hosts together: one writes to the other, who may read it, and has it sent on.
        for payload in (QUESTION.model_dump_json().encode(), a_slice(9999).model_dump_json().encode()):
            await two._link.request("$KV.ends.a.c", payload, timeout_s=2, headers=headers)
            for target in ("rpc.b.exec", "live.desired.b.l1"):
                await one._link.publish("$JS.API.DIRECT.GET.KV_ends.$KV.ends.a.c", reply=target)
        await one._link.flush()
        await asyncio.sleep(0.3)
        assert not done
        assert [change.value.generation for change in watch.seen] == [1]
        await watch.close()

    async def test_an_answer_goes_to_who_asks_only(self, site: Site) -> None:
        agent = await site.rig.agent("a")
        await site.rig.controller.put_intent("b", a_slice(1))
        question = RenewQuestion(public_key=nkeys.public_key(new_seed(nkeys.Kind.USER)))
        await agent._link.publish("ctl.a.renew", question.model_dump_json().encode(), reply="$KV.desired.b.l1")
        await agent._link.flush()
        await asyncio.sleep(0.3)
        assert list(await site.rig.controller.intents("b")) == ["l1"]

    async def test_an_agent_changes_nothing_of_logins(self, site: Site) -> None:
        agent = await site.rig.agent("a")
        account = site.rig.server.keys.account_claims(issued=int(time.time()) + 10_000)
        for subject in ("$SYS.REQ.CLAIMS.UPDATE", "ctl.b.settle", "ctl.b.renew"):
            with pytest.raises(WireloomError):
                await agent._link.request(subject, account.encode(), timeout_s=0.3)


async def test_a_login_that_is_refused_is_tried_slowly(site: Site) -> None:
    login = await site.login("h1")
    fabric = await site.rig.login(login, creates_stores=False)
    await site.revoke(login)
    await eventually(lambda: cut_off(fabric))
    await asyncio.sleep(4)
    assert fabric._link._session.refusals < 6
    with pytest.raises(Unavailable):
        await fabric._link.flush(1)
