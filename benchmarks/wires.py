"""Wires made and removed, the cost of one beside many, and how soon a new agent finds nothing to do.

A wire joins two ports that exist already, both ways. Everything goes through the data plane's own verbs, in batches
as the agent sends them. The restart is a new process: interpreter, the agent's code, the intent of all wires, one look
at the host, a plan that says "nothing to do"; its engines are not asked. Needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final

from common import Result, compared, measured, median, parser, report

from wireloom.dataplane.host.plane import HostDataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import PortAlias, PortPlan, WirePlan
from wireloom.model.runtime import Capabilities, RuntimeStatus
from wireloom.model.slice import NodeIntent, PortIntent, PortRef, Slice, WireIntent
from wireloom.model.state import RuntimePhase
from wireloom.testing.guests import namespace

PLANES: Final[dict[str, Callable[[str], HostDataPlane]]] = {"kernel": KernelDataPlane, "ovs": OvsDataPlane}
INSTALLATION: Final = "benchmark-wires"
BATCH: Final = 100
ROUNDS: Final = 5
RESTARTS: Final = 3
#: Ports of one node.
PORTS: Final = 40
#: From the project's own list of what has to hold on one host, seconds.
WIRES, MADE_S, REMOVED_S, RESTARTED_S = 2000, 4.0, 4.0, 2.0
#: How much more one of 2,000 wires may cost than one of 100.
FLAT: Final = 1.5


def _intent(count: int) -> Slice:
    """A lab of ``count`` wires: each joins two neighbouring ports."""
    nodes = [
        NodeIntent(
            id=f"node-{first // PORTS}",
            name=f"node-{first // PORTS}",
            device="d",
            provider="alpha",
            image="i",
            ports=tuple(_port_intent(index) for index in range(first, min(first + PORTS, 2 * count))),
        )
        for first in range(0, 2 * count, PORTS)
    ]
    refs = [PortRef(node_id=node.id, index=port.index) for node in nodes for port in node.ports]
    wires = [WireIntent(id=f"w{i}", a=refs[i], b=refs[i + 1]) for i in range(0, len(refs), 2)]
    return Slice(
        installation=INSTALLATION, lab_id="lab", lab="wires", generation=1, nodes=tuple(nodes), wires=tuple(wires)
    )


def _port_intent(index: int) -> PortIntent:
    name = f"eth{index}"
    device, mac = device_name("p", INSTALLATION, index), mac_address(INSTALLATION, index)
    return PortIntent(index=index, name=name, guest_name=name, device=device, mac=mac)


def _port(netns: str, node: NodeIntent, port: PortIntent) -> PortPlan:
    alias = PortAlias(
        installation=INSTALLATION,
        lab_id="lab",
        node_id=node.id,
        index=port.index,
        name=f"wires/{node.name}/{port.name}",
    )
    return PortPlan(
        device=port.device,
        alias=alias,
        attachment=NamespaceAttachment(netns=netns),
        guest_name=port.guest_name,
        mac=port.mac,
        carrier=True,
    )


async def _seconds(verb: Callable[[Sequence[WirePlan]], Awaitable[None]], wires: Sequence[WirePlan]) -> float:
    started = time.perf_counter()
    for first in range(0, len(wires), BATCH):
        await verb(wires[first : first + BATCH])
    return time.perf_counter() - started


async def _latency(plane: HostDataPlane, wires: Sequence[WirePlan]) -> list[float]:
    """Milliseconds of each single wire, made while nothing else happens."""
    taken: list[float] = []
    for wire in wires:
        started = time.perf_counter()
        await plane.ensure_wires([wire])
        taken.append(1000 * (time.perf_counter() - started))
    await plane.remove_wires(wires)
    return taken


def _restarts(lab: Slice, dataplane: str) -> list[float]:
    """Seconds from the start of a new agent's process until it has found nothing to do."""
    taken: list[float] = []
    with tempfile.NamedTemporaryFile("w", suffix=".json") as intent:
        intent.write(lab.model_dump_json())
        intent.flush()
        for _ in range(RESTARTS):
            started = time.perf_counter()
            command = [sys.executable, __file__, "--restarted", intent.name, "--dataplane", dataplane]
            subprocess.run(command, check=True, timeout=60)
            taken.append(time.perf_counter() - started)
    return taken


