"""Guests that only a restart helps: counted, restarted by the planner, told, given up in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.consoles import Consoles
from wireloom.dialogue import RESTART
from wireloom.errors import GuestFailed
from wireloom.model.device import Day0, Probe, Readiness, Step
from wireloom.model.dialogue import Cli, Prompt, Reaction, Recovery
from wireloom.model.runtime import ExecResult
from wireloom.model.slice import RestartPolicy, Slice
from wireloom.model.state import NodeState
from wireloom.planning.failures import FAILURE_BUDGET, after_stuck
from wireloom.planning.plan import NodeRecord
from wireloom.providers.simulated import SimulatedRuntime

#: A device that hangs in its boot loader, which its recovery takes for a reason to restart.
HANGING = Cli(
    name="hanging",
    home="exec",
    prompts=(Prompt(name="exec", pattern=r"r\d#"),),
    reactions=(Reaction(name="loader", when="loader>", recovery="reset"),),
    recoveries=(Recovery(name="nudge", action="type", silent_s=0.05), Recovery(name="reset", action="restart")),
)
SERIAL = Readiness(probes=(Probe(kind="serial"),), timeout_s=5, interval_s=0.05)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.planning.failures._LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr("wireloom.agent.ready_probes._QUIET_S", 0.05)
    monkeypatch.setattr("wireloom.agent.boot_work._LONGEST_PAUSE_S", 0.01)


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.lines = Consoles()
    return host


class Guest:
    """Machine ``a`` on its serial line: hangs in its loader for the first ``hangs`` boots."""

    def __init__(self, host: Host, hangs: int) -> None:
        self.hangs = hangs
        self.world = host.worlds["beta"]
        self.world.line_answer = self._answer

    def _answer(self, runtime: SimulatedRuntime, line: int, typed: bytes) -> bytes:
        return typed + (b"\nloader>" if runtime.boots <= self.hangs else b"\nr1#")

    @property
    def boots(self) -> int:
        return self.world.by_node("a").boots


def lab(policy: RestartPolicy = RestartPolicy.ON_FAILURE, **changes: object) -> Slice:
    node = make_node("a", "beta", restart_policy=policy, cli="hanging", ready=SERIAL, **changes)
    return make_lab(node).model_copy(update={"clis": {"hanging": HANGING}})


def told(agent: Agent, kind: str) -> list[str]:
    return [event.message for event in agent.reports.events if event.kind == kind]


async def test_a_guest_that_hangs_is_restarted_until_it_gets_on(host: Host) -> None:
    guest = Guest(host, hangs=2)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab())
        await agent.until(settled())
        folder = agent.folders.get("id-a")
    assert guest.boots == 3
    assert folder is not None
    assert (folder.record.restart_for, folder.record.failures, folder.record.terminal) == ("", 2, False)
    assert [message.partition(":")[0] for message in told(agent, "node.restarted")] == [
        f"restarted (failure {number} of {FAILURE_BUDGET})" for number in (1, 2)
    ]


async def test_one_that_never_gets_on_is_given_up_with_the_first_cause(host: Host) -> None:
    guest = Guest(host, hangs=99)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab())
        status = await agent.until(lambda status: status.nodes[0].failures == FAILURE_BUDGET)
        await asyncio.sleep(0.3)
        boots = guest.boots
    assert boots == FAILURE_BUDGET
    error = status.nodes[0].error
    assert error is not None
    assert "'reset' asks for a restart" in error["message"]
    assert len(told(agent, "node.stuck")) == 1


async def test_the_restart_policy_never_makes_it_an_error_only(host: Host) -> None:
    guest = Guest(host, hangs=99)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab(RestartPolicy.NEVER))
        status = await agent.until(lambda status: status.nodes[0].error is not None)
        await asyncio.sleep(0.3)
    assert guest.boots == 1
    assert status.nodes[0].state is NodeState.RUNNING
    assert len(told(agent, "node.stuck")) == 1


async def test_the_next_agent_carries_the_restart_on(host: Host) -> None:
    guest = Guest(host, hangs=1)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab())
        await agent.until(lambda status: status.nodes[0].failures == 1)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab())
        await agent.until(settled())
    assert guest.boots == 2


def hang_once(host: Host, boots: int = 1) -> list[str]:
    """The shell of container ``a`` hangs at the first command of its first ``boots``; what it was asked."""
    asked: list[str] = []

    async def answer(runtime: SimulatedRuntime, command: Sequence[str], stdin: bytes) -> ExecResult:
        asked.append(command[-1])
        if runtime.boots <= boots:
            raise GuestFailed("it hangs", details={RESTART: True})
        return ExecResult(exit_code=0)

    host.worlds["alpha"].answer = answer
    return asked


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - files have no event
            await asyncio.sleep(0.01)


async def test_a_post_boot_command_may_find_it(host: Host) -> None:
    asked = hang_once(host)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", post_boot=("one", "two"))))
        await until(lambda: bool(told(agent, "node.configured")))
    assert asked == ["one", "one", "two"]
    assert host.worlds["alpha"].by_node("a").boots == 2
    assert told(agent, "node.configure-failed") == []


async def test_with_the_policy_never_the_command_fails_like_any_other(host: Host) -> None:
    hang_once(host)
    async with Agent(host).alive() as agent:
        node = make_node("a", post_boot=("one",), restart_policy=RestartPolicy.NEVER)
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await until(lambda: bool(told(agent, "node.configure-failed")))
    assert host.worlds["alpha"].by_node("a").boots == 1


async def test_a_reboot_from_inside_begins_readiness_and_post_boot_anew(host: Host) -> None:
    asked = hang_once(host, boots=0)
    world = host.worlds["alpha"]
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a", post_boot=("one",))))
        await until(lambda: len(told(agent, "node.configured")) == 1)
        first = (await agent.until(settled())).nodes[0]
        world.reboot_in_place("a")
        await until(lambda: len(told(agent, "node.configured")) == 2)
        second = (await agent.until(settled())).nodes[0]
        records = agent.actions.post_boot_records("id-a")
    assert (second.runtime_id, second.failures) == (first.runtime_id, 0)
    assert (second.started_at or 0) > (first.started_at or 0)
    assert (second.ready_at or 0) > (first.ready_at or 0)
    assert len(records) == 2
    assert asked == ["one", "one"]
    assert len(told(agent, "node.rebooted")) == 1


async def test_loading_a_configuration_over_the_console_may_find_it(host: Host) -> None:
    guest = Guest(host, hangs=1)
    log = Readiness(probes=(Probe(kind="log", pattern="login:"),), timeout_s=5, interval_s=0.05)
    node = make_node(
        "a",
        "beta",
        cli="hanging",
        ready=log,
        day0=(Day0(method="serial"),),
        load=(Step(channel="serial"),),
        startup_config="hostname r1\n",
    )
    async with Agent(host).alive() as agent:
        document = make_lab(node).model_copy(update={"clis": {"hanging": HANGING}})
        agent.reconciler.set_slice("lab-1", document)
        await until(lambda: bool(told(agent, "node.config-loaded")))
    assert guest.boots == 2
    assert told(agent, "node.config-failed") == []


# ---------------------------------------------------------------------- the record

FIRST = GuestFailed("first").to_wire()
LATER = GuestFailed("later").to_wire()


def test_the_first_cause_in_a_row_outlives_the_starts_in_between() -> None:
    record = NodeRecord()
    for error in (FIRST, *[LATER] * (FAILURE_BUDGET - 1)):
        assert not record.terminal
        record = after_stuck(replace(record, error=None, restart_for=""), error, now=0, attention=0)
    assert (record.terminal, record.error, record.restart_for) == (True, FIRST, "")


def test_the_user_begins_a_new_row() -> None:
    spent = NodeRecord(failures=FAILURE_BUDGET, terminal=True, stuck=FIRST, error=FIRST)
    record = after_stuck(spent, LATER, now=0, attention=1)
    assert (record.failures, record.terminal, record.error, record.restart_for) == (1, False, LATER, "later")
