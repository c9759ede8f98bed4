"""What a terminal shows of a byte stream, one line at a time: escapes, carriage returns and backspaces resolved."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Finished", "Terminal", "strip_terminal"]

#: Longest escape sequence that is waited for; what is longer is no sequence.
_SEQUENCE = 1000
#: Of a longer line only the end is kept.
_LINE_LIMIT = 65_536
_KEPT_OF_LONG_LINE = 1024
#: How much is remembered of what was printed on a line, overwritten or not; echoes are found in it.
_PRINTED_LIMIT = 8192
_MOST_COLUMNS = 1024

_KEPT_CONTROLS = b"\x07\x08\x09\x0a\x0d\x1b"
_DROPPED = bytes(code for code in (*range(0x20), 0x7F) if code not in _KEPT_CONTROLS)

_CONTROL = re.compile(
    r"[\x07\x08\n\r]"
    r"|\x1b(?:"
    r"\[(?P<numbers>[0-?]{0,64})[ -/]{0,8}(?P<final>[@-~])"
    rf"|[\]PX^_][^\x07\x1b]{{0,{_SEQUENCE}}}(?:\x07|\x1b\\)"
    r"|[ -/]{0,8}[0-OQ-WYZ\\`-~]"
    r"|)"
)
_UNFINISHED = re.compile(rf"\x1b(?:\[[0-?]{{0,64}}[ -/]{{0,8}}|[\]PX^_][^\x07\x1b]{{0,{_SEQUENCE}}}\x1b?|[ -/]{{0,8}})")
_STRIPPED = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\`-~])|[\r\x00]"
)


def strip_terminal(text: str) -> str:
    """``text`` without escape sequences, carriage returns and NULs. For whole texts, such as logs."""
    return _STRIPPED.sub("", text)


@dataclass(frozen=True, slots=True)
class Finished:
    """A line that a line feed has ended.

    :ivar text: what it showed in the end.
    :ivar printed: all that was printed on it, in order, whether overwritten later or not.
    :ivar number: lines are counted from 0.
    :ivar seen: how many of its first characters had been dealt with (:attr:`Terminal.seen`).
    """

    text: str
    printed: str
    number: int
    seen: int = 0


class Terminal:
    """Bytes in, lines out. Pieces may be cut anywhere; memory is bounded whatever comes.

    :ivar text: the unfinished last line as it shows.
    :ivar printed: all that was printed on it.
    :ivar number: its number.
    :ivar seen: how many of its first characters were dealt with; it falls to where they are overwritten.
    :ivar overflowed: a line was longer than is kept.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unfinished = ""
        self._column = 0
        self.text = ""
        self.printed = ""
        self.number = 0
        self.seen = 0
        self.overflowed = False

    def feed(self, data: bytes) -> Iterator[Finished]:
        """The lines that ``data`` ends; to be iterated to its end."""
        text = self._unfinished + self._decoder.decode(data.translate(None, _DROPPED))
        self._unfinished = ""
        done = 0
        for match in _CONTROL.finditer(text):
            start = match.start()
            if start > done:
                self._write(text[done:start])
            done = match.end()
            control = match.group()
            if control == "\n":
                yield self._finish()
            elif control == "\x1b" and _UNFINISHED.fullmatch(text, start):
                self._unfinished, done = text[start:], len(text)
                break
            else:
                self._control(control, match)
        if done < len(text):
            self._write(text[done:])

    def mark_seen(self, count: int) -> None:
        """The first ``count`` characters of the unfinished line are dealt with."""
        self.seen = count

    def _finish(self) -> Finished:
        line = Finished(text=self.text, printed=self.printed, number=self.number, seen=self.seen)
        self.text = self.printed = ""
        self._column = self.seen = 0
        self.number += 1
        return line

    def _write(self, text: str) -> None:
        column, shown = self._column, self.text
        if column > len(shown):
            shown = shown.ljust(column)
        if column < self.seen:
            # The device draws over what was answered (a pager does): the rest of the old text is over, too.
            shown, self.seen = shown[:column], column
        self.text = shown + text if column == len(shown) else shown[:column] + text + shown[column + len(text) :]
        self._column = column + len(text)
        if len(self.printed) < _PRINTED_LIMIT:
            self.printed += text[:_PRINTED_LIMIT]
        if len(self.text) > _LINE_LIMIT:
            self.overflowed = True
            self.text = self.text[-_KEPT_OF_LONG_LINE:]
            self._column, self.seen = len(self.text), 0

    def _control(self, control: str, match: re.Match[str]) -> None:
        if control == "\r":
            self._column = 0
        elif control == "\b":
            self._column = max(0, self._column - 1)
        elif match["final"]:
            self._sequence(match["final"], match["numbers"])

    def _sequence(self, final: str, numbers: str) -> None:
        first = numbers.partition(";")[0]
        number = min(int(first), _MOST_COLUMNS) if first.isascii() and first.isdigit() else 0
        if final == "C":
            self._column = min(self._column + max(1, number), _LINE_LIMIT)
        elif final == "D":
            self._column = max(0, self._column - max(1, number))
        elif final == "G":
            self._column = max(0, number - 1)
        elif final in "KJ":
            self._erase(whole=number >= 2 or (final == "J" and number == 1))
        elif final == "P":
            self._cut(self._column, max(1, number))

    def _erase(self, *, whole: bool) -> None:
        self._cut(0 if whole else self._column, len(self.text))

    def _cut(self, column: int, count: int) -> None:
        self.text = self.text[:column] + self.text[column + count :]
        self.seen = min(self.seen, column)
