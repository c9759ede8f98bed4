"""An Open vSwitch of a test's own, which may be killed and started again as no shared one may.

Its daemons, sockets and database are in a folder of the test, and the network that it works on is a fresh namespace,
which the test's main thread has entered: threads and processes that begin meanwhile are in it, too.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from wireloom.commands import Finished, run
from wireloom.dataplane.host.namespaces import new_namespace
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.testing.conformance.dataplane_hosts import living_in

_CTL = "/usr/share/openvswitch/scripts/ovs-ctl"


@dataclass(frozen=True)
class PrivateOvs:
    """Daemons whose every file is in ``folder``."""

    folder: Path

    def plane(self, installation: str) -> OvsDataPlane:
        """A data plane on these daemons."""
        return OvsDataPlane(installation, self.folder)

    def plane_with_flows(self, installation: str) -> OvsDataPlane:
        """One that has these daemons carry wires to other hosts."""
        return OvsDataPlane(installation, self.folder, tunnels_by_flows=True)

    async def take_address(self, netns: str, nic: str) -> None:
        """Have a NIC in a bridge of these daemons, which has its addresses from now on."""
        with living_in(netns):
            shown = await run("ip", "-j", "address", "show", "dev", nic)
            (link,) = json.loads(shown.output)
            given = [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one["scope"] == "global"]
            await self.vsctl("add-br", "out", "--", "set", "Bridge", "out", "datapath_type=netdev")
            await self.vsctl("add-port", "out", nic, "--", "set", "Interface", "out", f"mtu_request={link['mtu']}")
            # Only daemons that have a tunnel listen for neighbours, and the first frame to an unknown one is lost.
            tunnel = ("type=vxlan", "options:remote_ip=flow", "options:key=flow", "options:dst_port=4790")
            await self.vsctl("add-port", "out", "listen", "--", "set", "Interface", "listen", *tunnel)
            commands: list[tuple[str, ...]] = [
                ("ip", "address", "flush", "dev", nic),
                ("sysctl", "-qw", "net.ipv6.conf.out.disable_ipv6=0"),
                ("ip", "link", "set", "out", "up"),
            ]
            for address in given:
                commands.append(("ip", "address", "add", address, "dev", "out", *(["nodad"] if ":" in address else [])))
            for command in commands:
                assert (await run(*command)).code == 0, command

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
async def started(space: str, folder: Path) -> AsyncIterator[PrivateOvs]:
    """An Open vSwitch of the host in the namespace at ``space``."""
    ovs = PrivateOvs(folder)
    with living_in(space):
        await ovs.start()
    try:
        yield ovs
    finally:
        await ovs.stop()


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
