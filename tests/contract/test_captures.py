"""Captures on the real kernel: which frames are there, once each, and what becomes of the processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from wireloom.agent.capture import Captures
from wireloom.agent.capture.captures import Running
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.errors import CapacityExceeded, InvalidInput, NotFound  # noqa: F401
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.fabric.documents import EventLevel
from wireloom.model.capture import CaptureMessage, CaptureOptions
from wireloom.model.identity import device_name
from wireloom.model.network import PlugPlan, SegmentAlias, SegmentPlan, WirePlan
from wireloom.model.slice import NodeIntent, PlugIntent, PortIntent, PortRef, SegmentIntent, Slice, WireIntent
from wireloom.pcapng import BlockReader, Summary
from wireloom.testing.conformance.dataplane_rig import Plug, Rig
from wireloom.testing.frames import FRAMES

pytestmark = pytest.mark.kernel

LAB = "lab-1"
TSHARK = shutil.which("tshark")


def node(plug: Plug) -> NodeIntent:
    plan = plug.plan
    port = PortIntent(
        index=plan.alias.index, name="eth1", guest_name=plan.guest_name, device=plan.device, mac=plan.mac
    )
    return NodeIntent(
        id=plan.alias.node_id, name=plan.alias.node_id, device="linux", provider="docker", image="i", ports=(port,)
    )


def ref(plug: Plug) -> PortRef:
    return PortRef(node_id=plug.plan.alias.node_id, index=plug.plan.alias.index)


class Lab:
    """A wire between two ports of a host, and its captures.

    :ivar history: messages of captures that ended.
    """

    def __init__(self, rig: Rig, a: Plug, b: Plug) -> None:
        self.rig, self.a, self.b = rig, a, b
        self.slices: dict[str, Slice] = {}
        self.history: list[tuple[str, EventLevel]] = []
        self.captures = Captures(self.slices, self._tell, most=4)
        self.put(wires=(WireIntent(id="w", a=ref(a), b=ref(b)),))

    def put(
        self,
        *,
        plugs: tuple[Plug, ...] = (),
        wires: tuple[WireIntent, ...] = (),
        segments: tuple[SegmentIntent, ...] = (),
        plugged: tuple[PlugIntent, ...] = (),
    ) -> None:
        """Say what the lab is."""
        self.slices[LAB] = Slice(
            installation=self.rig.installation,
            lab_id=LAB,
            lab="lab",
            generation=1,
            nodes=tuple(node(plug) for plug in (self.a, self.b, *plugs)),
            wires=wires,
            segments=segments,
            plugs=plugged,
        )

    def _tell(self, lab: str, node: str, kind: str, message: str, level: EventLevel = EventLevel.INFO) -> None:
        self.history.append((message, level))

    async def wire(self, **options: object) -> Running:
        return await self.captures.open(
            CaptureOpen(lab_id=LAB, kind="wire", id="w", options=CaptureOptions.model_validate(options))
        )

    async def port(self, plug: Plug, **options: object) -> Running:
        return await self.captures.open(
            CaptureOpen(
                lab_id=LAB,
                kind="port",
                node_id=ref(plug).node_id,
                index=ref(plug).index,
                options=CaptureOptions.model_validate(options),
            )
        )


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Rig(KernelDataPlane) as rig:
        a, b = await rig.plug("veth"), await rig.plug("tap")
        await rig.plane.ensure_wires([WirePlan(a=a.device, b=b.device)])
        made = Lab(rig, a, b)
        try:
            yield made
        finally:
            await made.captures.close()
        assert not sniffers(rig)


def sniffers(rig: Rig) -> list[int]:
    """Processes of this one that capture."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"wireloom.sniffer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


async def read_all(stream: Running) -> bytes:
    data = b""
    async with asyncio.timeout(20):
        while piece := await stream.read():
            data += piece
    return data


def summed(data: bytes) -> Summary:
    reader = BlockReader()
    reader.feed(data)
    return reader.summary


async def test_each_frame_of_a_wire_is_there_once_with_where_it_came_in(lab: Lab) -> None:
    capture = await lab.wire(packets=2 * len(FRAMES))
    sent: Mapping[str, bytes] = {name: build() for name, build in FRAMES.items()}
    back = [build() for build in FRAMES.values()]
    for frame, answer in zip(sent.values(), back, strict=True):
        lab.a.guest.send(frame)
        lab.b.guest.send(answer)
    data = await read_all(capture)
    summary = summed(data)
    assert summary.packets == 2 * len(FRAMES)
    assert summary.interfaces == ["n0:eth1", "n1:eth1"]
    assert summary.ended == f"{2 * len(FRAMES)} packets are there"
    for frame in (*sent.values(), *back):
        assert data.count(frame[6:12]) == 1  # the source address marks a frame
    for frame in sent.values():
        assert frame in data  # whole, tags included
    assert lab.history == [(f"captured n0:eth1 -- n1:eth1: {len(FRAMES) * 2} packets ({summary.ended})", "info")]