async def _restarted(intent: Path, dataplane: str) -> None:
    """What a new agent does with the intent, as far as wires are concerned."""
    import wireloom.agent.service  # noqa: F401 - all that an agent loads
    from wireloom.agent.network import HostNetwork
    from wireloom.planning.plan import NodeRecord, Observed, plan

    lab = Slice.model_validate_json(intent.read_bytes())
    network = HostNetwork(PLANES[dataplane](INSTALLATION))
    await network.refresh()
    observed = Observed(
        runtimes={node.id: _running(lab, node) for node in lab.nodes},
        records={node.id: NodeRecord(incarnation=node.incarnation) for node in lab.nodes},
        network=network.state,
        capabilities={"alpha": Capabilities(name="alpha", attachments="gated", carrier="device")},
    )
    decided = plan(lab, observed, time.time())
    await network.dataplane.close()
    assert decided.empty, f"there was something to do: {decided}"


def _running(lab: Slice, node: NodeIntent) -> RuntimeStatus:
    return RuntimeStatus(
        runtime_id=node.id,
        name=node.name,
        identity=lab.identity(node),
        incarnation=node.incarnation,
        spec_hash=node.spec_hash(),
        phase=RuntimePhase.RUNNING,
    )


async def _measure(count: int, dataplane: str) -> tuple[list[Result], float, float]:
    """Results; and the milliseconds that one of ``count`` wires took to be made, and to be removed."""
    plane = PLANES[dataplane](INSTALLATION)
    lab = _intent(count)
    made: list[float] = []
    removed: list[float] = []
    observed: list[float] = []
    async with namespace() as netns:
        ports = [_port(netns, node, port) for node in lab.nodes for port in node.ports]
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
            await plane.ensure_wires(wires)
            restarted = await asyncio.to_thread(_restarts, lab, dataplane)
        finally:
            started = time.perf_counter()
            await plane.remove_ports([port.device for port in ports])
            gone_s = time.perf_counter() - started
            await plane.close()
    full = count >= WIRES
    results = [
        measured(f"{count} wires: made", median(made), "s", at_most=MADE_S if full else None),
        measured(f"{count} wires: removed", median(removed), "s", at_most=REMOVED_S if full else None),
        measured(f"{count} wires: observed", median(observed), "s"),
        measured(
            f"{count} wires: a new agent finds nothing to do",
            median(restarted),
            "s",
            at_most=RESTARTED_S if full else None,
        ),
        measured(f"{count} wires: one more, 95 of 100 within", quantiles(single, n=20)[-1], "ms"),
        measured(f"{count} wires: their ports made", 2 * count / ports_s, "ports/s"),
        measured(f"{count} wires: their ports removed", 2 * count / gone_s, "ports/s"),
    ]
    return results, 1000 * median(made) / count, 1000 * median(removed) / count


def _growth(name: str, costs: Sequence[tuple[int, float]]) -> Result:
    """The cost of one of many wires beside that of one of few."""
    (few, small), *_, (many, large) = costs
    return compared(f"one of {many} wires {name}, beside one of {few}", large, small, "ms", at_most=FLAT)


async def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=[100, 500, 1000, WIRES], metavar="WIRES")
    options.add_argument("--dataplane", choices=PLANES, default="kernel")
    options.add_argument("--restarted", type=Path, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.restarted is not None:
        await _restarted(arguments.restarted, arguments.dataplane)
        return
    results: list[Result] = []
    making: list[tuple[int, float]] = []
    removing: list[tuple[int, float]] = []
    for size in arguments.sizes:
        found, made_ms, removed_ms = await _measure(size, arguments.dataplane)
        results += found
        making.append((size, made_ms))
        removing.append((size, removed_ms))
    if len(arguments.sizes) > 1:
        results += [_growth("made", making), _growth("removed", removing)]
    report("wires", results, arguments.json)


if __name__ == "__main__":
    asyncio.run(main())
