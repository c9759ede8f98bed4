"""The management network as a whole: bridge, firewall and forwarding, DHCP and DNS, names on the host.

Everything is of one boot: ``state_dir`` belongs in a folder that a reboot empties, like the things that it describes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from wireloom.agent.gateway import firewall
from wireloom.agent.gateway.dnsmasq import Dnsmasq
from wireloom.agent.gateway.forwarding import Forwarding
from wireloom.agent.gateway.routes import refuse_clash
from wireloom.agent.guard import GUARD_S, Guard
from wireloom.agent.management.entries import NodeEntry, entries_of, management_of
from wireloom.agent.management.hostsfile import HostsFile
from wireloom.agent.management.rendering import dnsmasq_config, full_name
from wireloom.agent.reconciler import ManagementPlane
from wireloom.commands import run
from wireloom.dataplane.contract import DataPlane
from wireloom.errors import WireloomError
from wireloom.model.identity import device_name
from wireloom.model.network import SegmentPlan
from wireloom.model.slice import Management, Slice

__all__ = ["ManagementNetwork", "segment_name"]

log = structlog.get_logger(__name__)

_USER = "management"


def segment_name(installation: str) -> str:
    """Name of the management bridge of ``installation``."""
    return device_name("b", installation, "management")


def _nobody_waits() -> None:
    """For callers that do not ask when the bridge is there."""


class ManagementNetwork(ManagementPlane):
    """One per agent. Every call ensures; what an earlier agent made is taken over. Calls take turns.

    :param state_dir: for files of dnsmasq and the notes needed to undo; on a file system that a reboot empties.
    :param hosts_file: the host's own table of names.
    :param forwarding: the host's routing, where others need it too.
    """

    def __init__(
        self,
        installation: str,
        dataplane: DataPlane,
        state_dir: Path,
        *,
        hosts_file: Path = Path("/etc/hosts"),
        guard_s: float = GUARD_S,
        forwarding: Forwarding | None = None,
    ) -> None:
        self._installation = installation
        self._dataplane = dataplane
        self._state_dir = state_dir
        self._hosts_file = HostsFile(hosts_file)
        self._dnsmasq = Dnsmasq(state_dir)
        self._forwarding = forwarding or Forwarding(state_dir / "notes.json")
        self._mark = firewall.installation_mark(installation)
        self._guard = Guard("the management network", self._mend, guard_s)
        self._current: Management | None = None
        self._segment_up: Callable[[], None] = _nobody_waits
        self._entries: Sequence[NodeEntry] | None = None

    @property
    def segment(self) -> str:
        """Name of the bridge."""
        return segment_name(self._installation)

    async def update(self, slices: Mapping[str, Slice], *, occupied: bool, segment_up: Callable[[], None]) -> None:
        """Make the network what ``slices`` need; without any node on the host (``occupied``) it goes."""
        management = management_of(slices)
        self._segment_up = segment_up
        if not occupied:
            await self.remove()
        elif management is not None:
            await self.ensure(management)
            await self.set_nodes(entries_of(slices))

    async def ensure(self, management: Management) -> None:
        """Have the network there.

        :raises Conflict: the subnet overlaps with a route of the host.
        :raises DataPlaneFailed: the kernel or the firewall refuses.
        """
        async with self._guard.turn:
            if management != self._current:
                await self._make(management)
                self._current = management
            self._segment_up()
            self._guard.start()

    async def set_nodes(self, entries: Sequence[NodeEntry]) -> None:
        """Serve addresses and names of exactly ``entries``. Call :meth:`ensure` before.

        :raises Unavailable: dnsmasq does not start.
        """
        async with self._guard.turn:
            if self._current is None:
                raise ValueError("ensure() comes before set_nodes()")
            domain = self._current.domain
            if entries != self._entries:
                await self._forget_neighbours()
            self._entries = entries
            await self._serve(self._current, entries)
            lines = [f"{entry.address} {full_name(entry, domain)}" for entry in sorted(entries)]
            await self._write_names(lines)

    async def remove(self) -> None:
        """Take everything away, also what an earlier agent made; idempotent."""
        async with self._guard.turn:
            await self._undo()
            self._current = self._entries = None

    async def close(self) -> None:
        """Let go; the network stays."""
        await self._guard.close()

    async def _make(self, management: Management) -> None:
        fresh = not self._state_dir.exists()
        await refuse_clash(
            management.subnet,
            self.segment,
            what="the management network",
            hint="choose another one with `management_subnet` in the settings",
        )
        try:
            await self._assert(management)
        except BaseException:
            if fresh:
                with contextlib.suppress(WireloomError):
                    await self._undo()
            raise

    async def _assert(self, management: Management) -> None:
        self._state_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._forwarding.hold(_USER)
        prefix = ipaddress.IPv4Network(management.subnet).prefixlen
        plan = SegmentPlan(
            name=self.segment,
            alias=f"wireloom segment i={self._installation} management",
            address=f"{management.gateway}/{prefix}",
        )
        await self._dataplane.ensure_segment(plan)
        self._segment_up()
        await firewall.ensure_rules(firewall.way_out_rules(self._mark, self.segment, management.subnet), self._mark)
        if self._entries is not None:
            await self._serve(management, self._entries)

    async def _serve(self, management: Management, entries: Sequence[NodeEntry]) -> None:
        await self._dnsmasq.serve(
            lambda user, folder: dnsmasq_config(management, entries, bridge=self.segment, user=user, folder=folder)
        )

    async def _undo(self) -> None:
        await self._dnsmasq.stop()
        await self._write_names([])
        await firewall.remove_rules(self._mark)
        await self._dataplane.remove_segment(self.segment)
        await self._forwarding.release(_USER)
        with contextlib.suppress(OSError):
            self._state_dir.rmdir()

    async def _mend(self) -> None:
        if self._current is not None:
            await self._assert(self._current)

    async def _forget_neighbours(self) -> None:
        """An address may have gone to another node: the kernel would send to the old one's MAC for half a minute."""
        result = await run("ip", "neigh", "flush", "dev", self.segment)
        if result.code != 0:
            log.warning("management.neighbours-kept", error=result.errors)

    async def _write_names(self, lines: Sequence[str]) -> None:
        try:
            await asyncio.to_thread(self._hosts_file.write_block, self._installation, lines)
        except OSError as error:
            # Names on the host are a convenience; nodes are reachable without.
            log.warning("management.hosts-file", error=str(error))
