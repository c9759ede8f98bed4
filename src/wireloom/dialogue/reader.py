"""Reads a console: which lines came, which of them are messages, and which text the device is waiting at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from wireloom.dialogue.grammar import Grammar, grammar_of
from wireloom.dialogue.terminal import Finished, Terminal
from wireloom.model.dialogue import Cli

__all__ = ["Front", "ReadLine", "Reader", "at_prompt"]

_SCREEN_LINES = 12
_SCREEN_COLUMNS = 200


@dataclass(frozen=True, slots=True)
class ReadLine:
    """A line that is complete.

    :ivar noise: it is a message that belongs to no command, alone or behind a text that the device waits at.
    """

    line: Finished
    noise: bool


@dataclass(frozen=True, slots=True)
class Front:
    """The last text that is neither blank nor a message: what the device may be waiting at.

    :ivar start: so much of it was dealt with.
    :ivar since: when it came.
    :ivar unfinished: the cursor stands behind it.
    :ivar noisy: it ended, and since then only messages came: the device still waits, but the cursor moved on.
    """

    text: str
    number: int
    start: int
    since: float
    unfinished: bool
    noisy: bool


class Reader:
    """:ivar terminal: the terminal that is read."""

    def __init__(self, grammar: Grammar, now: float) -> None:
        self.terminal = Terminal()
        self._grammar = grammar
        self._changed_at = now
        self._last = Front(text="", number=-1, start=0, since=now, unfinished=False, noisy=False)
        self._screen: deque[str] = deque(maxlen=_SCREEN_LINES)

    def receive(self, data: bytes, now: float) -> Iterator[ReadLine]:
        """The lines that ``data`` ends; to be iterated to its end."""
        terminal = self.terminal
        before = (terminal.number, terminal.text)
        for line in terminal.feed(data):
            yield self._read(line, now)
        if (terminal.number, terminal.text) != before:
            self._changed_at = now

    def front(self) -> Front:
        """What the device may be waiting at now; its text is empty when there is nothing."""
        terminal = self.terminal
        if not terminal.text.strip():
            return self._last
        return Front(
            text=terminal.text,
            number=terminal.number,
            start=terminal.seen,
            since=self._changed_at,
            unfinished=True,
            noisy=False,
        )

    def consume(self, front: Front, end: int) -> None:
        """The first ``end`` characters of ``front`` are dealt with."""
        if front.unfinished:
            self.terminal.mark_seen(end)
        else:
            self._last = replace(self._last, start=end)

    def screen(self) -> tuple[str, ...]:
        """The last lines, oldest first, each cut to what fits a report."""
        unfinished = self.terminal.text.rstrip()[-_SCREEN_COLUMNS:]
        return (*self._screen, unfinished) if unfinished else tuple(self._screen)

    def _read(self, line: Finished, now: float) -> ReadLine:
        if not line.text.strip():
            return ReadLine(line, noise=False)
        self._screen.append(line.text.rstrip()[-_SCREEN_COLUMNS:])
        before = self._grammar.before_noise(line.text)
        if before is None:
            self._set_last(line.text, line.number, line.seen, now)
            return ReadLine(line, noise=False)
        if before:
            self._set_last(before, line.number, min(line.seen, len(before)), now, noisy=True)
        elif not self._last.noisy:
            self._last = replace(self._last, noisy=True)
        return ReadLine(line, noise=True)

    def _set_last(self, text: str, number: int, start: int, since: float, *, noisy: bool = False) -> None:
        self._last = Front(text=text, number=number, start=start, since=since, unfinished=False, noisy=noisy)


def at_prompt(cli: Cli, text: str) -> str | None:
    """Name of the prompt at which a console stands that shows ``text`` in the end; ``None`` when at none.

    Messages that came after the prompt do not hide it. Only the last 16 KiB of ``text`` are looked at.
    """
    grammar = grammar_of(cli)
    reader = Reader(grammar, 0)
    for _ in reader.receive(text[-16_384:].encode(), 0):
        pass
    front = reader.front()
    prompt = grammar.prompt_of(front.text) if front.unfinished or front.noisy else None
    return prompt.name if prompt else None
