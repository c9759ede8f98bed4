"""Captures of segments on the real kernel: all ways into one, those that come later among them."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from capture_rig import LAB, Lab, capture_processes, packets, read_all, ref, summed, wired_lab

from wireloom.agent.capture import captures
from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.dataplane.ovs.datapath import find_datapath
from wireloom.errors import CapacityExceeded
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.model.capture import CaptureOptions
from wireloom.model.network import PlugPlan, SegmentAlias, SegmentPlan, Uplink
from wireloom.model.slice import PlugIntent, SegmentIntent
from wireloom.testing.conformance.dataplane_rig import Plug, Rig
from wireloom.testing.conformance.dataplane_world import world
from wireloom.testing.frames import FRAMES, source_of
from wireloom.testing.guests import receive, run_command

pytestmark = pytest.mark.kernel


@pytest.fixture(params=[KernelDataPlane, OvsDataPlane], ids=lambda factory: factory.name)
def factory(request: pytest.FixtureRequest) -> Callable[[str], DataPlane]:
    return request.param


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with wired_lab(KernelDataPlane) as made:
        yield made


async def test_frames_of_a_segment_are_there_once_however_many_ports_hear_them(
    factory: Callable[[str], DataPlane],
) -> None:
    async with Rig(factory) as rig:
        name = rig.segment_name()
        alias = SegmentAlias(installation=rig.installation, lab_id=LAB, segment_id="s", name="lab/lan")
        await rig.plane.ensure_segment(SegmentPlan(name=name, alias=alias.text()))
        ports = [await rig.plug("veth") for _ in range(3)]
        await rig.plane.ensure_plugs([PlugPlan(device=port.device, segment=name) for port in ports])
        lab = Lab(rig, *ports)
        lab.put(
            segments=(SegmentIntent(id="s", name="lan", kind="switch", device=name),),
            plugs=tuple(PlugIntent(id=f"p{port.plan.alias.index}", port=ref(port), segment="s") for port in ports),
        )
        capture = await lab.captures.open(
            CaptureOpen(lab_id=LAB, kind="segment", id="s", options=CaptureOptions(packets=3))
        )
        frames = [FRAMES["arp"]() for _ in ports]
        for port, frame in zip(ports, frames, strict=True):
            port.guest.send(frame)
        data = await read_all(capture)
        assert [packet.frame for packet in sorted(packets(data))] == frames
        assert summed(data).interfaces == ["n0:eth1", "n1:eth1", "n2:eth1"]
        await lab.captures.close()


async def test_frames_from_the_world_come_in_by_the_nic_of_their_segment(factory: Callable[[str], DataPlane]) -> None:
    async with Rig(factory) as rig, world() as outside:
        name = rig.segment_name()
        alias = SegmentAlias(installation=rig.installation, lab_id=LAB, segment_id="s", name="lab/office")
        await rig.plane.ensure_segment(SegmentPlan(name=name, alias=alias.text(), uplink=Uplink(device=outside.nic)))
        port = await rig.plug("veth")
        await rig.plane.ensure_plugs([PlugPlan(device=port.device, segment=name)])
        lab = Lab(rig, port, seen=await rig.plane.observe())
        lab.put(
            segments=(SegmentIntent(id="s", name="office", kind="external", device=name),),
            plugs=(PlugIntent(id="p", port=ref(port), segment="s"),),
        )
        capture = await lab.captures.open(
            CaptureOpen(lab_id=LAB, kind="segment", id="s", options=CaptureOptions(filter="arp", packets=2))
        )
        outside.guest.send(coming := FRAMES["arp"]())
        assert await receive(port.guest, source_of(coming)) == coming
        port.guest.send(going := FRAMES["arp"]())
        data = await read_all(capture)
        assert summed(data).interfaces == ["n0:eth1", outside.nic, "host"]
        assert [(packet.interface, packet.frame) for packet in packets(data)] == [(1, coming), (0, going)]
        await lab.captures.close()


@asynccontextmanager
async def bridge_of_the_host(factory: Callable[[str], DataPlane], *members: str) -> AsyncIterator[str]:
    """A bridge of somebody else's, of the kind that the data plane uses, with ``members``."""
    name = f"foreign{secrets.token_hex(3)}"
    if factory is OvsDataPlane:
        making = [("ovs-vsctl", "add-br", name, "--", "set", "Bridge", name, f"datapath_type={find_datapath()}")]
        making += [("ovs-vsctl", "add-port", name, member) for member in members]
        removing = ("ovs-vsctl", "del-br", name)
    else:
        making = [("ip", "link", "add", name, "type", "bridge")]
        making += [("ip", "link", "set", member, "master", name) for member in members]
        removing = ("ip", "link", "del", name)
    try:
        for command in (*making, ("ip", "link", "set", name, "up")):
            await run_command(*command)
        yield name
    finally:
        await run_command(*removing)


