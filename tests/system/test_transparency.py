"""Wires stay transparent while they are impaired and captured, on both data planes and between all kinds of ports."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import pytest

from wireloom.agent.capture.process import Sniffer
from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.model.impairment import Impairment
from wireloom.model.network import ImpairmentPlan
from wireloom.sniffer.order import Order, Point
from wireloom.testing.conformance.dataplane_frames import wire
from wireloom.testing.conformance.dataplane_rig import Plug, Rig
from wireloom.testing.frames import FRAMES, JUMBO_FRAMES, MAXIMUM_MTU, source_of
from wireloom.testing.guests import receive

pytestmark = pytest.mark.kernel

KINDS: Final = (("veth", "veth"), ("veth", "tap"), ("tap", "tap"))
#: "Let all of it pass", in BPF.
EVERYTHING: Final = ((0x06, 0, 0, 262144),)
QUIET_S: Final = 0.2
ARRIVAL_S: Final = 3.0


async def impairment_of(plane: DataPlane) -> Impairment:
    """As much as this host can do of what leaves frames as they are."""
    missing = (await plane.abilities()).impairments
    held_up = {} if {"delay", "jitter"} & missing.keys() else {"delay_ms": 2, "jitter_ms": 0.5}
    return Impairment(rate_kbit=100_000, **held_up)


async def captured_wire(a: Plug, b: Plug) -> Sniffer:
    """A capture of both directions, as it is made of a wire."""
    points = tuple(Point(device=plug.device, name=plug.plan.guest_name) for plug in (a, b))
    return await Sniffer.start(Order(points=points, program=EVERYTHING, comment="a wire", writer="a test"))


async def read_all(sniffer: Sniffer, sent: Iterable[bytes]) -> bytes:
    """The capture, when all of ``sent`` is in it or should be; frames are handed over in blocks, with a delay."""
    file = bytearray()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ARRIVAL_S):
            while not all(frame in file for frame in sent):
                file += await sniffer.read()
    await sniffer.ask_to_finish("the test has seen enough")
    while data := await sniffer.read():
        file += data
    assert (await sniffer.end()).dropped == 0
    return bytes(file)


async def cross(sender: Plug, receiver: Plug, frames: Mapping[str, Callable[[], bytes]]) -> dict[str, bytes]:
    """Send a frame of each kind; every one arrives byte by byte. What was sent, by name."""
    sent = {name: make() for name, make in frames.items()}
    for name, frame in sent.items():
        sender.guest.send(frame)
        assert await receive(receiver.guest, source_of(frame)) == frame, f"the {name} frame did not arrive as it was"
    return sent


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("factory", [KernelDataPlane, OvsDataPlane], ids=lambda factory: factory.name)
async def test_impaired_and_captured_wire_is_transparent(
    factory: Callable[[str], DataPlane], kinds: tuple[str, str]
) -> None:
    async with Rig(factory) as rig:
        a, b = [await rig.plug(kind, mtu=MAXIMUM_MTU) for kind in kinds]
        await rig.plane.ensure_wires([wire(a, b, MAXIMUM_MTU)])
        impairment = await impairment_of(rig.plane)
        await rig.plane.impair([ImpairmentPlan(device=plug.device, to_guest=impairment) for plug in (a, b)])
        sniffer = await captured_wire(a, b)
        try:
            sent: dict[tuple[int, str], bytes] = {}
            for number, (sender, receiver) in enumerate(((a, b), (b, a))):
                for name, frame in (await cross(sender, receiver, FRAMES | JUMBO_FRAMES)).items():
                    sent[number, name] = frame
            file = await read_all(sniffer, sent.values())
        finally:
            await sniffer.kill()
        for (_, name), frame in sent.items():
            assert file.count(frame) == 1, f"the {name} frame is in the capture {file.count(frame)} times"
        assert [await receive(plug.guest, None, QUIET_S) for plug in (a, b)] == [None, None], "a frame came twice"


@pytest.mark.parametrize("factory", [KernelDataPlane, OvsDataPlane], ids=lambda factory: factory.name)
async def test_wire_moves_under_impairment_and_capture_without_losing_a_frame(
    factory: Callable[[str], DataPlane],
) -> None:
    """A capture hangs on a port, not on its wire: it goes on where the port goes."""
    async with Rig(factory) as rig:
        a, b, c = [await rig.plug("veth") for _ in range(3)]
        impairment = await impairment_of(rig.plane)
        await rig.plane.impair([ImpairmentPlan(device=plug.device, to_guest=impairment) for plug in (b, c)])
        sniffer = await captured_wire(a, b)
        try:
            sent: list[bytes] = []
            for other in itertools.islice(itertools.cycle((b, c)), 6):
                await rig.plane.ensure_wires([wire(a, other)])
                sent += (await cross(a, other, FRAMES)).values()
            file = await read_all(sniffer, sent)
        finally:
            await sniffer.kill()
        assert [file.count(frame) for frame in sent] == [1] * len(sent)
        state = await rig.plane.observe()
        assert {state.ports[plug.device].to_guest for plug in (b, c)} == {impairment}
