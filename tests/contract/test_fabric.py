"""The fabric over a real nats-server: documents, watches, history, questions; with kills and losses in the middle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fabric_rig import Collector, Rig, eventually, rig

from wireloom.errors import DeadlineExceeded, GuestFailed, InternalError, Unavailable, WireloomError
from wireloom.fabric.connection import Fabric, KeyChange
from wireloom.fabric.documents import Event, ExecAnswer, ExecQuestion, HostFacts
from wireloom.fabric.methods import EXEC
from wireloom.fabric.stores import list_keys, sweep
from wireloom.fabric.subjects import OBSERVED
from wireloom.model.slice import Slice
from wireloom.model.state import SliceStatus

QUESTION = ExecQuestion(lab_id="l1", node_id="n1", command=("true",))


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path / "nats") as made:
        yield made


def a_slice(lab_id: str, generation: int = 1) -> Slice:
    return Slice(installation="test", lab_id=lab_id, lab=f"lab-{lab_id}", generation=generation)


def a_status(host: str, lab_id: str, generation: int = 1) -> SliceStatus:
    return SliceStatus(host=host, lab_id=lab_id, lab=f"lab-{lab_id}", generation=generation, observed_at=1.0)


def facts(host: str) -> HostFacts:
    return HostFacts(host=host, version="0", installation="test", time=time.time())


def generations(changes: list[KeyChange[Slice]]) -> dict[str, int | None]:
    """The last generation seen of each lab."""
    return {change.lab_id: change.value.generation if change.value else None for change in changes}


class TestIntent:
    async def test_current_slices_come_first_then_changes(self, fabric: Rig) -> None:
        await fabric.controller.put_intent("h1", a_slice("a"))
        await fabric.controller.put_intent("h2", a_slice("foreign"))
        agent = await fabric.agent("h1")
        watch = Collector(agent.watch_intents("h1"))
        await watch.until(lambda seen: generations(seen) == {"a": 1})
        await fabric.controller.put_intent("h1", a_slice("a", 2))
        await fabric.controller.put_intent("h1", a_slice("b"))
        await watch.until(lambda seen: generations(seen) == {"a": 2, "b": 1})
        await fabric.controller.delete_intent("h1", "a")
        await watch.until(lambda seen: generations(seen) == {"a": None, "b": 1})
        assert await agent.intents("h1") == {"b": a_slice("b")}
        await watch.close()

    async def test_a_host_name_with_dots_is_one_host(self, fabric: Rig) -> None:
        await fabric.controller.put_intent("h1.example.net", a_slice("a"))
        agent = await fabric.agent("h1.example.net")
        watch = Collector(agent.watch_intents("h1.example.net"))
        seen = await watch.until(bool)
        assert (seen[0].host, seen[0].lab_id) == ("h1.example.net", "a")
        await watch.close()

    async def test_two_controllers_lose_no_entry_of_the_list(self, fabric: Rig) -> None:
        other = await fabric.login(fabric.server.controller)
        labs = [f"lab{n}" for n in range(12)]
        writers = (fabric.controller, other)
        await asyncio.gather(*(writers[n % 2].put_intent("h1", a_slice(lab)) for n, lab in enumerate(labs)))
        assert sorted(await fabric.controller.intents("h1")) == sorted(labs)

    async def test_a_kill_of_the_server_loses_no_change(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")
        watch = Collector(agent.watch_intents("h1"))
        for generation in range(1, 31):
            if generation in (5, 15):
                killing = asyncio.create_task(fabric.kill())
            await fabric.controller.put_intent("h1", a_slice("a", generation))
            if generation in (10, 20):
                await killing
        await watch.until(lambda seen: generations(seen) == {"a": 30})
        seen = [change.value.generation for change in watch.seen]
        assert seen == sorted(seen), "a change went back in time"
        await watch.close()

    async def test_a_watch_that_starts_while_a_slice_is_written_sees_it(self, fabric: Rig) -> None:
        await fabric.controller.put_intent("warm", a_slice("a"))
        watches = {}
        for number in range(30):
            host = f"h{number}"
            writing = asyncio.create_task(fabric.controller.put_intent(host, a_slice("a")))
            await asyncio.sleep(number * 0.0002)  # the watch begins at another moment of the write each time
            watches[host] = Collector(fabric.controller.watch_intents(host))
            await writing
        for watch in watches.values():
            await watch.until(bool, timeout_s=5)
            await watch.close()

    async def test_a_client_that_gave_up_is_replaced_with_its_subscriptions(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")

        async def answer(question: ExecQuestion) -> ExecAnswer:
            return ExecAnswer(exit_code=0)

        await agent.serve("h1", EXEC, answer)
        watch = Collector(agent.watch_intents("h1"))
        await fabric.controller.put_intent("h1", a_slice("a", 1))
        await watch.until(lambda seen: generations(seen) == {"a": 1})
        await agent._link._client.close()
        assert not agent.connected
        await fabric.controller.put_intent("h1", a_slice("a", 2))
        await watch.until(lambda seen: generations(seen) == {"a": 2})
        await fabric.controller.put_intent("h1", a_slice("a", 3))
        await watch.until(lambda seen: generations(seen) == {"a": 3})
        assert (await fabric.controller.call("h1", EXEC, QUESTION)).exit_code == 0
        await watch.close()

    async def test_losing_the_store_is_no_deletion_and_heals(self, fabric: Rig) -> None:
        rebuilt = asyncio.Event()
        agent_rebuilt = asyncio.Event()
        agent = await fabric.agent("h1")
        fabric.controller.on_rebuilt(rebuilt.set)
        agent.on_rebuilt(agent_rebuilt.set)
        for generation in range(1, 6):
            await fabric.controller.put_intent("h1", a_slice("a", generation))
        watch = Collector(agent.watch_intents("h1"))
        await watch.until(lambda seen: generations(seen) == {"a": 5})
        await fabric.lose_store()
        async with asyncio.timeout(20):
            await rebuilt.wait()
            await agent_rebuilt.wait()
        assert None not in generations(watch.seen).values()
        await fabric.controller.put_intent("h1", a_slice("a", 6))
        await fabric.controller.put_intent("h1", a_slice("b", 1))
        await watch.until(lambda seen: generations(seen) == {"a": 6, "b": 1})
        await watch.close()

    async def test_an_agent_waits_for_stores_that_nobody_made_yet(self, fabric: Rig, tmp_path: Path) -> None:
        async with rig(tmp_path / "second") as lonely:
            await lonely.controller.close()
            await lonely.server.stop()
            (lonely.folder / "store").rename(tmp_path / "away")
            await lonely.server.start()
            agent = await lonely.agent("h1")
            watch = Collector(agent.watch_intents("h1"))
            putting = asyncio.create_task(agent.put_observation(a_status("h1", "a")))
            await asyncio.sleep(0.5)
            assert not putting.done()
            late = await lonely.login(lonely.server.controller)
            await late.put_intent("h1", a_slice("a"))
            await watch.until(lambda seen: generations(seen) == {"a": 1})
            await putting
            await watch.close()


class TestObservation:
    async def test_controllers_see_every_host_and_deletions(self, fabric: Rig) -> None:
        one, two = await fabric.agent("h1"), await fabric.agent("h2")
        await one.put_observation(a_status("h1", "a"))
        watch = Collector(fabric.controller.watch_observations())
        await watch.until(lambda seen: [change.key for change in seen] == ["h1.a"])
        await two.put_observation(a_status("h2", "a", 4))
        await one.delete_observation("h1", "a")
        seen = await watch.until(lambda seen: len(seen) == 3)
        assert {(c.key, c.value.generation if c.value else None) for c in seen[1:]} == {("h2.a", 4), ("h1.a", None)}
        await watch.close()

    async def test_many_keys_come_in_the_first_read(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")
        await asyncio.gather(*(agent.put_observation(a_status("h1", f"lab{n}")) for n in range(300)))
        watch = Collector(fabric.controller.watch_observations())
        seen = await watch.until(lambda seen: len(seen) >= 300)
        assert len({change.key for change in seen}) == 300
        await watch.close()

    async def test_the_latest_of_many_quick_writes_arrives(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")
        watch = Collector(fabric.controller.watch_observations())
        for generation in range(1, 201):
            await agent.put_observation(a_status("h1", "a", generation))
        await watch.until(lambda seen: bool(seen) and seen[-1].value.generation == 200)
        await watch.close()

    async def test_old_deletion_markers_are_swept_and_values_are_not(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")
        await agent.put_observation(a_status("h1", "kept"))
        await agent.put_observation(a_status("h1", "gone"))
        await agent.delete_observation("h1", "gone")
        link, values = fabric.controller._link, fabric.controller._values
        assert await sweep(link, values, OBSERVED, older_than_s=60) == 0
        assert await sweep(link, values, OBSERVED, older_than_s=-1) == 1
        assert await list_keys(link, OBSERVED) == {"h1.kept"}


class TestHosts:
    async def test_a_silent_host_expires_and_comes_back(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")
        await agent.put_host(facts("h1"))
        watch = Collector(fabric.controller.watch_hosts())
        await watch.until(lambda seen: [change.key for change in seen] == ["h1"])
        started = time.monotonic()
        await watch.until(lambda seen: seen[-1].value is None, timeout_s=25)
        assert time.monotonic() - started < 20
        await agent.put_host(facts("h1"))
        await watch.until(lambda seen: seen[-1].value is not None)
        await watch.close()


class TestHistory:
    async def test_events_since_a_time_then_new_ones_in_order(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")

        async def publish(message: str) -> None:
            await agent.publish_event(Event(time=time.time(), host="h1", kind="test", message=message))

        await publish("old")
        await asyncio.sleep(0.2)
        since = time.time()
        await publish("one")
        await publish("two")
        everything = Collector(fabric.controller.events(since=0))
        recent = Collector(fabric.controller.events(since=since))
        fresh = Collector(fabric.controller.events())
        await recent.until(lambda seen: len(seen) == 2)
        await asyncio.sleep(0.2)
        await publish("three")
        await fabric.kill()
        await publish("four")
        for collector, expected in (
            (everything, ["old", "one", "two", "three", "four"]),
            (recent, ["one", "two", "three", "four"]),
            (fresh, ["three", "four"]),
        ):
            await collector.until(lambda seen, expected=expected: len(seen) >= len(expected))
            assert [event.message for event in collector.seen] == expected
            await collector.close()

    async def test_events_go_on_after_the_store_was_lost(self, fabric: Rig) -> None:
        watch = Collector(fabric.controller.events(since=0))
        for number in range(5):
            await fabric.controller.publish_event(Event(time=1, kind="test", message=str(number)))
        await watch.until(lambda seen: len(seen) == 5)
        await fabric.lose_store()
        await fabric.controller.publish_event(Event(time=1, kind="test", message="after"))
        await watch.until(lambda seen: seen[-1].message == "after")
        await watch.close()


class TestQuestions:
    async def test_an_error_of_the_handler_is_raised_at_the_caller(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")

        async def refuse(question: ExecQuestion) -> ExecAnswer:
            raise GuestFailed("no", hint="try later", node=question.node_id)

        await agent.serve("h1", EXEC, refuse)
        with pytest.raises(GuestFailed) as caught:
            await fabric.controller.call("h1", EXEC, QUESTION)
        assert (caught.value.hint, caught.value.node) == ("try later", "n1")

    async def test_a_defect_of_the_handler_is_an_internal_error(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")

        async def broken(question: ExecQuestion) -> ExecAnswer:
            raise ZeroDivisionError(question.node_id)

        await agent.serve("h1", EXEC, broken)
        with pytest.raises(InternalError):
            await fabric.controller.call("h1", EXEC, QUESTION)

    async def test_nobody_there_is_unavailable_and_names_the_host(self, fabric: Rig) -> None:
        with pytest.raises(Unavailable, match="h9"):
            await fabric.controller.call("h9", EXEC, QUESTION, timeout_s=2)

    async def test_a_late_answer_is_a_deadline(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")
        cancelled = asyncio.Event()

        async def slow(question: ExecQuestion) -> ExecAnswer:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return ExecAnswer(exit_code=len(question.command))

        await agent.serve("h1", EXEC, slow)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await fabric.controller.call("h1", EXEC, QUESTION, timeout_s=0.5)
        assert time.monotonic() - started < 2
        async with asyncio.timeout(2):
            await cancelled.wait()

    async def test_a_slow_question_holds_up_no_other(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")
        gate = asyncio.Event()

        async def maybe_slow(question: ExecQuestion) -> ExecAnswer:
            if question.command == ("slow",):
                await gate.wait()
            return ExecAnswer(exit_code=0)

        await agent.serve("h1", EXEC, maybe_slow)
        slow = [
            asyncio.create_task(fabric.controller.call("h1", EXEC, QUESTION.model_copy(update={"command": ("slow",)})))
            for _ in range(20)
        ]
        started = time.monotonic()
        await asyncio.gather(*(fabric.controller.call("h1", EXEC, QUESTION) for _ in range(20)))
        assert time.monotonic() - started < 1
        gate.set()
        assert {answer.exit_code for answer in await asyncio.gather(*slow)} == {0}

    async def test_questions_work_again_right_after_a_kill(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")

        async def answer(question: ExecQuestion) -> ExecAnswer:
            return ExecAnswer(exit_code=0, stdout=question.node_id.encode())

        await agent.serve("h1", EXEC, answer)
        outcomes: list[str] = []
        killing = asyncio.create_task(fabric.kill())
        while not killing.done():
            try:
                outcomes.append((await fabric.controller.call("h1", EXEC, QUESTION, timeout_s=2)).stdout.decode())
            except (Unavailable, DeadlineExceeded) as error:
                outcomes.append(error.code)
        assert (await fabric.controller.call("h1", EXEC, QUESTION, timeout_s=5)).stdout == b"n1"
        assert len([outcome for outcome in outcomes if outcome != "n1"]) <= 2

    async def test_an_answer_over_the_limit_is_said_and_not_lost(self, fabric: Rig) -> None:
        agent = await fabric.agent("h1")

        async def huge(question: ExecQuestion) -> ExecAnswer:
            return ExecAnswer(exit_code=0, stdout=bytes(9_000_000))

        await agent.serve("h1", EXEC, huge)
        with pytest.raises(WireloomError, match="limit"):
            await fabric.controller.call("h1", EXEC, QUESTION, timeout_s=5)


class TestIsolation:
    """What the login of host A's agent cannot do, asked directly, past our own code."""

    @staticmethod
    async def denied(agent: Fabric, subject: str, payload: bytes = b"") -> bool:
        try:
            await agent._link.request(subject, payload, timeout_s=0.5)
        except (DeadlineExceeded, Unavailable):
            return True
        return False

    async def test_an_agent_reads_only_its_own_intent(self, fabric: Rig) -> None:
        await fabric.controller.put_intent("b", a_slice("secret"))
        await fabric.controller.put_intent("a", a_slice("own"))
        agent = await fabric.agent("a")
        assert list(await agent.intents("a")) == ["own"]
        heard: list[str] = []

        async def listen(message: object) -> None:
            heard.append(str(message))

        for subject in ("live.desired.b.*", "live.desired.>", "$KV.desired.>", "_INBOX_controller.>", ">"):
            await agent._link.subscribe(subject, listen)  # type: ignore[arg-type]
        for subject in (
            "$JS.API.DIRECT.GET.KV_desired.$KV.desired.b.secret",
            "$JS.API.DIRECT.GET.KV_desired.$KV.desired.b",
            "$JS.API.STREAM.INFO.KV_desired",
            "$JS.API.STREAM.MSG.GET.KV_desired",
            "$JS.API.CONSUMER.CREATE.KV_desired",
            "$JS.API.CONSUMER.CREATE.KV_desired.x.$KV.desired.>",
        ):
            assert await self.denied(agent, subject), subject
        assert await self.denied(agent, "$JS.API.DIRECT.GET.KV_desired", b'{"last_by_subj":"$KV.desired.b.secret"}')
        await fabric.controller.put_intent("b", a_slice("secret", 2))
        await asyncio.sleep(0.3)
        assert not [text for text in heard if "secret" in text]

    async def test_an_agent_writes_only_its_own_observation(self, fabric: Rig) -> None:
        await fabric.controller.put_intent("b", a_slice("x"))
        agent = await fabric.agent("a")
        document = a_status("b", "x").model_dump_json().encode()
        for subject in (
            "$KV.observed.b.x",
            "$KV.hosts.b",
            "$KV.desired.a.x",
            "$KV.desired.b.x",
            "$KV.desired._epoch",
            "events.b",
            "rpc.b.exec",
            "live.desired.b.x",
            "$JS.API.STREAM.DELETE.KV_desired",
            "$JS.API.STREAM.PURGE.KV_observed",
        ):
            assert await self.denied(agent, subject, document), subject
        watch = Collector(fabric.controller.watch_observations())
        await agent.put_observation(a_status("a", "x"))
        await watch.until(bool)
        assert [change.key for change in watch.seen] == ["a.x"]
        assert list(await fabric.controller.intents("b")) == ["x"]
        await watch.close()

    async def test_a_copy_redirected_to_another_host_is_not_taken(self, fabric: Rig) -> None:
        """The server answers wherever a question says; a slice sent on to another host's key must not be obeyed."""
        await fabric.controller.put_intent("a", a_slice("own", 7))
        await fabric.controller.put_intent("b", a_slice("own", 1))
        attacker, victim = await fabric.agent("a"), await fabric.agent("b")
        watch = Collector(victim.watch_intents("b"))
        await watch.until(lambda seen: generations(seen) == {"own": 1})
        read = "$JS.API.DIRECT.GET.KV_desired.$KV.desired.a.own"
        await attacker._link.publish(read, reply="$KV.desired.b.own")
        await attacker._link.publish(read, reply="live.desired.b.own")

        async def replaced() -> bool:
            return "own" not in await fabric.controller.intents("b")

        await eventually(replaced)
        assert generations(watch.seen) == {"own": 1}
        await fabric.controller.put_intent("b", a_slice("own", 2))
        await watch.until(lambda seen: generations(seen) == {"own": 2})
        await watch.close()
