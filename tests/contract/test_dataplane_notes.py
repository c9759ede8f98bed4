"""A note that nobody can read is the trouble of one segment: the others, and everything else, go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wireloom.commands import run
from wireloom.dataplane.host.uplinks import NOTES
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.errors import InternalError
from wireloom.model.identity import short_hash
from wireloom.model.network import PlugPlan, SegmentAlias, SegmentPlan
from wireloom.testing.conformance.dataplane_rig import Rig

pytestmark = pytest.mark.kernel


@pytest.fixture(params=[KernelDataPlane, OvsDataPlane], ids=lambda factory: factory.name)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with Rig(request.param) as made:
        yield made


async def segment(rig: Rig) -> SegmentPlan:
    name = rig.segment_name()
    plan = SegmentPlan(name=name, alias=SegmentAlias(installation=rig.installation, name="lab/lan").text())
    await rig.plane.ensure_segment(plan)
    return plan


def note_of(rig: Rig, name: str) -> Path:
    folder = NOTES / short_hash("uplinks", rig.installation)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.json"


async def test_unreadable_note_is_the_trouble_of_its_segment_alone(rig: Rig) -> None:
    bad, good = await segment(rig), await segment(rig)
    note = note_of(rig, bad.name)
    note.write_text("{")
    try:
        assert {bad.name, good.name} <= (await rig.plane.observe()).segments.keys()
        plug = await rig.plug("veth")
        await rig.plane.ensure_plugs([PlugPlan(device=plug.device, segment=good.name)])
        assert (await rig.plane.observe()).ports[plug.device].segment == good.name
        with pytest.raises(InternalError) as caught:
            await rig.plane.ensure_segment(bad)
        assert str(note) in caught.value.message
        assert caught.value.hint
        await run("ip", "link", "set", bad.name, "down")  # somebody, or a daemon that was restarted
        found = (await rig.plane.observe()).segments
        assert (found[bad.name].up, found[good.name].up) == (False, True)
    finally:
        note.unlink()
        note.parent.rmdir()
    await rig.plane.ensure_segment(bad)
    assert (await rig.plane.observe()).segments[bad.name].up
