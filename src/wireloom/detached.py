"""``wireloom up --detach``: start the supervisor in the background and wait until the installation is healthy."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from wireloom.errors import Conflict, RuntimeFailed, WireloomError
from wireloom.logfiles import log_file, tail
from wireloom.supervisor import program_command, running_record, stop

if TYPE_CHECKING:
    from wireloom.paths import Paths
    from wireloom.settings import Settings

__all__ = ["start_detached", "unhealthy_reason"]

POLL_S: Final = 0.2
ASK_TIMEOUT_S: Final = 3.0


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
        reason = asyncio.run(unhealthy_reason(paths, settings.host))
        if not reason:
            tell(f"Wireloom is up (pid {daemon.pid}); logs in {paths.log_dir}")
            return
        time.sleep(POLL_S)
    stop(paths, timeout_s=60)
    for program in ("up", "controller", "agent"):
        if last := tail(log_file(paths, program), lines=8):
            tell(f"--- {program}.log\n{last}")
    raise RuntimeFailed(f"Wireloom did not come up: {reason}", hint=f"the whole logs are in {paths.log_dir}")


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


async def unhealthy_reason(paths: Paths, host: str) -> str:
    """Why the installation is not healthy yet, in words; empty when it is."""
    from wireloom.client import Client, find_endpoint

    record = running_record(paths)
    if record is None:
        return "the supervisor has not started"
    try:
        # Only the files of this installation count: the environment may name another controller.
        async with Client(find_endpoint({}, paths), timeout_s=ASK_TIMEOUT_S) as client:
            status = await client.status()
    except WireloomError as error:
        return error.message
    if not status.fabric:
        return "the controller has no fabric"
    if not any(found.host == host and found.alive for found in status.hosts):
        return f"the agent of host {host} has not reported"
    return ""
