"""Post-boot commands: once a boot, over the chain, recorded, retried, gone on with by the next agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.boot_records import BOOTS_KEPT, OUTPUT_KEPT, BootRecords, shortened
from wireloom.errors import Unavailable
from wireloom.model.post_boot import BootRecord, CommandRecord
from wireloom.model.runtime import ExecResult
from wireloom.model.slice import Condition
from wireloom.model.state import NodeState, NodeStatus
from wireloom.providers.simulated import SimulatedRuntime

Reply = Callable[[str], ExecResult]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.agent.boot_work._LONGEST_PAUSE_S", 0.01)


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class Shell:
    """What the guest was asked to run; answers by ``reply``."""

    def __init__(self, host: Host, reply: Reply = lambda _: ExecResult(exit_code=0)) -> None:
        self.asked: list[str] = []
        self.reply = reply
        host.worlds["alpha"].answer = self._answer

    async def _answer(self, runtime: SimulatedRuntime, command: Sequence[str], stdin: bytes) -> ExecResult:
        self.asked.append(command[-1])
        return self.reply(command[-1])


def records(agent: Agent) -> tuple[BootRecord, ...]:
    return agent.actions.post_boot_records("id-a")


def told(agent: Agent) -> list[tuple[str, str]]:
    return [(event.kind, event.message) for event in agent.reports.events]


def is_configured(agent: Agent) -> Callable[[], bool]:
    return lambda: bool(records(agent)) and records(agent)[0].finished_at is not None


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - files have no event
            await asyncio.sleep(0.01)


async def test_what_was_run_is_recorded_with_its_output_and_told(host: Host) -> None:
    Shell(host, lambda command: ExecResult(exit_code=0, stdout=f"did {command}\n".encode(), stderr=b"warned\n"))
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", post_boot=("one", "two"))))
        await until(is_configured(agent))
        (boot,) = records(agent)
        await until(lambda: ("node.configured", "2 post-boot commands done over exec") in told(agent))
    assert [(run.command, run.channel, run.exit_code, run.output) for run in boot.commands] == [
        ("one", "exec", 0, "did one\nwarned\n"),
        ("two", "exec", 0, "did two\nwarned\n"),
    ]


async def test_a_command_that_fails_is_tried_again_within_its_budget_and_then_said_loudly(host: Host) -> None:
    shell = Shell(host, lambda command: ExecResult(exit_code=int(command == "bad"), stdout=b"no such thing"))
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", post_boot=("bad", "good"))))
        status = await agent.until(lambda status: status.nodes[0].error is not None)
        (boot,) = records(agent)
        await until(lambda: ("node.configure-failed", "post-boot command failed: bad") in told(agent))
    error = status.nodes[0].error
    assert error is not None
    assert (error["message"], error["hint"]) == ("post-boot command failed with exit code 1: bad", "no such thing")
    assert status.nodes[0].state is NodeState.RUNNING
    assert shell.asked == ["bad", "bad", "bad", "good"]
    assert [run.attempts for run in boot.commands] == [3, 1]


async def test_one_that_succeeds_at_last_is_no_failure(host: Host) -> None:
    codes = iter((1, 1, 0))
    Shell(host, lambda _: ExecResult(exit_code=next(codes)))
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", post_boot=("slow",))))
        await until(is_configured(agent))
        status = await agent.until(settled())
        (boot,) = records(agent)
    assert status.nodes[0].error is None
    assert (boot.commands[0].attempts, boot.failed) == (3, None)


async def test_a_guest_that_no_channel_reaches_yet_is_waited_for(host: Host) -> None:
    Shell(host)
    host.worlds["alpha"].fail("exec", Unavailable("not yet"), times=9)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", post_boot=("one",))))
        await until(is_configured(agent))
        (boot,) = records(agent)
    assert boot.commands[0].error is None
    assert boot.commands[0].attempts == 10


async def test_the_next_agent_goes_on_after_the_last_command_that_was_done(host: Host) -> None:
    blocked = asyncio.Event()
    shell = Shell(host)

    async def answer(runtime: SimulatedRuntime, command: Sequence[str], stdin: bytes) -> ExecResult:
        shell.asked.append(command[-1])
        if command[-1] == "two" and not blocked.is_set():
            blocked.set()
            await asyncio.sleep(60)
        return ExecResult(exit_code=0)

    host.worlds["alpha"].answer = answer
    lab = make_lab(make_node("a", post_boot=("one", "two", "three")))
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        await blocked.wait()
    async with Agent(host).alive() as again:
        again.reconciler.set_slice("lab-1", lab)
        await until(is_configured(again))
        (boot,) = records(again)
    assert shell.asked == ["one", "two", "two", "three"]
    assert [run.command for run in boot.commands] == ["one", "two", "three"]


async def test_each_boot_has_its_own_record_whoever_restarted_the_node(host: Host) -> None:
    shell = Shell(host)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", post_boot=("one",))))
        await until(is_configured(agent))
        host.worlds["alpha"].restart_behind_back("a")
        await until(lambda: len(records(agent)) == 2 and is_configured(agent)())
    assert shell.asked == ["one", "one"]


# ---------------------------------------------------------------------- the record itself


def test_only_the_newest_boots_are_kept_and_a_boot_is_written_in_its_place(tmp_path: Path) -> None:
    kept = BootRecords(tmp_path)
    for boot in range(BOOTS_KEPT + 3):
        kept.save(BootRecord(boot=boot, runtime_id="r"))
    kept.save(kept.of("r", 5).model_copy(update={"finished_at": 9.0}))
    assert [record.boot for record in kept.all()] == [5, 7, 6, 4, 3]
    assert kept.of("r", 5).finished_at == 9.0


def test_a_record_that_cannot_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "post-boot.json").write_text(json.dumps([{"boot": "never"}]))
    assert BootRecords(tmp_path).all() == ()


async def test_only_the_owner_reads_what_was_run_and_what_came_of_it(host: Host) -> None:
    Shell(host)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", post_boot=("one",))))
        await until(is_configured(agent))
    folder = host.folder / "nodes" / "id-a"
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in ("post-boot.json", "record.json")}
    assert modes == {"post-boot.json": 0o600, "record.json": 0o600}


def test_of_a_long_output_the_end_is_kept() -> None:
    text = shortened("x" * OUTPUT_KEPT + "the end")
    assert text.endswith("the end")
    assert text.startswith("[the first 7 characters are left out]")


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    run = CommandRecord(command="c", channel="ssh", tried={"exec": "none"}, exit_code=1, started_at=1.5, error={"a": 1})
    record = BootRecord(boot=1, runtime_id="r", commands=(run,))
    BootRecords(tmp_path).save(record)
    assert BootRecords(tmp_path).all() == (record,)
    assert record.failed == run


# ---------------------------------------------------------------------- dependencies


def waiting(name: str) -> Callable[[NodeStatus], bool]:
    return lambda node: f"waits for {name}" in node.message


@pytest.mark.parametrize("verb", ["stop and start", "restart"])
async def test_dependencies_hold_on_every_start_and_occupy_nobody(host: Host, verb: str) -> None:
    first = make_node("first", "beta", settings={"boot_s": 0.3})
    second = make_node("second", depends_on={first.id: Condition.READY})
    other = make_node("other")
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(first, second, other))
        await agent.until(settled())
        if verb == "restart":
            changed = [node.model_copy(update={"restarts": 1, "attention": 1}) for node in (first, second, other)]
        else:
            off = [node.model_copy(update={"power": "off", "attention": 1}) for node in (first, second, other)]
            agent.reconciler.set_slice("lab-1", make_lab(*off, generation=2))
            await agent.until(lambda status: status.generation == 2 and status.converged)
            changed = [node.model_copy(update={"power": "on", "attention": 2}) for node in off]
        agent.reconciler.set_slice("lab-1", make_lab(*changed, generation=3))
        status = await agent.until(lambda status: status.generation == 3 and waiting("first")(status.nodes[1]))
        assert "id-second" not in agent.actions.busy("lab-1")
        await agent.until(lambda status: status.nodes[2].state is NodeState.RUNNING)
        status = await agent.until(settled(3))
    assert [node.state for node in status.nodes] == [NodeState.RUNNING] * 3
    starts = {name: host.worlds[world].by_node(name) for name, world in (("first", "beta"), ("second", "alpha"))}
    assert starts["second"].started_at > starts["first"].started_at + 0.25  # type: ignore[operator]
