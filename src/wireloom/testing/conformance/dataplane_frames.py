"""What the checks of data planes are made of: frames sent from one plug and awaited, or not, at another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from wireloom.model.network import WirePlan
from wireloom.testing.conformance.dataplane_rig import Plug
from wireloom.testing.frames import FRAMES, ethernet, source_address, source_of
from wireloom.testing.guests import Guest, receive

__all__ = ["Speaker", "both_ways", "each_arrives_once", "hears_nothing", "one_frame", "silent", "wire"]

#: How long an unwanted frame has to appear; real ones take some 50 microseconds.
_NOISE_S: Final = 0.2
_UNICAST: Final = "020000000001"
#: Frames on their way at a time: what a data plane in user space has room for.
_ON_THE_WAY: Final = 32
#: How often, a hundredth of a second apart, is looked for what is on its way.
_LOOKS: Final = 100


class Speaker(Protocol):
    """Whatever has a guest to send and hear frames."""

    @property
    def guest(self) -> Guest: ...


async def _passes(sender: Speaker, receiver: Speaker, frames: Mapping[str, Callable[[], bytes]]) -> None:
    for name, make in frames.items():
        frame = make()
        sender.guest.send(frame)
        got = await receive(receiver.guest, source_of(frame))
        assert got is not None, f"the {name} frame did not arrive"
        assert got == frame, f"the {name} frame arrived changed: sent {frame.hex()}, received {got.hex()}"


async def both_ways(a: Speaker, b: Speaker, frames: Mapping[str, Callable[[], bytes]]) -> None:
    """Each of ``frames`` (name → what makes it) arrives byte by byte, from ``a`` at ``b`` and back."""
    await _passes(a, b, frames)
    await _passes(b, a, frames)


def one_frame() -> dict[str, Callable[[], bytes]]:
    """A frame that nothing but a wire forwards, where one is enough."""
    return {"lldp": FRAMES["lldp"]}


async def hears_nothing(sender: Plug, listener: Plug, marker: Plug) -> None:
    """Nothing that ``sender`` sends reaches ``listener``; a frame from ``marker``, wired to it, ends the wait."""
    unwanted = [FRAMES["arp"](), FRAMES["lldp"](), FRAMES["ipv4"]()]
    for frame in unwanted:
        sender.guest.send(frame)
    last = FRAMES["arp"]()
    marker.guest.send(last)
    heard: set[bytes] = set()
    while (frame := await _next_frame(listener)) != last:
        heard.add(source_of(frame))
    assert not heard & {source_of(frame) for frame in unwanted}, "a frame reached a port that is not its wire's end"


async def _next_frame(plug: Plug) -> bytes:
    frame = await receive(plug.guest, None)
    assert frame is not None, "no frame came"
    return frame


async def silent(sender: Speaker, listener: Speaker) -> None:
    """Nothing from ``sender`` reaches ``listener``, which nobody else can reach either."""
    frame = FRAMES["arp"]()
    sender.guest.send(frame)
    assert await receive(listener.guest, source_of(frame), _NOISE_S) is None, "a frame crossed a cut"


def wire(a: Plug, b: Plug, mtu: int = 1500) -> WirePlan:
    """The plan of a wire between the two."""
    return WirePlan(a=a.device, b=b.device, mtu=mtu)


async def each_arrives_once(sender: Plug, ends: Sequence[Plug], turn: Callable[[int], Awaitable[None]]) -> None:
    """Numbered frames flow while ``turn`` is called with 0, 1, …; the last turn leads to the first of ``ends``."""
    source = source_address()
    heard: dict[str, list[int]] = {plug.device: [] for plug in ends}
    sent = 0

    def listen() -> None:
        for plug in ends:
            while (frame := plug.guest.read()) is not None:
                if source_of(frame) == source:
                    heard[plug.device].append(int.from_bytes(frame[14:18]))

    async def talk() -> None:
        nonlocal sent
        while True:
            if sent - sum(map(len, heard.values())) < _ON_THE_WAY:
                sender.guest.send(ethernet(_UNICAST, b"\x88\xb5" + sent.to_bytes(4), source))
                sent += 1
            listen()
            await asyncio.sleep(0)

    talking = asyncio.create_task(talk())
    for number in range(20):
        await turn(number)
        await _look_until(_grown(heard), listen)
    talking.cancel()
    await asyncio.gather(talking, return_exceptions=True)
    await _look_until(lambda: sum(map(len, heard.values())) >= sent, listen)
    await both_ways(sender, ends[0], one_frame())
    assert all(heard.values()), "nothing moved while frames were flowing"
    arrived = Counter(number for numbers in heard.values() for number in numbers)
    lost, doubled = set(range(sent)) - arrived.keys(), {number for number, times in arrived.items() if times > 1}
    assert (lost, doubled) == (set(), set()), f"of {sent} frames, these were lost: {lost}, and doubled: {doubled}"


def _grown(heard: Mapping[str, Sequence[int]]) -> Callable[[], bool]:
    """Whether more was heard than by now."""
    before = sum(map(len, heard.values()))
    return lambda: sum(map(len, heard.values())) > before


async def _look_until(reached: Callable[[], bool], look: Callable[[], None]) -> None:
    """Look again and again, for a second at most."""
    for _ in range(_LOOKS):
        look()
        if reached():
            return
        await asyncio.sleep(0.01)
