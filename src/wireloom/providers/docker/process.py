"""Facts about a container's first process, read from /proc: is it alive, and is it still the gate?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wireloom.providers.docker.gate import GATE_SHELL

__all__ = ["InitProcess", "has_all_capabilities"]

_RUNTIME_NAMES: Final = {"runc", "crun", "exe"}


@dataclass(frozen=True)
class InitProcess:
    """One run of a container. ``start_ticks`` (boot-relative) tells a process from a later one with its pid."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> InitProcess | None:
        """The process that has ``pid`` now; ``None`` when there is none."""
        ticks = _start_ticks(pid)
        return None if ticks is None else cls(pid, ticks)

    @property
    def alive(self) -> bool:
        return _start_ticks(self.pid) == self.start_ticks

    @property
    def gated(self) -> bool:
        """Whether none of the guest's own code has run: the process is the gate, or about to become it."""
        argv = _command_line(self.pid)
        if not argv:  # it is changing from one program to the next, which has no command line yet
            return _program(self.pid) in {Path(GATE_SHELL).name, *_RUNTIME_NAMES}
        if argv[:1] == [GATE_SHELL]:
            return argv[1:2] == ["sh"]
        return argv[1:] == ["init"] and Path(argv[0]).name in _RUNTIME_NAMES

    @property
    def netns(self) -> str:
        return f"/proc/{self.pid}/ns/net"


def has_all_capabilities() -> bool:
    """Whether this process could hand every kernel capability on, which a privileged container needs."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    status = Path("/proc/self/status").read_text()
    bounding = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:"))
    wanted = (1 << (last + 1)) - 1
    return int(bounding, 16) & wanted == wanted


def _start_ticks(pid: int) -> int | None:
    """Field 22 of proc(5) ``stat``; the command in field 2 may hold spaces and brackets. A zombie counts as gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _program(pid: int) -> str:
    """Name of the program that the process runs; a runtime may run a sealed copy of itself, from memory."""
    try:
        path = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if path.startswith("/memfd:"):
        return path.removeprefix("/memfd:").partition("_")[0]
    return Path(path).name


def _command_line(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [os.fsdecode(part) for part in raw.split(b"\0")[:-1]]
