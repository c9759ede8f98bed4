"""The course of a dialogue: log in, reach a prompt, type lines, leave. Knows prompts and answers, not bytes or time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from wireloom.dialogue.grammar import Grammar
from wireloom.dialogue.values import MASK, Answer, Line, Script
from wireloom.errors import GuestFailed, InvalidInput

__all__ = ["AwaitLogin", "Flow", "Parting", "Reached", "Request", "SessionLost", "TypeLine"]


@dataclass(frozen=True, slots=True)
class AwaitLogin:
    """Answer what the device asks until it shows a prompt."""


@dataclass(frozen=True, slots=True)
class TypeLine:
    """Type ``text`` and wait for a prompt.

    :ivar timeout_s: on native speed; 0: as the command line says.
    :ivar into_text: the device takes a text, and shows a prompt only when this line ends it.
    """

    text: str
    timeout_s: float = 0
    secret: bool = False
    into_text: bool = False


@dataclass(frozen=True, slots=True)
class Parting:
    """Type ``text`` and wait for a prompt, for a login, or until nothing comes any more; it cannot fail.

    :ivar moves: it leads to a prompt, so that silence on the way means nothing.
    """

    text: str
    moves: bool = False


Request = AwaitLogin | TypeLine | Parting


@dataclass(frozen=True, slots=True)
class Reached:
    """A prompt was reached.

    :ivar prompt: its name; empty when there is none: the device takes a text, or a parting ended in silence.
    :ivar output: what was printed on the way.
    :ivar asked: the device asked something on the way, and it was answered.
    """

    prompt: str = ""
    output: tuple[str, ...] = ()
    asked: bool = False


class SessionLost(Exception):
    """The device asks for a login again."""


Course = Generator[Request, Reached, None]


class Flow:
    """:param render: fills a template of the command line.

    :ivar answers: what was answered so far.
    :ivar at: name of the last prompt before leaving.
    :raises InvalidInput: a line names a prompt that there is not, or is more than one line.
    """

    def __init__(self, grammar: Grammar, script: Script, render: Callable[[str], str]) -> None:
        self._grammar = grammar
        self._cli = grammar.cli
        self._script = script
        self._render = render
        self.answers: list[Answer] = []
        self.at = ""
        self._found_open = ""
        for line in script.lines:
            self._check(line)

    def course(self) -> Course:
        """Yields what is to be done next and is told what was reached.

        :raises GuestFailed: the device does not get to the prompt that is needed.
        """
        yield from self._enter()
        for line in self._script.lines:
            answer = yield from self._answer(line)
            self.answers.append(answer)
            if answer.refused and self._script.stop_on_refusal:
                break
        if not self.at:
            raise GuestFailed(
                "the device waits for the end of a text that was begun", hint="end the text in its last line"
            )
        if self._script.leave:
            yield from self._leave()

    def _check(self, line: Line) -> None:
        if line.prompt and self._cli.prompt(line.prompt) is None:
            raise InvalidInput(
                f"command line {self._cli.name} has no prompt {line.prompt!r}",
                hint=f"known are {', '.join(prompt.name for prompt in self._cli.prompts)}",
            )
        if "\n" in line.text or "\r" in line.text:
            raise InvalidInput("a line to type must be one line", hint="give each line of a text on its own")

    def _enter(self) -> Course:
        while True:
            try:
                first = yield AwaitLogin()
                self.at, self._found_open = first.prompt, "" if first.asked else first.prompt
                yield from self._go(self._cli.home)
                for text in self._cli.prepare if self._script.lines else ():
                    self.at = (yield TypeLine(self._render(text))).prompt
                return
            except SessionLost:
                continue  # how often is the machine's to bound

    def _answer(self, line: Line) -> Generator[Request, Reached, Answer]:
        while True:
            try:
                into_text = not self.at
                if not into_text:
                    yield from self._go(line.prompt or self._cli.home)
                reached = yield TypeLine(line.text, line.timeout_s, line.secret, into_text)
                break
            except SessionLost:
                yield from self._enter()
        self.at = reached.prompt
        return Answer(
            line=MASK if line.secret else line.text,
            text="\n".join(reached.output),
            refused=any(self._grammar.refused(text) for text in reached.output),
        )

    def _go(self, target: str) -> Course:
        for _ in range(2 * len(self._cli.prompts)):
            if self.at == target:
                return
            move = self._grammar.next_move(self.at, target)
            if move is None:
                raise GuestFailed(f"the device is at its prompt {self.at!r}, from which no move leads to {target!r}")
            reached = yield TypeLine(self._render(move.line))
            if reached.prompt == self.at:
                said = f": {reached.output[-1].strip()}" if reached.output else ""
                raise GuestFailed(f"the device stays at its prompt {self.at!r} after {move.line!r}{said}")
            self.at = reached.prompt
        if self.at != target:
            raise GuestFailed(f"the device does not get to its prompt {target!r}; it is at {self.at!r}")

    def _leave(self) -> Course:
        """Leave the console as it was found: at the prompt of a session that was open, else logged out."""
        at = self.at
        target = self._found_open or self._cli.home
        for _ in self._cli.prompts:
            move = self._grammar.next_move(at, target)
            if move is None:
                break
            at = (yield Parting(self._render(move.line), moves=True)).prompt
        for text in () if self._found_open else self._cli.leave:
            if not at:
                return  # it asks for something that is not ours to answer, such as a login
            at = (yield Parting(self._render(text))).prompt
