"""A node's console on this terminal: raw mode, window size, an escape key, and the terminal as it was at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from wireloom.errors import InvalidInput

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.client.console import ConsoleStream

__all__ = ["EscapeScanner", "escape_byte", "escape_name", "interact"]

QUIT: Final = ord("q")
#: Leave colours, the alternate screen and hidden cursors of the guest behind.
_RESET: Final = b"\x1b[0m\x1b[?25h\x1b[?1l\x1b[?2004l\x1b[?1000l"
#: After the end of piped input: how long the node may stay silent before we leave.
QUIET_S: Final = 1.0


def escape_byte(written: str) -> int:
    """The control byte that ``^]``, ``ctrl-]`` or ``C-a`` means. :raises InvalidInput:"""
    lowered = written.strip().lower()
    for prefix in ("ctrl-", "ctrl+", "c-", "^"):
        if lowered.startswith(prefix) and len(lowered) == len(prefix) + 1:
            code = ord(lowered[-1].upper()) ^ 0x40
            if code < 0x20:
                return code
    raise InvalidInput(f"{written!r} is not a control key", hint="write it like ^] or ctrl-a")


def escape_name(code: int) -> str:
    """How people call a control byte, e.g. ``Ctrl-]``."""
    return f"Ctrl-{chr(code ^ 0x40)}"


class EscapeScanner:
    """Finds the escape sequence in what is typed, however the bytes are cut.

    Prefix then ``q`` leaves; prefix twice sends it once; prefix and another key sends both.
    """

    def __init__(self, prefix: int) -> None:
        self._prefix = prefix
        self._pending = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to send on, and whether to leave."""
        out = bytearray()
        for byte in data:
            if not self._pending:
                if byte == self._prefix:
                    self._pending = True
                else:
                    out.append(byte)
                continue
            self._pending = False
            if byte in {QUIT, QUIT - 32}:
                return bytes(out), True
            out += bytes([byte]) if byte == self._prefix else bytes([self._prefix, byte])
        return bytes(out), False


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Raw mode while the block runs; the terminal is given back however the block ends."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)  # waiting for output to drain could wait for ever
        os.write(sys.stdout.fileno(), _RESET)


async def interact(client: Client, lab: str, node: str, *, read_only: bool, line: int | None, escape: int) -> None:
    """Connect this terminal with the node's console until either side ends.

    Without a terminal, input is copied from stdin until its end, and output until the node falls silent.
    """
    size = _size(sys.stdin.fileno())
    stream = await client.console(lab, node, columns=size.columns, rows=size.lines, read_only=read_only, line=line)
    session = _Session(stream, sys.stdin.fileno(), EscapeScanner(escape), read_only=read_only)
    try:
        if not os.isatty(session.stdin):
            await session.run(interactive=False)
            return
        watching = ", read-only" if read_only else ""
        sys.stderr.write(f"Connected to {lab}/{node}{watching}. {escape_name(escape)} then q leaves.\n")
        sys.stderr.flush()
        with _raw(session.stdin):
            await session.run(interactive=True)
        sys.stderr.write(f"\nConsole of {lab}/{node}: {session.reason}.\n")
    finally:
        await stream.close()


class _Session:
    """One run between a terminal and a console."""

    def __init__(self, stream: ConsoleStream, stdin: int, scanner: EscapeScanner, *, read_only: bool) -> None:
        self.stdin = stdin
        self.reason = "left"
        self._stream = stream
        self._scanner = scanner
        self._read_only = read_only
        self._typed: asyncio.Queue[bytes] = asyncio.Queue()
        self._leave = asyncio.Event()
        self._heard = asyncio.Event()

    async def run(self, *, interactive: bool) -> None:
        """Copy both ways until one side ends, a signal comes, or the person leaves."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGHUP, *((signal.SIGWINCH,) if interactive else ()))
        resizes: set[asyncio.Task[None]] = set()

        def resized() -> None:
            task = loop.create_task(self._resize())
            resizes.add(task)
            task.add_done_callback(resizes.discard)

        for number in signals:
            loop.add_signal_handler(number, resized if number == signal.SIGWINCH else self._leave.set)
        reader = asyncio.create_task(self._read_input(interactive=interactive))
        tasks = {
            asyncio.create_task(self._output()),
            asyncio.create_task(self._send_typed()),
            asyncio.create_task(self._leave.wait()),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
            for task in (reader, *tasks, *resizes):
                task.cancel()
            await asyncio.gather(reader, *tasks, *resizes, return_exceptions=True)
        for task in done:
            task.result()

    async def _output(self) -> None:
        """From the node to the terminal, until the line ends."""
        out = sys.stdout.fileno()
        while data := await self._stream.read():
            self._heard.set()
            while data:
                data = data[os.write(out, data) :]
        self.reason = "the line was closed by the far end"

    async def _read_input(self, *, interactive: bool) -> None:
        """From the keyboard into the queue; the end of piped input ends the session once the node is silent."""
        loop = asyncio.get_running_loop()
        while True:
            data = await _readable(loop, self.stdin)
            if not data:
                break
            if interactive:
                data, leave = self._scanner.feed(data)
                if leave:
                    self._leave.set()
                    return
            if data and not self._read_only:
                self._typed.put_nowait(data)
        await self._typed.join()
        await self._silence()
        self._leave.set()

    async def _silence(self) -> None:
        """Until the node has said nothing for a while."""
        with suppress(TimeoutError):
            while True:
                self._heard.clear()
                async with asyncio.timeout(QUIET_S):
                    await self._heard.wait()

    async def _send_typed(self) -> None:
        while True:
            await self._stream.write(await self._typed.get())
            self._typed.task_done()

    async def _resize(self) -> None:
        size = _size(self.stdin)
        await self._stream.resize(size.columns, size.lines)


def _size(terminal: int) -> os.terminal_size:
    """The size of the terminal that is typed on; the classic one where there is none or it does not say."""
    try:
        size = os.get_terminal_size(terminal)
    except OSError:
        size = os.terminal_size((0, 0))
    return size if all(size) else os.terminal_size((80, 24))


async def _readable(loop: asyncio.AbstractEventLoop, fd: int) -> bytes:
    """The next bytes of ``fd``; ``b""`` at its end. Regular files cannot be polled and are read at once."""
    ready = asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except PermissionError:  # epoll refuses regular files, which never block
        return os.read(fd, 65536)
    try:
        await ready.wait()
        return os.read(fd, 65536)
    finally:
        loop.remove_reader(fd)
