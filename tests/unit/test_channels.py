"""Chains of channels: which one answers, what is said of the others, and what each of them does with a call."""

from __future__ import annotations

from pathlib import Path

import pytest
from channel_rig import ROUTER, SHELL, ScriptedLine, guest, steps

from wireloom.errors import Conflict, DeadlineExceeded, GuestFailed, NotFound, Unavailable, Unsupported
from wireloom.model.device import Step
from wireloom.model.runtime import ExecResult


def router(line: str) -> str | None:
    """A router's answers at ``r1#``."""
    match line.strip():
        case "show version":
            return "Version 7\r\nuptime is 1 day\r\nr1#"
        case "configure terminal" | "interface e0" | "no shutdown":
            return "r1(config)#"
        case "end" | "do write memory" | "":
            return "r1#"
    return "% Invalid input\r\nr1#"


def shell(line: str) -> str | None:
    match line:
        case "echo $?":
            return "3\r\nr1$ "
        case "":
            return "r1$ "
    return "some output\r\nr1$ "


# ---------------------------------------------------------------------- chains


async def test_the_first_channel_answers_and_nothing_else_is_tried(tmp_path: Path) -> None:
    node = await guest(tmp_path, run=steps("exec", "ssh"))
    outcome = await node.channels.run(node.target, ["echo", "hi"], timeout_s=5)
    assert (outcome.result.stdout, outcome.result.channel) == (b"hi\n", "exec")
    assert (outcome.tried, outcome.skipped, node.shell.commands) == ({}, {}, [])


async def test_a_channel_that_the_node_does_not_have_is_skipped_and_one_that_fails_is_tried(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, run=steps("exec", "ssh", "serial"), cli=ROUTER)
    node.shell.error = Unavailable("connection refused")
    node.lines.make = lambda: ScriptedLine(router)
    outcome = await node.channels.run(node.target, ["show", "version"], timeout_s=5)
    assert outcome.result.stdout == b"Version 7\nuptime is 1 day\n"
    assert outcome.result.channel == "serial"
    assert outcome.tried == {"ssh": "connection refused"}
    assert list(outcome.skipped) == ["exec"]


async def test_a_command_that_failed_is_an_answer(tmp_path: Path) -> None:
    node = await guest(tmp_path, run=steps("exec", "ssh"))
    outcome = await node.channels.run(node.target, ["exit", "7"], timeout_s=5)
    assert outcome.result.exit_code == 7
    assert node.shell.commands == []


@pytest.mark.parametrize("error", [GuestFailed("the connection broke"), DeadlineExceeded("too slow")])
async def test_a_command_that_may_have_run_is_not_run_again_elsewhere(tmp_path: Path, error: GuestFailed) -> None:
    node = await guest(tmp_path, machine=True, run=steps("ssh", "serial"), cli=ROUTER)
    node.shell.error = error
    node.lines.make = lambda: ScriptedLine(router)
    with pytest.raises(type(error)):
        await node.channels.run(node.target, "show version", timeout_s=5)
    assert node.lines.joined == []


async def test_another_host_key_hands_over_to_the_console(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, run=steps("ssh", "serial"), cli=ROUTER)
    node.shell.error = Conflict("another host key than before")
    node.lines.make = lambda: ScriptedLine(router)
    outcome = await node.channels.run(node.target, "show version", timeout_s=5)
    assert outcome.tried == {"ssh": "another host key than before"}


async def test_when_nobody_answers_every_reason_is_given(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, run=steps("exec", "ssh", "serial"), cli=ROUTER)
    node.shell.error = Unavailable("connection refused")
    node.lines.make = lambda: ScriptedLine(router, holder="ann")
    with pytest.raises(Unavailable) as caught:
        await node.channels.run(node.target, "show version", timeout_s=5)
    assert caught.value.details["tried"] == {"ssh": "connection refused", "serial": "ann is typing on this console"}
    assert "ann is typing" in caught.value.message
    assert "exec: " in caught.value.message


