"""Addresses and routes that go to another device and come back: nothing is lost but what is the device's own."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest

from wireloom.dataplane.host import held
from wireloom.dataplane.host.attributes import attr, fields, text, u32
from wireloom.dataplane.host.protocol import NLM_F_CREATE, NLM_F_REPLACE

NIC, SEGMENT = 2, 9
FOREVER = 0xFFFFFFFF


def address(given: str, *, index: int = NIC, scope: int = 0, flags: int = 0, lasts: int = FOREVER) -> bytes:
    """One address as the kernel dumps it."""
    interface = ipaddress.ip_interface(given)
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBI", family, interface.network.prefixlen, 0x80, scope, index)
    body += attr(1, interface.packed) + (attr(2, interface.packed) + text(3, "eth0:x") if family == 2 else b"")
    return body + u32(8, 0x80 | flags) + attr(6, struct.pack("=IIII", min(lasts, 600), lasts, 5, 5))


def route(
    *attributes: bytes, family: int = 2, protocol: int = 4, size: int = 0, flags: int = 0, oif: int = NIC
) -> bytes:
    body = struct.pack("=BBBBBBBBI", family, size, 0, 0, 254, protocol, 0, 1, flags)
    return body + u32(15, 254) + b"".join(attributes) + u32(4, oif)


def ip(given: str) -> bytes:
    return ipaddress.ip_address(given).packed


def test_addresses_that_others_know_the_host_by_are_held() -> None:
    dump = [
        address("192.0.2.5/24"),
        address("198.51.100.1/24", index=SEGMENT),
        address("169.254.0.1/16", scope=253),
        address("fe80::1/64", scope=253),
        address("2001:db8::5/64"),
    ]
    assert [one.text for one in held.addresses_of(dump, NIC, 0)] == ["192.0.2.5/24", "2001:db8::5/64"]


def test_address_on_a_segment_does_not_run_out_and_has_no_label() -> None:
    (one,) = held.addresses_of([address("192.0.2.5/24", lasts=3600)], NIC, now=1000)
    request = held.give_address(one, SEGMENT, "wls1", at_home=False, now=1000)
    assert request.flags == NLM_F_CREATE | NLM_F_REPLACE
    assert struct.unpack_from("=BBBBI", request.body) == (2, 24, 0, 0, SEGMENT)
    values = fields(request.body, 8)
    assert {1: ip("192.0.2.5"), 2: ip("192.0.2.5")}.items() <= values.items()
    assert not {3, 6} & values.keys()


@pytest.mark.parametrize(("now", "preferred", "valid"), [(1100, 500, 3500), (4500, 300, 300), (9999, 300, 300)])
def test_address_at_home_lasts_as_long_as_it_was_meant_to(now: float, preferred: int, valid: int) -> None:
    (one,) = held.addresses_of([address("192.0.2.5/24", lasts=3600)], NIC, now=1000)
    values = fields(held.give_address(one, NIC, "eth0", at_home=True, now=now).body, 8)
    assert values[3] == b"eth0:x\0"
    assert struct.unpack("=IIII", values[6]) == (preferred, valid, 0, 0)


def test_flags_of_an_addresss_life_are_dropped_and_choices_kept() -> None:
    dump = [address("2001:db8::5/64", flags=0x01 | 0x08 | 0x40 | 0x200)]
    (one,) = held.addresses_of(dump, NIC, 0)
    values = fields(held.give_address(one, SEGMENT, "wls1", at_home=False, now=0).body, 8)
    assert struct.unpack("=I", values[8]) == (0x202,), "no probing, and no route to its network"


def test_addresses_are_given_so_that_they_are_shown_in_their_order() -> None:
    texts = ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64", "2001:db8::2/64"]
    found = held.addresses_of([address(one) for one in texts], NIC, 0)
    assert [one.text for one in held.in_order_of_giving(found)] == [*texts[:2], *reversed(texts[2:])]


def test_routes_are_held_those_by_gateways_last() -> None:
    dump = [
        route(attr(5, ip("192.0.2.254")), u32(6, 100)),
        route(attr(1, ip("203.0.113.0")), size=24),
        route(attr(1, ip("192.0.2.0")), size=24, protocol=2),
        route(attr(1, ip("203.0.113.9")), size=32, protocol=1),
        route(attr(1, ip("203.0.113.8")), size=32, flags=0x200),
        route(attr(1, ip("203.0.115.0")), size=24, oif=7),
        route(attr(18, b"\x0a\0" + ip("fe80::1"))),
        route(attr(5, ip("fe80::1")), family=10),
    ]
    assert [one.text for one in held.routes_of(dump, NIC, 0)] == [
        "203.0.113.0/24",
        "default via 192.0.2.254",
        "default via another family",
        "default of IPv6 via fe80::1",
    ]


def test_route_goes_to_another_device_with_all_that_it_says() -> None:
    dump = [route(attr(5, ip("192.0.2.254")), u32(6, 100), attr(7, ip("192.0.2.5")), flags=0x4 | 0x10)]
    (one,) = held.routes_of(dump, NIC, 0)
    request = held.give_route(one, SEGMENT, "wls1", at_home=False, now=0)
    assert request.flags == NLM_F_CREATE | NLM_F_REPLACE, "in the place of the NIC's, in one step"
    assert struct.unpack_from("=BBBBBBBBI", request.body)[-1] == 0x4, "a gateway that is on the link by word alone"
    values = fields(request.body, 12)
    assert values[4] == struct.pack("=I", SEGMENT)
    assert (values[5], values[6], values[7]) == (ip("192.0.2.254"), struct.pack("=I", 100), ip("192.0.2.5"))


def test_route_of_ipv6_is_added_beside_the_other_and_runs_out_at_home_alone() -> None:
    learnt = struct.pack("=IIiIIIII", 0, 0, 90_000, 0, 0, 0, 0, 0)
    (one,) = held.routes_of([route(attr(5, ip("fe80::1")), attr(12, learnt), family=10)], NIC, now=50)
    away = held.give_route(one, SEGMENT, "wls1", at_home=False, now=50)
    assert away.flags == NLM_F_CREATE
    assert not {12, 23} & fields(away.body, 12).keys()
    home = held.give_route(one, NIC, "eth0", at_home=True, now=150)
    assert fields(home.body, 12)[23] == struct.pack("=I", 800)


def test_routes_by_several_devices_are_named() -> None:
    hops = b"".join(struct.pack("=HBBi", 8, 0, 0, index) for index in (3, NIC))
    dump = [route(attr(9, hops), oif=0), route(attr(9, struct.pack("=HBBi", 0, 0, 0, 5)), oif=0)]
    assert held.shared_routes(dump, NIC) == ["default"]
    assert held.shared_routes(dump, 8) == []
