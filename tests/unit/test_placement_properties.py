"""What holds of placement whatever the lab and the hosts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from wireloom.errors import Unsupported, WireloomError
from wireloom.planning.placement import HostOffer, NodeWish, Placement, PlacementOptions, place

NAMES = [f"n{number}" for number in range(9)]
HOSTS = ["h1", "h2", "h3", "h4"]
OVERCOMMIT = 1.5


@dataclass(frozen=True)
class Case:
    nodes: list[NodeWish]
    links: list[tuple[str, str]]
    segments: dict[str, list[str]]
    hosts: dict[str, HostOffer]
    unsuited: frozenset[tuple[str, str]]  # kind of node, host

    def placed(self, **changes: object) -> Placement:
        kinds = {node.name: node.kind for node in self.nodes}

        def suits(node: str, host: str) -> WireloomError | None:
            return Unsupported(f"not on {host}", node=node) if (kinds[node], host) in self.unsuited else None

        case = replace(self, **changes)  # type: ignore[arg-type]
        options = PlacementOptions(overcommit_memory=OVERCOMMIT, overcommit_cpu=2)
        return place(case.nodes, case.links, case.segments, case.hosts, options=options, suits=suits)


def told(placement: Placement) -> object:
    """Errors are compared by what they say."""
    return {name: (one.host, one.reasons, one.rejected, str(one.error)) for name, one in placement.choices.items()}


def wishes(name: str) -> st.SearchStrategy[NodeWish]:
    return st.builds(
        NodeWish,
        name=st.just(name),
        memory_mb=st.sampled_from([0, 100, 300, 700]),
        cpus=st.sampled_from([0, 1, 2]),
        kind=st.sampled_from(["container", "vm"]),
        pin=st.sampled_from([None, None, None, *HOSTS, "away"]),
        current=st.sampled_from([None, None, *HOSTS, "away"]),
        labels=st.sampled_from([{}, {}, {"rack": "a"}]),
        apart=st.sampled_from([(), (), ("x",), ("x", "y")]),
        apart_preferred=st.sampled_from([(), ("z",)]),
        image=st.just(("docker", "frr")),
    )


def offers(name: str) -> st.SearchStrategy[HostOffer]:
    return st.builds(
        HostOffer,
        name=st.just(name),
        memory_mb=st.sampled_from([0, 500, 1000, 4000]),
        cpus=st.sampled_from([0, 2, 8]),
        used_mb=st.sampled_from([0, 400]),
        closed=st.sampled_from(["", "", "", "the host is cordoned"]),
        labels=st.sampled_from([{}, {"rack": "a"}, {"rack": "b"}]),
        images=st.sampled_from([frozenset(), frozenset({("docker", "frr")})]),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    some = st.lists(st.sampled_from(names), max_size=3, unique=True)
    return Case(
        nodes=[draw(wishes(name)) for name in names],
        links=draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=12)),
        segments={name: draw(some) for name in draw(st.sampled_from([(), ("lan",), ("lan", "wan")]))},
        hosts={name: draw(offers(name)) for name in draw(st.lists(st.sampled_from(HOSTS), unique=True))},
        unsuited=draw(st.frozensets(st.tuples(st.sampled_from(["container", "vm"]), st.sampled_from(HOSTS)))),
    )


@given(cases())
def test_every_node_has_a_host_or_an_error(case: Case) -> None:
    choices = case.placed().choices
    assert choices.keys() == {node.name for node in case.nodes}
    assert all(choice.host is not None or choice.error is not None for choice in choices.values())


@given(cases())
def test_a_pin_is_kept_or_refused(case: Case) -> None:
    choices = case.placed().choices
    for node in case.nodes:
        if node.pin is not None:
            stays = choices[node.name].error is not None and choices[node.name].host == node.current
            assert choices[node.name].host == node.pin or stays


@given(cases())
def test_what_exists_stays_unless_the_topology_names_another_host(case: Case) -> None:
    choices = case.placed().choices
    for node in case.nodes:
        if node.current is not None:
            assert choices[node.name].host in {node.current, node.pin}


@given(cases())
def test_what_is_new_on_a_host_may_be_there(case: Case) -> None:
    choices = case.placed().choices
    for node in case.nodes:
        host = choices[node.name].host
        if host is None or host == node.current:
            continue
        offer = case.hosts[host]
        assert not offer.closed
        assert node.labels.items() <= dict(offer.labels).items()
        assert (node.kind, host) not in case.unsuited


@given(cases())
def test_no_host_is_given_more_than_it_may_be_promised(case: Case) -> None:
    choices = case.placed().choices
    used: Counter[str] = Counter({name: offer.used_mb for name, offer in case.hosts.items()})
    fixed: Counter[str] = Counter()
    for node in case.nodes:
        host = choices[node.name].host
        if host is not None:
            used[host] += node.memory_mb
            fixed[host] += node.memory_mb if host == node.current else 0
    for name, offer in case.hosts.items():
        new = used[name] - fixed[name] - offer.used_mb
        assert not (new and offer.memory_mb) or used[name] <= offer.memory_mb * OVERCOMMIT


@given(cases())
def test_nodes_of_a_group_share_a_host_only_where_they_exist_already(case: Case) -> None:
    choices = case.placed().choices
    there: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for node in case.nodes:
        host = choices[node.name].host
        for group in node.apart if host in case.hosts else ():
            there[group, str(host)].append(host == node.current)
    assert all(len(stay) == 1 or all(stay) for stay in there.values())


@given(cases())
def test_a_segment_without_fixed_nodes_is_on_one_host(case: Case) -> None:
    free = [replace(node, pin=None, current=None) for node in case.nodes]
    placement = case.placed(nodes=free)
    for members in case.segments.values():
        assert len({placement.host(name) for name in members}) <= 1


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_in_which_hosts_are_told_does_not_matter(case: Case, random: Random) -> None:
    shuffled = [*case.hosts.items()]
    random.shuffle(shuffled)
    assert told(case.placed(hosts=dict(shuffled))) == told(case.placed())


@given(cases())
def test_what_is_placed_stays_when_it_is_placed_again(case: Case) -> None:
    first = case.placed()
    again = [
        replace(node, current=first.host(node.name)) if first.choices[node.name].error is None else node
        for node in case.nodes
    ]
    second = case.placed(nodes=again)
    for node in case.nodes:
        if first.choices[node.name].error is None:
            assert second.host(node.name) == first.host(node.name)
