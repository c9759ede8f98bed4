"""dnsmasq as a daemon of its own: it outlives the agent and is taken over again by the next one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import stat
from collections.abc import Sequence
from pathlib import Path

import structlog

from wireloom.agent.management.commands import run
from wireloom.agent.management.entries import NodeEntry
from wireloom.agent.management.rendering import DnsmasqFiles, dhcp_hosts, dhcp_options, dns_hosts, dnsmasq_config
from wireloom.errors import Unavailable
from wireloom.model.slice import Management
from wireloom.processes import ProcessId, end_process

__all__ = ["Dnsmasq"]

log = structlog.get_logger(__name__)

_PROGRAM = "dnsmasq"
_GRACE_S = 2.0


class Dnsmasq:
    """The one daemon of an installation on this host, with its files in ``folder``."""

    def __init__(self, folder: Path, bridge: str) -> None:
        self._folder = folder
        self._bridge = bridge
        self._files = DnsmasqFiles(folder)

    @property
    def process(self) -> ProcessId | None:
        """The running daemon, also one that an earlier agent started; recognised by its command line."""
        try:
            found = ProcessId.of(int(self._files.pid.read_text()))
        except (OSError, ValueError):
            return None
        return found if found is not None and self._config_argument in found.command_line() else None

    async def ensure(self, management: Management) -> None:
        """Have it running with the configuration of ``management``.

        :raises Unavailable: it is not installed, or does not start.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        text = dnsmasq_config(self._files, management, bridge=self._bridge, user=_user_for(self._folder))
        changed = _write(self._files.config, text)
        for path in (self._files.dhcp_hosts, self._files.dhcp_options, self._files.dns_hosts):
            path.touch(mode=0o644)
        if changed or self.process is None:
            await self._restart()

    async def set_nodes(self, entries: Sequence[NodeEntry], domain: str) -> None:
        """Serve ``entries`` and no others; takes effect within milliseconds. :raises Unavailable: it is gone."""
        changed = [
            _write(self._files.dhcp_hosts, dhcp_hosts(entries)),
            _write(self._files.dhcp_options, dhcp_options(entries, domain)),
            _write(self._files.dns_hosts, dns_hosts(entries, domain)),
        ]
        if self._handed_to_another(entries):
            await self._restart()
            self._handed_to_another(entries)
        elif any(changed):
            await self._reload()

    async def stop(self) -> None:
        """End it and remove its files; idempotent."""
        await self._end()
        for path in vars(self._files).values():
            path.unlink(missing_ok=True)

    @property
    def _config_argument(self) -> str:
        return f"--conf-file={self._files.config}"

    async def _reload(self) -> None:
        process = self.process
        if process is None:
            await self._restart()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGHUP)

    async def _restart(self) -> None:
        await self._end()
        self._files.handed_out.unlink(missing_ok=True)
        # It checks its configuration, binds, and only then goes into the background.
        result = await run(_PROGRAM, self._config_argument)
        if result.code != 0:
            raise Unavailable(f"dnsmasq does not start: {result.errors}", hint="see `wireloom doctor`")
        log.info("management.dnsmasq-started", bridge=self._bridge)

    async def _end(self) -> None:
        process = self.process
        if process is not None:
            await asyncio.to_thread(end_process, process, grace_s=_GRACE_S)

    def _handed_to_another(self, entries: Sequence[NodeEntry]) -> bool:
        """Whether an address changed its owner since the daemon started, which it would refuse until a lease ends."""
        known = self._read_handed_out()
        moved = any(known.get(entry.address, entry.mac) != entry.mac for entry in entries)
        _write(self._files.handed_out, json.dumps(known | {entry.address: entry.mac for entry in entries}))
        return moved

    def _read_handed_out(self) -> dict[str, str]:
        try:
            known: dict[str, str] = json.loads(self._files.handed_out.read_text())
        except (OSError, ValueError):
            return {}
        return known


def _write(path: Path, text: str) -> bool:
    """Replace ``path`` if its content differs; whether it did."""
    with contextlib.suppress(OSError):
        if path.read_text() == text:
            return False
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text)
    scratch.chmod(0o644)
    scratch.replace(path)
    return True


def _user_for(folder: Path) -> str:
    """An unprivileged user, if such a one can read files in ``folder``; else root."""
    if not all(parent.stat().st_mode & stat.S_IXOTH for parent in (folder, *folder.parents)):
        return "root"
    for name in ("dnsmasq", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return "root"
