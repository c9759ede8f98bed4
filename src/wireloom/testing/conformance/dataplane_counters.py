"""What every data plane has to show of counters: ``COUNTER_CHECKS``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from wireloom.testing.conformance.dataplane_frames import both_ways, one_frame, wire
from wireloom.testing.conformance.dataplane_rig import Rig
from wireloom.testing.conformance.dataplane_stream import frames, send_stream

__all__ = ["COUNTER_CHECKS"]


async def check_counters_count_as_the_guest_does(rig: Rig) -> None:
    """What a guest sent and received, by frames and bytes, of containers and machines alike; of our ports only."""
    for kind in ("veth", "tap"):
        a, b = await rig.plug("veth"), await rig.plug(kind)
        await rig.plane.ensure_wires([wire(a, b)])
        await both_ways(a, b, one_frame())
        before = await rig.plane.counters()
        arrivals = await send_stream(a, b, frames(100, 500), enough=100)
        assert len(arrivals) == 100
        after = await rig.plane.counters()
        assert {a.device, b.device} <= after.keys()
        assert after[a.device].tx_packets - before[a.device].tx_packets == 100
        assert after[b.device].rx_packets - before[b.device].rx_packets == 100
        assert after[a.device].tx_bytes - before[a.device].tx_bytes == 50_000
        assert after[b.device].rx_bytes - before[b.device].rx_bytes == 50_000
        assert after[b.device].tx_packets == before[b.device].tx_packets
    other = await rig.plug("veth")
    assert (await rig.plane.counters())[other.device].tx_packets == 0, "a port that is new is counted too"
    assert (await rig.plane.counters()).keys() == (await rig.plane.observe()).ports.keys()


COUNTER_CHECKS: Final[Sequence[Callable[[Rig], Awaitable[None]]]] = (check_counters_count_as_the_guest_does,)
