"""``wireloom up --detach``: start the supervisor in the background and wait until the installation is healthy."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from wireloom.errors import Conflict, RuntimeFailed
from wireloom.health import unhealthy_reason
from wireloom.logfiles import log_file, tail
from wireloom.processes import program_command
from wireloom.supervisor import running_record, stop

if TYPE_CHECKING:
    from wireloom.paths import Paths
    from wireloom.settings import Settings

__all__ = ["start_detached"]

POLL_S: Final = 0.2
#: A program that has ended so often before all was healthy will not come up by patience.
HOPELESS_RESTARTS: Final = 3


def start_detached(settings: Settings, *, healthy_within_s: float, tell: Callable[[str], None]) -> None:
    """Start the supervisor as a daemon with log files; return once controller, fabric and agent are healthy.

    :raises Conflict: it runs already.
    :raises RuntimeFailed: it ended or is not healthy in time; everything is stopped again, the hint names the log.
    """
    paths = settings.paths
    if (record := running_record(paths)) is not None:
        raise Conflict(
            f"Wireloom is running already (pid {record['pid']})",
            hint="look with `wireloom status`, stop with `wireloom down`",
        )
    daemon = _spawn(settings)
    deadline = time.monotonic() + healthy_within_s
    reason = "it has not started"
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            reason = f"it ended with code {daemon.returncode}"
            break
        if reason := _hopeless(paths):
            break
        reason = asyncio.run(unhealthy_reason(paths, settings.host))
        if not reason and running_record(paths) is not None:
            tell(f"Wireloom is up (pid {daemon.pid}); logs in {paths.log_dir}")
            return
        time.sleep(POLL_S)
    stop(paths, timeout_s=60)
    for program in ("up", "controller", "agent"):
        if last := tail(log_file(paths, program), lines=8):
            tell(f"--- {program}.log\n{last}")
    raise RuntimeFailed(f"Wireloom did not come up: {reason}", hint=f"the whole logs are in {paths.log_dir}")


def _hopeless(paths: Paths) -> str:
    children = (running_record(paths) or {"children": {}})["children"]
    often = [name for name, child in children.items() if child["restarts"] >= HOPELESS_RESTARTS]
    return f"the {often[0]} ended again and again" if often else ""


def _spawn(settings: Settings) -> subprocess.Popen[bytes]:
    paths = settings.paths
    paths.log_dir.mkdir(parents=True, exist_ok=True)
    with log_file(paths, "up").open("ab") as log:
        return subprocess.Popen(
            [*program_command("up"), "--log-files"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",  # a daemon keeps no folder busy
            env={**os.environ, **settings.to_environment()},
            start_new_session=True,
        )
