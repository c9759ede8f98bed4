"""What ``wireloom doctor`` leaves behind when its trial of the data plane is cut short: nothing."""

from __future__ import annotations

import asyncio

import pytest

from wireloom import doctor
from wireloom.agent.probes import Finding, Level
from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
from wireloom.errors import DataPlaneFailed
from wireloom.model.network import PathTest
from wireloom.settings import Settings


class CutShort(SimulatedDataPlane):
    """Fails, or never ends, in the middle of its self-test."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__("doctor", SimulatedNetwork())
        self.ends: list[str] = []
        self.testing = asyncio.Event()
        self._error = error

    async def self_test(self) -> tuple[PathTest, ...]:
        self.testing.set()
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()
        return ()

    async def withdraw(self) -> None:
        self.ends.append("withdrawn")

    async def close(self) -> None:
        self.ends.append("closed")


def examine(plane: CutShort, monkeypatch: pytest.MonkeyPatch) -> asyncio.Task[list[Finding]]:
    monkeypatch.setattr(doctor, "_dataplane", lambda _: plane)
    return asyncio.ensure_future(doctor._links(Settings()))


async def test_trial_that_fails_is_undone_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = CutShort(DataPlaneFailed("the kernel refused"))
    (finding,) = await examine(plane, monkeypatch)
    assert (finding.level, finding.finding) == (Level.FAIL, "not tested: the kernel refused")
    assert plane.ends == ["withdrawn", "closed"]


async def test_trial_that_the_user_interrupts_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = CutShort(None)
    examining = examine(plane, monkeypatch)
    await plane.testing.wait()
    examining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await examining
    assert plane.ends == ["withdrawn", "closed"]
