"""Plays a persona's script on a terminal: bytes in, bytes out, time as an argument."""

from __future__ import annotations

import heapq

from .script import CTRL_C, CTRL_D, Flush, ReadKey, ReadLine, Request, Say, Schedule, Script, Sleep

__all__ = ["Terminal"]

_BACKSPACES = ("\b", "\x7f")
_TICK_S = 0.02


class Terminal:
    """One line or session.

    :param script: what is played; its end is the end of the session.
    :param raw: line ends are printed as they are.
    """

    def __init__(self, script: Script[None], *, now: float, raw: bool = False) -> None:
        self.done = False
        self.wake_at: float | None = None
        self._script = script
        self._line_end = "\n" if raw else "\r\n"
        self._request: Request | None = None
        self._typed = ""
        self._line = ""
        self._after_return = False
        self._output = bytearray()
        self._rest = ""
        self._due = now
        self._scheduled: list[tuple[float, str]] = []
        self._fresh_line = True
        self._answer("", now)
        self._advance(now)

    def receive(self, data: bytes, now: float) -> None:
        """What was typed."""
        self._typed += data.decode("utf-8", errors="replace")
        self._advance(now)

    def tick(self, now: float) -> None:
        """Time has come to ``wake_at``."""
        self._advance(now)

    def take(self) -> bytes:
        """What was printed since the last call."""
        taken = bytes(self._output)
        self._output.clear()
        return taken

    # -- the loop --------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        self._interject(now)
        while not self.done and self._step(now):
            pass
        if self._scheduled and not self.done and not self._within_line:
            due = self._scheduled[0][0]
            self.wake_at = due if self.wake_at is None else min(self.wake_at, due)

    def _step(self, now: float) -> bool:
        """Work on the request at hand; whether it was answered."""
        request = self._request
        if isinstance(request, Say):
            return self._say(request, now)
        if isinstance(request, Sleep):
            return self._sleep(now)
        self.wake_at = None
        if isinstance(request, ReadLine):
            return self._read_line(request, now)
        if isinstance(request, ReadKey):
            return self._read_key(now)
        return False

    def _answer(self, text: str, now: float) -> None:
        """Give the script its answer and take its next request."""
        try:
            request = self._script.send(text) if self._request is not None else next(self._script)
        except StopIteration:
            self.done = True
            self.wake_at = None
            return
        self._request = request
        if isinstance(request, Say):
            self._rest = request.text
            self._due = now
        elif isinstance(request, Sleep):
            self._due = now + request.seconds
        elif isinstance(request, ReadLine | ReadKey):
            self._line = ""
            self._print(request.prompt)
        elif isinstance(request, Flush):
            self._typed = ""
            self._answer("", now)
        elif isinstance(request, Schedule):
            heapq.heappush(self._scheduled, (now + request.seconds, request.text))
            self._answer("", now)

    # -- requests --------------------------------------------------------------------------------------------

    def _say(self, request: Say, now: float) -> bool:
        count = int((now - self._due) * request.rate) + 1 if request.rate else len(self._rest)
        chunk, self._rest = self._rest[:count], self._rest[count:]
        for line in chunk.splitlines(keepends=True):
            self._interject(now)
            self._print(line)
        if request.rate:
            self._due += len(chunk) / request.rate
        if self._rest:
            self.wake_at = max(self._due, now + _TICK_S)
            return False
        self._answer("", now)
        return True

    def _sleep(self, now: float) -> bool:
        if now < self._due:
            self.wake_at = self._due
            return False
        self._answer("", now)
        return True

    def _read_line(self, request: ReadLine, now: float) -> bool:
        while self._typed:
            key, self._typed = self._typed[0], self._typed[1:]
            if key == "\n" and self._after_return:
                self._after_return = False
                continue
            self._after_return = key == "\r"
            if key in "\r\n":
                return self._line_read(self._line, now)
            if key in {CTRL_C, CTRL_D}:
                return self._line_read(key, now)
            self._edit(key, request)
        return False

    def _edit(self, key: str, request: ReadLine) -> None:
        shown = request.echo or bool(request.mask)
        if key in _BACKSPACES:
            if self._line:
                self._line = self._line[:-1]
                self._print("\b \b" if shown else "")
        elif key == "\x15":
            self._print("\b \b" * len(self._line) if shown else "")
            self._line = ""
        elif key >= " " or key == "\t":
            self._line += key
            self._print(key if request.echo else request.mask)

    def _line_read(self, text: str, now: float) -> bool:
        self._print("\n")
        self._answer(text, now)
        return True

    def _read_key(self, now: float) -> bool:
        if not self._typed:
            return False
        key, self._typed = self._typed[0], self._typed[1:]
        self._after_return = key == "\r"
        self._answer(key, now)
        return True

    # -- output ----------------------------------------------------------------------------------------------

    @property
    def _within_line(self) -> bool:
        return isinstance(self._request, Say) and not self._fresh_line

    def _interject(self, now: float) -> None:
        """Print what is due on lines of their own, not within a line of output. A prompt is not printed again."""
        if self._within_line:
            return
        while self._scheduled and self._scheduled[0][0] <= now:
            _, text = heapq.heappop(self._scheduled)
            self._print(f"{'' if self._fresh_line else chr(10)}{text}\n")

    def _print(self, text: str) -> None:
        if text:
            self._fresh_line = text.endswith("\n")
            self._output += text.replace("\n", self._line_end).encode()
