"""The dialogue machine against real shells on a real terminal: line editors, colours, wrapped lines, long output."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator

import pytest
from dialogue_rig import command_line

from wireloom.dialogue import Dialogue, Line, Outcome, Script

Play = Callable[..., Outcome]

SHELLS = {
    "bash": ["bash", "--norc", "-i"],
    "dash": ["dash", "-i"],
    "busybox": ["busybox", "sh", "-i"],
}


@pytest.fixture(params=SHELLS)
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """Plays lines in a shell on a terminal of 80 columns."""
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is not installed")
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="linux", PS1="\x1b[1muser@r1\x1b[0m:~$ ")
        os.execvp(command[0], command)  # noqa: S606 - the child becomes the shell
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        yield lambda *lines: _play(terminal, Script(lines, stop_on_refusal=False))
    finally:
        os.kill(process, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(process, 0)


def _play(terminal: int, script: Script) -> Outcome:
    dialogue = Dialogue(command_line("linux"), script, {"username": "user"}, now=time.monotonic())
    while not dialogue.done:
        os.write(terminal, dialogue.take())
        wait_s = max(0.0, (dialogue.wake_at or 0) - time.monotonic())
        ready, _, _ = select.select([terminal], [], [], wait_s)
        if ready:
            dialogue.receive(os.read(terminal, 65_536), time.monotonic())
        else:
            dialogue.tick(time.monotonic())
    return dialogue.outcome()


def test_answers_are_the_output_and_nothing_else(play: Play) -> None:
    long = "x" * 300
    outcome = play(
        Line("echo one; echo; echo '  three '"),
        Line(f"echo {long}"),
        Line("printf 'no line end'"),
        Line("seq 1 20000"),
        Line("wireloom-nonsense"),
        Line("cd / && pwd"),
    )
    texts = [answer.text for answer in outcome.answers]
    assert texts[0] == "one\n\n  three"
    assert texts[1] == long
    assert texts[3] == "\n".join(map(str, range(1, 20_001)))
    assert [answer.refused for answer in outcome.answers] == [False, False, False, False, True, False]
    assert texts[5] == "/"
