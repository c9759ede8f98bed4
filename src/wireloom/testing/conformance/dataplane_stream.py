"""Streams of numbered frames between two plugs: what arrives of them, when, and in which order."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wireloom.testing.conformance.dataplane_rig import Plug
from wireloom.testing.frames import ethernet

__all__ = ["Arrival", "frames", "send_stream"]

_UNICAST: Final = "020000000001"
#: Local experiments (IEEE 802, clause 9.2.3), with our own mark behind it.
_HEAD: Final = bytes.fromhex("88b5") + b"wireloom stream "
_NUMBER = struct.Struct("!I")
_NUMBER_AT: Final = 12 + len(_HEAD)
#: Frames sent before the receiver gets its turn: fewer than its socket has room for.
_AT_ONCE: Final = 20
#: Longer than any frame of a stream waits behind the one before it.
_QUIET_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that arrived.

    :ivar number: counted from 0 as it was sent; -1: it cannot be told. :ivar seconds: since the frame was sent, or
        since the stream began where it cannot be told. :ivar at: on the receiver's clock.
    """

    number: int
    seconds: float
    at: float
    frame: bytes


def frames(count: int, size: int = 200) -> list[bytes]:
    """``count`` numbered frames of ``size`` bytes, from one source."""
    source = bytes.fromhex("02000000aaaa")
    filler = bytes(size - _NUMBER_AT - _NUMBER.size)
    return [ethernet(_UNICAST, _HEAD + _NUMBER.pack(number) + filler, source) for number in range(count)]


async def send_stream(
    sender: Plug, receiver: Plug, stream: Sequence[bytes], *, pace_s: float = 0, enough: int | None = None
) -> list[Arrival]:
    """Send all of ``stream``, and collect what arrives until nothing more does.

    :param pace_s: pause behind each frame; 0: as fast as the receiver can be given its turn.
    :param enough: so many frames are waited for and no longer, where the next one would tell nothing.
    """
    arrivals: list[tuple[float, bytes]] = []
    heard = asyncio.Event()

    def read() -> None:
        while (frame := receiver.guest.read()) is not None:
            arrivals.append((time.monotonic(), frame))
        heard.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(receiver.guest.fileno(), read)
    try:
        sent = await _send(sender, stream, pace_s)
        while enough is None or len(arrivals) < enough:
            heard.clear()
            try:
                async with asyncio.timeout(_QUIET_S):
                    await heard.wait()
            except TimeoutError:
                break
    finally:
        loop.remove_reader(receiver.guest.fileno())
    return [_arrival(at, frame, sent) for at, frame in arrivals]


async def _send(sender: Plug, stream: Sequence[bytes], pace_s: float) -> list[float]:
    """When each frame was sent."""
    sent: list[float] = []
    for number, frame in enumerate(stream):
        sent.append(await _put(sender, frame))
        if pace_s or number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(pace_s)
    return sent


async def _put(sender: Plug, frame: bytes) -> float:
    """Send a frame as soon as the guest may (where too many are on their way, it has to wait too); when that was."""
    moment = time.monotonic()
    try:
        sender.guest.send(frame)
    except BlockingIOError:
        writable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_writer(sender.guest.fileno(), writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(sender.guest.fileno())
        moment = time.monotonic()
        sender.guest.send(frame)
    return moment


def _arrival(at: float, frame: bytes, sent: Sequence[float]) -> Arrival:
    raw = frame[_NUMBER_AT : _NUMBER_AT + _NUMBER.size]
    number = _NUMBER.unpack(raw)[0] if len(raw) == _NUMBER.size else -1
    number = number if 0 <= number < len(sent) else -1
    return Arrival(number, at - sent[max(number, 0)], at, frame)
