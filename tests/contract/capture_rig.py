"""A lab of real ports with its captures, and a reader of what they wrote."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from wireloom.agent.capture import Captures
from wireloom.agent.capture.captures import Running
from wireloom.dataplane.contract import DataPlane
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.fabric.documents import EventLevel
from wireloom.model.capture import CaptureOptions
from wireloom.model.network import DataPlaneState, WirePlan
from wireloom.model.slice import NodeIntent, PlugIntent, PortIntent, PortRef, SegmentIntent, Slice, WireIntent
from wireloom.pcapng import BlockReader, Summary
from wireloom.testing.conformance.dataplane_rig import Plug, Rig

__all__ = [
    "LAB",
    "Lab",
    "Packet",
    "capture_processes",
    "eventually",
    "listened_to",
    "packets",
    "read_all",
    "ref",
    "summed",
    "wired_lab",
]

LAB = "lab-1"


class Packet(NamedTuple):
    """A frame of a capture; ``direction`` as of ``epb_flags``: 1 in, 2 out."""

    interface: int
    time_ns: int
    frame: bytes
    length: int
    direction: int


class Lab:
    """Ports of a host as nodes of a lab, and its captures.

    :ivar history: messages of captures that ended, with their level.
    """

    def __init__(self, rig: Rig, *plugs: Plug, most: int = 4, seen: DataPlaneState | None = None) -> None:
        self.rig = rig
        self.ports = plugs
        self.slices: dict[str, Slice] = {}
        self.history: list[tuple[str, EventLevel]] = []
        self.captures = Captures(self.slices, self._tell, most=most, state=lambda: seen or DataPlaneState())
        self.put()

    @property
    def a(self) -> Plug:
        return self.ports[0]

    @property
    def b(self) -> Plug:
        return self.ports[1]

    def put(
        self,
        *,
        wires: tuple[WireIntent, ...] = (),
        segments: tuple[SegmentIntent, ...] = (),
        plugs: tuple[PlugIntent, ...] = (),
    ) -> None:
        """Say what the lab is."""
        self.slices[LAB] = Slice(
            installation=self.rig.installation,
            lab_id=LAB,
            lab="lab",
            generation=1,
            nodes=tuple(_node(plug) for plug in self.ports),
            wires=wires,
            segments=segments,
            plugs=plugs,
        )

    async def wire(self, **options: object) -> Running:
        """Capture the wire."""
        return await self.captures.open(self.of_wire(**options))

    async def port(self, plug: Plug, **options: object) -> Running:
        """Capture a port."""
        at = ref(plug)
        chosen = CaptureOptions.model_validate(options)
        return await self.captures.open(
            CaptureOpen(lab_id=LAB, kind="port", node_id=at.node_id, index=at.index, options=chosen)
        )

    @staticmethod
    def of_wire(**options: object) -> CaptureOpen:
        """What is asked to capture the wire."""
        return CaptureOpen(lab_id=LAB, kind="wire", id="w", options=CaptureOptions.model_validate(options))

    def _tell(self, lab: str, node: str, kind: str, message: str, level: EventLevel = EventLevel.INFO) -> None:
        self.history.append((message, level))


@asynccontextmanager
async def wired_lab(factory: Callable[[str], DataPlane], *, most: int = 4) -> AsyncIterator[Lab]:
    """A lab whose wire ``w`` joins a container's port and a machine's; no capture is left behind."""
    async with Rig(factory) as rig:
        a, b = await rig.plug("veth"), await rig.plug("tap")
        await rig.plane.ensure_wires([WirePlan(a=a.device, b=b.device)])
        lab = Lab(rig, a, b, most=most)
        lab.put(wires=(WireIntent(id="w", a=ref(a), b=ref(b)),))
        try:
            yield lab
        finally:
            await lab.captures.close()
        assert not capture_processes(), "capturing processes are left"


def _node(plug: Plug) -> NodeIntent:
    plan = plug.plan
    port = PortIntent(index=plan.alias.index, name="eth1", guest_name=plan.guest_name, device=plan.device, mac=plan.mac)
    return NodeIntent(
        id=plan.alias.node_id, name=plan.alias.node_id, device="linux", provider="docker", image="i", ports=(port,)
    )


def ref(plug: Plug) -> PortRef:
    """The port as intents name it."""
    return PortRef(node_id=plug.plan.alias.node_id, index=plug.plan.alias.index)


def capture_processes(parent: int | None = None) -> list[int]:
    """Children of a process (this one) that capture or decode."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError):
            state, owner = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            captures = b"wireloom.sniffer" in command or b"gui.column.format" in command
            if int(owner) == (parent or os.getpid()) and state != "Z" and captures:
                found.append(int(pid))
    return found


async def read_all(stream: Running) -> bytes:
    """Everything until the capture ends by itself."""
    data = bytearray()
    async with asyncio.timeout(20):
        while piece := await stream.read():
            data += piece
    return bytes(data)


async def eventually(check: Callable[[], bool], within_s: float = 5) -> None:
    """Wait until ``check`` holds."""
    async with asyncio.timeout(within_s):
        while not check():  # noqa: ASYNC110 - what is waited for is the kernel's doing
            await asyncio.sleep(0.02)


def listened_to(plug: Plug) -> bool:
    """Whether somebody has a packet socket on the host's side of the port (see packet(7))."""
    index = str(socket.if_nametoindex(plug.device))
    return any(line.split()[4] == index for line in Path("/proc/net/packet").read_text().splitlines()[1:])


def summed(data: bytes) -> Summary:
    """What a whole file tells."""
    reader = BlockReader()
    reader.feed(data)
    return reader.summary


def packets(data: bytes) -> list[Packet]:
    """The frames of a file."""
    return list(_packets(data))


def _packets(data: bytes) -> Iterator[Packet]:
    position = 0
    while position < len(data):
        kind, total = struct.unpack_from("=II", data, position)
        if kind == 6:
            interface, high, low, size, length = struct.unpack_from("=IIIII", data, position + 8)
            start = position + 28
            flags = start + size + (-size & 3)
            assert struct.unpack_from("=HH", data, flags) == (2, 4)
            (direction,) = struct.unpack_from("=I", data, flags + 4)
            yield Packet(interface, high << 32 | low, data[start : start + size], length, direction)
        position += total
