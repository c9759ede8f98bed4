"""An Open vSwitch of a test's own, which may be killed and started again as no shared one may.

Its daemons, sockets and database are in a folder of the test, and the network that it works on is a fresh namespace,
which the test's main thread has entered: threads and processes that begin meanwhile are in it, too.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from wireloom.commands import Finished, run
from wireloom.dataplane.host.namespaces import new_namespace
from wireloom.dataplane.ovs import OvsDataPlane

_CTL = "/usr/share/openvswitch/scripts/ovs-ctl"


@dataclass(frozen=True)
class PrivateOvs:
    """Daemons whose every file is in ``folder``."""

    folder: Path

    def plane(self, installation: str) -> OvsDataPlane:
        """A data plane on these daemons."""
        return OvsDataPlane(installation, self.folder)

    async def ctl(self, *words: str) -> Finished:
        """``ovs-ctl`` with these words. :raises AssertionError: it failed."""
        names = ("RUNDIR", "DBDIR", "LOGDIR", "SYSCONFDIR")
        done = await run("env", *(f"OVS_{name}={self.folder}" for name in names), _CTL, *words, timeout_s=60)
        assert done.code == 0, done
        return done

    async def start(self) -> None:
        await self.ctl("--system-id=random", "--no-mlockall", "start")

    async def stop(self) -> None:
        await self.ctl("stop")

    async def vsctl(self, *words: str) -> str:
        """``ovs-vsctl`` with these words; what it prints."""
        done = await run("ovs-vsctl", "--timeout=10", f"--db=unix:{self.folder / 'db.sock'}", *words)
        assert done.code == 0, done
        return done.output

    @property
    def process(self) -> int:
        """The id of ovs-vswitchd's process."""
        return int((self.folder / "ovs-vswitchd.pid").read_text())

    async def kill(self) -> None:
        """Kill ovs-vswitchd without warning, and wait until it has gone."""
        process = self.process
        os.kill(process, signal.SIGKILL)
        for _ in range(1000):
            if not Path(f"/proc/{process}").exists():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("a killed daemon is still there")


def _enter(namespace: int) -> None:
    """Have the calling thread live in ``namespace`` from now on."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@asynccontextmanager
async def private_ovs(folder: Path) -> AsyncIterator[PrivateOvs]:
    """Started, in a namespace of its own; both are gone with the block."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    space = new_namespace()
    try:
        _enter(space)
        made = PrivateOvs(folder)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()
    finally:
        _enter(home)
        os.close(space)
        os.close(home)
