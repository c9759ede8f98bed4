"""The escape key of consoles: how it is written, and the commands that follow it."""

from __future__ import annotations

from enum import Enum
from typing import Final

from wireloom.errors import InvalidInput

__all__ = ["COMMANDS", "EscapeScanner", "Key", "escape_byte", "escape_name"]


class Key(Enum):
    """A command typed after the escape key."""

    QUIT = "q"
    ASK = "a"
    GIVE = "g"
    TAKE = "t"
    WHO = "w"
    NEXT = "n"
    PREVIOUS = "p"
    HELP = "?"


#: What each command does, in the words of the help.
COMMANDS: Final = {
    Key.QUIT: "leave",
    Key.ASK: "ask for the keyboard",
    Key.GIVE: "give the keyboard to whoever asked, or to nobody",
    Key.TAKE: "take the keyboard from automation between steps, or from who is idle",
    Key.WHO: "say who is here",
    Key.NEXT: "next console",
    Key.PREVIOUS: "previous console",
    Key.HELP: "this help",
}

_KEYS: Final = {ord(letter): key for key in Key for letter in (key.value, key.value.upper())} | {ord("h"): Key.HELP}


def escape_byte(written: str) -> int:
    """The control byte that ``^]``, ``ctrl-]`` or ``C-a`` means. :raises InvalidInput:"""
    lowered = written.strip().lower()
    for prefix in ("ctrl-", "ctrl+", "c-", "^"):
        if lowered.startswith(prefix) and len(lowered) == len(prefix) + 1:
            code = ord(lowered[-1].upper()) ^ 0x40
            if code < 0x20:
                return code
    raise InvalidInput(f"{written!r} is not a control key", hint="write it like ^] or ctrl-a")


def escape_name(code: int) -> str:
    """How people call a control byte, e.g. ``Ctrl-]``."""
    return f"Ctrl-{chr(code ^ 0x40)}"


class EscapeScanner:
    """Finds commands in what is typed, however the bytes are cut.

    The prefix and a command's letter are that command; the prefix and a digit from 1 choose a console; the prefix
    twice sends it once; the prefix and another key sends both.
    """

    def __init__(self, prefix: int) -> None:
        self._prefix = prefix
        self._pending = False

    def feed(self, data: bytes) -> list[bytes | Key | int]:
        """In order: bytes to send on, commands, and numbers of consoles (from 1)."""
        found: list[bytes | Key | int] = []
        out = bytearray()

        def command(item: Key | int) -> None:
            if out:
                found.append(bytes(out))
                out.clear()
            found.append(item)

        for byte in data:
            if not self._pending:
                if byte == self._prefix:
                    self._pending = True
                else:
                    out.append(byte)
                continue
            self._pending = False
            if byte in _KEYS:
                command(_KEYS[byte])
            elif ord("1") <= byte <= ord("9"):
                command(byte - ord("0"))
            else:
                out += bytes([byte]) if byte == self._prefix else bytes([self._prefix, byte])
        if out:
            found.append(bytes(out))
        return found
