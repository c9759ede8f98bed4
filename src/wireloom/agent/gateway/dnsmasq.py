"""dnsmasq as a daemon of its own: it outlives the agent and is taken over again by the next one.

A change is a new configuration and a new process, some ten milliseconds later. Reloading would be gentler, but
dnsmasq 2.90 (Debian 12) crashes when it reads hosts with tags again while leases exist. Leases that are not fixed by
MAC are kept in a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import structlog

from wireloom.commands import run
from wireloom.errors import Unavailable
from wireloom.processes import ProcessId, end_process

__all__ = ["Dnsmasq", "Render", "daemon_lines"]

log = structlog.get_logger(__name__)

_PROGRAM = "dnsmasq"
_PID_FILE = "dnsmasq.pid"
_GRACE_S = 2.0


#: Makes the whole configuration: from the user that the daemon is to run as, and its folder.
Render = Callable[[str, Path], str]


def daemon_lines(user: str, folder: Path, bridge: str) -> list[str]:
    """What every configuration begins with: it hears on ``bridge`` and nowhere else."""
    return [
        "# Written by wireloom; changes are lost.",
        f"user={user}",
        f"pid-file={folder / _PID_FILE}",
        f"interface={bridge}",
        "except-interface=lo",
        # Follows the bridge when it is made anew, and binds to nothing else.
        "bind-dynamic",
        "no-hosts",
    ]


class Dnsmasq:
    """The one daemon of a network on this host, with its files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "dnsmasq.conf"
        self._pid_file = folder / _PID_FILE

    async def process(self) -> ProcessId | None:
        """The running daemon, also one that an earlier agent started; recognised by its command line."""
        return await asyncio.to_thread(self._process)

    def _process(self) -> ProcessId | None:
        try:
            noted = self._recognised(int(self._pid_file.read_text()))
        except (OSError, ValueError):
            noted = None
        return noted or self._searched()

    def _searched(self) -> ProcessId | None:
        """The daemon whose pid file is lost, or not written yet because whoever started it was killed meanwhile."""
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return next(filter(None, map(self._recognised, pids)), None)

    def _recognised(self, pid: int) -> ProcessId | None:
        argument = self._config_argument.encode()
        with contextlib.suppress(OSError):
            if argument in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return ProcessId.of(pid)
        return None

    async def serve(self, render: Render) -> None:
        """Have it running with exactly this configuration; untouched when it is so already.

        :raises Unavailable: it is not installed, or does not start.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        text = render(_user_for(self._folder), self._folder)
        if await self.process() is not None and self._written() == text:
            return
        await self._end()
        self._config.write_text(text)
        # It checks its configuration, binds, and only then goes into the background.
        result = await run(_PROGRAM, self._config_argument)
        if result.code != 0:
            raise Unavailable(f"dnsmasq does not start: {result.errors}", hint="see `wireloom doctor`")
        log.info("dnsmasq.started", folder=str(self._folder))

    async def stop(self) -> None:
        """End it and remove its files; idempotent."""
        await self._end()
        for path in (self._config, self._pid_file):
            path.unlink(missing_ok=True)

    @property
    def _config_argument(self) -> str:
        return f"--conf-file={self._config}"

    def _written(self) -> str:
        try:
            return self._config.read_text()
        except OSError:
            return ""

    async def _end(self) -> None:
        process = await self.process()
        if process is not None:
            await asyncio.to_thread(end_process, process, grace_s=_GRACE_S)


def _user_for(folder: Path) -> str:
    """An unprivileged user, if such a one can reach ``folder``; else root."""
    if not all(parent.stat().st_mode & stat.S_IXOTH for parent in (folder, *folder.parents)):
        return "root"
    for name in ("dnsmasq", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return "root"
