"""Links and segments over HTTP: verbs, questions to hosts, and the stream of counters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from api_rig import Api

from wireloom.errors import Conflict, InvalidInput, NotFound, Unavailable
from wireloom.fabric.link_documents import (
    CountersOpen,
    MtuAnswer,
    MtuDirection,
    MtuQuestion,
    SelfTestAnswer,
    SelfTestQuestion,
)
from wireloom.fabric.methods import CHECK_MTU, COUNTERS, SELF_TEST
from wireloom.model.counters import CountersSample, PortSample
from wireloom.model.impairment import Impairment
from wireloom.model.link_views import Parts, SegmentRequest
from wireloom.model.network import PathTest
from wireloom.model.presets import PRESETS
from wireloom.model.views import OperationState, OperationView
from wireloom.testing.memory_fabric import MemoryStream

#: FastAPI silences it while it builds a body's validator; ours are built later, at their first use.
pytestmark = pytest.mark.filterwarnings("ignore:The 'alias' attribute")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async for api in Api(tmp_path).run():
        await api.deploy()
        yield api


async def done(api: Api, operation: OperationView) -> OperationView:
    ended = await api.client.wait(operation, timeout_s=5)
    assert ended.state is OperationState.DONE
    return ended


async def test_links_and_segments_change_step_by_step(api: Api) -> None:
    links = api.client.links
    await done(api, await links.add_segment("pair", SegmentRequest(verb="add", name="lan")))
    await done(api, await links.add("pair", "a:eth2", "lan", trunk=("10", "20-29"), native=1))
    moved = await done(api, await links.move("pair", "a:eth1", "b:eth1", "b:eth2"))
    assert moved.verb == "link-move"
    view = await api.client.lab("pair")
    assert [(link.a, link.b) for link in view.links] == [("a:eth1", "b:eth2"), ("a:eth2", "lan")]
    assert view.links[1].vlans is not None
    assert [(segment.name, segment.tagging, segment.links) for segment in view.segments] == [("lan", "802.1q", 1)]
    await done(api, await links.remove_segment("pair", "lan"))
    assert (await api.client.lab("pair")).segments == ()
    with pytest.raises(Conflict, match="--restart"):
        await links.add("pair", "a:eth20", "b:eth20")


async def test_an_impairment_is_set_found_and_cleared(api: Api) -> None:
    links = api.client.links
    await done(api, await links.impair("pair", "a:eth1", "b:eth1", Parts(loss=2), preset="wan", for_s=600))
    [link] = await links.find("pair", "b:ETH1", "a:eth1")
    wan = PRESETS["wan"].forward.model_copy(update={"loss": 2})
    assert (link.a, link.impairment.configured.forward, link.impairment.forward_origin) == ("a:eth1", wan, "user")
    assert link.impairment.configured.forward_until is not None
    assert link.impairment.operational is not None
    assert link.impairment.operational.backward == wan
    await done(api, await links.clear("pair"))
    assert [found.impairment.forward_origin for found in await links.find("pair")] == ["topology"]


@pytest.mark.parametrize(("a", "b", "error"), [("a:eth1", None, InvalidInput), ("a:eth1", "b:eth9", NotFound)])
async def test_a_link_has_two_ends_that_are_there(api: Api, a: str, b: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        await api.client.links.find("pair", a, b)


async def test_bodies_that_mean_nothing_are_refused(api: Api) -> None:
    post = api.client._transport.request
    for path, body in {
        "/labs/pair/links": '{"verb": "move", "a": "a:eth1", "b": "b:eth1"}',
        "/labs/pair/impairments/clear": '{"a": "a:eth1"}',
        "/labs/pair/impairments": '{"a": "a:eth1", "b": "b:eth1", "for_s": 0}',
        "/labs/pair/segments": '{"verb": "add", "name": "x", "kind": "hub"}',
    }.items():
        with pytest.raises(InvalidInput):
            await post("POST", path, body=body)


async def test_presets_are_those_of_the_table(api: Api) -> None:
    assert await api.client.links.presets() == list(PRESETS.values())


async def test_a_check_is_answered_as_the_ends_are_named(api: Api) -> None:
    def way(source: str, target: str, largest: int) -> MtuDirection:
        return MtuDirection(source=source, target=target, configured=1500, largest=largest, method="sent")

    async def answer(question: MtuQuestion) -> MtuAnswer:
        assert question.link_id == (await api.client.lab("pair")).links[0].id
        return MtuAnswer(forward=way("a:eth1", "b:eth1", 1500), backward=way("b:eth1", "a:eth1", 1400))

    await api.fabric.serve("h1", CHECK_MTU, answer)
    assert (await api.client.links.check("pair", "a:eth1", "b:eth1")).forward.largest == 1500
    assert (await api.client.links.check("pair", "b:eth1", "a:eth1")).forward.largest == 1400


async def test_a_host_tests_itself_when_it_is_asked(api: Api) -> None:
    async def answer(_question: SelfTestQuestion) -> SelfTestAnswer:
        return SelfTestAnswer(time=1, paths=(PathTest(path="segment", problem="lost"),))

    await api.fabric.serve("h1", SELF_TEST, answer)
    assert (await api.client.links.self_test("h1")).paths[0].problem == "lost"
    with pytest.raises(NotFound):
        await api.client.links.self_test("h9")


async def test_counters_come_line_by_line_and_the_host_is_told_when_the_reader_goes(api: Api) -> None:
    sample = CountersSample(time=1, ports=(PortSample(node_id="x", index=1, node="a", port="eth1"),))
    line = sample.model_dump_json().encode() + b"\n"
    stream, asked = MemoryStream(line[:20], line[20:] + line), []

    async def opened(question: CountersOpen) -> MemoryStream:
        asked.append(question.interval_s)
        return stream

    await api.fabric.serve_stream("h1", COUNTERS, opened)
    async with aclosing(api.client.links.counters("pair", interval_s=0.5)) as samples:
        assert [await anext(samples), await anext(samples)] == [sample, sample]
    async with asyncio.timeout(5):
        await stream.closed.wait()
    assert asked == [0.5]


async def test_counters_of_a_lab_whose_host_is_away_are_refused(api: Api) -> None:
    with pytest.raises(Unavailable):
        async with aclosing(api.client.links.counters("pair")) as samples:
            await anext(samples)
    with pytest.raises(NotFound):
        async with aclosing(api.client.links.counters("nowhere")) as samples:
            await anext(samples)


async def test_one_direction_is_impaired_alone(api: Api) -> None:
    operation = await api.client.links.impair("pair", "a:eth1", "b:eth1", Parts(rate_kbit=500), direction="backward")
    await done(api, operation)
    [link] = await api.client.links.find("pair", "a:eth1", "b:eth1")
    assert link.impairment.configured.forward is None
    assert link.impairment.configured.backward == Impairment(rate_kbit=500)