async def test_a_chain_of_the_call_takes_the_place_of_the_nodes_own(tmp_path: Path) -> None:
    node = await guest(tmp_path, run=steps("exec"))
    outcome = await node.channels.run(node.target, "uptime", timeout_s=5, chain=steps("ssh"))
    assert outcome.result.channel == "ssh"


# ---------------------------------------------------------------------- what is asked for, in the channel's words


async def test_words_are_quoted_for_shells_and_not_for_command_lines(tmp_path: Path) -> None:
    node = await guest(tmp_path, run=steps("ssh"))
    await node.channels.run(node.target, ["echo", "a b"], timeout_s=5)
    assert node.shell.commands[-1][0] == "echo 'a b'"
    device = await guest(tmp_path, run=steps("ssh"), cli=ROUTER)
    await device.channels.run(device.target, ["show", "run", "|", "include", "ip"], timeout_s=5)
    assert device.shell.commands[-1][0] == "show run | include ip"


async def test_a_steps_own_command_wraps_what_is_asked_for(tmp_path: Path) -> None:
    node = await guest(tmp_path)
    node.world.answers["/bin/sh", "-c", "vtysh -c 'show version'"] = ExecResult(exit_code=0, stdout=b"FRR\n")
    chain = (Step(channel="exec", run="vtysh -c '{command}'"),)
    outcome = await node.channels.run(node.target, ["show", "version"], timeout_s=5, chain=chain)
    assert outcome.result.stdout == b"FRR\n"


async def test_the_login_of_another_runtime_is_another_instance(tmp_path: Path) -> None:
    node = await guest(tmp_path, run=steps("ssh"))
    await node.channels.run(node.target, "true", timeout_s=5)
    assert node.shell.logins[0].instance == f"1-{node.target.runtime_id}"


# ---------------------------------------------------------------------- typed channels


async def test_a_refused_line_has_an_exit_code(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, run=steps("serial"), cli=ROUTER)
    node.lines.make = lambda: ScriptedLine(router)
    result = (await node.channels.run(node.target, "nonsense", timeout_s=5)).result
    assert (result.exit_code, result.stdout) == (1, b"% Invalid input\n")


async def test_a_shell_on_a_serial_line_tells_the_exit_code(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, run=steps("serial"), cli=SHELL)
    node.lines.make = lambda: ScriptedLine(shell, banner="r1$ ")
    result = (await node.channels.run(node.target, ["false"], timeout_s=5)).result
    assert (result.exit_code, result.stdout) == (3, b"some output\n")


async def test_a_line_that_never_shows_a_prompt_lets_another_channel_answer(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, run=steps("serial", "ssh"), cli=ROUTER)
    node.lines.make = lambda: ScriptedLine(lambda _: None, banner="booting")
    chain = (Step(channel="serial", timeout_s=0.2), Step(channel="ssh"))
    outcome = await node.channels.run(node.target, "show version", timeout_s=5, chain=chain)
    assert outcome.result.channel == "ssh"
    assert outcome.tried["serial"].startswith("no prompt was reached")


async def test_a_line_that_falls_silent_after_the_command_is_a_missed_deadline(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, cli=ROUTER)
    node.lines.make = lambda: ScriptedLine(lambda line: "r1#" if not line else None)
    chain = (Step(channel="serial", timeout_s=1), Step(channel="ssh"))
    with pytest.raises(DeadlineExceeded):
        await node.channels.run(node.target, "reload", timeout_s=9, chain=chain)
    assert node.shell.commands == []


async def test_a_command_that_ends_the_session_is_not_typed_again_and_a_reading_is(tmp_path: Path) -> None:
    lost = ["reload", "show version"]

    def answer(line: str) -> str | None:
        if line in lost:
            lost.remove(line)
            return "connection closed\r\n\r\nUsername: "
        return {"admin": "Password: ", "for a test": "r1#"}.get(line) or router(line)

    node = await guest(tmp_path, machine=True, cli=ROUTER)
    node.lines.make = lambda: ScriptedLine(answer)
    with pytest.raises(GuestFailed, match="session was lost"):
        await node.channels.run(node.target, "reload", timeout_s=9, chain=steps("serial"))
    assert node.lines.joined[0][1].typed == ["reload"]
    read = await node.channels.fetch(node.target, Step(channel="serial", run="show version"), timeout_s=9)
    assert read == b"Version 7\nuptime is 1 day\n"


