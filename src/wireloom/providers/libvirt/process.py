"""The emulator process of a domain, seen by the kernel: quicker and surer than libvirt's own word.

libvirt reports the end of a killed emulator only when its process has been reaped, which can take seconds; a
pidfd tells at once. And only the kernel knows whether the tap that an emulator holds is still the one that carries
its name.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

__all__ = ["alive", "emulator_log", "held_taps", "open_pidfd", "process_id", "remove_emulator_log"]

#: Where the system's libvirtd keeps a file with the process id per running domain.
_RUN_FOLDER: Final = Path("/run/libvirt/qemu")

#: Where it keeps what each domain's emulator wrote about itself; it never removes any.
_LOG_FOLDER: Final = Path("/var/log/libvirt/qemu")

_PROC: Final = Path("/proc")


def process_id(name: str, uuid: str, *, run_folder: Path = _RUN_FOLDER) -> int | None:
    """The process id of the domain's emulator; ``None`` when it has none (or another program took the number)."""
    try:
        pid = int((run_folder / f"{name}.pid").read_text())
        command = (_PROC / str(pid) / "cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if uuid.encode() in command.split(b"\0") else None


def alive(name: str, uuid: str) -> bool | None:
    """Whether the emulator lives; ``None`` where it cannot be told (no process file on this host).

    A process that has ended but was not reaped yet has no command line, and counts as ended.
    """
    if not (_RUN_FOLDER / f"{name}.pid").exists():
        return None
    return process_id(name, uuid) is not None


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; the caller closes it."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def held_taps(pid: int) -> frozenset[str]:
    """Names of the taps that a process holds open. A tap that was deleted under it has lost its name."""
    found = set()
    for entry in (_PROC / str(pid) / "fdinfo").iterdir():
        try:
            lines = entry.read_text().splitlines()
        except OSError:  # closed meanwhile
            continue
        found |= {line.removeprefix("iff:").strip() for line in lines if line.startswith("iff:")}
    return frozenset(found - {""})


def emulator_log(name: str) -> Path:
    """What the emulator of the domain ``name`` said about itself (not what its guest wrote)."""
    return _LOG_FOLDER / f"{name}.log"


def remove_emulator_log(name: str) -> None:
    """Remove it with its rotated parts; libvirt leaves them for ever."""
    log = emulator_log(name)
    for part in (log, *(log.with_name(f"{log.name}.{number}") for number in range(4))):
        with contextlib.suppress(OSError):
            part.unlink()
