"""How long the intent of a large lab takes to reach all of its hosts, over a real NATS server.

Each host has a login and a connection of its own, in this process. The slices are put one after another, as the
controller's publisher does; the time ends when the last host has its own. The database is not part of it.

    python benchmarks/scale.py               # the curve from 100 to 10,000 nodes
    python benchmarks/scale.py --nodes 1000
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from common import Result, measured, parser, report
from planning import SIZES, Planner, ground, topology_text

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "contract"))

from fabric_rig import rig

from wireloom.controller.topologies import Topologies
from wireloom.devices import DeviceCatalogue
from wireloom.fabric.connection import Fabric
from wireloom.model.slice import Slice

TARGET_S: Final = 5.0
_DEADLINE_S: Final = 120.0


def planned(nodes: int, hosts: int, devices: DeviceCatalogue) -> Mapping[str, Slice]:
    """What each host is to have of a lab of this size."""
    topologies = Topologies(devices=devices, installation="i", settings_schemas={}, domain="wl", encryption="none")
    subnets = {f"host-{number:03}": f"10.{number}.0.0/20" for number in range(hosts)}
    return Planner(topologies, ground(hosts, nodes), subnets).plan(topology_text(nodes), None, {})[1]


async def _has(agent: Fabric, host: str, wanted: Slice) -> None:
    async for change in agent.watch_intents(host):
        if change.value == wanted:
            return


async def distributed(slices: Mapping[str, Slice]) -> float:
    """Seconds from the first put until the last host has read what it was given."""
    with tempfile.TemporaryDirectory() as folder:
        async with rig(Path(folder)) as made, asyncio.timeout(_DEADLINE_S):
            agents = {host: await made.agent(host) for host in slices}
            waiting = [asyncio.create_task(_has(agents[host], host, slices[host])) for host in slices]
            await asyncio.sleep(1)  # until all of them watch
            begun = time.perf_counter()
            for host, document in slices.items():
                await made.controller.put_intent(host, document)
            await asyncio.gather(*waiting)
            return time.perf_counter() - begun


def run(nodes: int, hosts: int, devices: DeviceCatalogue) -> Result:
    limit = TARGET_S if nodes >= SIZES[-1][0] else None
    took = asyncio.run(distributed(planned(nodes, hosts, devices)))
    return measured(f"{nodes:,} nodes, {hosts} hosts: intent at all hosts", took, "s", at_most=limit)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--nodes", type=int, help="one size alone, with a host for each 50 nodes")
    given = arguments.parse_args()
    sizes = SIZES if given.nodes is None else ((given.nodes, max(given.nodes // 50, 1)),)
    devices = DeviceCatalogue.load()
    report("scale", [run(nodes, hosts, devices) for nodes, hosts in sizes], given.json)


if __name__ == "__main__":
    main()
