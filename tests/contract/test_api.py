"""The HTTP API through the SDK, over real HTTP and WebSockets, on a controller with a memory fabric."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from wireloom.client import Client, Endpoint, find_endpoint
from wireloom.errors import (
    Conflict,
    DeadlineExceeded,
    GuestFailed,
    InvalidInput,
    NotFound,
    TopologyInvalid,
    Unauthenticated,
    Unavailable,
)
from wireloom.fabric.documents import (
    BootsAnswer,
    BootsQuestion,
    ConsoleOpen,
    ExecAnswer,
    ExecQuestion,
    LinesAnswer,
    LinesQuestion,
    LogOpen,
    Orphan,
    PruneAnswer,
    PruneQuestion,
)
from wireloom.fabric.methods import BOOTS, CONSOLE, EXEC, LINES, LOG, PRUNE
from wireloom.model.console import Attendee, ConsoleCommand, ConsoleLine, ConsoleNotice
from wireloom.model.runtime import Boot
from wireloom.model.views import DeployRequest, OperationState
from wireloom.paths import Paths
from wireloom.testing.memory_fabric import MemoryStream

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from api_rig import PAIR, Api
from controller_rig import TWO_NODES, until

#: FastAPI silences it while it builds a body's validator; ours are built later, at their first use.
pytestmark = pytest.mark.filterwarnings("ignore:The 'alias' attribute")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async for api in Api(tmp_path).run():
        yield api


# -------------------------------------------------------------------- the lab's life


async def test_a_lab_lives_from_plan_to_destroy(api: Api) -> None:
    plan = await api.client.plan(PAIR)
    assert [(change.name, change.action) for change in plan.changes] == [
        ("a", "add"),
        ("b", "add"),
        ("a:eth1 -- b:eth1", "add"),
    ]

    operation = await api.client.wait(await api.client.deploy(PAIR), timeout_s=5)
    assert (operation.state, operation.done, operation.total) == (OperationState.DONE, 3, 3)

    lab = await api.client.wait_ready("pair", timeout_s=5)
    assert [(node.name, node.state, node.ready) for node in lab.nodes] == [
        ("a", "running", "yes"),
        ("b", "running", "yes"),
    ]
    assert [(link.a, link.b, link.state) for link in lab.links] == [("a:eth1", "b:eth1", "up")]
    assert await api.client.topology("pair") == TWO_NODES
    assert [(lab.lab, lab.state, lab.ready) for lab in await api.client.labs()] == [("pair", "running", 2)]
    assert (await api.client.plan(PAIR)).changes == ()

    gone = await api.client.wait(await api.client.destroy("pair"), timeout_s=5)
    assert gone.state is OperationState.DONE
    assert await api.client.labs() == []
    assert (await api.client.operation(gone.id)).state is OperationState.DONE


async def test_each_verb_has_its_method(api: Api) -> None:
    await api.deploy()
    stopped = await api.client.wait(await api.client.stop("pair", ["a"]), timeout_s=5)
    assert stopped.goal == "stopped"
    for operation in (
        await api.client.start("pair", ["a"]),
        await api.client.restart("pair"),
        await api.client.wipe("pair", ["b"]),
        await api.client.links.down("pair", "a:eth1", "b:eth1"),
        await api.client.links.up("pair", "b:eth1", "a:eth1"),
        await api.client.links.add("pair", "a:eth2", "b:eth2", mtu=9000),
        await api.client.links.remove("pair", "a:eth2", "b:eth2"),
    ):
        ended = await api.client.wait(operation, timeout_s=5)
        assert (ended.state, ended.errors) == (OperationState.DONE, ())


async def test_installation_is_described(api: Api) -> None:
    await api.deploy()
    status = await api.client.status()
    assert (status.labs, status.nodes, status.running, status.fabric) == (1, 2, 2, True)
    assert [(host.host, host.alive) for host in await api.client.hosts()] == [("h1", True)]
    assert {"frr", "linux"} <= {device.name for device in await api.client.devices()}


# -------------------------------------------------------------------- errors


async def test_errors_arrive_as_what_they_are(api: Api) -> None:
    with pytest.raises(NotFound) as missing:
        await api.client.lab("nowhere")
    assert missing.value.hint
    with pytest.raises(TopologyInvalid) as invalid:
        await api.client.deploy(DeployRequest(topology="name: x\nnodes: {r1: {devise: frr}}\n", source="x.yml"))
    found = invalid.value.details["diagnostics"]
    assert (found[0]["file"], found[0]["line"]) == ("x.yml", 2)
    await api.deploy()
    with pytest.raises(InvalidInput):
        await api.client.wipe("pair", [])
    with pytest.raises(Conflict):
        await api.client.links.add("pair", "a:eth1", "b:eth1")


async def test_malformed_requests_get_the_same_form_of_error(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.client.endpoint.token}"}
    async with httpx.AsyncClient(base_url=api.client.endpoint.url, headers=headers) as http:
        answers = [
            await http.post("/api/v1/labs", content="{"),
            await http.post("/api/v1/labs", json={}),
            await http.get("/api/v1/nothing"),
            await http.put("/api/v1/labs"),
        ]
    assert [answer.status_code for answer in answers] == [422, 422, 404, 405]
    assert all({"code", "message", "hint", "retryable"} <= answer.json()["error"].keys() for answer in answers)


async def test_a_defect_is_an_internal_error_with_an_incident(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("wireloom.controller.controller.Controller.status", broken)
    headers = {"Authorization": f"Bearer {api.client.endpoint.token}"}
    with structlog.testing.capture_logs() as logged:
        async with httpx.AsyncClient(base_url=api.client.endpoint.url, headers=headers) as http:
            answer = await http.get("/api/v1/status")
    assert answer.status_code == 500
    incident = answer.json()["error"]["details"]["incident"]
    assert incident in answer.json()["error"]["hint"]
    assert [line["incident"] for line in logged] == [incident]
    assert "secret" not in answer.text


# -------------------------------------------------------------------- who may speak


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/openapi.json", "/api/v1/nothing", "/"])
async def test_nothing_is_said_without_the_token(api: Api, path: str) -> None:
    async with httpx.AsyncClient(base_url=api.client.endpoint.url) as http:
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, params={"token": api.client.endpoint.token})).status_code == 401


async def test_a_wrong_token_is_refused_on_websockets_too(api: Api) -> None:
    wrong = Client(Endpoint(api.client.endpoint.url, "wrong"), timeout_s=5)
    with pytest.raises(Unauthenticated):
        await wrong.status()
    with pytest.raises(Unauthenticated):
        await anext(wrong.stream())
    await wrong.close()


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example:80"}, {"Origin": "http://evil.example"}, {"Host": "[", "Origin": "null"}]
)
async def test_other_sites_are_refused(api: Api, headers: dict[str, str]) -> None:
    token = {"Authorization": f"Bearer {api.client.endpoint.token}"}
    async with httpx.AsyncClient(base_url=api.client.endpoint.url) as http:
        answer = await http.get("/api/v1/status", headers=token | headers)
    assert answer.status_code == 403
    url = api.client.endpoint.url.replace("http", "ws", 1)
    if "Host" not in headers:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/api/v1/stream", additional_headers=token | headers)
        assert refused.value.response.status_code == 403


async def test_the_token_is_made_once_and_for_its_owner_only(api: Api) -> None:
    file = api.settings.paths.token_file
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_text().strip()) >= 32


async def test_the_address_is_announced_while_it_answers(api: Api) -> None:
    file = api.settings.paths.controller_file
    assert json.loads(file.read_text()) == {"url": api.client.endpoint.url, "ca": "", "pid": os.getpid()}
    await api.service.stop()
    assert not file.exists()
    with pytest.raises(Unavailable):
        await api.client.status()


def test_without_a_controller_the_client_says_what_to_do(tmp_path: Path) -> None:
    paths = Paths(data_dir=tmp_path, run_dir=tmp_path)
    with pytest.raises(Unavailable, match="no Wireloom controller"):
        find_endpoint({}, paths)
    with pytest.raises(Unauthenticated):
        find_endpoint({"WIRELOOM_URL": "http://x"}, paths)
    found = find_endpoint({"WIRELOOM_URL": "http://x/", "WIRELOOM_TOKEN": "t"}, paths)
    assert (found.url, found.token) == ("http://x", "t")


# -------------------------------------------------------------------- nodes


async def test_exec_answers_with_output_and_exit_code(api: Api) -> None:
    await api.deploy()
    asked: list[ExecQuestion] = []

    async def run(question: ExecQuestion) -> ExecAnswer:
        asked.append(question)
        return ExecAnswer(exit_code=3, stdout=b"out\xff", stderr=b"err", channel="ssh", tried={"exec": "has none"})

    await api.fabric.serve("h1", EXEC, run)
    answer = await api.client.exec("pair", "a", ["show", "version"], timeout_s=7)
    assert (answer.exit_code, answer.stdout, answer.stderr, answer.channel) == (3, "out\ufffd", "err", "ssh")
    assert (asked[0].command, asked[0].timeout_s) == (("show", "version"), 7)
    with pytest.raises(NotFound):
        await api.client.exec("pair", "nobody", ["true"])


async def test_exec_on_a_lost_host_is_refused_early(api: Api) -> None:
    await api.deploy()
    api.fabric.expire_host("h1")
    with pytest.raises(Unavailable, match="h1 does not answer"):
        await api.client.exec("pair", "a", ["true"])


async def test_a_log_is_streamed_and_its_errors_are_errors(api: Api) -> None:
    await api.deploy()
    stream = MemoryStream(b"one ", b"two", ends=True)
    asked: list[LogOpen] = []

    async def serve(question: LogOpen) -> MemoryStream:
        asked.append(question)
        if len(asked) > 1:
            raise GuestFailed("never started", node="a")
        return stream

    await api.fabric.serve_stream("h1", LOG, serve)
    assert b"".join([piece async for piece in api.client.log("pair", "a")]) == b"one two"
    assert stream.closed.is_set()
    with pytest.raises(GuestFailed, match="never started"):
        await anext(aiter(api.client.log("pair", "a", follow=True)))
    assert [question.follow for question in asked] == [False, True]


async def test_earlier_boots_are_listed_and_their_logs_asked_for_by_number(api: Api) -> None:
    await api.deploy()
    known = (Boot(number=0, started_at=20.5), Boot(number=1, started_at=10.25))
    asked: list[int] = []

    async def boots(question: BootsQuestion) -> BootsAnswer:
        assert question.node_id
        return BootsAnswer(boots=known)

    async def log(question: LogOpen) -> MemoryStream:
        asked.append(question.boot)
        return MemoryStream(b"before", ends=True)

    await api.fabric.serve("h1", BOOTS, boots)
    await api.fabric.serve_stream("h1", LOG, log)
    assert tuple(await api.client.boots("pair", "a")) == known
    assert b"".join([piece async for piece in api.client.log("pair", "a", boot=1)]) == b"before"
    assert asked == [1]
    with pytest.raises(InvalidInput):
        await anext(aiter(api.client.log("pair", "a", boot=-1)))


async def test_leaving_a_quiet_log_releases_the_stream(api: Api) -> None:
    await api.deploy()
    stream = MemoryStream(b"first")

    async def serve(_: LogOpen) -> MemoryStream:
        return stream

    await api.fabric.serve_stream("h1", LOG, serve)
    pieces = api.client.log("pair", "a", follow=True)
    assert await anext(aiter(pieces)) == b"first"
    await pieces.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        await stream.closed.wait()


async def test_a_console_carries_bytes_and_sizes_both_ways(api: Api) -> None:
    await api.deploy()
    stream = MemoryStream(b"login: ")
    asked: list[ConsoleOpen] = []

    async def serve(question: ConsoleOpen) -> MemoryStream:
        asked.append(question)
        return stream

    await api.fabric.serve_console("h1", CONSOLE, serve)
    console = await api.client.console("pair", "a", columns=132, rows=43, read_only=True)
    assert await console.read() == b"login: "
    await console.write(b"root\x00\xff\n")
    async with asyncio.timeout(5):
        await stream.arrived.wait()
    stream.arrived.clear()
    await console.resize(80, 24)
    async with asyncio.timeout(5):
        await stream.arrived.wait()
    assert (stream.written, stream.sizes) == ([b"root\x00\xff\n"], [(80, 24)])
    assert (asked[0].columns, asked[0].rows, asked[0].read_only) == (132, 43, True)
    await console.close()
    async with asyncio.timeout(5):
        await stream.closed.wait()


async def test_a_console_that_ends_or_breaks_says_so(api: Api) -> None:
    await api.deploy()
    streams = [MemoryStream(ends=True), MemoryStream()]
    streams[1].feed(GuestFailed("the guest powered off"))
    served = iter(streams)

    async def serve(_: ConsoleOpen) -> MemoryStream:
        return next(served)

    await api.fabric.serve_console("h1", CONSOLE, serve)
    ended = await api.client.console("pair", "a")
    assert await ended.read() == b""
    broken = await api.client.console("pair", "a")
    with pytest.raises(GuestFailed, match="powered off"):
        await broken.read()
    with pytest.raises(NotFound):
        await api.client.console("pair", "nobody")


async def test_notices_and_commands_travel_beside_the_bytes_for_those_who_want_them(api: Api) -> None:
    await api.deploy()
    ada = Attendee(id="1", who="ada", since=1.0)
    notice = ConsoleNotice(event="asked", text="bob asks", you="1", state=ConsoleLine(writer=ada, attendees=(ada,)))
    stream = MemoryStream(b"login: ")
    stream.feed(notice)
    asked: list[ConsoleOpen] = []

    async def serve(question: ConsoleOpen) -> MemoryStream:
        asked.append(question)
        return stream

    async def lines(_: LinesQuestion) -> LinesAnswer:
        return LinesAnswer(lines=(ConsoleLine(line=1, writer=ada, attendees=(ada,)),))

    await api.fabric.serve_console("h1", CONSOLE, serve)
    await api.fabric.serve("h1", LINES, lines)
    console = await api.client.console("pair", "a", line=1, who="ada")
    assert [await console.receive(), await console.receive()] == [b"login: ", notice]
    assert notice.writing
    await console.command(ConsoleCommand(do="give", to="2"))
    async with asyncio.timeout(5):
        await stream.arrived.wait()
    assert stream.commands == [ConsoleCommand(do="give", to="2")]
    assert (asked[0].line, asked[0].who, asked[0].notices) == (1, "ada", True)
    await console.close()
    (line,) = await api.client.console_lines("pair", "a")
    assert (line.line, line.writer) == (1, ada)


@pytest.mark.parametrize("text", ["hello", "[]", '{"columns": 0, "rows": 5}', '{"do": "steal"}', '{"rows": 5}'])
async def test_a_text_message_that_nobody_knows_ends_the_console_with_the_reason(api: Api, text: str) -> None:
    await api.deploy()

    async def serve(_: ConsoleOpen) -> MemoryStream:
        return MemoryStream()

    await api.fabric.serve_console("h1", CONSOLE, serve)
    console = await api.client.console("pair", "a")
    await console._send(text)
    with pytest.raises(InvalidInput):
        await console.read()


async def test_a_browser_opens_a_websocket_with_a_ticket_once_and_soon(api: Api) -> None:
    await api.deploy()
    address = api.client.endpoint.url.replace("http", "ws") + "/api/v1/stream?lab=pair"
    headers = {"Authorization": f"Bearer {api.client.endpoint.token}"}
    async with httpx.AsyncClient(base_url=api.client.endpoint.url + "/api/v1") as plain:
        assert (await plain.post("/tickets")).status_code == 401
        ticket = (await plain.post("/tickets", headers=headers)).json()["ticket"]
        offered = [Subprotocol("wireloom"), Subprotocol(f"ticket.{ticket}")]
        # Not for requests, which can carry the token.
        assert (await plain.get("/status", headers={"Sec-WebSocket-Protocol": ", ".join(offered)})).status_code == 401
    async with connect(address, subprotocols=offered, proxy=None) as socket:
        assert socket.subprotocol == "wireloom"
        assert json.loads(await socket.recv())["type"] == "host"
    for used_or_wrong in (offered, [Subprotocol("wireloom"), Subprotocol("ticket.9999999999.00.ff")]):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address, subprotocols=used_or_wrong, proxy=None):
                pass
        assert refused.value.response.status_code == 401


async def test_prune_reports_by_host_and_knows_the_labs(api: Api) -> None:
    await api.deploy()
    asked: list[PruneQuestion] = []

    async def serve(question: PruneQuestion) -> PruneAnswer:
        asked.append(question)
        return PruneAnswer(orphans=(Orphan(kind="runtime", id="1", name="wl-old"),))

    await api.fabric.serve("h1", PRUNE, serve)
    assert [orphan.name for orphan in await api.client.prune()] == ["wl-old"]
    lab = await api.client.lab("pair")
    assert asked == [PruneQuestion(labs=(lab.id,), dry_run=True, all=True)]


# -------------------------------------------------------------------- live


async def test_the_stream_begins_with_everything_and_goes_on(api: Api) -> None:
    await api.deploy()
    stream = api.client.stream("pair")
    first = [await anext(stream) for _ in range(3)]
    assert [message.type for message in first] == ["host", "lab", "operation"]
    await api.client.stop("pair", ["a"])
    seen = set()
    async with asyncio.timeout(5):
        async for message in stream:
            seen.add(message.type)
            if message.type == "lab" and message.data["nodes"][0]["state"] == "stopped":
                break
    assert "operation" in seen
    await api.client.destroy("pair")
    async with asyncio.timeout(5):
        async for message in stream:
            if message.type == "removed":
                break
    assert message.data["lab"] == "pair"
    await stream.aclose()


async def test_waiting_has_a_deadline_and_shows_progress(api: Api) -> None:
    api.host.slow = {"b"}
    operation = await api.client.deploy(PAIR)
    seen: list[int] = []
    with pytest.raises(DeadlineExceeded, match="pair"):
        await api.client.wait(operation, timeout_s=0.2, on_progress=lambda view: seen.append(view.done))
    assert seen[-1] == 1
    with pytest.raises(DeadlineExceeded, match="b"):
        await api.client.wait_ready("pair", timeout_s=0.2)


async def test_events_are_remembered_by_lab(api: Api) -> None:
    await api.deploy()
    await until(api.controller.journal.recent)
    events = await api.client.events("pair")
    assert events[0].kind == "lab.deployed"
    assert await api.client.events("other") == []
    assert await api.client.events() == events


# -------------------------------------------------------------------- the document


def test_the_openapi_document_is_fresh() -> None:
    from wireloom.api.app import openapi_document

    written = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
    assert json.loads(written.read_text()) == openapi_document()
