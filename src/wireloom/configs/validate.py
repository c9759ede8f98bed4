"""From the bytes that a channel read to the text of a configuration, or the reason why they are none.

What is refused never becomes a revision, so that the last good one stays the last. ``details["reason"]`` of the error
is one of ``empty``, ``too-large``, ``not-text``, ``pager``, ``error-text``, ``incomplete``, ``echo``, ``prompt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from wireloom.errors import GuestFailed
from wireloom.model.device import Extract

__all__ = ["MAX_CONFIG_BYTES", "clean", "normalised"]

#: A slice with the configurations of all its nodes must fit into one message of the fabric.
MAX_CONFIG_BYTES: Final = 1024 * 1024

#: What is left of a line's end when a terminal was in between.
_LINE_END: Final = re.compile(r"\r*\n")
#: Control characters that no configuration holds; the tab is fine, and a carriage return is gone by then.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PAGER: Final = re.compile(r"(?i)^\s*<?-{2,3} ?\(?more(?: \d+%)?\)? ?-{2,3}>?")
_PROMPT: Final = re.compile(r"[\w.\-@/:~()\[\]]{1,80}[>#$%]")
_SHOWN: Final = 60


def normalised(raw: bytes | str) -> str:
    """``raw`` with plain line ends, no blanks at line ends, no empty lines around it, and one line end at its end.

    :raises GuestFailed: it is empty, too large or not text; ``details["reason"]`` says which.
    """
    size = len(raw) if isinstance(raw, bytes) else len(raw.encode(errors="surrogatepass"))
    if size > MAX_CONFIG_BYTES:
        raise _refused("too-large", f"{size} bytes are more than a configuration has ({MAX_CONFIG_BYTES} at most)")
    try:
        text = raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw
        text.encode()
    except UnicodeError as error:
        raise _refused("not-text", "this is not text in UTF-8") from error
    lines = [line.rstrip() for line in _LINE_END.sub("\n", text).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    first = next((number for number, line in enumerate(lines) if line), 0)
    tidy = "\n".join(lines[first:])
    found = _CONTROL.search(tidy)
    if found is not None:
        raise _refused("not-text", f"it has the control character {found[0]!r}, as terminals and binary files do")
    if not tidy:
        raise _refused("empty", "there is nothing in it")
    return f"{tidy}\n"


def clean(extract: Extract, raw: bytes | str, *, prompts: Sequence[str] = ()) -> str:
    """The configuration in ``raw``, as ``extract`` describes it; cleaning it again changes nothing.

    Lines before the first one that fits ``begins`` and after the last one that fits ``ends`` do not belong to it, and
    lines that fit ``drop`` are left out. All of these patterns are searched for in a line.

    :param prompts: patterns of the device's prompts, which fit a whole line.
    :raises GuestFailed: it is no configuration; ``details["reason"]`` says why.
    """
    lines = normalised(raw).splitlines()
    # Before anything is cut: an error or a pager outside of the text says that the text is not whole.
    for line in lines:
        if _PAGER.search(line):
            raise _refused("pager", f"a pager stopped the output: {_shown(line)}")
        if any(re.search(pattern, line) for pattern in extract.refuse):
            raise _refused("error-text", f"the device answered: {_shown(line)}")
    body = _without_edges([line for line in _cut(extract, lines) if not _fits(extract.drop, line)])
    if not body:
        raise _refused("empty", "nothing is left of it")
    _refuse_echo(extract, body)
    _refuse_prompt(extract, body, prompts)
    return "\n".join(body) + "\n"


def _cut(extract: Extract, lines: list[str]) -> list[str]:
    """The lines from the first to the last that belongs to the configuration."""
    first, last = 0, len(lines) - 1
    if extract.begins:
        starts = [number for number, line in enumerate(lines) if re.search(extract.begins, line)]
        if not starts:
            raise _refused("incomplete", f"it does not begin as expected; its first line: {_shown(lines[0])}")
        first = starts[0]
    if extract.ends:
        stops = [number for number, line in enumerate(lines) if number >= first and re.search(extract.ends, line)]
        if not stops:
            raise _refused("incomplete", f"its end is missing; its last line: {_shown(lines[-1])}")
        last = stops[-1]
    return lines[first : last + 1]


def _without_edges(lines: list[str]) -> list[str]:
    """``lines`` without empty ones around them."""
    filled = [number for number, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _refuse_echo(extract: Extract, lines: Sequence[str]) -> None:
    commands = {step.run.strip() for step in extract.steps if step.channel in {"exec", "ssh", "serial"}}
    for command in commands - {""}:
        typed = re.compile(rf"(?:{_PROMPT.pattern}\s*){re.escape(command)}")
        if lines[0] == command or any(typed.fullmatch(line) for line in lines):
            raise _refused("echo", f"the command itself is in it: {_shown(command)}")


def _refuse_prompt(extract: Extract, lines: Sequence[str], prompts: Sequence[str]) -> None:
    known = [re.compile(pattern) for pattern in prompts]
    # A device that says how its configuration ends has said what its last line looks like.
    if not extract.ends:
        known.append(_PROMPT)
    for line in (lines[0], lines[-1]):
        if any(pattern.fullmatch(line) for pattern in known):
            raise _refused("prompt", f"a prompt is in it: {_shown(line)}")


def _fits(patterns: Iterable[str], line: str) -> bool:
    return any(re.search(pattern, line) for pattern in patterns)


def _shown(line: str) -> str:
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")


def _refused(reason: str, message: str) -> GuestFailed:
    return GuestFailed(f"not a configuration: {message}", details={"reason": reason})
