"""The planner over thousands of nodes: the right number of actions, found by looking at each node a fixed few times."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import pytest
from test_plan import BOOT, CAPABILITIES, NOW, converged, make_node, make_slice, make_wire, verbs

from wireloom.model.network import DataPlaneState
from wireloom.model.slice import Slice
from wireloom.planning.plan import Observed, Verb, plan

SIZE = 2_000
Item = TypeVar("Item")


class Counted(Mapping[str, Item]):
    """Counts how often an item is looked at, by key or in passing."""

    def __init__(self, items: Mapping[str, Item]) -> None:
        self._items = items
        self.looks = 0

    def __getitem__(self, key: str) -> Item:
        self.looks += 1
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        for key in self._items:
            self.looks += 1
            yield key

    def __len__(self) -> int:
        return len(self._items)


def chain(size: int) -> Slice:
    nodes = [make_node(f"n{number}", "beta" if number % 3 == 0 else "alpha") for number in range(size)]
    return make_slice(*nodes, wires=tuple(make_wire(a, b) for a, b in itertools.pairwise(nodes)))


def test_every_node_of_a_new_large_lab_comes_up() -> None:
    lab = chain(SIZE)
    decided = plan(lab, Observed(capabilities=CAPABILITIES, host_boot=BOOT), NOW)
    assert verbs(decided) == {node.id: Verb.UP for node in lab.nodes}
    assert len(decided.nodes) == SIZE
    assert decided.wires.empty


def test_an_edited_large_lab_has_one_action_and_no_wire_to_change() -> None:
    lab = chain(SIZE)
    edited = lab.nodes[7].model_copy(update={"image": "other"})
    wanted = lab.model_copy(update={"nodes": (*lab.nodes[:7], edited, *lab.nodes[8:])})
    decided = plan(wanted, converged(lab), NOW)
    assert verbs(decided) == {edited.id: Verb.RECREATE}
    assert decided.wires.empty


def test_planning_looks_at_each_node_equally_often_in_small_and_large_labs() -> None:
    # The ends of the chain have one port without a wire.
    assert looks(SIZE) / SIZE == pytest.approx(looks(100) / 100, rel=0.01)


def looks(size: int) -> int:
    """How often the planner looks at runtimes, records and host ports of a converged lab."""
    lab = chain(size)
    observed = converged(lab)
    runtimes, records, ports = (
        Counted(items) for items in (observed.runtimes, observed.records, observed.network.ports)
    )
    network = DataPlaneState.model_construct(ports=ports, segments={})
    assert plan(lab, replace(observed, runtimes=runtimes, records=records, network=network), NOW).empty
    return runtimes.looks + records.looks + ports.looks
