"""What the checks of impairments are made of: setting and reading back, refusals, and frames that are held up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from typing import Final

from wireloom.errors import Unsupported
from wireloom.model.impairment import PARTS, Impairment
from wireloom.model.network import ImpairmentPlan
from wireloom.testing.conformance.dataplane_frames import wire
from wireloom.testing.conformance.dataplane_rig import Plug, Rig
from wireloom.testing.conformance.dataplane_stream import Arrival, frames, send_stream

__all__ = [
    "EXAMPLES",
    "SLACK_S",
    "Check",
    "arrives_at",
    "has",
    "impair",
    "in_order",
    "lacking",
    "measures_time",
    "refusal",
    "wired",
]

Check = Callable[[Rig], Awaitable[None]]

#: One example of each part, with what it needs beside it.
EXAMPLES: Final[Mapping[str, Impairment]] = {
    "delay": Impairment(delay_ms=10.5),
    "jitter": Impairment(delay_ms=10, jitter_ms=2.25),
    "loss": Impairment(loss=12.3456),
    "duplicate": Impairment(duplicate=0.0001),
    "corrupt": Impairment(corrupt=33.3333),
    "reorder": Impairment(delay_ms=10, reorder=25),
    "rate": Impairment(rate_kbit=5001),
    "limit": Impairment(rate_kbit=5000, limit=77),
}

#: What a busy machine may add to the time of a frame.
SLACK_S: Final = 0.04
#: Frames that wait at once: as many as a switch in user space can send before its socket is full.
_CROWD: Final = 80
#: So much of a rate has to be reached at least (a busy machine reads late), and so much is too much.
_SLOWEST, _FASTEST = 0.6, 1.1


def measures_time(check: Check) -> Check:
    """Gives a check three tries: a busy machine is late, or drops frames, in one of them, and a wrong queue in all."""

    @wraps(check)
    async def patiently(rig: Rig) -> None:
        for _ in range(2):
            try:
                return await check(rig)
            except AssertionError:
                continue
        return await check(rig)

    return patiently


async def impair(rig: Rig, plug: Plug, wanted: Impairment | None, from_guest: Impairment | None = None) -> None:
    """Impair a port, and find it so."""
    await rig.plane.impair([ImpairmentPlan(device=plug.device, to_guest=wanted, from_guest=from_guest)])
    port = (await rig.plane.observe()).ports[plug.device]
    assert port.to_guest == wanted, f"set {wanted}, read back {port.to_guest}"
    assert port.from_guest == from_guest, f"set {from_guest}, read back {port.from_guest}"


async def refusal(rig: Rig, *plans: ImpairmentPlan) -> Unsupported | None:
    """How plans were refused; ``None``: they were not."""
    try:
        await rig.plane.impair(plans)
    except Unsupported as error:
        return error
    return None


async def lacking(rig: Rig, wanted: Impairment) -> str:
    """Why ``wanted`` cannot be had here, or an empty text."""
    reasons = (await rig.plane.abilities()).impairments
    return next((reasons[part] for part in PARTS if part in wanted.parts and part in reasons), "")


async def has(rig: Rig, plug: Plug, wanted: Impairment) -> bool:
    """Set ``wanted``; or, where the host cannot, see it refused and return ``False``."""
    reason = await lacking(rig, wanted)
    if not reason:
        await impair(rig, plug, wanted)
        return True
    before = (await rig.plane.observe()).ports[plug.device].to_guest
    refused = await refusal(rig, ImpairmentPlan(device=plug.device, to_guest=wanted))
    assert refused is not None, f"{wanted} was taken, though {reason}"
    assert reason in refused.message, f"the refusal does not say why: {refused.message}"
    assert refused.details["device"] == plug.device
    assert (await rig.plane.observe()).ports[plug.device].to_guest == before, "what was refused changed something"
    return False


async def wired(rig: Rig, kind_a: str = "veth", kind_b: str = "veth", mtu: int = 1500) -> tuple[Plug, Plug]:
    a, b = await rig.plug(kind_a, mtu=mtu), await rig.plug(kind_b, mtu=mtu)
    await rig.plane.ensure_wires([wire(a, b, mtu)])
    return a, b


def in_order(arrivals: Sequence[Arrival]) -> bool:
    numbers = [arrival.number for arrival in arrivals]
    return numbers == sorted(numbers)


async def arrives_at(sender: Plug, receiver: Plug, rate_kbit: int) -> list[Arrival]:
    """What arrives of frames sent at once: all of them, in their order, as fast as ``rate_kbit`` lets them."""
    arrivals = await send_stream(sender, receiver, frames(_CROWD, 1000), enough=_CROWD)
    assert len(arrivals) == _CROWD, f"{len(arrivals)} of {_CROWD} frames arrived"
    assert in_order(arrivals), "a rate changed the order of frames"
    # The first one waited for nothing.
    bits = sum(8 * len(arrival.frame) for arrival in arrivals[1:])
    share = bits / 1000 / (arrivals[-1].at - arrivals[0].at) / rate_kbit
    assert _SLOWEST < share < _FASTEST, f"{share:.0%} of {rate_kbit} kbit/s"
    return arrivals
