"""What impairments cost, and how well a rate is kept.

TCP runs over a wire with a rate and is compared with what that rate leaves for its payload; where the kernel has netem,
ping runs over a wire with a delay. Then many ports are impaired, changed, observed and cleared, in one call each.
Needs root, iperf3 and ping.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence

from common import Result, compared, measured, median, parser, report
from throughput import INSTALLATION, WIRE_SERVER, both_paths, ping_us, tcp_gbits

from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.impairment import Impairment
from wireloom.model.network import ImpairmentPlan, PortAlias, PortPlan
from wireloom.testing.guests import namespace

#: Payload of a full frame that carries TCP with timestamps, in all bytes that a rate counts.
PAYLOAD = 1448 / 1514
#: A rate is kept so well at least; a delay is told so much too high at most.
RATE_TARGET, DELAY_TARGET = 0.95, 1.05
DELAY_MS = 20


async def _seconds(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def _one_wire(rates: Sequence[int], seconds: float, pings: int) -> list[Result]:
    """Rates in Mbit/s and a delay, felt by guests."""
    plane = KernelDataPlane(INSTALLATION)
    results: list[Result] = []
    try:
        async with namespace() as client, namespace() as server, both_paths(plane, client, server) as (_, far):
            for rate in rates:
                wanted = Impairment(rate_kbit=1000 * rate)
                await plane.impair([ImpairmentPlan(device=far, to_guest=wanted)])
                reached = 1000 * await tcp_gbits(client, WIRE_SERVER, seconds)
                results.append(
                    compared(f"TCP at {rate} Mbit/s", reached, rate * PAYLOAD, "Mbit/s", at_least=RATE_TARGET)
                )
            if "delay" not in (await plane.abilities()).impairments:
                await plane.impair([ImpairmentPlan(device=far, to_guest=Impairment(delay_ms=DELAY_MS))])
                taken = await ping_us(client, WIRE_SERVER, pings)
                results.append(
                    compared(f"ping with {DELAY_MS} ms more", taken / 1000, DELAY_MS, "ms", at_most=DELAY_TARGET)
                )
    finally:
        await plane.close()
    return results


def _port(netns: str, index: int) -> PortPlan:
    return PortPlan(
        device=device_name("p", INSTALLATION, index),
        alias=PortAlias(installation=INSTALLATION, lab_id="lab", node_id="node", index=index, name=f"lab/node/{index}"),
        attachment=NamespaceAttachment(netns=netns),
        guest_name=f"eth{index}",
        mac=mac_address(INSTALLATION, index),
        carrier=True,
    )


async def _many_ports(count: int, rounds: int) -> list[Result]:
    """Ports impaired, changed and cleared a second; all of them observed."""
    plane = KernelDataPlane(INSTALLATION)
    taken: dict[str, list[float]] = {"impaired": [], "changed": [], "cleared": []}
    observed: list[float] = []
    async with namespace() as netns:
        ports = [_port(netns, index) for index in range(count)]
        try:
            await plane.ensure_ports(ports)
            for _ in range(rounds):
                for verb, wanted in (
                    ("impaired", Impairment(rate_kbit=10_000)),
                    ("changed", Impairment(rate_kbit=20_000)),
                    ("cleared", None),
                ):
                    plans = [ImpairmentPlan(device=port.device, to_guest=wanted) for port in ports]
                    taken[verb].append(await _seconds(plane.impair(plans)))
                    if wanted:
                        observed.append(await _seconds(plane.observe()))
        finally:
            await plane.remove_ports([port.device for port in ports])
            await plane.close()
    results = [measured(f"{count} ports: {verb}", count / median(s), "ports/s") for verb, s in taken.items()]
    return [*results, measured(f"{count} ports: observed while impaired", median(observed), "s")]


async def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rates", type=int, nargs="+", default=[1, 10, 100, 1000], metavar="MBIT")
    options.add_argument("--seconds", type=float, default=5.0, help="of TCP at each rate")
    options.add_argument("--pings", type=int, default=100)
    options.add_argument("--ports", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    results = await _one_wire(arguments.rates, arguments.seconds, arguments.pings)
    results += await _many_ports(arguments.ports, arguments.rounds)
    report("impairment", results, arguments.json)


if __name__ == "__main__":
    asyncio.run(main())
