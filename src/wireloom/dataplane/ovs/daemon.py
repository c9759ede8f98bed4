"""Whether ovs-vswitchd runs, and when it is started anew: then it knows no flow that we have made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from wireloom.errors import Unavailable
from wireloom.model.network import PortEvent

__all__ = ["START_HINT", "daemon_id", "require_daemon", "restarts", "run_folder"]

#: How often we look for a new daemon while there is none; a running one is watched, not asked.
_LOOK_S: Final = 0.2
_PROGRAM: Final = "ovs-vswitchd"
#: What a user can do about daemons that do not run.
START_HINT: Final = "start Open vSwitch: `systemctl start openvswitch-switch`, or `ovs-ctl start`"


def run_folder() -> Path:
    """Where Open vSwitch keeps its sockets and process ids (its own variable ``OVS_RUNDIR``)."""
    return Path(os.environ.get("OVS_RUNDIR") or "/var/run/openvswitch")


def daemon_id(folder: Path) -> int | None:
    """Process id of the ovs-vswitchd that runs, by its own file."""
    try:
        process = int((folder / f"{_PROGRAM}.pid").read_text())
        name = Path(f"/proc/{process}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    # After a crash the number may be somebody else's.
    return process if name == _PROGRAM else None


def require_daemon(folder: Path) -> int:
    """The process id of ovs-vswitchd. :raises Unavailable: it does not run."""
    process = daemon_id(folder)
    if process is None:
        raise Unavailable("ovs-vswitchd does not run", hint=START_HINT)
    return process


async def restarts(folder: Path, closed: asyncio.Event) -> AsyncIterator[PortEvent]:
    """An event "look at everything" when ovs-vswitchd ends, and when it is there again; until ``closed`` is set."""
    ended = False
    while not closed.is_set():
        process = daemon_id(folder)
        if process is None or not (watched := _open(process)):
            with suppress(TimeoutError):
                await asyncio.wait_for(closed.wait(), _LOOK_S)
            continue
        try:
            if ended:
                yield PortEvent()
            await _wait(watched, closed)
        finally:
            os.close(watched)
        if not closed.is_set():
            ended = True
            yield PortEvent()


def _open(process: int) -> int | None:
    """The process as a file that is readable when it has ended; ``None``: it has."""
    with suppress(ProcessLookupError):
        return os.pidfd_open(process)
    return None


async def _wait(watched: int, closed: asyncio.Event) -> None:
    """Until the process has ended or ``closed`` is set."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(watched, gone.set)
    waiting = [asyncio.create_task(event.wait()) for event in (gone, closed)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(watched)
        for task in waiting:
            task.cancel()
