"""What the host's data plane can do, and whether it truly does: a frame over each kind of path."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from wireloom.agent.world import now
from wireloom.dataplane.contract import SELF_TEST_LAB, DataPlane
from wireloom.errors import WireloomError
from wireloom.fabric.link_documents import SelfTestAnswer, SelfTestQuestion
from wireloom.model.network import DataPlaneAbilities, SegmentAlias
from wireloom.planning.failures import backoff_s

__all__ = ["DataPlaneHealth"]

log = structlog.get_logger(__name__)


#: Frames are sent again after so many times the pause of a failure: a test makes ports, which wakes the whole agent.
_PAUSE_FACTOR: Final = 10
#: Events that belong together arrive within this time.
_SETTLE_S: Final = 5.0


class DataPlaneHealth:
    """Tested when the agent starts, while something is wrong, when the data plane was interrupted, and whenever
    somebody asks.

    :param look_s: how often what was missing is looked for again.
    """

    def __init__(self, dataplane: DataPlane, *, look_s: float = 30.0, settle_s: float = _SETTLE_S) -> None:
        self._dataplane = dataplane
        self._look_s = look_s
        self._settle_s = settle_s
        self._abilities: DataPlaneAbilities | None = None
        self._interrupted = asyncio.Event()
        self._last = SelfTestAnswer(time=0)
        self._unanswered = ""
        self._lock = asyncio.Lock()

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, for people."""
        fence = self.abilities.fence
        apart = (f"data plane: nodes are not kept apart from the host: {fence}",) if fence else ()
        return self._failures + apart

    @property
    def _failures(self) -> tuple[str, ...]:
        """What the last test found wrong."""
        failed = tuple(
            f"data plane: {path.path}: {path.problem}" + (f" ({path.hint})" if path.hint else "")
            for path in self._last.paths
            if path.problem
        )
        return failed + ((self._unanswered,) if self._unanswered else ())

    @property
    def abilities(self) -> DataPlaneAbilities:
        """As last found out. Of a data plane that has never answered nothing is known to be missing."""
        return self._abilities or DataPlaneAbilities(name=self._dataplane.name)

    @property
    def whole_frames(self) -> bool:
        """Whether guests have to finish their frames themselves; while nobody knows, that is what works anywhere."""
        return self._abilities is None or self._abilities.whole_frames

    async def look(self) -> None:
        """Find out what the data plane can do; where it does not answer, what was known stays."""
        try:
            found = await self._dataplane.abilities()
        except WireloomError as error:
            log.debug("the data plane does not say what it can do", error=error.to_wire())
            return
        if found != self._abilities:
            log.info("abilities of the data plane", **found.model_dump())
        self._abilities = found

    async def follow_abilities(self) -> None:
        """Look for what is missing again and again: a module may be loaded, and a daemon started, at any time."""
        while True:
            await asyncio.sleep(self._look_s if self._abilities else min(self._look_s, 1.0))
            if self._abilities is None or self._abilities.lacks:
                await self.look()

    def interrupted(self) -> None:
        """The data plane says that everything may be different now."""
        self._interrupted.set()

    async def run(self) -> None:
        """Test beside the agent's work, for ever."""
        failures = 0
        while True:
            self._interrupted.clear()
            await self._test()
            failures = failures + 1 if self._failures else 0
            pause = backoff_s(failures) * _PAUSE_FACTOR if failures else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._interrupted.wait()
                await asyncio.sleep(self._settle_s)

    async def _test(self) -> None:
        try:
            await self._sweep()
            await self.self_test(SelfTestQuestion())
        except WireloomError as error:
            self._unanswered = f"data plane: it was not tested: {error}"
            log.warning("data plane not tested", error=error.to_wire())

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
