"""Processes by identity: a pid alone is reused, a pid with its start time is not."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, Final

from wireloom.model.base import Value

__all__ = ["ProcessId", "end_process", "program_command", "wait_gone"]

#: /proc/<pid>/stat, counted after the command's closing parenthesis (proc(5): fields 3 and 22).
_STATE: Final = 0
_START_TICKS: Final = 19


def program_command(name: str) -> list[str]:
    """How a program of Wireloom is run with this very interpreter; its name is the last argument."""
    return [sys.executable, "-m", "wireloom.cli", name]


class ProcessId(Value):
    """One process for ever: ``start_ticks`` is its start in clock ticks since boot."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The identity of a living process; ``None`` when there is none (a zombie counts as gone)."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[_STATE] in {"Z", "X"} else cls(pid=pid, start_ticks=int(fields[_START_TICKS]))

    @classmethod
    def recorded(cls, document: dict[str, Any] | None) -> ProcessId | None:
        """The process that a record names, if that very process still lives."""
        if not document:
            return None
        return next((found for found in [cls.of(int(document["pid"]))] if found == cls.model_validate(document)), None)

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self

    def command_line(self) -> tuple[str, ...]:
        """Its arguments; empty when it is gone."""
        try:
            raw = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return ()
        return tuple(part.decode(errors="replace") for part in raw.split(b"\0") if part)


def wait_gone(process: ProcessId, timeout_s: float) -> bool:
    """Block until ``process`` has ended; ``False`` when it has not after ``timeout_s`` seconds."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not process.alive:
            return True
        # A pidfd becomes readable when its process ends, even before anyone has reaped it.
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def end_process(process: ProcessId, *, grace_s: float) -> None:
    """Ask ``process`` to end, then end it. Blocks for at most about ``grace_s`` seconds; gone already is fine."""
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        if not process.alive:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        if wait_gone(process, patience_s):
            return