async def test_a_segment_on_a_bridge_of_the_host_is_captured_with_the_world_and_the_host(
    factory: Callable[[str], DataPlane],
) -> None:
    async with Rig(factory) as rig, world() as outside, bridge_of_the_host(factory, outside.nic) as bridge:
        await rig.plane.ensure_segment(SegmentPlan(name=bridge, alias="", foreign=True))
        port = await rig.plug("veth")
        await rig.plane.ensure_plugs([PlugPlan(device=port.device, segment=bridge)])
        lab = Lab(rig, port, seen=await rig.plane.observe())
        lab.put(
            segments=(
                SegmentIntent(
                    id="s", name="office", kind="external", device=rig.segment_name(), uplink=Uplink(device=bridge)
                ),
            ),
            plugs=(PlugIntent(id="p", port=ref(port), segment="s"),),
        )
        capture = await lab.captures.open(
            CaptureOpen(lab_id=LAB, kind="segment", id="s", options=CaptureOptions(filter="arp", packets=2))
        )
        outside.guest.send(coming := FRAMES["arp"]())
        assert await receive(port.guest, source_of(coming)) == coming
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as host:
            host.bind((bridge, 0))
            host.send(own := FRAMES["arp"]())
        data = await read_all(capture)
        assert summed(data).interfaces == ["n0:eth1", outside.nic, "host"]
        assert [(packet.interface, packet.frame) for packet in packets(data)] == [(1, coming), (2, own)]
        await lab.captures.close()


async def test_a_port_that_comes_into_a_segment_is_captured_and_one_that_leaves_is_not(
    factory: Callable[[str], DataPlane],
) -> None:
    async with Rig(factory) as rig:
        name = rig.segment_name()
        alias = SegmentAlias(installation=rig.installation, lab_id=LAB, segment_id="s", name="lab/lan")
        await rig.plane.ensure_segment(SegmentPlan(name=name, alias=alias.text()))
        first, second = await rig.plug("veth"), await rig.plug("veth")
        await rig.plane.ensure_plugs([PlugPlan(device=first.device, segment=name)])
        lab = Lab(rig, first, second)
        put_into_segment(lab, name, first)
        capture = await lab.captures.open(CaptureOpen(lab_id=LAB, kind="segment", id="s"))
        first.guest.send(before := FRAMES["arp"]())
        await rig.plane.remove_plugs([first.device])
        await rig.plane.ensure_plugs([PlugPlan(device=second.device, segment=name)])
        put_into_segment(lab, name, second)
        data = b""
        async with asyncio.timeout(10):
            while b"n1:eth1" not in data:
                data += await capture.read()
        first.guest.send(FRAMES["arp"]())
        second.guest.send(after := FRAMES["arp"]())
        await asyncio.sleep(0.2)
        await capture.ask_to_finish("enough")
        data += await read_all(capture)
        assert summed(data).interfaces == ["n0:eth1", "n1:eth1"]
        assert [(packet.interface, packet.frame) for packet in packets(data)] == [(0, before), (1, after)]


async def test_a_segment_of_more_ports_than_one_capture_has_room_for_is_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "_POINTS_MOST", 1)
    put_into_segment(lab, "wls", *lab.ports)
    with pytest.raises(CapacityExceeded, match="at 2 places, and 1 are captured at most"):
        await lab.captures.open(CaptureOpen(lab_id=LAB, kind="segment", id="s"))
    assert not capture_processes()


async def test_a_capture_ends_when_more_ports_came_than_it_has_room_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "_POINTS_MOST", 1)
    put_into_segment(lab, "wls", lab.a)
    capture = await lab.captures.open(CaptureOpen(lab_id=LAB, kind="segment", id="s"))
    put_into_segment(lab, "wls", lab.b)
    assert "n1:eth1 is one too many" in summed(await read_all(capture)).ended


def put_into_segment(lab: Lab, segment: str, *ports: Plug) -> None:
    lab.put(
        segments=(SegmentIntent(id="s", name="lan", kind="switch", device=segment),),
        plugs=tuple(PlugIntent(id=f"p{port.plan.alias.index}", port=ref(port), segment="s") for port in ports),
    )
