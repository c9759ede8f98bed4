"""Readiness: each kind of probe, how they are combined, and what is said while it is waited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from channel_rig import ROUTER, Guest, ScriptedLine, guest

from wireloom.agent.channels import ChannelTarget
from wireloom.agent.readiness import ReadinessWatch
from wireloom.agent.ready_probes import HOLDS, Probes
from wireloom.errors import Unavailable
from wireloom.model.device import Probe
from wireloom.model.runtime import ExecResult
from wireloom.model.state import Readiness as Ready

EXEC = Probe(kind="exec", command="check", expect="up")
SSH = Probe(kind="ssh", command="show version", expect="uptime")
LOG = Probe(kind="log", pattern="all is well")
CHECK = ("/bin/sh", "-c", "check")


class Told:
    """What a watch reported, in order."""

    def __init__(self) -> None:
        self.reports: list[tuple[Ready, str]] = []
        self.changed = asyncio.Event()

    async def __call__(self, node_id: str, readiness: Ready, message: str) -> None:
        self.reports.append((readiness, message))
        self.changed.set()

    async def until(self, readiness: Ready) -> str:
        """The message with which the node was said to be so."""
        async with asyncio.timeout(60):
            while True:
                for told, message in self.reports:
                    if told is readiness:
                        return message
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def watched(node: Guest, target: ChannelTarget | None = None) -> AsyncIterator[tuple[ReadinessWatch, Told]]:
    told = Told()
    watch = ReadinessWatch(node.channels, told)
    watch.ensure(target or node.target, 1.0)
    try:
        yield watch, told
    finally:
        await watch.close()


def answers(node: Guest, text: bytes, exit_code: int = 0) -> None:
    node.world.answers[CHECK] = ExecResult(exit_code=exit_code, stdout=text)


# ---------------------------------------------------------------------- rules


async def test_without_a_probe_it_stays_unknown(tmp_path: Path) -> None:
    node = await guest(tmp_path)
    async with watched(node) as (_, told):
        assert "declares no probe" in await told.until(Ready.UNKNOWN)


async def test_where_no_probe_fits_it_stays_unknown_and_says_why(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, probes=(EXEC, SSH), address=None)
    async with watched(node) as (_, told):
        message = await told.until(Ready.UNKNOWN)
    assert "cannot run commands" in message
    assert "no management address" in message


async def test_the_first_probe_that_the_node_has_a_channel_for_decides(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, probes=(EXEC, SSH, LOG))
    node.shell.results["show version"] = ExecResult(exit_code=0, stdout=b"uptime is 1 day")
    async with watched(node) as (_, told):
        assert await told.until(Ready.YES) == ""


async def test_all_probes_must_hold(tmp_path: Path) -> None:
    node = await guest(tmp_path, probes=(EXEC, LOG))
    answers(node, b"up")
    target = node.node(ready=node.target.node.ready.model_copy(update={"rule": "all", "timeout_s": 60}))
    async with watched(node, target) as (_, told):
        await told.until(Ready.NO)
        await asyncio.sleep(0.1)
        assert Ready.YES not in [readiness for readiness, _ in told.reports]
        node.world.write_log(node.world.by_node("r1"), b"all is well\n")
        await told.until(Ready.YES)


async def test_any_probe_may_hold(tmp_path: Path) -> None:
    node = await guest(tmp_path, probes=(LOG, EXEC))
    answers(node, b"up")
    target = node.node(ready=node.target.node.ready.model_copy(update={"rule": "any"}))
    async with watched(node, target) as (_, told):
        await told.until(Ready.YES)


async def test_what_is_waited_for_is_said_with_the_last_reason_and_the_limit(tmp_path: Path) -> None:
    node = await guest(tmp_path, probes=(EXEC,))
    answers(node, b"starting", exit_code=0)
    async with watched(node) as (_, told):
        assert await told.until(Ready.NO) == "waits for 'up' from 'check' by exec, up to 0.2 s"
        late = await told.until(Ready.TIMEOUT)
        assert late == "not ready after 0.2 s, and still waiting for 'up' from 'check' by exec (so far: starting)"


async def test_an_emulating_host_is_given_more_time_and_that_is_said(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, probes=(LOG,), slow_factor=3)
    async with watched(node) as (_, told):
        assert "up to 0.6 s because this host emulates (times 3)" in await told.until(Ready.NO)


async def test_one_that_is_late_becomes_ready_nevertheless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.agent.readiness._SLOW_INTERVAL_S", 0.01)
    node = await guest(tmp_path, probes=(EXEC,))
    answers(node, b"", exit_code=1)
    async with watched(node) as (_, told):
        await told.until(Ready.TIMEOUT)
        answers(node, b"up")
        await told.until(Ready.YES)


async def test_a_new_boot_is_watched_anew_and_the_same_boot_is_not(tmp_path: Path) -> None:
    node = await guest(tmp_path, probes=(EXEC,))
    answers(node, b"up")
    async with watched(node) as (watch, told):
        await told.until(Ready.YES)
        assert not watch.ensure(node.target, 1.0)
        answers(node, b"", exit_code=1)
        told.reports.clear()
        assert watch.ensure(node.target, 2.0)
        await told.until(Ready.NO)


# ---------------------------------------------------------------------- kinds


async def ask(node: Guest, probe: Probe) -> str:
    return await Probes(node.channels).ask(probe, node.target)


async def test_a_command_must_succeed_and_say_what_is_expected(tmp_path: Path) -> None:
    node = await guest(tmp_path)
    answers(node, b"it is up")
    assert await ask(node, EXEC) == HOLDS
    answers(node, b"it is down")
    assert await ask(node, EXEC) == "so far: it is down"
    node.world.answers[CHECK] = ExecResult(exit_code=2, stdout=b"up", stderr=b"broken")
    assert await ask(node, EXEC) == "exit code 2: broken"


async def test_ssh_that_is_refused_is_a_reason(tmp_path: Path) -> None:
    node = await guest(tmp_path, probes=(SSH,))
    node.shell.error = Unavailable("connection refused")
    assert "connection refused" in await ask(node, SSH)


async def test_the_log_of_this_boot_counts_and_not_that_of_the_boot_before(tmp_path: Path) -> None:
    node = await guest(tmp_path)
    node.world.write_log(node.world.by_node("r1"), b"\x1b[1mall is\x1b[0m well\r\n")
    assert await ask(node, LOG) == HOLDS
    node.world.restart_behind_back("r1")
    node.world.power_off(node.world.by_node("r1"), 0)
    assert await ask(node, LOG) == "the log ended without it"


async def test_a_prompt_on_the_console_is_read_and_nothing_is_typed(tmp_path: Path, quiet: None) -> None:
    node = await guest(tmp_path, machine=True, cli=ROUTER)
    node.lines.make = lambda: ScriptedLine(lambda _: "r1#", banner="%LINK: up\r\nr1# ")
    assert await ask(node, Probe(kind="serial")) == HOLDS
    assert node.lines.joined[0][1].typed == []


async def test_a_silent_console_is_nudged_under_its_lease(tmp_path: Path, quiet: None) -> None:
    node = await guest(tmp_path, machine=True, cli=ROUTER)
    banner = "Press RETURN to get started\r\n"
    node.lines.make = lambda: ScriptedLine(lambda line: "r1#" if line else "r1>", banner=banner)
    assert await ask(node, Probe(kind="serial")) == HOLDS
    assert node.lines.joined[1][1].typed[0] == ""


async def test_a_console_that_somebody_types_on_is_left_alone(tmp_path: Path, quiet: None) -> None:
    node = await guest(tmp_path, machine=True, cli=ROUTER)
    node.lines.make = lambda: ScriptedLine(lambda _: "r1#", banner="Password: ", holder="ann")
    assert await ask(node, Probe(kind="serial")) == "ann is typing on this console"
    assert all(line.typed == [] for _, line in node.lines.joined)


async def test_a_pattern_on_the_console(tmp_path: Path, quiet: None) -> None:
    node = await guest(tmp_path, machine=True)
    node.lines.make = lambda: ScriptedLine(lambda _: "", banner="r1 login: ")
    assert await ask(node, Probe(kind="serial", pattern="login:")) == HOLDS
    assert await ask(node, Probe(kind="serial", pattern="ready")) == "so far: r1 login:"


class ChattyLine(ScriptedLine):
    """Prints its banner again and again."""

    async def read(self) -> bytes:
        await asyncio.sleep(0.005)
        return self.banner.encode()


@pytest.mark.parametrize(
    ("banner", "probe", "expected"),
    [
        ("r1 login: \r\ntick\r\n", Probe(kind="serial", pattern="login:"), HOLDS),
        ("r1#\r\n%SYS-5: tick\r\n", Probe(kind="serial"), HOLDS),
        ("tick\r\nr1#", Probe(kind="serial"), "it does not stop printing, so far: r1#"),
    ],
)
async def test_a_console_that_never_falls_silent_is_looked_at_and_not_typed_on(
    tmp_path: Path, quiet: None, monkeypatch: pytest.MonkeyPatch, *, banner: str, probe: Probe, expected: str
) -> None:
    monkeypatch.setattr("wireloom.agent.ready_probes._REACH_S", 0.05)
    node = await guest(tmp_path, machine=True, cli=ROUTER.model_copy(update={"noise": (r"^%\w+-\d",)}))
    node.lines.make = lambda: ChattyLine(lambda _: "r1#", banner=banner)
    assert await ask(node, probe) == expected
    assert all(line.typed == [] for _, line in node.lines.joined)


async def test_health_is_healthy_or_a_reason_and_where_there_is_none_the_probe_does_not_fit(tmp_path: Path) -> None:
    node, probe = await guest(tmp_path), Probe(kind="health")
    probes = Probes(node.channels)
    assert await probes.lacks(probe, node.target) == "it has no health check"
    node.world.health["r1"] = "unhealthy"
    assert await probes.lacks(probe, node.target) == ""
    assert await ask(node, probe) == "it says unhealthy"
    node.world.health["r1"] = "healthy"
    assert await ask(node, probe) == HOLDS


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[int]:
    """A server on loopback that answers every request so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await listening.wait_closed()


