"""What a job tells while it is at work: a file of lines, bounded, and a bell for those who follow it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["LONGEST_LINE", "Bell", "JobLog", "plain_line"]

#: Bytes of a log; what comes then is left out.
MOST_BYTES: Final = 4 << 20
#: Characters of a line.
LONGEST_LINE: Final = 2000
_PIECE: Final = 256 << 10
_CUT: Final = "the log is full; what follows is left out"


def plain_line(text: str) -> str:
    """``text`` as one line that a terminal can show: names in images come from outside."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text[:LONGEST_LINE])


class Bell:
    """Wakes everybody who waits. Take :meth:`next` before looking, so that no ring is missed. Loop only."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        """Set at the next ring."""
        return self._event

    def ring(self) -> None:
        rung, self._event = self._event, asyncio.Event()
        rung.set()


class JobLog:
    """Lines in ``file``, each with its time (UTC). From any thread; a log that cannot be written hinders nothing."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def add(self, line: str) -> None:
        """Add a line, unless the log is full."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            with self._lock, self._file.open("ab") as file:
                if (room := MOST_BYTES - file.tell()) > 0:
                    entry = f"{stamp} {plain_line(line)}\n".encode()
                    file.write(entry if len(entry) < room else f"{stamp} {_CUT}\n".encode().ljust(room, b"\n"))
        except OSError:
            return  # a full disk ends the work itself, with a reason

    def read(self, offset: int) -> tuple[Sequence[str], int]:
        """Whole lines from byte ``offset`` on, some of them, and the offset of what follows. Blocking."""
        try:
            with self._file.open("rb") as file:
                file.seek(offset)
                piece = file.read(_PIECE)
        except FileNotFoundError:
            return (), offset
        whole = piece[: piece.rfind(b"\n") + 1]
        lines = [line for line in whole.decode(errors="replace").split("\n") if line]
        return lines, offset + len(whole)
