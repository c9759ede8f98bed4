"""One typed line and what the device prints until the next prompt."""

from __future__ import annotations

from collections.abc import Container
from enum import Enum

from wireloom.dialogue.echo import Echo
from wireloom.dialogue.reader import ReadLine
from wireloom.dialogue.terminal import Terminal

__all__ = ["PartingKind", "Step"]


class PartingKind(Enum):
    """Whether the line is one of leaving, which cannot fail."""

    NO = 0
    #: On the way back to the prompt that was found.
    MOVES = 1
    #: Out of the session.
    LEAVES = 2

    def __bool__(self) -> bool:
        return self is not PartingKind.NO


#: A larger answer is no configuration, but something that never ends.
_OUTPUT_LIMIT = 16 * 1024 * 1024


class Step:
    """Collects the output of a line that is being typed now.

    :param prompt: text of the prompt at which it is typed.
    :param into_text: it is part of a text, so that no prompt need follow.
    :param parting: nothing is collected, and it may end without a prompt.
    :ivar number: the terminal line on which was typed; the answer begins on a later one.
    :ivar allowed_s: seconds that the device has for each answer; ``deadline`` is when the one at hand is due.
    :ivar retype_after: seconds between the next prompt and typing the line again; ``None``: it is not typed again.
    :ivar retype_at: when that is, once the prompt is there.
    :ivar oversized: it printed more than is kept.
    """

    def __init__(
        self,
        typed: str,
        prompt: str,
        terminal: Terminal,
        *,
        allowed_s: float,
        deadline: float,
        parting: PartingKind = PartingKind.NO,
        into_text: bool = False,
    ) -> None:
        self.typed = typed
        self.allowed_s = allowed_s
        self.deadline = deadline
        self.parting = parting
        self.into_text = into_text
        self.number = terminal.number
        self.retype_after: float | None = None
        self.retype_at: float | None = None
        self._echo = Echo(typed, prompt, terminal)
        self._lines: list[str] = []
        self._size = 0

    @property
    def echoed(self) -> bool:
        """Its echo was seen, so that a prompt can only be the one after it."""
        return self._echo.complete

    @property
    def oversized(self) -> bool:
        return self._size > _OUTPUT_LIMIT

    def add(self, read: ReadLine) -> None:
        """A line was printed."""
        if read.noise or self._echo.takes(read.line) or self.parting or self.oversized:
            return
        if read.line.seen:
            return  # a question that was answered, with the echo of the answer
        self._lines.append(read.line.text.rstrip())
        self._size += len(read.line.text) + 1

    def output(self, prompts: Container[str], last: str = "") -> tuple[str, ...]:
        """What belongs to the answer: not a prompt that was printed twice, nor blank lines around it.

        :param last: what was printed since the last line end.
        """
        lines = [line for line in (*self._lines, last) if not line or line not in prompts]
        while lines and not lines[-1]:
            lines.pop()
        first = next((index for index, line in enumerate(lines) if line), 0)
        return tuple(lines[first:])
