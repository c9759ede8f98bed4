"""Wires made and removed per second, and the time to observe them.

A wire joins two ports that exist already, both ways. Everything goes through the data plane's own verbs, in batches
as the agent sends them. Needs root.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import quantiles

from common import Result, measured, median, parser, report

from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import PortAlias, PortPlan, WirePlan
from wireloom.testing.guests import namespace

INSTALLATION = "benchmark-wires"
BATCH = 100
ROUNDS = 5
#: From the project's own list of what has to hold.
WIRES_PER_SECOND = 600
OBSERVE_LIMIT_S, OBSERVE_WIRES = 1.0, 2000


def _port(netns: str, index: int) -> PortPlan:
    return PortPlan(
        device=device_name("p", INSTALLATION, index),
        alias=PortAlias(
            installation=INSTALLATION, lab_id="lab", node_id="node", index=index, name=f"wires/node/eth{index}"
        ),
        attachment=NamespaceAttachment(netns=netns),
        guest_name=f"eth{index}",
        mac=mac_address(INSTALLATION, index),
        carrier=True,
    )


async def _seconds(verb: Callable[[Sequence[WirePlan]], Awaitable[None]], wires: Sequence[WirePlan]) -> float:
    started = time.perf_counter()
    for first in range(0, len(wires), BATCH):
        await verb(wires[first : first + BATCH])
    return time.perf_counter() - started


async def _latency(plane: KernelDataPlane, wires: Sequence[WirePlan]) -> list[float]:
    """Milliseconds of each single wire, made while nothing else happens."""
    taken: list[float] = []
    for wire in wires:
        started = time.perf_counter()
        await plane.ensure_wires([wire])
        taken.append(1000 * (time.perf_counter() - started))
    await plane.remove_wires(wires)
    return taken


async def _measure(count: int) -> list[Result]:
    plane = KernelDataPlane(INSTALLATION)
    made: list[float] = []
    removed: list[float] = []
    observed: list[float] = []
    async with namespace() as netns:
        ports = [_port(netns, index) for index in range(2 * count)]
        wires = [WirePlan(a=ports[i].device, b=ports[i + 1].device) for i in range(0, len(ports), 2)]
        try:
            started = time.perf_counter()
            await plane.ensure_ports(ports)
            ports_s = time.perf_counter() - started
            for _ in range(ROUNDS):
                made.append(await _seconds(plane.ensure_wires, wires))
                started = time.perf_counter()
                state = await plane.observe()
                observed.append(time.perf_counter() - started)
                assert sum(port.peer is not None for port in state.ports.values()) == 2 * count
                removed.append(await _seconds(plane.remove_wires, wires))
            single = await _latency(plane, wires)
        finally:
            started = time.perf_counter()
            await plane.remove_ports([port.device for port in ports])
            gone_s = time.perf_counter() - started
            await plane.close()
    return [
        measured(f"{count} wires: made", count / median(made), "wires/s", at_least=WIRES_PER_SECOND),
        measured(f"{count} wires: removed", count / median(removed), "wires/s", at_least=WIRES_PER_SECOND),
        measured(
            f"{count} wires: observed",
            median(observed),
            "s",
            at_most=OBSERVE_LIMIT_S if count >= OBSERVE_WIRES else None,
        ),
        measured(f"{count} wires: one more, 95 of 100 within", quantiles(single, n=20)[-1], "ms"),
        measured(f"{count} wires: their ports made", 2 * count / ports_s, "ports/s"),
        measured(f"{count} wires: their ports removed", 2 * count / gone_s, "ports/s"),
    ]


async def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=[100, 500, 1000, 2000], metavar="WIRES")
    arguments = options.parse_args()
    results: list[Result] = []
    for size in arguments.sizes:
        results += await _measure(size)
    report("wires", results, arguments.json)


if __name__ == "__main__":
    asyncio.run(main())
