"""Consoles of nodes on this terminal: raw mode, window size, an escape key, and the terminal as it was at the end."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from wireloom.cli.escape import EscapeScanner, Key, escape_name
from wireloom.cli.tabs import RESET, Tab, Tabs, write_all
from wireloom.errors import InvalidInput, WireloomError

if TYPE_CHECKING:
    from wireloom.client import Client

__all__ = ["interact"]

#: After the end of piped input: how long the node may stay silent before we leave.
QUIET_S: Final = 1.0
#: Pieces of typing that may wait for a slow far end.
_TYPED_MOST: Final = 16


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Raw mode while the block runs; the terminal is given back however the block ends."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)  # waiting for output to drain could wait for ever
        os.write(sys.stdout.fileno(), RESET)


async def interact(
    client: Client, lab: str, nodes: Sequence[str], *, read_only: bool, line: int | None, escape: int
) -> None:
    """Connect this terminal with the consoles of ``nodes``, one of them shown, until all ended or the person leaves.

    Without a terminal there can be one node: input is copied from stdin until its end, and output until the node
    falls silent.
    """
    stdin = sys.stdin.fileno()
    interactive = os.isatty(stdin)
    if len(nodes) > 1 and not interactive:
        raise InvalidInput("several consoles at once need a terminal", hint="name one node")
    size = _size(stdin)
    async with AsyncExitStack() as stack:
        tabs = []
        for node in nodes:
            stream = await client.console(
                lab, node, columns=size.columns, rows=size.lines, read_only=read_only, line=line, who=_self_name()
            )
            stack.push_async_callback(stream.close)
            tabs.append(Tab(node, stream))
        session = _Session(tabs, stdin, escape, read_only=read_only)
        if not interactive:
            await session.run(interactive=False)
            return
        named = f"{lab}/{nodes[0]}" if len(nodes) == 1 else f"{lab}: {', '.join(nodes)}"
        watching = ", read-only" if read_only else ""
        sys.stderr.write(f"Connected to {named}{watching}. {escape_name(escape)} then q leaves, ? helps.\n")
        sys.stderr.flush()
        with _raw(stdin):
            await session.run(interactive=True)
        sys.stderr.write(f"\nConsole of {named}: {session.reason}.\n")


def _self_name() -> str:
    """How others on a console are told of this person."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry for this user
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class _Session:
    """One run between a terminal and its consoles."""

    def __init__(self, tabs: Sequence[Tab], stdin: int, escape: int, *, read_only: bool) -> None:
        self.stdin = stdin
        self.reason = "left"
        self._out = sys.stdout.fileno()
        self._tabs = Tabs(tabs, escape, self._paint)
        self._scanner = EscapeScanner(escape)
        self._read_only = read_only
        self._typed: asyncio.Queue[tuple[Tab, bytes]] = asyncio.Queue(_TYPED_MOST)
        self._leave = asyncio.Event()
        self._heard = asyncio.Event()

    async def run(self, *, interactive: bool) -> None:
        """Copy both ways until the consoles end, a signal comes, or the person leaves."""
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
            asyncio.create_task(self._all_output(interactive=interactive)),
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

    def _paint(self, data: bytes) -> None:
        write_all(self._out, data)

    async def _all_output(self, *, interactive: bool) -> None:
        """From the consoles to the terminal, until the last of them has ended."""
        tabs = self._tabs.tabs
        if len(tabs) == 1:
            await self._output(tabs[0], interactive=interactive)
        else:
            await asyncio.gather(*(self._one_of_many(tab) for tab in tabs))
        self.reason = "the line was closed by the far end"

    async def _one_of_many(self, tab: Tab) -> None:
        """An error ends this console and leaves the others."""
        try:
            await self._output(tab, interactive=True)
        except WireloomError as error:
            self._tabs.end(tab, str(error))
        else:
            self._tabs.end(tab, "the line was closed by the far end")

    async def _output(self, tab: Tab, *, interactive: bool) -> None:
        while item := await tab.stream.receive():
            if isinstance(item, bytes):
                self._heard.set()
                self._tabs.output(tab, item)
            elif interactive:
                self._tabs.notice(tab, item)
            elif item.event in {"refused", "lost"}:
                sys.stderr.write(f"wireloom: {item.text}\n")

    async def _read_input(self, *, interactive: bool) -> None:
        """From the keyboard into the queue; the end of piped input ends the session once the node is silent."""
        loop = asyncio.get_running_loop()
        while data := await _readable(loop, self.stdin):
            for item in self._scanner.feed(data) if interactive else [data]:
                if item is Key.QUIT:
                    self._leave.set()
                    return
                await self._act(item)
        await self._typed.join()
        await self._silence()
        self._leave.set()

    async def _act(self, item: bytes | Key | int) -> None:
        if isinstance(item, Key):
            with suppress(WireloomError):  # a console that has ended says so by itself
                await self._tabs.obey(item)
        elif isinstance(item, int):
            self._tabs.show(item)
        elif not self._read_only and not self._tabs.shown.ended:
            await self._typed.put((self._tabs.shown, item))

    async def _silence(self) -> None:
        """Until the node has said nothing for a while."""
        with suppress(TimeoutError):
            while True:
                self._heard.clear()
                async with asyncio.timeout(QUIET_S):
                    await self._heard.wait()

    async def _send_typed(self) -> None:
        while True:
            tab, data = await self._typed.get()
            if not tab.ended:
                await tab.stream.write(data)
            self._typed.task_done()

    async def _resize(self) -> None:
        size = _size(self.stdin)
        for tab in self._tabs.tabs:
            if not tab.ended:
                with suppress(WireloomError):
                    await tab.stream.resize(size.columns, size.lines)


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