async def test_a_port_that_accepts_and_one_that_does_not(tmp_path: Path) -> None:
    node = await guest(tmp_path, address="127.0.0.1")
    async with server(b"") as port:
        assert await ask(node, Probe(kind="tcp", port=port)) == HOLDS
    assert await ask(node, Probe(kind="tcp", port=port)) != HOLDS


@pytest.mark.parametrize(
    ("answer", "expect", "holds"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nis ready", "ready", lambda reason: reason == HOLDS),
        (b"HTTP/1.0 302 Found\r\nLocation: /login\r\n\r\n", "", lambda reason: reason == HOLDS),
        (b"HTTP/1.0 503 Wait\r\n\r\n", "", lambda reason: reason == "it answers with status 503"),
        (b"HTTP/1.0 200 OK\r\n\r\nstarting", "ready", lambda reason: reason == "so far: starting"),
        (b"SSH-2.0-x\r\n", "", lambda reason: reason != HOLDS),
    ],
)
async def test_http(tmp_path: Path, answer: bytes, expect: str, holds: Callable[[str], bool]) -> None:
    node = await guest(tmp_path, address="127.0.0.1")
    async with server(answer) as port:
        assert holds(await ask(node, Probe(kind="http", port=port, expect=expect)))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is taken to be silent soon."""
    monkeypatch.setattr("wireloom.agent.ready_probes._QUIET_S", 0.02)