async def test_a_line_that_ends_after_the_command_is_no_reason_to_run_it_again(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, cli=ROUTER)

    def make() -> ScriptedLine:
        line = ScriptedLine(lambda _: None)

        def answer(text: str) -> str | None:
            line.ended = text == "reload"
            return "going down\r\n" if line.ended else "r1#"

        line.answer = answer
        return line

    node.lines.make = make
    with pytest.raises(GuestFailed):
        await node.channels.run(node.target, "reload", timeout_s=5, chain=steps("serial", "ssh"))


async def test_a_step_with_a_prompt_is_typed_into_an_ssh_session(tmp_path: Path) -> None:
    node = await guest(tmp_path, cli=ROUTER)
    node.shell.make = lambda: ScriptedLine(router)
    chain = (Step(channel="ssh", prompt="privileged"),)
    result = (await node.channels.run(node.target, ["show", "version"], timeout_s=5, chain=chain)).result
    assert result.stdout.startswith(b"Version 7")
    assert node.shell.commands == []


async def test_typed_channels_take_no_input(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, cli=ROUTER)
    with pytest.raises(Unavailable, match="gets no input"):
        await node.channels.run(node.target, "cat", timeout_s=5, stdin=b"text", chain=steps("serial"))


# ---------------------------------------------------------------------- load and fetch


async def test_a_configuration_is_typed_line_by_line_and_finished(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, cli=ROUTER)
    node.lines.make = lambda: ScriptedLine(router)
    chain = (Step(channel="serial", prompt="configure", finish=("do write memory",)),)
    outcome = await node.channels.load(node.target, chain, "interface e0\n\n no shutdown\n", timeout_s=5)
    assert outcome.result.exit_code == 0
    typed = node.lines.joined[0][1].typed
    assert typed[:4] == ["configure terminal", "interface e0", " no shutdown", "do write memory"]


async def test_a_configuration_is_the_input_of_a_command(tmp_path: Path) -> None:
    node = await guest(tmp_path)
    await node.channels.load(node.target, (Step(channel="ssh", run="vtysh -f -"),), "hostname r1\n", timeout_s=5)
    assert node.shell.commands == [("vtysh -f -", b"hostname r1\n")]


async def test_fetching_by_a_command_gives_its_output_and_by_one_that_fails_an_error(tmp_path: Path) -> None:
    node = await guest(tmp_path)
    step = Step(channel="ssh", run="show running-config")
    node.shell.results[step.run] = ExecResult(exit_code=0, stdout=b"hostname r1\n")
    assert await node.channels.fetch(node.target, step, timeout_s=5) == b"hostname r1\n"
    node.shell.results[step.run] = ExecResult(exit_code=2, stderr=b"no such command")
    with pytest.raises(GuestFailed) as caught:
        await node.channels.fetch(node.target, step, timeout_s=5)
    assert caught.value.hint == "no such command"


async def test_fetching_a_file_gives_its_bytes(tmp_path: Path) -> None:
    node = await guest(tmp_path)
    node.world.by_node("r1").storage["/etc/config"] = b"\x00\xff"
    assert await node.channels.fetch(node.target, Step(channel="file", run="/etc/config"), timeout_s=5) == b"\x00\xff"
    with pytest.raises(NotFound):
        await node.channels.fetch(node.target, Step(channel="file", run="/etc/none"), timeout_s=5)


async def test_fetching_over_a_channel_that_is_not_there_is_unsupported(tmp_path: Path) -> None:
    node = await guest(tmp_path, machine=True, address=None)
    for step in (Step(channel="file", run="/x"), Step(channel="ssh"), Step(channel="netconf"), Step(channel="exec")):
        with pytest.raises(Unsupported):
            await node.channels.fetch(node.target, step, timeout_s=5)


async def test_fetching_the_log_gives_what_this_boot_has_printed(tmp_path: Path) -> None:
    node = await guest(tmp_path)
    assert b"r1 login:" in await node.channels.fetch(node.target, Step(channel="log"), timeout_s=5)
