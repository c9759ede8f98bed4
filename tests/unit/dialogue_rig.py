"""A console's other side: a scripted guest that is pure, and a clock that only the test moves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from wireloom.devices.cli_schema import CliFile
from wireloom.dialogue import Dialogue, Line, Outcome, Script
from wireloom.model.dialogue import Cli, Move, Prompt
from wireloom.yamlfile import bind, read_yaml

__all__ = [
    "SHELL",
    "Console",
    "Guest",
    "Talk",
    "bytewise",
    "command_line",
    "cut_once",
    "plain",
    "talk",
    "whole",
    "written_command_line",
]

Cut = Callable[[bytes], Iterable[bytes]]


@dataclass
class Guest:
    """Prints ``boot`` and then, for each line typed, what ``replies`` says for it in the present state.

    A reply is ``(text, next state)``. The key ``"*"`` stands for any line. A text may hold ``{line}``.
    States whose name begins with ``!`` echo nothing (a password is typed). The key ``" "`` is acted upon without a line
    end (a pager).
    """

    boot: str
    state: str
    replies: Mapping[str, Mapping[str, tuple[str, str]]]
    line_end: str = "\r"
    typed: list[tuple[str, str]] = field(default_factory=list)
    _pending: str = ""

    def start(self) -> bytes:
        return self.boot.encode()

    def receive(self, data: bytes) -> bytes:
        out = ""
        for char in data.decode():
            out += self._key(char)
        return out.encode()

    def _key(self, char: str) -> str:
        known = self.replies.get(self.state, {})
        if char == " " and char in known and not self._pending:
            return self._reply(char, known[char])
        if char == self.line_end:
            line, self._pending = self._pending, ""
            default = ("\r\n", self.state) if not line else ("\r\n% unexpected {line}\r\n", self.state)
            return self._reply(line, known.get(line, known.get("*", default)))
        self._pending += char
        return "" if self.state.startswith("!") else char

    def _reply(self, line: str, reply: tuple[str, str]) -> str:
        self.typed.append((self.state, line))
        text, self.state = reply
        return text.replace("{line}", line)


@dataclass
class Talk:
    """A dialogue that is over."""

    dialogue: Dialogue
    guest: Guest
    seconds: float

    @property
    def outcome(self) -> Outcome:
        return self.dialogue.outcome()

    @property
    def typed(self) -> list[str]:
        return [line for _, line in self.guest.typed]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


def cut_once(position: int) -> Cut:
    """Cuts the whole stream, counted from its first byte, at one position."""
    passed = 0

    def cut(data: bytes) -> Iterator[bytes]:
        nonlocal passed
        here = position - passed
        passed += len(data)
        if 0 < here < len(data):
            yield data[:here]
            yield data[here:]
        else:
            yield data

    return cut


def talk(
    cli: Cli,
    guest: Guest,
    script: Script,
    values: Mapping[str, str] | None = None,
    *,
    cut: Cut = whole,
    latency_s: float = 0.001,
    pause_s: float = 0.001,
    slow_factor: float = 1,
    disabled: frozenset[str] = frozenset(),
) -> Talk:
    """Let both sides talk until the dialogue is over.

    :param latency_s: passes before the guest prints something; ``pause_s`` between the pieces of it.
    """
    now = 1000.0
    login = {"hostname": "r1", "username": "admin", "password": "s3cret-Word"} if values is None else values
    dialogue = Dialogue(cli, script, login, now=now, slow_factor=slow_factor, disabled=disabled)
    waiting: deque[tuple[float, bytes]] = deque()

    def printed(data: bytes) -> None:
        """Queue ``data`` with the time at which each of its pieces arrives."""
        at = (waiting[-1][0] if waiting else now) + latency_s
        for piece in cut(data):
            waiting.append((at, piece))
            at += pause_s

    printed(guest.start())
    for _ in range(200_000):
        wake_at = dialogue.wake_at
        if waiting and (wake_at is None or waiting[0][0] < wake_at):
            now, piece = waiting.popleft()
            dialogue.receive(piece, now)
        elif wake_at is not None:
            now = max(now, wake_at)
            dialogue.tick(now)
        else:
            return Talk(dialogue, guest, now - 1000.0)
        if typed := dialogue.take():
            printed(guest.receive(typed))
    raise AssertionError("the dialogue does not end")


@cache
def command_line(name: str) -> Cli:
    """The command line that ships as ``cli/<name>.yaml``."""
    return _file(_shipped(name)).value()


def written_command_line(text: str) -> Cli:
    """The command line that ``text`` writes down; it may extend a shipped one."""
    return _file(text).value()


def _shipped(name: str) -> str:
    return files("wireloom.devices").joinpath("cli", f"{name}.yaml").read_text()


def _file(text: str) -> CliFile:
    bound = bind(CliFile, read_yaml(text, file="test.yaml"), what="a command line")
    assert bound.value is not None, bound.sorted_diagnostics()
    return bound.value.on(_file(_shipped(bound.value.extends))) if bound.value.extends else bound.value


SHELL = Cli(
    name="plain",
    home="exec",
    prompts=(Prompt(name="exec", pattern=r"\w+#"), Prompt(name="config", pattern=r"\w+\(config\)#")),
    moves=(Move(source="exec", target="config", line="conf"), Move(source="config", target="exec", line="end")),
    errors=("^% ",),
    noise=("<log>",),
)


class Console:
    """A console with nobody at its other side but the test, which prints what it likes when it likes."""

    def __init__(self, cli: Cli, *lines: Line | str, leave: bool = False, **options: object) -> None:
        script = Script(tuple(Line(line) if isinstance(line, str) else line for line in lines), leave=leave)
        self.now = 0.0
        self.dialogue = Dialogue(cli, script, {"username": "admin", "password": "pw-Secret"}, now=0, **options)

    def prints(self, text: str, *, after: float = 0.01) -> str:
        """What is typed at once when ``text`` comes."""
        self.passes(after, keep=True)
        self.dialogue.receive(text.encode(), self.now)
        return self.dialogue.take().decode()

    def passes(self, seconds: float, *, keep: bool = False) -> str:
        """What is typed while nothing comes."""
        end, typed = self.now + seconds, ""
        while (wake_at := self.dialogue.wake_at) is not None and wake_at <= end:
            self.dialogue.tick(max(wake_at, self.now))
            self.now = max(wake_at, self.now)
            if not keep:
                typed += self.dialogue.take().decode()
        self.now = end
        return typed

    def outcome(self) -> Outcome:
        return self.dialogue.outcome()


def plain(**changes: object) -> Cli:
    return SHELL.model_copy(update=changes)
