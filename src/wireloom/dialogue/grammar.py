"""A command line's patterns, compiled once, and the ways between its prompts."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from wireloom.errors import InvalidInput
from wireloom.model.dialogue import Cli, Move, Prompt, Reaction, Recovery

__all__ = ["CLEAR_LINE", "RELOGIN", "Found", "Grammar", "grammar_of"]

#: The recovery that every command line has: log in again when the session was lost, and type the line again.
RELOGIN = "relogin"
_RELOGIN = Recovery(name=RELOGIN, action="retype", limit=2)
#: Another one: clear the line that somebody has begun to type and left.
CLEAR_LINE = "clear-line"
_CLEAR_LINE = Recovery(name=CLEAR_LINE, action="type", send="\x15", limit=2)

#: Only the end of a long line is searched, so that no pattern can make a line cost more than its length.
_SEARCHED = 512


@dataclass(frozen=True, slots=True)
class Found:
    """A reaction whose text was found; ``end`` is where in the line the text ends."""

    reaction: Reaction
    end: int
    groups: dict[str, str]


class Grammar:
    """:raises InvalidInput: a pattern is no regular expression."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.recoveries = {recovery.name: recovery for recovery in (_RELOGIN, _CLEAR_LINE, *cli.recoveries)}
        self._prompts = tuple((prompt, _compiled(cli, prompt.pattern)) for prompt in cli.prompts)
        self._reactions = tuple((reaction, _compiled(cli, reaction.when)) for reaction in cli.reactions)
        self._errors = tuple(_compiled(cli, pattern) for pattern in cli.errors)
        self._open_text = tuple(_compiled(cli, pattern) for pattern in cli.open_text)
        self._noise = tuple(_compiled(cli, pattern) for pattern in cli.noise)
        for reaction in cli.reactions:
            if reaction.recovery and reaction.recovery not in self.recoveries:
                raise InvalidInput(f"command line {cli.name}: reaction {reaction.name} calls for an unknown recovery")
        self._raw = tuple(item for item in self._reactions if item[0].raw)
        self._silent = tuple(item for item in self._reactions if not self.types(item[0]))

    def prompt_of(self, line: str) -> Prompt | None:
        """The prompt that ``line`` shows, if it is one."""
        text = line.rstrip()
        if not text or len(text) > _SEARCHED:
            return None
        return next(
            (prompt for prompt, pattern in self._prompts if pattern.fullmatch(text) or pattern.fullmatch(line)), None
        )

    def begins_with_prompt(self, line: str) -> bool:
        """Whether a prompt stands at the beginning of ``line``, and something behind it."""
        text = line[:_SEARCHED].rstrip()
        matches = (pattern.match(text) for _, pattern in self._prompts)
        return any(match is not None and 0 < match.end() < len(text) for match in matches)

    def before_noise(self, line: str) -> str | None:
        """What stands before the message in ``line``: nothing, or a text that is waited at; ``None``: no message."""
        starts = [match.start() for pattern in self._noise if (match := pattern.search(line[:_SEARCHED]))]
        if not starts:
            return None
        before = line[: min(starts)]
        if not before.strip():
            return ""
        return before if self.prompt_of(before) or self.reactions_to(before) else None

    def refused(self, line: str) -> bool:
        """Whether the device refuses a command by this line."""
        return _any(self._errors, line)

    def opens_text(self, line: str) -> bool:
        """Whether the device says by this line that it takes further ones without a prompt."""
        return _any(self._open_text, line)

    def types(self, reaction: Reaction) -> bool:
        """Whether it types, and so needs the device to wait."""
        return reaction.send is not None or (
            bool(reaction.recovery) and self.recoveries[reaction.recovery].action == "type"
        )

    def reactions_to(self, line: str, start: int = 0) -> list[Found]:
        """Reactions whose text is in ``line`` from ``start`` on: earliest end first, then as they stand in the file."""
        return _found(self._reactions, line, start)

    def raw_reactions_to(self, line: str, start: int = 0) -> list[Found]:
        """Only those that type without a line end, such as pagers."""
        return _found(self._raw, line, start)

    def silent_reactions_to(self, line: str, start: int = 0) -> list[Found]:
        """Only those that type nothing, and so count in any line."""
        return _found(self._silent, line, start)

    def next_move(self, source: str, target: str) -> Move | None:
        """The first move of a shortest way from prompt ``source`` to prompt ``target``."""
        waiting: deque[tuple[str, Move | None]] = deque([(source, None)])
        reached = {source}
        while waiting:
            here, first = waiting.popleft()
            if here == target:
                return first
            for move in self.cli.moves:
                if move.source == here and move.target not in reached:
                    reached.add(move.target)
                    waiting.append((move.target, first or move))
        return None


@lru_cache(maxsize=128)
def _grammar(text: str) -> Grammar:
    return Grammar(Cli.model_validate_json(text))


def grammar_of(cli: Cli) -> Grammar:
    """The compiled form of ``cli``; equal ones are compiled once."""
    return _grammar(cli.model_dump_json())


def _found(reactions: Iterable[tuple[Reaction, re.Pattern[str]]], line: str, start: int) -> list[Found]:
    found = []
    begin = max(start, len(line) - _SEARCHED)
    for reaction, pattern in reactions:
        match = pattern.search(line, begin)
        if match is not None and match.end() > start:
            groups = {name: text for name, text in match.groupdict().items() if text}
            found.append(Found(reaction, match.end(), groups))
    return sorted(found, key=lambda item: item.end) if len(found) > 1 else found


def _any(patterns: tuple[re.Pattern[str], ...], line: str) -> bool:
    return any(pattern.search(line[:_SEARCHED]) for pattern in patterns)


def _compiled(cli: Cli, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InvalidInput(f"command line {cli.name}: {pattern!r} is not a regular expression: {error}") from error
