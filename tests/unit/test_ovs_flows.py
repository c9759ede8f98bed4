"""Flows of wires as text, and what is read back of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wireloom.dataplane.ovs.flows import (
    HIGHEST_PORT,
    TUNNEL_PORT,
    cookie_of,
    cut,
    forget,
    free_numbers,
    join,
    parse_outputs,
    send,
    take,
)

DUMP = """\
 cookie=0x574c0a1b2c3d4e5f, priority=100,in_port=1 actions=output:2
 cookie=0x574c0a1b2c3d4e5f, priority=100,in_port=2 actions=output:1
 cookie=0x0, priority=100,in_port=3 actions=drop
 cookie=0x0, priority=0 actions=NORMAL
"""


def test_flow_sends_all_frames_of_a_port_to_another() -> None:
    assert join(3, 4, 0x574C000000000001) == "add cookie=0x574c000000000001,priority=100,in_port=3,actions=output:4"


def test_wire_to_another_host_is_a_tunnel_there_and_back() -> None:
    there = "set_field:7->tun_id,set_field:192.0.2.2->tun_dst,output:65000"
    assert send(3, 7, "192.0.2.2", 1) == f"add cookie=0x1,priority=100,in_port=3,actions={there}"
    assert take(7, 3, 1) == "add cookie=0x1,priority=100,in_port=65000,tun_id=7,actions=output:3"


def test_cut_takes_away_exactly_the_flow_of_a_wire() -> None:
    assert cut(3) == "delete_strict priority=100,in_port=3"


def test_number_that_is_given_away_again_has_no_flows() -> None:
    assert forget(7) == ["delete in_port=7", "delete out_port=7"]


def test_dump_is_read_back_without_flows_of_others() -> None:
    assert parse_outputs(DUMP) == {1: 2, 2: 1}
    assert parse_outputs("") == {}


def test_cookie_tells_the_wire_whatever_end_it_is_named_by() -> None:
    assert cookie_of("a", "b") == cookie_of("b", "a") != cookie_of("a", "c")
    assert cookie_of("a", "b") >> 48 == int.from_bytes(b"WL")


@given(taken=st.sets(st.integers(1, HIGHEST_PORT), max_size=50), count=st.integers(0, 50))
def test_numbers_are_free_and_each_is_given_once(taken: set[int], count: int) -> None:
    names = [f"p{index}" for index in range(count)]
    numbers = free_numbers(taken, names)
    assert list(numbers) == names
    assert len(set(numbers.values())) == count
    assert not set(numbers.values()) & (taken | {TUNNEL_PORT})


def test_numbers_run_out() -> None:
    assert free_numbers(range(1, HIGHEST_PORT), ["a", "b"]) == {"a": HIGHEST_PORT}
