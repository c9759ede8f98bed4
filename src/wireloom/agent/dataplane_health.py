"""What the host's data plane can do, and whether it truly does: a frame over each kind of path."""

from __future__ import annotations

import asyncio

import structlog

from wireloom.agent.world import now
from wireloom.dataplane.contract import SELF_TEST_LAB, DataPlane
from wireloom.errors import WireloomError
from wireloom.fabric.link_documents import SelfTestAnswer, SelfTestQuestion
from wireloom.model.network import DataPlaneAbilities, SegmentAlias

__all__ = ["DataPlaneHealth"]

log = structlog.get_logger(__name__)


class DataPlaneHealth:
    """Tested when the agent starts, and whenever somebody asks."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._abilities: DataPlaneAbilities | None = None
        self._last = SelfTestAnswer(time=0)
        self._unanswered = ""
        self._lock = asyncio.Lock()

    @property
    def problems(self) -> tuple[str, ...]:
        """What the last test found wrong, for people."""
        failed = tuple(
            f"data plane: {path.path}: {path.problem}" + (f" ({path.hint})" if path.hint else "")
            for path in self._last.paths
            if path.problem
        )
        return failed + ((self._unanswered,) if self._unanswered else ())

    async def abilities(self) -> DataPlaneAbilities:
        """:raises WireloomError: the data plane does not say."""
        if self._abilities is None:
            self._abilities = await self._dataplane.abilities()
        return self._abilities

    async def run(self) -> None:
        """Test once, beside the agent's work; then wait for ever."""
        try:
            await self._sweep()
            await self.self_test(SelfTestQuestion())
        except WireloomError as error:
            self._unanswered = f"data plane: it was not tested: {error}"
            log.warning("data plane not tested", error=error.to_wire())
        await asyncio.Event().wait()

    async def _sweep(self) -> None:
        """An agent that was killed in the middle of a test leaves its ports."""
        state = await self._dataplane.observe()
        await self._dataplane.remove_ports(
            [device for device, port in state.ports.items() if port.alias.lab_id == SELF_TEST_LAB]
        )
        for name, segment in state.segments.items():
            alias = SegmentAlias.parse(segment.alias)
            if alias is not None and alias.lab_id == SELF_TEST_LAB:
                await self._dataplane.remove_segment(name)

    async def self_test(self, _: SelfTestQuestion) -> SelfTestAnswer:
        """Send a frame over each kind of path, now."""
        async with self._lock:
            paths = await self._dataplane.self_test()
            self._last, self._unanswered = SelfTestAnswer(time=now(), paths=paths), ""
        for path in paths:
            if path.problem:
                log.warning("data plane", path=path.path, problem=path.problem)
        return self._last
