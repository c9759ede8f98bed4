"""Planning with what the last time left: the same as from nothing, whatever came before."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from wireloom.devices import DeviceCatalogue
from wireloom.model.slice import Slice
from wireloom.model.topology import Topology
from wireloom.planning.changes import describe_changes
from wireloom.planning.expand import Expansion, NodeCounters, expand
from wireloom.planning.remembered import Remembered, sharing_parts
from wireloom.planning.topology import parse_topology

CATALOGUE = DeviceCatalogue.load()
NAMES = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Step:
    """A lab at one moment: what is written, and what is known beside it."""

    topology: Topology
    known: Expansion


@st.composite
def steps(draw: st.DrawFn) -> Step:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    lines = ["name: lab", "nodes:"]
    for name in names:
        provider = draw(st.sampled_from(["docker", "libvirt"]))
        first = f", depends-on: {{{names[0]}: running}}" if name != names[0] and draw(st.booleans()) else ""
        memory = draw(st.sampled_from([256, 512]))
        lines.append(f"  {name}: {{device: linux, provider: {provider}, memory: {memory}{first}}}")
    pairs = [(one, two) for one in names for two in names if one < two]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    if chosen:
        lines.append("links:")
    for number, (one, two) in enumerate(chosen, 1):
        mtu = draw(st.sampled_from([1500, 9000]))
        lines.append(f"- {{endpoints: [{one}:eth{number}, {two}:eth{number}], mtu: {mtu}}}")
    topology = parse_topology("\n".join(lines) + "\n", devices=CATALOGUE).topology
    counter = st.integers(0, 2)
    known = Expansion(
        installation="inst",
        lab_id="lab-1",
        generation=draw(counter),
        devices=CATALOGUE,
        ids={name: f"id-{name}{draw(st.sampled_from(['', '2']))}" for name in names},
        host_of={name: draw(st.sampled_from(["h1", "h2"])) for name in names},
        mgmt_ipv4={name: f"172.30.128.{draw(counter) + 2}" for name in names if draw(st.booleans())},
        counters={name: NodeCounters(attention=draw(counter), restarts=draw(counter)) for name in names},
        spare_providers=frozenset({"libvirt"}),
        vnis=draw(st.sampled_from([{}, {"some": 5}])),
        allow_privileged=draw(st.booleans()),
    )
    return Step(topology, known)


@given(st.lists(steps(), min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_is_remembered_changes_no_result(course: list[Step]) -> None:
    remembered = Remembered()
    before: Topology | None = None
    deployed: dict[str, Slice] = {}
    hosts: dict[str, str] = {}
    for step in course:
        topology = step.topology if before is None else sharing_parts(step.topology, before)
        assert topology == step.topology
        quick = replace(step.known, remembered=remembered)
        slices = expand(topology, quick)
        assert slices == expand(step.topology, step.known)
        told = describe_changes(before, topology, quick, old_host_of=hosts, deployed=deployed.values())
        plain = describe_changes(before, step.topology, step.known, old_host_of=hosts, deployed=deployed.values())
        assert told == plain
        before, deployed, hosts = topology, slices, dict(step.known.host_of)


@given(steps())
@settings(max_examples=20, deadline=None)
def test_nodes_that_did_not_change_are_the_very_same(step: Step) -> None:
    quick = replace(step.known, remembered=Remembered())
    first, second = (expand(step.topology, quick) for _ in range(2))
    for host, document in first.items():
        assert all(one is two for one, two in zip(document.nodes, second[host].nodes, strict=True))


@given(steps())
@settings(max_examples=20, deadline=None)
def test_a_node_that_gets_another_chance_is_no_change(step: Step) -> None:
    deployed = expand(step.topology, step.known)
    again = {name: one.model_copy(update={"attention": one.attention + 1}) for name, one in step.known.counters.items()}
    known = replace(step.known, counters=again)
    hosts = dict(step.known.host_of)
    assert describe_changes(step.topology, step.topology, known, old_host_of=hosts, deployed=deployed.values()) == ()
