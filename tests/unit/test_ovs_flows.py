"""Flows of wires as text, and what is read back of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wireloom.dataplane.ovs.flows import (
    HIGHEST_PORT,
    TUNNEL_PORT,
    Flows,
    Way,
    cookie_of,
    cut,
    cut_take,
    forget,
    free_numbers,
    join,
    parse_flows,
    send,
    take,
)

DUMP = """\
 cookie=0x574c0a1b2c3d4e5f, priority=100,in_port=1 actions=output:2
 cookie=0x574c0a1b2c3d4e5f, priority=100,in_port=2 actions=output:1
 cookie=0x0, priority=100,in_port=3 actions=drop
 cookie=0x574c0a1b2c3d4e60, priority=100,in_port=5 actions=set_field:0x7->tun_id,set_field:192.0.2.2->tun_dst,output:65000
 cookie=0x574c0a1b2c3d4e60, priority=100,tun_id=0x7,in_port=65000 actions=output:5
 priority=100,in_port=6 actions=set_field:0x8->tun_id,set_field:2001:db8::2->tun_ipv6_dst,set_field:2001:db8::1->tun_ipv6_src,output:65000
 priority=100,tun_id=0x8,tun_ipv6_dst=2001:db8::1,in_port=65000 actions=output:6
 priority=100,tun_id=0x9,tun_dst=192.0.2.1,in_port=65000 actions=output:7
 cookie=0x0, priority=0 actions=NORMAL
"""  # noqa: E501 - as it is printed


def test_flow_sends_all_frames_of_a_port_to_another() -> None:
    assert join(3, 4, 0x574C000000000001) == "add cookie=0x574c000000000001,priority=100,in_port=3,actions=output:4"


def test_wire_to_another_host_is_a_tunnel_there_and_back() -> None:
    there = "set_field:7->tun_id,set_field:192.0.2.2->tun_dst,output:65000"
    assert send(3, Way(7, "192.0.2.2"), 1) == f"add cookie=0x1,priority=100,in_port=3,actions={there}"
    assert take(7, "", 3, 1) == "add cookie=0x1,priority=100,in_port=65000,tun_id=7,actions=output:3"


def test_tunnel_from_an_address_takes_what_comes_to_that_address() -> None:
    way = "set_field:7->tun_id,set_field:2001:db8::2->tun_ipv6_dst,set_field:2001:db8::1->tun_ipv6_src,output:65000"
    assert send(3, Way(7, "2001:db8::2", "2001:db8::1"), 1).endswith(f"in_port=3,actions={way}")
    assert "in_port=65000,tun_id=7,tun_dst=192.0.2.1,actions=output:3" in take(7, "192.0.2.1", 3, 1)
    assert cut_take(7, "192.0.2.1") == "delete_strict priority=100,in_port=65000,tun_id=7,tun_dst=192.0.2.1"


def test_cut_takes_away_exactly_the_flow_of_a_wire() -> None:
    assert cut(3) == "delete_strict priority=100,in_port=3"


def test_number_that_is_given_away_again_has_no_flows() -> None:
    assert forget(7) == ["delete in_port=7", "delete out_port=7"]


def test_dump_is_read_back_without_flows_of_others() -> None:
    assert parse_flows(DUMP) == Flows(
        outputs={1: 2, 2: 1},
        sends={5: Way(7, "192.0.2.2"), 6: Way(8, "2001:db8::2", "2001:db8::1")},
        takes={(7, ""): 5, (8, "2001:db8::1"): 6, (9, "192.0.2.1"): 7},
    )
    assert parse_flows("") == Flows()


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
