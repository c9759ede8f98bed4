"""Placement: what fixes a node to a host, what a host must have, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from wireloom.errors import CapacityExceeded, Conflict, Unavailable, Unsupported, WireloomError
from wireloom.planning.placement import HostOffer, NodeWish, Placement, PlacementOptions, place

BIG, SMALL = HostOffer("big", memory_mb=8000), HostOffer("small", memory_mb=1000)
TWO = {"big": BIG, "small": SMALL}
NO_LINKS: list[tuple[str, str]] = []


def hosts_of(placement: Placement) -> dict[str, str | None]:
    return {name: choice.host for name, choice in placement.choices.items()}


def together(*names: str, **fields: object) -> list[NodeWish]:
    return [NodeWish(name, **fields) for name in names]  # type: ignore[arg-type]


def twins(*names: str, memory_mb: int = 1000) -> dict[str, HostOffer]:
    return {name: HostOffer(name, memory_mb=memory_mb) for name in names}


@pytest.mark.parametrize(
    ("nodes", "hosts"),
    [
        ([NodeWish("a")], {"a": "big"}),
        ([NodeWish("a", pin="small"), NodeWish("b")], {"a": "small", "b": "small"}),
        ([NodeWish("a", current="small"), NodeWish("b")], {"a": "small", "b": "small"}),
        ([NodeWish("a", current="lost")], {"a": "lost"}),
        ([NodeWish("a", pin="lost")], {"a": None}),
        ([NodeWish("a", pin="lost", current="lost")], {"a": "lost"}),
        ([NodeWish("a", pin="big", current="small")], {"a": "big"}),
        ([NodeWish("a", pin="lost", current="small")], {"a": "small"}),
    ],
)
def test_pins_are_kept_or_refused_and_what_exists_stays(nodes: list[NodeWish], hosts: dict[str, str | None]) -> None:
    assert hosts_of(place(nodes, [("a", "b")], {}, TWO)) == hosts


def test_a_pin_falls_back_to_no_other_host_and_says_why() -> None:
    choice = place([NodeWish("a", pin="small", memory_mb=4000)], [], {}, TWO).choices["a"]
    assert choice.host is None
    assert isinstance(choice.error, CapacityExceeded)
    assert choice.rejected == {"small": choice.error.message}
    assert "4000 MiB" in choice.error.message


def test_a_node_whose_pin_cannot_be_had_stays_where_it_is() -> None:
    choice = place([NodeWish("a", pin="lost", current="small")], [], {}, TWO).choices["a"]
    assert choice.host == "small"
    assert isinstance(choice.error, Unavailable)


def test_without_hosts_nothing_is_placed() -> None:
    choice = place([NodeWish("a")], [], {}, {}).choices["a"]
    assert choice.host is None
    assert isinstance(choice.error, Unavailable)


def test_what_does_not_fit_blocks_itself_alone() -> None:
    nodes = [NodeWish("huge", memory_mb=9000), *together("a", "b", memory_mb=100)]
    placement = place(nodes, [("huge", "a"), ("a", "b")], {}, TWO)
    assert hosts_of(placement) == {"huge": None, "a": "big", "b": "big"}
    error = placement.choices["huge"].error
    assert isinstance(error, CapacityExceeded)
    assert set(placement.choices["huge"].rejected) == {"big", "small"}
    assert "big" in error.message
    assert "small" in error.message


def test_hosts_are_filled_before_memory_is_promised_twice() -> None:
    nodes = together("a", "b", "c", memory_mb=600)
    placement = place(nodes, [("a", "b"), ("b", "c")], {}, twins("one", "two", "three"))
    assert sorted(str(host) for host in hosts_of(placement).values()) == ["one", "three", "two"]


def test_memory_is_promised_twice_when_nothing_else_is_left() -> None:
    nodes = together("a", "b", "c", memory_mb=600)
    assert hosts_of(place(nodes, [], {}, twins("one"))) == {"a": "one", "b": "one", "c": "one"}
    strict = place(nodes, [], {}, twins("one"), options=PlacementOptions(overcommit_memory=1))
    assert [*hosts_of(strict).values()].count(None) == 2


def test_memory_of_other_labs_is_taken() -> None:
    hosts = {"one": HostOffer("one", memory_mb=1000, used_mb=900), "two": HostOffer("two", memory_mb=500)}
    assert hosts_of(place([NodeWish("a", memory_mb=300)], [], {}, hosts)) == {"a": "two"}


def test_cores_are_counted_when_the_setting_says_so() -> None:
    hosts = {name: HostOffer(name, cpus=2) for name in ("one", "two")}
    nodes = together("a", "b", cpus=2)
    assert len({*hosts_of(place(nodes, [("a", "b")], {}, hosts)).values()}) == 1
    apart = place(nodes, [("a", "b")], {}, hosts, options=PlacementOptions(overcommit_cpu=1))
    assert {*hosts_of(apart).values()} == {"one", "two"}
    third = place([*nodes, NodeWish("c", cpus=2)], [], {}, hosts, options=PlacementOptions(overcommit_cpu=1))
    assert "cores" in str(third.choices["c"].error)


def test_a_closed_host_takes_nothing_new_and_keeps_what_it_has() -> None:
    hosts = {"big": HostOffer("big", memory_mb=8000, closed="the host is cordoned"), "small": SMALL}
    nodes = [NodeWish("old", current="big"), NodeWish("new"), NodeWish("pinned", pin="big")]
    placement = place(nodes, [("old", "new")], {}, hosts)
    assert hosts_of(placement) == {"old": "big", "new": "small", "pinned": None}
    assert isinstance(placement.choices["pinned"].error, Conflict)
    assert "cordoned" in placement.choices["new"].rejected["big"]


def test_a_host_must_have_the_labels_that_are_wanted() -> None:
    hosts = {"big": BIG, "small": HostOffer("small", memory_mb=1000, labels={"rack": "b"})}
    placement = place([NodeWish("a", labels={"rack": "b"}), NodeWish("b", labels={"rack": "c"})], [], {}, hosts)
    assert hosts_of(placement) == {"a": "small", "b": None}
    assert isinstance(placement.choices["b"].error, Unsupported)
    assert "rack=b" in placement.choices["a"].rejected["big"]


def test_nodes_of_a_group_are_apart() -> None:
    nodes = together("a", "b", "c", apart=("spines",))
    placement = place(nodes, [("a", "b"), ("b", "c")], {}, TWO)
    found = hosts_of(placement)
    assert {host for host in found.values() if host} == {"big", "small"}
    lonely = next(name for name, host in found.items() if host is None)
    assert "spines" in str(placement.choices[lonely].error)


def test_nodes_that_had_rather_be_apart_share_a_host_when_there_is_no_other() -> None:
    nodes = together("a", "b", "c", apart_preferred=("spines",))
    found = [*hosts_of(place(nodes, [("a", "b"), ("b", "c")], {}, TWO)).values()]
    assert None not in found
    assert {*found} == {"big", "small"}


def test_a_new_node_is_apart_from_one_that_exists() -> None:
    nodes = [NodeWish("a", current="big", apart=("x",)), NodeWish("b", apart=("x",))]
    assert hosts_of(place(nodes, [("a", "b")], {}, TWO)) == {"a": "big", "b": "small"}


def test_nodes_of_a_segment_are_on_one_host() -> None:
    nodes = together("a", "b", "c", memory_mb=400)
    placement = place(nodes, [], {"lan": ["a", "c"]}, twins("one", "two"))
    assert placement.host("a") == placement.host("c") != placement.host("b")
    assert any("lan" in reason for reason in placement.choices["a"].reasons)


def test_nodes_go_to_where_their_segment_is() -> None:
    nodes = [NodeWish("a", current="small"), NodeWish("b"), NodeWish("c", pin="big")]
    placement = place(nodes, [], {"lan": ["a", "b", "c"]}, TWO)
    assert hosts_of(placement) == {"a": "small", "b": "small", "c": None}
    assert isinstance(placement.choices["c"].error, Unsupported)


def test_a_group_that_a_segment_holds_together_is_refused() -> None:
    placement = place(together("a", "b", apart=("x",)), [], {"lan": ["a", "b"]}, TWO)
    assert hosts_of(placement) == {"a": None, "b": None}
    assert "lan" in str(placement.choices["a"].error)


def test_a_segment_that_is_too_large_for_each_host_is_refused_as_a_whole() -> None:
    nodes = [*together("a", "b", memory_mb=900), NodeWish("c", memory_mb=100)]
    placement = place(nodes, [], {"lan": ["a", "b"]}, twins("one"), options=PlacementOptions(overcommit_memory=1))
    assert hosts_of(placement) == {"a": None, "b": None, "c": "one"}


def test_hosts_that_have_the_image_are_preferred() -> None:
    hosts = {"big": BIG, "small": HostOffer("small", memory_mb=1000, images=frozenset({("docker", "frr")}))}
    placement = place([NodeWish("a", image=("docker", "frr"))], [], {}, hosts)
    assert placement.host("a") == "small"
    assert "the image is there" in placement.choices["a"].reasons


def test_what_a_node_needs_is_asked_once_for_each_kind_and_host() -> None:
    asked: list[tuple[str, str]] = []

    def suits(node: str, host: str) -> WireloomError | None:
        asked.append((node, host))
        return Unsupported(f"host {host} has no KVM", node=node) if host == "big" else None

    placement = place(together("a", "b", "c", kind="vm"), [], {}, TWO, suits=suits)
    assert {*hosts_of(placement).values()} == {"small"}
    assert placement.choices["b"].rejected == {"big": "host big has no KVM"}
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        ({"big": Unsupported("no"), "small": Unavailable("engine down")}, Unavailable),
        ({"big": Unsupported("no"), "small": CapacityExceeded("full")}, CapacityExceeded),
        ({"big": Unsupported("no"), "small": Unsupported("nor")}, Unsupported),
    ],
)
def test_the_error_is_one_that_may_end_by_itself_where_one_of_them_may(
    reasons: Mapping[str, WireloomError], kind: type[WireloomError]
) -> None:
    placement = place([NodeWish("a")], [], {}, TWO, suits=lambda _, host: reasons[host])
    error = placement.choices["a"].error
    assert type(error) is kind
    assert error.details["hosts"] == {host: reason.message for host, reason in reasons.items()}


def test_two_halves_are_cut_where_the_fewest_wires_are() -> None:
    left, right = [f"l{number}" for number in range(8)], [f"r{number}" for number in range(8)]
    links = [(a, b) for side in (left, right) for a in side for b in side if a < b]
    nodes = together(*(name for pair in zip(left, right, strict=True) for name in pair), memory_mb=125)
    placement = place(nodes, [*links, ("l0", "r0")], {}, twins("one", "two"))
    assert len({placement.host(name) for name in left}) == len({placement.host(name) for name in right}) == 1
    assert placement.host("l0") != placement.host("r0")
