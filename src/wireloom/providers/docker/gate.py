"""The start gate: the guest's program waits, as the container's first process, until its ports are in place.

A folder of the node is shown read-only in the container. It holds a static busybox and a FIFO. The entrypoint is
that busybox reading from the FIFO; one line opens the gate, and the same process becomes the image's own program.
A container that anyone restarts waits again, so it can be wired again before its init runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wireloom.errors import DeadlineExceeded, RuntimeFailed, Unavailable

__all__ = ["GATE_SHELL", "GATE_TARGET", "find_busybox", "gate_folder", "gate_script", "open_gate", "prepare_gate"]

GATE_TARGET: Final = "/.wireloom"
GATE_SHELL: Final = f"{GATE_TARGET}/busybox"
GATE_FIFO: Final = "gate"

#: ``$1``… is the guest's command line. A bare name is looked up here, because busybox would run its own applet of
#: that name; what the shell adds to the environment is taken out again.
_SCRIPT: Final = """\
trap 'exit 143' TERM
read -r _ <{fifo}
trap - TERM
case $1 in
*/*) ;;
*)
  set -f; IFS=:; wl_found=
  for wl_dir in $PATH; do
    if [ -f "$wl_dir/$1" ] && [ -x "$wl_dir/$1" ]; then wl_found=$wl_dir/$1; break; fi
  done
  [ -n "$wl_found" ] || {{ echo "wireloom: no program '$1' in PATH" >&2; exit 127; }}
  shift; set -- "$wl_found" "$@"
  ;;
esac
unset SHLVL PWD OLDPWD IFS
exec {wrapper}"$@"
"""

_POLL_S: Final = 0.002
_PT_INTERP: Final = 3  # elf.h: a program header that names a dynamic loader


def gate_script(unusual_env: list[str]) -> str:
    """The shell text of the gate; ``unusual_env`` are quoted ``NAME=value`` words that a shell cannot hold."""
    wrapper = " ".join([GATE_SHELL, "env", *unusual_env, ""]) if unusual_env else ""
    return _SCRIPT.format(fifo=f"{GATE_TARGET}/{GATE_FIFO}", wrapper=wrapper)


def gate_folder(folder: Path) -> Path:
    """Where a node's gate lies in its folder."""
    return folder / "gate"


def find_busybox(candidates: tuple[str, ...] = ("busybox", "busybox.static", "busybox-static")) -> Path:
    """A statically linked busybox on this host.

    :raises Unavailable: there is none.
    """
    for name in candidates:
        found = shutil.which(name)
        if found is not None and _is_static(Path(found)):
            return Path(found).resolve()
    raise Unavailable("no static busybox on this host", hint="install the package busybox-static")


def prepare_gate(folder: Path, busybox: Path, *, private_copy: bool) -> Callable[[], None]:
    """Make or complete the gate in the node's folder; returns the undo. Blocking, and short.

    :param private_copy: copy busybox instead of linking it, for a guest that could write through its mount.
    :raises RuntimeFailed: the file system refuses.
    """
    gate = gate_folder(folder)
    new = not gate.is_dir()

    def undo() -> None:
        if new:
            shutil.rmtree(gate, ignore_errors=True)

    try:
        gate.mkdir(parents=True, exist_ok=True)
        gate.chmod(0o755)  # any user of the guest must get through, whatever our umask
        _place(busybox, gate / "busybox", link=not private_copy)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(gate / GATE_FIFO)
        (gate / GATE_FIFO).chmod(0o644)
    except OSError as error:
        undo()
        raise RuntimeFailed(f"cannot make the start gate in {gate}: {error.strerror}") from error
    return undo


async def open_gate(gate: Path, still_closed: Callable[[], bool], deadline_s: float) -> None:
    """Let the guest through: write until ``still_closed`` says no. Never blocks on the FIFO.

    :raises DeadlineExceeded: nobody read the line in time.
    :raises RuntimeFailed: the gate was removed.
    """
    end = time.monotonic() + deadline_s
    while still_closed():
        _try_write(gate / GATE_FIFO)
        if not still_closed():
            return
        if time.monotonic() > end:
            raise DeadlineExceeded(f"the start gate did not open within {deadline_s:g} s")
        await asyncio.sleep(_POLL_S)


def _try_write(fifo: Path) -> None:
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # the gate does not read yet
            return
        raise RuntimeFailed(f"cannot open the start gate {fifo}: {error.strerror}") from error
    try:
        os.write(fd, b"\n")
    except (BlockingIOError, BrokenPipeError):
        return
    finally:
        os.close(fd)


def _place(source: Path, target: Path, *, link: bool) -> None:
    """Put the program there whole or not at all: a copy that was cut off would look like one."""
    if target.exists():
        return
    if link:
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}:
                raise
        else:
            return
    part = target.with_suffix(".part")
    shutil.copyfile(source, part)
    part.chmod(0o755)
    part.replace(target)


def _is_static(path: Path) -> bool:
    """Whether an ELF file needs no dynamic loader (which a guest's image may not have)."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            return False
        order = "<" if head[5] == 1 else ">"
        if head[4] == 2:  # 64-bit
            (table,) = struct.unpack_from(order + "Q", head, 32)
            size, count = struct.unpack_from(order + "HH", head, 54)
        else:
            (table,) = struct.unpack_from(order + "I", head, 28)
            size, count = struct.unpack_from(order + "HH", head, 42)
        file.seek(table)
        headers = file.read(size * count)
    return all(struct.unpack_from(order + "I", headers, i * size)[0] != _PT_INTERP for i in range(count))
