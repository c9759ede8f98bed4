"""What a dialogue is asked for, and what it found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from wireloom.errors import InvalidInput

__all__ = ["MASK", "Answer", "Line", "Outcome", "Script", "Secrets", "rendered", "with_defaults"]

_PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
MASK = "********"
_KEYWORD = re.compile(r"[a-z-]+|.{1,3}")
_SECRET_VALUES = re.compile(r"password|secret|passphrase|token", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line to type.

    :ivar prompt: name of the prompt at which it is typed; the command line's home when empty.
    :ivar timeout_s: until the next prompt, on native speed; the command line's own when 0.
    :ivar secret: keep its text out of answers and errors.
    """

    text: str
    prompt: str = ""
    timeout_s: float = 0
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """Lines to type in order. Without lines the dialogue only reaches the home prompt.

    :ivar leave: log out at the end, as the command line says.
    :ivar stop_on_refusal: type no further line after one that the device refused.
    """

    lines: tuple[Line, ...] = ()
    leave: bool = True
    stop_on_refusal: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What the device answered.

    :ivar line: what was typed; masked when it was secret.
    :ivar text: the output, lines with ``\\n`` between them, without echo, prompt, questions that were answered, and
        messages that came in between.
    :ivar refused: an output line says that the device did not take the command.
    """

    line: str
    text: str
    refused: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """:ivar prompt: name of the last prompt, before leaving.
    :ivar recoveries: names of those that were used, in order.
    """

    answers: tuple[Answer, ...] = ()
    prompt: str = ""
    recoveries: tuple[str, ...] = ()

    @property
    def refused(self) -> Answer | None:
        """The first answer by which the device refused a line."""
        return next((answer for answer in self.answers if answer.refused), None)


def with_defaults(values: Mapping[str, str]) -> dict[str, str]:
    """``values`` with those that every login has; the privileged mode has the user's password unless told otherwise."""
    complete = {"hostname": "", "username": "", "password": "", "enable_password": "", **values}
    complete["enable_password"] = complete["enable_password"] or complete["password"]
    return complete


def rendered(template: str, values: Mapping[str, str]) -> str:
    """``template`` with ``{{ name }}`` replaced.

    :raises InvalidInput: it names a value that there is not.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise InvalidInput(
                f"{template!r} uses {name}, which there is not",
                hint=f"known are {', '.join(sorted(values))}",
            )
        return values[name]

    return _PLACE.sub(value, template)


@dataclass(slots=True)
class Secrets:
    """Texts that no record may show."""

    _texts: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, values: Mapping[str, str], lines: Iterable[Line]) -> Secrets:
        secrets = cls({text for name, text in values.items() if text and _SECRET_VALUES.search(name)})
        for line in lines:
            if line.secret:
                secrets.add(line.text)
                # The secret itself is one of the words, and no keyword.
                secrets._texts.update(word for word in line.text.split() if not _KEYWORD.fullmatch(word))
        return secrets

    def add(self, text: str) -> None:
        if text.strip():
            self._texts.add(text)

    def masked(self, text: str) -> str:
        """``text`` with every secret replaced, the longest first so that no part of one is left."""
        for secret in sorted(self._texts, key=len, reverse=True):
            text = text.replace(secret, MASK)
        return text
