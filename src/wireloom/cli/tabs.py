"""Consoles on one terminal: one is shown, the others go on unseen and are painted again when it is their turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from wireloom.cli.escape import COMMANDS, Key, escape_name
from wireloom.model.console import ConsoleCommand, ConsoleNotice

if TYPE_CHECKING:
    from wireloom.client.console import ConsoleStream

__all__ = ["RESET", "Tab", "Tabs"]

#: Leave colours, the alternate screen and hidden cursors of a guest behind.
RESET: Final = b"\x1b[0m\x1b[?25h\x1b[?1l\x1b[?2004l\x1b[?1000l"
_CLEAR: Final = b"\x1b[?1049l\x1b[2J\x1b[H"
#: What is painted when a console is shown again.
RECENT_BYTES: Final = 16 * 1024

_DOING: Final[dict[Key, ConsoleCommand]] = {
    Key.ASK: ConsoleCommand(do="ask"),
    Key.GIVE: ConsoleCommand(do="give"),
    Key.TAKE: ConsoleCommand(do="take"),
}


class Tab:
    """One console: its stream, what it showed lately, and who is there."""

    def __init__(self, name: str, stream: ConsoleStream) -> None:
        self.name = name
        self.stream = stream
        self.recent = bytearray()
        self.notice: ConsoleNotice | None = None
        self.ended = False

    def keep(self, data: bytes) -> None:
        """Remember output for when this console is shown again."""
        self.recent += data
        del self.recent[:-RECENT_BYTES]


class Tabs:
    """What stands on the terminal. ``out`` takes bytes for the screen, ``say`` a sentence for the person."""

    def __init__(self, tabs: Sequence[Tab], escape: int, out: Callable[[bytes], None]) -> None:
        self.tabs = tuple(tabs)
        self.shown = self.tabs[0]
        self._escape = escape_name(escape)
        self._out = out

    @property
    def all_ended(self) -> bool:
        return all(tab.ended for tab in self.tabs)

    def output(self, tab: Tab, data: bytes) -> None:
        """A console's bytes: seen when it is the one that is shown."""
        if len(self.tabs) > 1:
            tab.keep(data)
        if tab is self.shown:
            self._out(data)

    def notice(self, tab: Tab, notice: ConsoleNotice) -> None:
        """What goes on at a console; to come in and have the keyboard is not worth a line."""
        tab.notice = notice
        if tab is self.shown and not (notice.event == "here" and notice.writing):
            self.say(notice.text + self._hint(notice), tab)

    def end(self, tab: Tab, reason: str) -> None:
        """A console has ended; the others go on."""
        tab.ended = True
        if len(self.tabs) > 1 and tab is self.shown:
            self.say(reason, tab)

    def say(self, text: str, tab: Tab | None = None) -> None:
        """One line between the guest's own."""
        name = f" {tab.name}" if tab is not None and len(self.tabs) > 1 else ""
        self._out(f"\r\n\x1b[7m[wireloom{name}: {text}]\x1b[0m\r\n".encode())

    def show(self, number: int) -> None:
        """Show console ``number``, from 1; nothing happens when there is none."""
        if not 1 <= number <= len(self.tabs):
            return
        self.shown = self.tabs[number - 1]
        self._out(RESET + _CLEAR + bytes(self.shown.recent))
        state = "; it has ended" if self.shown.ended else ""
        self.say(f"console {number} of {len(self.tabs)}{state}", self.shown)

    async def obey(self, key: Key) -> None:
        """Carry out a command other than leaving."""
        match key:
            case Key.NEXT | Key.PREVIOUS:
                step = 1 if key is Key.NEXT else -1
                self.show((self.tabs.index(self.shown) + step) % len(self.tabs) + 1)
            case Key.WHO:
                self.say(_present(self.shown.notice), self.shown)
            case Key.HELP:
                self._help()
            case Key.ASK | Key.GIVE | Key.TAKE:
                await self.shown.stream.command(_DOING[key])
            case Key.QUIT:
                pass

    def _help(self) -> None:
        lines = [f"{self._escape} {key.value}  {text}" for key, text in COMMANDS.items()]
        lines.append(f"{self._escape} 1-9  that console")
        lines.append(f"{self._escape} twice sends it to the node")
        self._out("".join(f"\r\n\x1b[7m{line}\x1b[0m" for line in lines).encode() + b"\r\n")

    def _hint(self, notice: ConsoleNotice) -> str:
        """Which key answers what has happened."""
        if notice.event == "asked" and notice.writing:
            return f"; {self._escape} g passes it on"
        me = notice.state.attendee(notice.you)
        reading = me is not None and not me.read_only and not notice.writing and notice.state.writer is not None
        if reading and notice.event in {"here", "refused", "lost"}:
            return f"; {self._escape} a asks for the keyboard"
        return ""


def _present(notice: ConsoleNotice | None) -> str:
    if notice is None:
        return "this console is yours alone"
    state = notice.state
    words = []
    for attendee in state.attendees:
        marks = ["you"] if attendee.id == notice.you else []
        if attendee.read_only:
            marks.append("reads only")
        elif state.writer is not None and attendee.id == state.writer.id:
            marks.append("types")
        elif any(asking.id == attendee.id for asking in state.asking):
            marks.append("asks for the keyboard")
        words.append(attendee.who + (f" ({', '.join(marks)})" if marks else ""))
    return f"line {state.line}: {', '.join(words)}"


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; a terminal may take it in pieces."""
    while data:
        data = data[os.write(descriptor, data) :]
