"""``wireloom console`` as people use it: real terminals, a shared line, an agent that is killed underneath."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import struct
import subprocess
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from wireloom.testing.installation import WIRELOOM, Installation, installed, own_folder

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.docker]

ANSWER_S = 20.0
LAB = """
name: lab
defaults: {device: linux, provider: docker}
nodes:
  a:
    settings: {entrypoint: [/bin/sh], command: [-i]}
  b: {}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET="172.30.119.0/24") as installation:
            await installation.deploy(LAB)
            async with installation.client() as client:
                await client.wait_ready("lab", timeout_s=60)
            yield installation


class Person:
    """Somebody at a terminal of their own, with ``wireloom console`` on it."""

    def __init__(self, fd: int, process: asyncio.subprocess.Process) -> None:
        self._fd = fd
        self.process = process
        self._ahead = b""

    def type(self, text: bytes) -> None:
        os.write(self._fd, text)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def sees(self, *expected: bytes) -> bytes:
        """What is on the screen from now on, until all of ``expected`` was there, in order."""
        seen, at = b"", 0
        try:
            async with asyncio.timeout(ANSWER_S):
                for text in expected:
                    while (found := seen.find(text, at)) < 0:
                        seen += self._ahead or await self._more()
                        self._ahead = b""
                    at = found + len(text)
        except TimeoutError:
            raise AssertionError(f"{expected!r} not on the screen: {seen!r}") from None
        self._ahead = seen[at:]
        return seen[:at]

    async def _more(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
            return os.read(self._fd, 65536)
        finally:
            loop.remove_reader(self._fd)

    async def left(self) -> int:
        """The exit code, once they have left."""
        async with asyncio.timeout(ANSWER_S):
            return await self.process.wait()


@asynccontextmanager
async def at_console(host: Installation, who: str, *arguments: str) -> AsyncIterator[Person]:
    person, program = os.openpty()
    before = termios.tcgetattr(program)
    process = await asyncio.create_subprocess_exec(
        str(WIRELOOM),
        "console",
        "lab",
        *arguments,
        env={**host.environment, "LOGNAME": who},
        stdin=program,
        stdout=program,
        stderr=program,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that it learns of its size
    )
    try:
        yield Person(person, process)
        assert termios.tcgetattr(program) == before, "the terminal was not given back"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(person)
        os.close(program)


def attendees(host: Installation) -> list[tuple[str, bool]]:
    """Who is on node a's line, and whether they hold the keyboard, as the command says."""
    told = subprocess.run(
        [str(WIRELOOM), "console", "lab", "a", "--who", "--json"],
        env=host.environment,
        check=True,
        capture_output=True,
        timeout=30,
    )
    (line,) = json.loads(told.stdout)["a"]
    return [(each["who"].partition("@")[0], each == line["writer"]) for each in line["attendees"]]


async def test_two_people_share_a_terminal_and_pass_the_keyboard_on(host: Installation) -> None:
    async with at_console(host, "ada", "a", "--attach") as ada:
        await ada.sees(b"Connected to lab/a")
        ada.type(b"echo first-$((40+2))\r")
        await ada.sees(b"first-42")
        async with at_console(host, "bob", "a", "--attach") as bob:
            reading = b"is typing; you are reading along; Ctrl-] a asks for the keyboard]"
            seen = await bob.sees(reading)
            if b"first-42" not in seen:  # the recent screen
                await bob.sees(b"first-42")
            assert attendees(host) == [("ada", True), ("bob", False)]
            bob.type(b"x")
            await bob.sees(b"is typing, so what you typed was dropped")
            bob.type(b"\x1da")
            await ada.sees(b"bob@", b"asks for the keyboard; Ctrl-] g passes it on]")
            ada.type(b"\x1dg")
            await bob.sees(b"you have the keyboard")
            bob.type(b"echo second-$((40+3))\r")
            await asyncio.gather(ada.sees(b"second-43"), bob.sees(b"second-43"))
            assert attendees(host) == [("ada", False), ("bob", True)]
            bob.type(b"\x1dq")
            assert await bob.left() == 0
        await ada.sees(b"bob@", b"the keyboard is free: type to get it")
        ada.type(b"\x1dq")
        assert await ada.left() == 0
    assert host.runtimes()["a"], "leaving ends nothing"


async def test_the_screen_outlives_a_kill_of_the_agent(host: Installation) -> None:
    async with at_console(host, "ada", "a", "--attach") as ada:
        ada.type(b"echo before-$((50+5))\r")
        await ada.sees(b"before-55\r\n")
        await host.replace("agent")
        await ada.left()
    await host.answering()
    async with at_console(host, "bob", "a", "--attach") as bob:
        await bob.sees(b"before-55")
        bob.type(b"echo after-$((50+6))\r")
        await bob.sees(b"after-56")
        bob.type(b"\x1dq")
        assert await bob.left() == 0


async def test_several_consoles_stand_on_one_terminal_and_follow_its_size(host: Installation) -> None:
    async with at_console(host, "ada", "b", "a") as ada:
        await ada.sees(b"Connected to lab: b, a")
        await ada.sees(b"root@b:")
        ada.type(b"echo this is $(hostname)\r")
        await ada.sees(b"this is b\r\n")
        ada.type(b"\x1d2")
        await ada.sees(b"console 2 of 2")
        ada.type(b"echo this is $(hostname)\r")
        await ada.sees(b"this is a\r\n")
        ada.type(b"\x1dp")
        await ada.sees(b"console 1 of 2")
        ada.resize(99, 33)
        for _ in range(20):  # the size travels beside the typing
            ada.type(b"stty size; echo asked\r")
            if b"33 99" in await ada.sees(b"asked\r\n", b"asked\r\n"):
                break
        else:
            raise AssertionError("the node did not learn of the size")
        ada.type(b"\x1d?")
        await ada.sees(b"Ctrl-] q  leave")
        ada.type(b"\x1dq")
        assert await ada.left() == 0
