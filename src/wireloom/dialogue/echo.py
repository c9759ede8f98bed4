"""Which of the lines that follow a typed line are its echo."""

from __future__ import annotations

from wireloom.dialogue.terminal import Finished, Terminal

__all__ = ["Echo"]


def _squeezed(text: str) -> str:
    """Without blanks: terminals wrap with blanks and line ends of their own."""
    return "".join(text.split())


class Echo:
    """The echo of one typed line, which may be wrapped, redrawn after a message, completed by the device, or missing.

    :ivar complete: it was seen in full, so that what follows is the answer.
    """

    def __init__(self, typed: str, prompt: str, terminal: Terminal) -> None:
        self._whole = _squeezed(typed)
        self._left = self._whole
        self._prompt = _squeezed(prompt)
        self._number = terminal.number
        self._printed_before = len(terminal.printed)
        self._over = False
        self.complete = not self._whole

    def takes(self, line: Finished) -> bool:
        """Whether ``line`` belongs to the echo; lines are to be shown in order, without messages in between."""
        if line.number == self._number:
            # What stands on the line on which was typed is never output, whatever the device made of it.
            self._own_line(_squeezed(line.printed[self._printed_before :]))
            return True
        return not self._over and self._later_line(_squeezed(line.printed))

    def _own_line(self, rest: str) -> None:
        if self._whole.startswith(rest) and rest != self._whole:
            self._left = self._whole[len(rest) :]
        else:
            self._end()

    def _later_line(self, text: str) -> bool:
        redrawn = text.removeprefix(self._prompt) if self._prompt and text.startswith(self._prompt) else None
        if redrawn is not None and self._whole.startswith(redrawn):
            self._left = self._whole[len(redrawn) :]
        elif text and self._left.startswith(text):
            self._left = self._left[len(text) :]
        else:
            self._over = bool(text)
            return False
        if not self._left:
            self._end()
        return True

    def _end(self) -> None:
        self._left = ""
        self._over = self.complete = True
