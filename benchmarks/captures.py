"""Fifty captures of one wire at once, half of them with a reader that takes nothing: what the lab notices, and what
they cost.

The program stands in for the agent: it opens the captures as an agent does, and reads its own memory. Frames are sent
by a guest in bursts that its neighbour can take, once without captures and once with them. Needs root.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from common import Result, compared, measured, parser, report

from wireloom.agent.capture import Captures
from wireloom.agent.capture.captures import Running
from wireloom.agent.reporter import untold
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.model.capture import CaptureEnd, CaptureOptions
from wireloom.model.network import WirePlan
from wireloom.model.slice import NodeIntent, PortIntent, PortRef, Slice, WireIntent
from wireloom.pcapng import BlockReader
from wireloom.testing.conformance.dataplane_rig import Plug, Rig
from wireloom.testing.frames import ethernet

#: Frames between two looks of the far guest, well below what its socket holds.
BURST = 50
ROUNDS = 5
PAYLOAD = 400
#: MiB. The agent's own buffers are a pipe and two pieces for each capture.
AGENT_MIB, PROCESS_MIB = 32.0, 16.0
OF_WIRE = CaptureOpen(lab_id="lab-1", kind="wire", id="w")


def _slice(rig: Rig, a: Plug, b: Plug) -> Slice:
    refs = [PortRef(node_id=plug.plan.alias.node_id, index=plug.plan.alias.index) for plug in (a, b)]
    nodes = [
        NodeIntent(
            id=ref.node_id,
            name=ref.node_id,
            device="d",
            provider="docker",
            image="i",
            ports=(
                PortIntent(
                    index=ref.index, name="eth1", guest_name="eth1", device=plug.device, mac="02:00:00:00:00:01"
                ),
            ),
        )
        for ref, plug in zip(refs, (a, b), strict=True)
    ]
    return Slice(
        installation=rig.installation,
        lab_id="lab-1",
        lab="lab",
        generation=1,
        nodes=tuple(nodes),
        wires=(WireIntent(id="w", a=refs[0], b=refs[1]),),
    )


@asynccontextmanager
async def _wire(rig: Rig) -> AsyncIterator[tuple[Plug, Plug]]:
    a, b = await rig.plug("veth"), await rig.plug("veth")
    await rig.plane.ensure_wires([WirePlan(a=a.device, b=b.device)])
    yield a, b


async def _send(a: Plug, b: Plug, frames: int) -> tuple[int, float]:
    """How many of so many frames arrived, and in how many seconds."""
    arrived = 0
    started = time.monotonic()
    body = b"\x88\xb5" + bytes(PAYLOAD)
    for number in range(frames):
        a.guest.send(ethernet("020000000001", body))
        if number % BURST == BURST - 1:
            arrived += _drain(b)
            await asyncio.sleep(0)  # readers of captures have their turn
    elapsed = time.monotonic() - started
    await asyncio.sleep(0.2)
    return arrived + _drain(b), elapsed


async def _best(a: Plug, b: Plug, frames: int) -> tuple[int, float]:
    """The least that arrived, and the shortest time, of some rounds: the machine has other things to do, too."""
    rounds = [await _send(a, b, frames) for _ in range(ROUNDS)]
    return min(arrived for arrived, _ in rounds), min(elapsed for _, elapsed in rounds)


def _drain(plug: Plug) -> int:
    count = 0
    while plug.guest.read() is not None:
        count += 1
    return count


async def _read(capture: Running) -> CaptureEnd:
    """All of a capture, summed up."""
    reader = BlockReader()
    while piece := await capture.read():
        reader.feed(piece)
    summary = reader.summary
    return CaptureEnd(packets=summary.packets, dropped=summary.dropped, reason=summary.ended)


def _status(pid: int | str, field: str) -> float:
    """A field of a process's memory, MiB."""
    for line in Path(f"/proc/{pid}/{'smaps_rollup' if field == 'Pss' else 'status'}").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _sniffers() -> list[int]:
    children = Path(f"/proc/self/task/{Path('/proc/self').resolve().name}/children").read_text().split()
    return [int(pid) for pid in children if b"wireloom.sniffer" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _packet_sockets(*plugs: Plug) -> int:
    """How many listen on the host's side of these ports."""
    indexes = {str(socket.if_nametoindex(plug.device)) for plug in plugs}
    return sum(line.split()[4] in indexes for line in Path("/proc/net/packet").read_text().splitlines()[1:])


async def _many(rig: Rig, a: Plug, b: Plug, count: int, frames: int) -> Sequence[Result]:
    captures = Captures({"lab-1": _slice(rig, a, b)}, untold, most=count)
    quiet_arrived, quiet_s = await _best(a, b, frames)
    memory = _status("self", "VmRSS")
    started = time.monotonic()
    opened = await asyncio.gather(*(captures.open(OF_WIRE) for _ in range(count)))
    open_s = time.monotonic() - started
    reading = [asyncio.create_task(_read(capture)) for capture in opened[: count // 2]]
    arrived, busy_s = await _send(a, b, frames)
    grown = _status("self", "VmRSS") - memory
    processes = [_status(pid, "Pss") for pid in _sniffers()]
    await asyncio.gather(*(capture.ask_to_finish("enough") for capture in opened))
    ends = await asyncio.gather(*reading, *(_read(capture) for capture in opened[count // 2 :]))
    await captures.close()
    _, after_s = await _best(a, b, frames)
    unaccounted = sum(abs(frames - end.packets - end.dropped) for end in ends)
    return [
        measured("frames that the lab lost, no capture", frames - quiet_arrived, "frames", at_most=0),
        measured(f"frames that the lab lost, {count} captures", frames - arrived, "frames", at_most=0),
        measured("frames neither captured nor counted as dropped", unaccounted, "frames", at_most=0),
        measured("memory of the agent", grown, "MiB", at_most=AGENT_MIB),
        measured("memory of a capturing process", sum(processes) / len(processes), "MiB", at_most=PROCESS_MIB),
        measured(f"{count} captures opened", open_s, "s"),
        compared("frames sent when all captures are over", frames / after_s, frames / quiet_s, "frames/s"),
        measured(f"frames sent, {count} captures", frames / busy_s, "frames/s"),
        measured("frames captured of those sent, readers that read", _share(ends[: count // 2], frames), ""),
        measured("packet sockets left afterwards", _packet_sockets(a, b), "", at_most=0),
    ]


def _share(ends: Sequence[CaptureEnd], frames: int) -> float:
    return sum(end.packets for end in ends) / (len(ends) * frames)


async def _one(rig: Rig, a: Plug, b: Plug, frames: int) -> Sequence[Result]:
    """A capture alone, with frames as fast as the guest sends them."""
    captures = Captures({"lab-1": _slice(rig, a, b)}, untold, most=1)
    capture = await captures.open(OF_WIRE.model_copy(update={"options": CaptureOptions(snaplen=128)}))
    reading = asyncio.create_task(_read(capture))
    arrived, elapsed = await _send(a, b, frames)
    await capture.ask_to_finish("enough")
    end = await reading
    await captures.close()
    return [
        measured("one capture: frames that the lab lost", frames - arrived, "frames", at_most=0),
        measured("one capture: frames sent", frames / elapsed, "frames/s"),
        measured("one capture: share captured", end.packets / frames, ""),
    ]


async def _measure(count: int, frames: int) -> Sequence[Result]:
    async with Rig(KernelDataPlane) as rig, _wire(rig) as (a, b):
        return [*await _many(rig, a, b, count, frames), *await _one(rig, a, b, 5 * frames)]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--captures", type=int, default=50)
    options.add_argument("--frames", type=int, default=20_000)
    arguments = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    report("captures", asyncio.run(_measure(arguments.captures, arguments.frames)), arguments.json)


if __name__ == "__main__":
    main()
