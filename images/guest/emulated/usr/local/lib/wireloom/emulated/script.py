"""What a persona wants of the terminal: it yields requests, and gets what was typed back."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeVar

__all__ = ["CTRL_C", "CTRL_D", "Flush", "ReadKey", "ReadLine", "Request", "Say", "Schedule", "Script", "Sleep", "page"]

CTRL_C = "\x03"
CTRL_D = "\x04"


class Say(NamedTuple):
    """Print; ``rate`` is in characters a second, 0: as fast as the line takes it."""

    text: str
    rate: float = 0


class Sleep(NamedTuple):
    """Print nothing for a while."""

    seconds: float


class ReadLine(NamedTuple):
    """Print ``prompt`` and read a line; ``echo`` off hides it, ``mask`` prints a character for each that is hidden.

    The answer is the line without its end, or ``CTRL_C`` or ``CTRL_D``.
    """

    prompt: str = ""
    echo: bool = True
    mask: str = ""


class ReadKey(NamedTuple):
    """Print ``prompt`` and read one character, without echo."""

    prompt: str = ""


class Flush(NamedTuple):
    """Throw away what was typed ahead, as systems do that open their console anew."""


class Schedule(NamedTuple):
    """Print ``text`` on a line of its own after ``seconds``, whatever happens then: syslog."""

    seconds: float
    text: str


Request = Say | Sleep | ReadLine | ReadKey | Flush | Schedule

T = TypeVar("T")
Script = Generator[Request, str, T]


def page(text: str, *, length: int, more: str, erase: str, rate: float = 0) -> Script[None]:
    """Print ``text`` screen by screen; ``length`` 0 prints it at once. Space: a screen, Enter: a line, q: enough."""
    lines = text.split("\n")
    room = length - 1
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        if length and room <= 0 and not last:
            key = yield ReadKey(more)
            yield Say(erase)
            if key in {"q", "Q", CTRL_C}:
                return
            room = 1 if key in {"\r", "\n"} else length - 1
        yield Say(line if last else line + "\n", rate)
        room -= 1
