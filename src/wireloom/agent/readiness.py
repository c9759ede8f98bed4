"""Readiness: one watcher a boot, which asks what the node's device declares until it is ready.

Running is not ready, and a node without probes stays ``unknown``. A node that was not ready in time is a
``timeout``, and is still watched, at a slower pace, because slow is not dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from wireloom.agent.channels import Channels, ChannelTarget
from wireloom.errors import WireloomError
from wireloom.model.device import Probe
from wireloom.model.state import Readiness

__all__ = ["ReadinessWatch", "possible_probe", "strip_terminal"]

log = structlog.get_logger(__name__)

#: How much of the log is kept to match a pattern that arrives in pieces, in bytes.
_WINDOW = 16_384
_SLOW_INTERVAL_S = 10.0
_TRY_DEADLINE_S = 10.0
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-_])|\r|\x00")


def strip_terminal(text: str) -> str:
    """``text`` without ANSI escapes, carriage returns and NULs."""
    return _ESCAPES.sub("", text)


def possible_probe(probes: tuple[Probe, ...], target: ChannelTarget) -> Probe | None:
    """The first probe of the chain for which the node has the channel."""
    for probe in probes:
        if probe.kind in {"running", "log"}:
            return probe
        if probe.kind == "exec" and target.capabilities.exec:
            return probe
        if probe.kind in {"ssh", "tcp"} and target.node.mgmt_ipv4 is not None:
            return probe
    return None


@dataclass
class _Watched:
    boot: tuple[str, float]
    task: asyncio.Task[None]
    since: float = field(default_factory=time.time)


Report = Callable[[str, Readiness], Awaitable[None]]


class ReadinessWatch:
    """Watches nodes from their start until they are ready; ``report(node_id, readiness)`` is told of changes."""

    def __init__(self, channels: Channels, report: Report) -> None:
        self._channels = channels
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
        task = asyncio.create_task(self._watch(target), name=f"ready-{target.node.name}")
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

    async def _watch(self, target: ChannelTarget) -> None:
        declared = target.node.ready
        probe = possible_probe(declared.probes, target)
        if probe is None:
            await self._report(target.node.id, Readiness.UNKNOWN)
            return
        factor = declared.slow_factor if target.capabilities.acceleration == "tcg" else 1.0
        try:
            async with asyncio.timeout(declared.timeout_s * factor):
                await self._until_ready(probe, target, declared.interval_s)
        except TimeoutError:
            await self._report(target.node.id, Readiness.TIMEOUT)
            await self._until_ready(probe, target, _SLOW_INTERVAL_S)
        await self._report(target.node.id, Readiness.YES)

    async def _until_ready(self, probe: Probe, target: ChannelTarget, interval_s: float) -> None:
        while not await self._ask(probe, target):  # noqa: ASYNC110 - a guest has no event to wait for
            await asyncio.sleep(interval_s)

    async def _ask(self, probe: Probe, target: ChannelTarget) -> bool:
        try:
            if probe.kind == "running":
                return True
            if probe.kind == "log":
                return await self._log_matches(probe, target)
            async with asyncio.timeout(_TRY_DEADLINE_S + 1):
                if probe.kind == "tcp":
                    return await _port_open(str(target.node.mgmt_ipv4), probe.port)
                outcome = await self._channels.run(target, probe.command, timeout_s=_TRY_DEADLINE_S)
        except (WireloomError, OSError, TimeoutError) as error:
            log.debug("not ready yet", node=target.node.name, probe=probe.kind, reason=str(error))
            return False
        text = outcome.result.stdout.decode(errors="replace")
        return outcome.result.exit_code == 0 and re.search(probe.expect, text) is not None

    @staticmethod
    async def _log_matches(probe: Probe, target: ChannelTarget) -> bool:
        pattern, window = re.compile(probe.pattern), b""
        async with contextlib.aclosing(target.provider.boot_log(target.runtime_id, follow=True)) as chunks:
            async for chunk in chunks:
                # Stripped as a whole: chunks end anywhere, also within an escape sequence or a character.
                window += chunk
                if pattern.search(strip_terminal(window.decode(errors="replace"))):
                    return True
                window = window[-_WINDOW:]
        return False


async def _port_open(address: str, port: int) -> bool:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    return True
