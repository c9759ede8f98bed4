"""What the checks of data planes are made of: frames sent from one plug and awaited, or not, at another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from wireloom.model.network import WirePlan
from wireloom.testing.conformance.dataplane_rig import Plug
from wireloom.testing.frames import FRAMES, source_of
from wireloom.testing.guests import Guest, receive

__all__ = ["Speaker", "both_ways", "hears_nothing", "one_frame", "silent", "wire"]

#: How long an unwanted frame has to appear; real ones take some 50 microseconds.
_NOISE_S: Final = 0.2


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
