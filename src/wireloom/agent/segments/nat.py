"""Segments of kind ``nat``: the data plane makes the bridge with the host's address; here are the way out and dnsmasq.

Services need no bridge to begin with: rules name it, and dnsmasq waits for it. So they and the bridge come and go
independently, whoever is first. Everything is found again by an agent that comes after: rules by their comment, a
daemon by its folder, named like the bridge, in a folder that a reboot empties.
"""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
from collections.abc import Awaitable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from wireloom.agent.gateway import firewall
from wireloom.agent.gateway.dnsmasq import Dnsmasq
from wireloom.agent.gateway.forwarding import Forwarding
from wireloom.agent.gateway.routes import refuse_clash
from wireloom.agent.guard import GUARD_S, Guard
from wireloom.agent.segments.rendering import NatSegment, nat_config, nat_segments
from wireloom.errors import WireloomError
from wireloom.iptables import Rule
from wireloom.model.network import SegmentPlan
from wireloom.model.slice import Slice

__all__ = ["NatSegments", "SegmentServices"]

log = structlog.get_logger(__name__)

_USER: Final = "segments"


class SegmentServices:
    """What the loop needs of the services of segments; this one has none to give."""

    @property
    def problems(self) -> Mapping[str, str]:
        """Why a segment has no services, by its device."""
        return {}

    async def admit(self, plan: SegmentPlan) -> None:
        """:raises Conflict: the segment must not be made on this host."""

    async def update(self, slices: Mapping[str, Slice]) -> None:
        """Serve exactly the segments of ``slices``. :raises WireloomError: none of them can be served."""

    async def close(self) -> None:
        """Let go of them; they go on."""


class NatSegments(SegmentServices):
    """One per agent. Every call ensures; calls take turns.

    :param state_dir: a sub-folder for each segment; on a file system that a reboot empties.
    :param management: the management bridge, which nodes behind a segment do not reach.
    """

    def __init__(
        self,
        installation: str,
        state_dir: Path,
        *,
        management: str,
        forwarding: Forwarding,
        guard_s: float = GUARD_S,
    ) -> None:
        self._mark = firewall.segments_mark(installation)
        self._state_dir = state_dir
        self._management = management
        self._forwarding = forwarding
        self._guard = Guard("ways out of segments", self._mend, guard_s)
        self._wanted: dict[str, NatSegment] = {}
        self._settled = False  # whether all that is wanted was there the last time
        self._problems: dict[str, str] = {}

    @property
    def problems(self) -> Mapping[str, str]:
        return self._problems

    async def admit(self, plan: SegmentPlan) -> None:
        """:raises Conflict: its network overlaps with a route of the host."""
        if plan.address is None:
            return
        await _refuse_clash(str(ipaddress.IPv4Interface(plan.address).network), plan.name)

    async def update(self, slices: Mapping[str, Slice]) -> None:
        async with self._guard.turn:
            wanted = nat_segments(slices)
            if wanted == self._wanted and self._settled:
                return
            # First: where it fails, the guard must not bring back what was wanted before.
            self._wanted = wanted
            if wanted:
                self._guard.start()
            await self._mend()

    async def close(self) -> None:
        await self._guard.close()

    async def _mend(self) -> None:
        """Have all that is wanted."""
        self._settled = False
        await self._assert(self._wanted)
        self._settled = not self._problems

    async def _assert(self, wanted: Mapping[str, NatSegment]) -> None:
        self._problems = {}
        for folder in await asyncio.to_thread(self._folders):
            if folder.name not in wanted:
                await self._end(folder)
        if not wanted:
            await firewall.remove_rules(self._mark)
            await self._forwarding.release(_USER)
            return
        self._forwarding.hold(_USER)
        admitted = [segment for segment in wanted.values() if await self._works(segment.device, self._check(segment))]
        await firewall.ensure_rules([rule for segment in admitted for rule in self._rules(segment)], self._mark)
        for segment in admitted:
            daemon = Dnsmasq(self._state_dir / segment.device)
            await self._works(segment.device, daemon.serve(partial(nat_config, segment)))

    async def _check(self, segment: NatSegment) -> None:
        """Rules for a network that is somebody else's would be about his packets."""
        await _refuse_clash(segment.nat.subnet, segment.device)

    async def _works(self, device: str, step: Awaitable[None]) -> bool:
        """Whether a step towards the services of a segment was done; else what kept it is a problem of the segment."""
        try:
            await step
        except WireloomError as error:
            log.warning("segment without services", device=device, error=error.to_wire())
            self._problems[device] = str(error)
            return False
        return True

    def _rules(self, segment: NatSegment) -> tuple[Rule, ...]:
        network = (self._mark, segment.device, segment.nat.subnet)
        return (*firewall.way_out_rules(*network), *firewall.fenced_rules(*network, apart=self._management))

    def _folders(self) -> list[Path]:
        return sorted(self._state_dir.iterdir()) if self._state_dir.is_dir() else []

    async def _end(self, folder: Path) -> None:
        await Dnsmasq(folder).stop()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _refuse_clash(subnet: str, device: str) -> None:
    await refuse_clash(
        subnet, device, what="the segment's network", hint="give the segment another `subnet`, or leave it out"
    )
