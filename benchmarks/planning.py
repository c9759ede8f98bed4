"""How long the controller thinks: a lab planned whole, and planned again after one node has changed.

From a parsed topology to everything that ``wireloom plan`` shows and a deployment publishes: identities, placement,
preflight, the slices of all hosts, and the changes with their reasons. Reading the topology's text, and writing the lab
into a database, are measured beside it. Hosts are facts only; nothing is sent.

    python benchmarks/planning.py                 # the curve from 100 to 10,000 nodes
    python benchmarks/planning.py --nodes 1000
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from common import Result, measured, median, parser, report

from wireloom.app import collect_rarely
from wireloom.controller.drafts import drafted_nodes, inspected
from wireloom.controller.far_links import way_warnings
from wireloom.controller.intents import definitions_of
from wireloom.controller.link_preflight import link_problems
from wireloom.controller.placing import Ground
from wireloom.controller.store import LabEdit, LabRecord, LabSnapshot, RevisionRecord, Store
from wireloom.controller.topologies import Topologies
from wireloom.devices import DeviceCatalogue
from wireloom.fabric.documents import HostFacts
from wireloom.model.runtime import Capabilities
from wireloom.model.slice import Slice
from wireloom.planning.placement import HostOffer

SIZES: Final = ((100, 2), (300, 6), (1_000, 20), (3_000, 60), (10_000, 200))
NODE_MB: Final = 128
ROUNDS: Final = 3


def topology_text(nodes: int) -> str:
    """A grid: each node has a link to the next one, and one to that of the next row; two links for each node."""
    row = max(int(nodes**0.5), 2)
    lines = ["name: big", "defaults: {device: linux, provider: docker, memory: 128}", "nodes:"]
    lines += [f"  n{number}: {{}}" for number in range(nodes)]
    lines.append("links:")
    lines += [f"  - [n{number}:eth1, n{(number + 1) % nodes}:eth2]" for number in range(nodes)]
    lines += [f"  - [n{number}:eth3, n{(number + row) % nodes}:eth4]" for number in range(nodes)]
    return "\n".join(lines) + "\n"


def ground(hosts: int, nodes: int) -> Ground:
    """Hosts that hold all nodes, each with a tenth to spare."""
    docker = Capabilities(name="docker", fractional_cpu=True, binds=True, exec=True, files=True)
    memory = int(nodes / hosts * NODE_MB * 1.1)
    names = [f"host-{number:03}" for number in range(hosts)]
    facts = {
        name: HostFacts(
            host=name, version="1", installation="i", time=0, cpus=64, memory_mb=memory, providers=(docker,)
        )
        for name in names
    }
    return Ground(facts, {name: HostOffer(name, memory_mb=memory, cpus=64) for name in names})


@dataclass
class Planner:
    """What the controller does for a plan, without asking anybody."""

    topologies: Topologies
    ground: Ground
    subnets: Mapping[str, str]

    def __post_init__(self) -> None:
        numbers = count(1)
        self._new_id: Callable[[], str] = lambda: f"{next(numbers):012x}"

    def plan(
        self, text: str, before: LabSnapshot | None, has: Mapping[str, Slice]
    ) -> tuple[LabSnapshot, dict[str, Slice]]:
        """The lab as it would be; ``text`` was parsed before."""
        topology = self.topologies.parse(text, source="big.yml", files={})
        nodes = drafted_nodes(topology, before, "lab", self._new_id)
        everyone = frozenset(node.name for node in nodes)
        placed, _ = inspected(nodes, topology, self.ground, everyone, allow_privileged=False)
        generation = before.lab.generation + 1 if before else 1
        after = LabSnapshot(
            lab=LabRecord(id="lab", name="big", created_at=0, generation=generation, revision=generation),
            revision=RevisionRecord(
                lab_id="lab", number=generation, topology=text, files={}, source="big.yml", sha256="", created_at=0
            ),
            nodes=tuple(placed),
            hosts=tuple(sorted({node.host for node in placed})),
            vnis=before.vnis if before else {},
        )
        slices = self.topologies.render(after, self.subnets)
        link_problems(has, slices, self.ground.facts)
        list(way_warnings(slices, self.ground.facts))
        changes = self.topologies.describe(before, after, self.subnets, tuple(has.values()))
        assert changes
        return after, slices


def seconds(work: Callable[[int], object]) -> float:
    """The median of some rounds, each of which is told its number."""
    taken = []
    for number in range(ROUNDS):
        gc.collect()
        begun = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - begun)
    return median(taken)


async def written(after: LabSnapshot, slices: Mapping[str, Slice], subnets: Mapping[str, str]) -> float:
    """Seconds to write a new lab into a database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(f"sqlite+aiosqlite:///{Path(folder) / 'wireloom.sqlite'}")
        try:
            edit = LabEdit(
                lab=after.lab,
                expected_generation=None,
                revision=after.revision,
                nodes=after.nodes,
                subnets=dict(subnets),
                definitions=definitions_of(slices),
            )
            begun = time.perf_counter()
            await store.apply(edit)
            return time.perf_counter() - begun
        finally:
            await store.close()


def run(nodes: int, hosts: int, devices: DeviceCatalogue) -> list[Result]:
    """All numbers of one size; those of the largest one have targets."""
    topologies = Topologies(devices=devices, installation="i", settings_schemas={}, domain="wl", encryption="none")
    subnets = {f"host-{number:03}": f"10.{number}.0.0/20" for number in range(hosts)}
    planner = Planner(topologies, ground(hosts, nodes), subnets)
    text = topology_text(nodes)
    edits = [text.replace("  n7: {}", f"  n7: {{memory: {NODE_MB + 1 + number}}}") for number in range(ROUNDS)]
    begun = time.perf_counter()
    topologies.parse(text, source="big.yml", files={})
    parsed = time.perf_counter() - begun
    for edited in edits:
        topologies.parse(edited, source="big.yml", files={})
    whole = seconds(lambda _: planner.plan(text, None, {}))
    before, has = planner.plan(text, None, {})
    single = seconds(lambda number: planner.plan(edits[number], before, has))
    hosts_of = {node.name: node.host for node in before.nodes}
    topology = topologies.parse(text, source="big.yml", files={})
    across = sum(hosts_of[link.a.node] != hosts_of[link.b.node] for link in topology.links)
    limits = (1.0, 0.05) if nodes >= SIZES[-1][0] else (None, None)
    size = f"{nodes:,} nodes, {hosts} hosts"
    return [
        measured(f"{size}: whole plan", whole, "s", at_most=limits[0]),
        measured(f"{size}: one node changed", single, "s", at_most=limits[1]),
        measured(f"{size}: text parsed", parsed, "s"),
        measured(f"{size}: written to SQLite", asyncio.run(written(before, has, subnets)), "s"),
        measured(f"{size}: links between hosts", 100 * across / len(topology.links), "%"),
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--nodes", type=int, help="one size alone, with a host for each 50 nodes")
    given = arguments.parse_args()
    sizes = SIZES if given.nodes is None else ((given.nodes, max(given.nodes // 50, 1)),)
    devices = DeviceCatalogue.load()
    collect_rarely()  # as the controller does
    run(*SIZES[0], devices)  # models are built at their first use
    results = [result for nodes, hosts in sizes for result in run(nodes, hosts, devices)]
    report("planning", results, given.json)


if __name__ == "__main__":
    main()
