"""Readiness: one watcher a boot, which asks what the node's device declares until it is ready.

Running is not ready, and a node of which that cannot be told stays ``unknown``. A node that was not ready in time is a
``timeout``, and is still watched, at a slower pace, because slow is not dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from wireloom.agent.channels import Channels, ChannelTarget
from wireloom.agent.ready_probes import HOLDS, Failed, Probes, describe, unheard
from wireloom.errors import WireloomError
from wireloom.model.device import Probe
from wireloom.model.state import Readiness

__all__ = ["ReadinessWatch"]

log = structlog.get_logger(__name__)

_SLOW_INTERVAL_S = 10.0
_RETRY_S = 1.0
#: A guest that boots gives another reason at every look; people are told that often.
_TELL_S = 3.0

#: Told of a node's id, its readiness, and what it waits for, in words (empty when it is ready).
Report = Callable[[str, Readiness, str], Awaitable[None]]


@dataclass
class _Watched:
    boot: tuple[str, float]
    task: asyncio.Task[None]


@dataclass
class _Vigil:
    """One watch of one boot: its pace, and the last reason of each probe."""

    limit_s: float
    interval_s: float
    because: str
    reasons: dict[Probe, str] = field(default_factory=dict)
    told: tuple[Readiness, str] | None = None
    told_at: float = 0
    late: bool = False

    @property
    def message(self) -> str:
        waits = "; ".join(
            f"{describe(probe)}{f' ({reason})' if reason else ''}" for probe, reason in self.reasons.items()
        )
        if self.late:
            return f"not ready after {self.limit_s:g} s{self.because}, and still waiting for {waits}"
        return f"waits for {waits}, up to {self.limit_s:g} s{self.because}"


class ReadinessWatch:
    """Watches nodes from their start until they are ready; ``report`` is told of changes.

    :param failed: told of a probe's errors: one may ask for a restart of the node.
    """

    def __init__(self, channels: Channels, report: Report, failed: Failed = unheard) -> None:
        self._probes = Probes(channels, failed)
        self._report = report
        self._watched: dict[str, _Watched] = {}

    def ensure(self, target: ChannelTarget, started_at: float) -> bool:
        """Watch this boot of the node; ``False``, without effect, when it is being watched or has been."""
        boot = (target.runtime_id, started_at)
        known = self._watched.get(target.node.id)
        if known is not None:
            if known.boot == boot:
                return False
            known.task.cancel()
        task = asyncio.create_task(self._guarded(target), name=f"ready-{target.node.name}")
        self._watched[target.node.id] = _Watched(boot, task)
        return True

    def forget(self, node_id: str) -> None:
        """The node no longer runs."""
        watched = self._watched.pop(node_id, None)
        if watched is not None:
            watched.task.cancel()

    async def close(self) -> None:
        tasks = [watched.task for watched in self._watched.values()]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, target: ChannelTarget) -> None:
        try:
            await self._watch(target)
        except Exception:  # nobody awaits this task: its edge is here
            log.exception("defect in a readiness watch", node=target.node.name)
            await self._report(target.node.id, Readiness.UNKNOWN, "a defect ended its watch; see the agent's log")

    async def _watch(self, target: ChannelTarget) -> None:
        node, declared = target.node, target.node.ready
        probes, missing = await self._possible(target)
        if not probes:
            why = f"none of its probes fits: {missing}" if missing else "its device declares no probe"
            await self._report(node.id, Readiness.UNKNOWN, f"whether it is ready is not known: {why}")
            return
        if all(probe.kind == "running" for probe in probes):
            await self._report(node.id, Readiness.YES, "")
            return
        slow = target.slow_factor
        because = f" because this host emulates (times {slow:g})" if slow > 1 else ""
        vigil = _Vigil(declared.timeout_s * slow, declared.interval_s, because, dict.fromkeys(probes, ""))
        waiting = asyncio.create_task(self._until_rule_holds(vigil, target), name=f"probes-{node.name}")
        try:
            await self._tell(vigil, node.id)
            done, _ = await asyncio.wait({waiting}, timeout=vigil.limit_s)
            if not done:
                vigil.late, vigil.interval_s = True, max(vigil.interval_s, _SLOW_INTERVAL_S)
                await self._tell(vigil, node.id)
            await waiting
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await self._report(node.id, Readiness.YES, "")

    async def _possible(self, target: ChannelTarget) -> tuple[tuple[Probe, ...], str]:
        """The probes that decide, and why others of the chain do not fit."""
        fitting: list[Probe] = []
        missing: list[str] = []
        for probe in target.node.ready.probes:
            lacks = await self._lacks(probe, target)
            if lacks:
                missing.append(f"{probe.kind}: {lacks}")
                continue
            fitting.append(probe)
            if target.node.ready.rule == "first":
                break
        return tuple(fitting), "; ".join(missing)

    async def _lacks(self, probe: Probe, target: ChannelTarget) -> str:
        while True:
            try:
                return await self._probes.lacks(probe, target)
            except WireloomError as error:
                log.info("probe cannot be asked yet", node=target.node.name, probe=probe.kind, reason=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _until_rule_holds(self, vigil: _Vigil, target: ChannelTarget) -> None:
        tasks = [asyncio.create_task(self._until_holds(vigil, probe, target)) for probe in list(vigil.reasons)]
        enough = asyncio.FIRST_COMPLETED if target.node.ready.rule == "any" else asyncio.ALL_COMPLETED
        try:
            done, _ = await asyncio.wait(tasks, return_when=enough)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_holds(self, vigil: _Vigil, probe: Probe, target: ChannelTarget) -> None:
        while (reason := await self._probes.ask(probe, target)) != HOLDS:
            vigil.reasons[probe] = reason
            await self._tell(vigil, target.node.id)
            await asyncio.sleep(vigil.interval_s)
        vigil.reasons.pop(probe)
        if vigil.reasons:
            await self._tell(vigil, target.node.id)

    async def _tell(self, vigil: _Vigil, node_id: str) -> None:
        """Report how it stands, unless that was told, or nothing but a reason has changed since a moment ago."""
        readiness = Readiness.TIMEOUT if vigil.late else Readiness.NO
        now = asyncio.get_running_loop().time()
        told = vigil.told
        if told == (readiness, vigil.message):
            return
        if told is not None and told[0] is readiness and now - vigil.told_at < _TELL_S:
            return
        vigil.told, vigil.told_at = (readiness, vigil.message), now
        await self._report(node_id, *vigil.told)
