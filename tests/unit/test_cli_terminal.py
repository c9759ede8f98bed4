"""The console: its escape key however typing is cut, and a terminal that is given back however it ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from wireloom.cli.terminal import EscapeScanner, escape_byte, escape_name, interact
from wireloom.errors import InvalidInput, Unavailable

PREFIX = 0x1D


def scan(*pieces: bytes) -> tuple[bytes, bool]:
    scanner = EscapeScanner(PREFIX)
    sent = b""
    for piece in pieces:
        out, leave = scanner.feed(piece)
        sent += out
        if leave:
            return sent, True
    return sent, False


@pytest.mark.parametrize(
    ("typed", "sent", "leaves"),
    [
        (b"show\r", b"show\r", False),
        (b"ab\x1dqcd", b"ab", True),
        (b"\x1dQ", b"", True),
        (b"\x1d\x1d", b"\x1d", False),
        (b"\x1dx", b"\x1dx", False),
        (b"q", b"q", False),
        (b"\x1d\x1dq", b"\x1dq", False),
    ],
)
def test_the_escape_key_is_found_at_every_cut(typed: bytes, sent: bytes, leaves: bool) -> None:
    assert scan(typed) == (sent, leaves)
    for cut in range(1, len(typed)):
        assert scan(typed[:cut], typed[cut:]) == (sent, leaves)


@pytest.mark.parametrize(("written", "code"), [("^]", 0x1D), ("ctrl-]", 0x1D), ("Ctrl+A", 1), ("C-a", 1), ("^^", 0x1E)])
def test_an_escape_key_can_be_written_in_many_ways(written: str, code: int) -> None:
    assert escape_byte(written) == code


@pytest.mark.parametrize("written", ["", "]", "^", "ctrl-ab", "^1", "alt-x"])
def test_other_keys_are_refused(written: str) -> None:
    with pytest.raises(InvalidInput, match="control key"):
        escape_byte(written)


def test_the_escape_key_is_named_as_people_say() -> None:
    assert (escape_name(0x1D), escape_name(1)) == ("Ctrl-]", "Ctrl-A")


class FakeStream:
    """A console's far end that a test scripts and looks at."""

    def __init__(self) -> None:
        self.output: asyncio.Queue[bytes] = asyncio.Queue()
        self.typed = b""
        self.sizes: list[tuple[int, int]] = []
        self.closed = False
        self.heard = asyncio.Event()
        self.opened = asyncio.Event()

    async def read(self) -> bytes:
        return await self.output.get()

    async def write(self, data: bytes) -> None:
        self.typed += data
        self.heard.set()

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))
        self.heard.set()

    async def close(self) -> None:
        self.closed = True


class Terminal:
    """This test's own terminal: ``person`` is the keyboard and screen, ``program`` what the command line sees."""

    def __init__(self) -> None:
        self.person, self.program = os.openpty()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.person, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def fileno(self) -> int:
        return self.program


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal()
    made.resize(120, 40)
    monkeypatch.setattr("sys.stdin", made)
    monkeypatch.setattr("sys.stdout", made)
    yield made
    os.close(made.person)
    os.close(made.program)


async def at_console(stream: FakeStream, *, read_only: bool = False) -> dict[str, object]:
    asked: dict[str, object] = {}

    class Client:
        async def console(self, lab: str, node: str, **options: object) -> FakeStream:
            asked.update(options)
            stream.opened.set()
            return stream

    await interact(Client(), "demo", "r1", read_only=read_only, line=None, escape=PREFIX)  # type: ignore[arg-type]
    return asked


async def test_typing_reaches_the_node_and_the_terminal_is_given_back(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.program)
    stream = FakeStream()
    session = asyncio.create_task(at_console(stream))
    await stream.opened.wait()
    os.write(terminal.person, b"ls\x03")  # Ctrl-C is the node's, not ours
    await stream.heard.wait()
    os.write(terminal.person, b"\x1dq")
    asked = await session
    assert (asked["columns"], asked["rows"], stream.typed) == (120, 40, b"ls\x03")
    assert termios.tcgetattr(terminal.program) == before
    assert stream.closed


async def test_the_node_learns_when_the_window_changes(terminal: Terminal) -> None:
    stream = FakeStream()
    session = asyncio.create_task(at_console(stream))
    await stream.opened.wait()
    os.write(terminal.person, b"x")
    await stream.heard.wait()
    stream.heard.clear()
    terminal.resize(90, 30)
    os.kill(os.getpid(), signal.SIGWINCH)
    await stream.heard.wait()
    assert stream.sizes == [(90, 30)]
    os.write(terminal.person, b"\x1dq")
    await session


async def test_a_terminal_without_a_size_gets_the_classic_one(terminal: Terminal) -> None:
    terminal.resize(0, 0)
    stream = FakeStream()
    stream.output.put_nowait(b"")
    asked = await at_console(stream)
    assert (asked["columns"], asked["rows"]) == (80, 24)


async def test_the_end_of_the_line_is_told(terminal: Terminal, capfd: pytest.CaptureFixture[str]) -> None:
    stream = FakeStream()
    for data in (b"bye", b""):
        stream.output.put_nowait(data)
    await at_console(stream)
    captured = capfd.readouterr()
    assert captured.out.startswith("bye")
    assert "closed by the far end" in captured.err


async def test_an_error_of_the_line_gives_the_terminal_back(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.program)

    class Broken(FakeStream):
        async def read(self) -> bytes:
            raise Unavailable("the agent went away")

    with pytest.raises(Unavailable):
        await at_console(Broken())
    assert termios.tcgetattr(terminal.program) == before


async def test_a_spectator_types_into_the_void(terminal: Terminal) -> None:
    stream = FakeStream()
    session = asyncio.create_task(at_console(stream, read_only=True))
    await stream.opened.wait()
    os.write(terminal.person, b"reload\r\x1dq")
    assert (await session)["read_only"] is True
    assert stream.typed == b""


async def test_a_signal_ends_the_session_cleanly(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.program)
    stream = FakeStream()
    session = asyncio.create_task(at_console(stream))
    await stream.opened.wait()
    os.write(terminal.person, b"x")
    await stream.heard.wait()
    os.kill(os.getpid(), signal.SIGHUP)
    await session
    assert termios.tcgetattr(terminal.program) == before


async def test_piped_input_is_sent_and_output_is_read_until_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("wireloom.cli.terminal.QUIET_S", 0.01)
    script, output = tmp_path / "in", tmp_path / "out"
    script.write_bytes(b"show version\n\x1dq")
    stream = FakeStream()
    stream.output.put_nowait(b"router#")
    with script.open("rb") as stdin, output.open("wb") as stdout:
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("sys.stdout", stdout)
        await at_console(stream)
    assert stream.typed == b"show version\n\x1dq"
    assert output.read_bytes() == b"router#"
