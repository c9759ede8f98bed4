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

from wireloom.cli.escape import EscapeScanner, Key, escape_byte, escape_name
from wireloom.cli.terminal import interact
from wireloom.errors import InvalidInput, Unavailable
from wireloom.model.console import Attendee, ConsoleCommand, ConsoleLine, ConsoleNotice

PREFIX = 0x1D


def scan(*pieces: bytes) -> list[bytes | Key | int]:
    """What the scanner finds, with bytes that were cut put together again."""
    scanner = EscapeScanner(PREFIX)
    found: list[bytes | Key | int] = []
    for piece in pieces:
        for item in scanner.feed(piece):
            if isinstance(item, bytes) and found and isinstance(found[-1], bytes):
                found[-1] += item
            else:
                found.append(item)
    return found


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (b"show\r", [b"show\r"]),
        (b"ab\x1dqcd", [b"ab", Key.QUIT, b"cd"]),
        (b"\x1dQ", [Key.QUIT]),
        (b"\x1d\x1d", [b"\x1d"]),
        (b"\x1dx", [b"\x1dx"]),
        (b"q", [b"q"]),
        (b"\x1d\x1dq", [b"\x1dq"]),
        (b"\x1da\x1dg\x1dT", [Key.ASK, Key.GIVE, Key.TAKE]),
        (b"\x1d3x\x1d0", [3, b"x\x1d0"]),
        (b"\x1dh\x1d?\x1dw", [Key.HELP, Key.HELP, Key.WHO]),
    ],
)
def test_commands_are_found_at_every_cut(typed: bytes, found: list[bytes | Key | int]) -> None:
    assert scan(typed) == found
    for cut in range(1, len(typed)):
        assert scan(typed[:cut], typed[cut:]) == found


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
        self.output: asyncio.Queue[bytes | ConsoleNotice] = asyncio.Queue()
        self.commands: list[ConsoleCommand] = []
        self.typed = b""
        self.sizes: list[tuple[int, int]] = []
        self.closed = False
        self.heard = asyncio.Event()
        self.opened = asyncio.Event()

    async def receive(self) -> bytes | ConsoleNotice:
        return await self.output.get()

    async def write(self, data: bytes) -> None:
        self.typed += data
        self.heard.set()

    async def command(self, command: ConsoleCommand) -> None:
        self.commands.append(command)
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
        self.ahead = b""

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


async def at_console(*streams: FakeStream, read_only: bool = False) -> dict[str, object]:
    asked: dict[str, object] = {}
    coming = iter(streams)
    nodes = [f"r{number}" for number, _ in enumerate(streams, 1)]

    class Client:
        async def console(self, lab: str, node: str, **options: object) -> FakeStream:
            asked.update(options)
            stream = next(coming)
            stream.opened.set()
            return stream

    await interact(Client(), "demo", nodes, read_only=read_only, line=None, escape=PREFIX)  # type: ignore[arg-type]
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
        async def receive(self) -> bytes | ConsoleNotice:
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


# -------------------------------------------------------------------- sharing, and several at once

ADA, BOB = Attendee(id="1", who="ada", since=1000.0), Attendee(id="2", who="bob", since=2000.0)


def notice(event: str, text: str, *, you: Attendee = ADA, writer: Attendee | None = BOB) -> ConsoleNotice:
    state = ConsoleLine(writer=writer, attendees=(ADA, BOB))
    return ConsoleNotice.model_validate({"event": event, "text": text, "you": you.id, "state": state})


async def screen(terminal: Terminal, *expected: bytes) -> bytes:
    """What the person sees from now on, until all of ``expected`` was there, in order; the rest is left for later."""
    seen, at = b"", 0
    os.set_blocking(terminal.person, False)
    async with asyncio.timeout(60):
        for text in expected:
            while (found := seen.find(text, at)) < 0:
                await asyncio.sleep(0)
                try:
                    seen += terminal.ahead or os.read(terminal.person, 65536)
                except BlockingIOError:
                    continue
                terminal.ahead = b""
            at = found + len(text)
    terminal.ahead = seen[at:]
    return seen[:at]


async def test_what_goes_on_at_a_line_is_one_line_on_the_screen_with_the_key_that_answers(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", terminal)  # here, because the capture puts its own back before each test
    stream = FakeStream()
    session = asyncio.create_task(at_console(stream))
    await stream.opened.wait()
    stream.output.put_nowait(notice("here", "you have the keyboard", writer=ADA))  # not worth a line
    stream.output.put_nowait(b"r1#")
    stream.output.put_nowait(notice("asked", "bob asks for the keyboard", writer=ADA))
    seen = await screen(terminal, b"r1#", b"[wireloom: bob asks for the keyboard; Ctrl-] g passes it on]")
    assert b"you have" not in seen
    stream.output.put_nowait(notice("lost", "bob has the keyboard now; you are reading along"))
    await screen(terminal, b"reading along; Ctrl-] a asks for the keyboard]")
    os.write(terminal.person, b"\x1da\x1dt\x1dg\x1dw\x1d?\x1dq")
    await session
    assert [command.do for command in stream.commands] == ["ask", "take", "give"]
    await screen(terminal, b"line 0: ada (you), bob (types)", b"Ctrl-] t  take the keyboard")


async def test_several_consoles_are_one_shown_and_the_others_painted_when_chosen(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", terminal)  # here, because the capture puts its own back before each test
    first, second = FakeStream(), FakeStream()
    session = asyncio.create_task(at_console(first, second))
    await second.opened.wait()
    second.output.put_nowait(b"prompt of r2# ")
    first.output.put_nowait(b"prompt of r1# ")
    assert b"r2" not in (await screen(terminal, b"prompt of r1# ")).replace(b"r1, r2", b"")
    os.write(terminal.person, b"one\x1d2two\x1dn")
    await screen(terminal, b"prompt of r2# ", b"console 2 of 2", b"prompt of r1# ", b"console 1 of 2")
    async with asyncio.timeout(60):
        await second.heard.wait()
    assert (first.typed, second.typed) == (b"one", b"two")
    second.heard.clear()
    terminal.resize(90, 30)
    os.kill(os.getpid(), signal.SIGWINCH)
    async with asyncio.timeout(60):
        await second.heard.wait()
    first.output.put_nowait(b"")
    await screen(terminal, b"[wireloom r1: the line was closed by the far end]")
    assert first.sizes == second.sizes == [(90, 30)]
    second.output.put_nowait(b"")
    await session  # the last one has ended


async def test_several_consoles_need_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"")
    with (tmp_path / "in").open("rb") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(InvalidInput, match="need a terminal"):
            await at_console(FakeStream(), FakeStream())
