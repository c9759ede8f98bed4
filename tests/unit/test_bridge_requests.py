"""VLANs of bridges as bytes: recorded from iproute2 6.1 (``ip``, ``bridge``) by strace, and read back as values."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.dataplane.host import bridges, links
from wireloom.dataplane.host.attributes import fields, nested, text, u16, walk
from wireloom.dataplane.host.bridges import Membership
from wireloom.dataplane.host.protocol import NLM_F_CREATE, NLM_F_EXCL
from wireloom.model.vlans import HIGHEST_VLAN, Vlans

BRIDGE_FAMILY = "07000000"
PORT = struct.pack("=I", 9).hex()
NO_FLAGS = "00" * 8
#: Attribute 26 (IFLA_AF_SPEC); iproute2 leaves out the flag "nested", which the kernel masks away.
AF_SPEC = 26


def spec(body: bytes) -> str:
    """The nested part of a request for a port, in hexadecimal."""
    assert body[:16].hex() == BRIDGE_FAMILY + PORT + NO_FLAGS
    return fields(body, 16)[AF_SPEC].hex()


def dump_body(*memberships: str, index: int = 9) -> bytes:
    """A port in a dump: attribute 2 (IFLA_BRIDGE_VLAN_INFO) for each of ``memberships``."""
    infos = b"".join(bytes.fromhex(f"08000200{one}") for one in memberships)
    return struct.pack("=BxHiII", 7, 1, index, 0, 0) + text(3, "wlp1") + nested(AF_SPEC, infos)


def test_an_access_port_is_put_into_its_vlan_as_bridge_does() -> None:
    (request,) = bridges.set_vlans(9, "wlp1", (), Vlans.access(10))
    assert (request.kind, spec(request.body)) == (links.RTM_SETLINK, "0800020006000a00")


def test_ranges_are_written_as_bridge_does() -> None:
    (request,) = bridges.set_vlans(9, "wlp1", (), Vlans(tagged=((20, 29),)))
    assert (request.kind, spec(request.body)) == (links.RTM_SETLINK, "08000200080014000800020010001d00")


def test_vlans_are_left_before_others_are_entered() -> None:
    present = ((5, 5, 0), (7, 9, 0), (10, 10, 6))
    leave, enter = bridges.set_vlans(9, "wlp1", present, Vlans(untagged=8, tagged=((10, 10),)))
    assert (leave.kind, spec(leave.body)) == (
        links.RTM_DELLINK,
        "0800020000000500" + "0800020000000700" + "0800020000000900",
    )
    assert (enter.kind, spec(enter.body)) == (links.RTM_SETLINK, "0800020006000800" + "0800020000000a00")


def test_port_that_is_in_its_vlans_already_is_left_alone() -> None:
    assert bridges.set_vlans(9, "wlp1", ((1, 1, 6), (20, 29, 0)), Vlans(untagged=1, tagged=((20, 29),))) == []


def test_native_vlan_in_the_middle_of_a_range_is_no_tagged_one() -> None:
    (request,) = bridges.set_vlans(9, "wlp1", (), Vlans(untagged=15, tagged=((10, 20),)))
    members = bridges.parse_vlans([request.body])[9]
    assert bridges.read_vlans(members) == Vlans(untagged=15, tagged=((10, 14), (16, 20)))


def test_filtering_is_switched_on_as_ip_does_and_new_ports_are_in_no_vlan() -> None:
    body = bridges.set_tagging("wlb1", "802.1ad").body
    info = fields(fields(body, 16)[18])
    assert info[1] == b"bridge\0"
    assert fields(info[2]) == {7: b"\1", 8: bytes.fromhex("88a8"), 39: b"\0\0"}
    assert fields(fields(fields(bridges.set_tagging("wlb1", "802.1q").body, 16)[18])[2])[8] == bytes.fromhex("8100")
    assert fields(fields(fields(bridges.set_tagging("wlb1", "none").body, 16)[18])[2]) == {7: b"\0"}


def test_the_host_itself_enters_the_default_vlan_of_its_bridge() -> None:
    assert spec(bridges.admit_host(9, "wlb1").body) == "0600000002000000" + "0800020006000100"


def test_a_vlan_of_a_nic_is_made_as_ip_does() -> None:
    request = links.new_vlan("v.10", 3, 10)
    assert request.flags == NLM_F_CREATE | NLM_F_EXCL
    top = fields(request.body, 16)
    assert (top[5], top[3]) == (struct.pack("=I", 3), b"v.10\0")
    info = fields(top[18])
    assert (info[1], info[2].hex()) == (b"vlan\0", "060001000a000000")


@pytest.mark.parametrize(
    ("shown", "read"),
    [
        ((), None),
        (("06000a00",), Vlans.access(10)),
        (("06000100", "08001400", "10001d00"), Vlans(untagged=1, tagged=((20, 29),))),
        (("00000a00",), Vlans(tagged=((10, 10),))),
        (("04000a00",), None),
        (("02000a00",), None),
        (("06000a00", "04000b00"), None),
        (("0c000a00", "14000b00"), None),
    ],
    ids=["none", "access", "trunk", "no native", "untagged only", "tagged native", "two untagged", "untagged range"],
)
def test_a_port_is_read_back_or_is_no_port_of_ours(shown: tuple[str, ...], read: Vlans | None) -> None:
    assert bridges.read_vlans(bridges.parse_vlans([dump_body(*shown)]).get(9, ())) == read


def test_devices_without_vlans_are_not_in_the_dump() -> None:
    assert bridges.parse_vlans([struct.pack("=BxHiII", 7, 1, 4, 0, 0) + text(3, "eth0")]) == {}


vlan_sets = st.sets(st.integers(1, HIGHEST_VLAN), max_size=30)


class Port:
    """A bridge's port as the kernel keeps it: flags by VLAN (net/bridge/br_vlan.c)."""

    def __init__(self) -> None:
        self.flags: dict[int, int] = {}

    def take(self, requests: list[links.Request]) -> None:
        for request in requests:
            for first, last, flags in self._members(request.body):
                for vlan in range(first, last + 1):
                    if request.kind == links.RTM_DELLINK:
                        self.flags.pop(vlan)
                    else:
                        self._add(vlan, flags)

    @staticmethod
    def _members(body: bytes) -> tuple[Membership, ...]:
        return bridges.parse_vlans([body])[9]

    def _add(self, vlan: int, flags: int) -> None:
        if flags & 2:  # one VLAN at a time is that of frames without a tag
            self.flags = {known: others & ~2 for known, others in self.flags.items()}
        self.flags[vlan] = flags

    def shown(self) -> tuple[Membership, ...]:
        return tuple((vlan, vlan, flags) for vlan, flags in sorted(self.flags.items()))


@given(first=vlan_sets, second=vlan_sets, natives=st.tuples(*[st.none() | st.integers(1, HIGHEST_VLAN)] * 2))
def test_from_any_port_to_any_other(first: set[int], second: set[int], natives: tuple[int | None, int | None]) -> None:
    port = Port()
    for tagged, native in ((first, natives[0]), (second, natives[1])):
        wanted = Vlans.trunk([(vlan, vlan) for vlan in tagged], native) if tagged - {native} or native else None
        if wanted is None:
            continue
        port.take(bridges.set_vlans(9, "wlp1", port.shown(), wanted))
        assert bridges.read_vlans(port.shown()) == wanted


@pytest.mark.parametrize(
    ("data", "tagging"),
    [
        (b"", "none"),
        (nested(2, b"\5\0\7\0\0\0\0\0" + b"\6\0\x08\0\x81\0\0\0"), "none"),
        (nested(2, b"\5\0\7\0\1\0\0\0" + b"\6\0\x08\0\x81\0\0\0"), "802.1q"),
        (nested(2, b"\5\0\7\0\1\0\0\0" + b"\6\0\x08\0\x88\xa8\0\0"), "802.1ad"),
    ],
)
def test_a_bridge_tells_by_what_it_filters(data: bytes, tagging: str) -> None:
    body = struct.pack("=BxHiII", 0, 1, 7, 0, 0) + text(3, "br0") + nested(18, text(1, "bridge"), data)
    assert links.parse_link(body).tagging == tagging


def test_a_vlan_device_tells_its_vlan() -> None:
    info = nested(18, text(1, "vlan"), nested(2, u16(1, 20)))
    body = struct.pack("=BxHiII", 0, 1, 7, 0, 0) + text(3, "eth0.20") + info
    assert links.parse_link(body).vlan == 20
    assert [kind for kind, _ in walk(body, 16)] == [3, 18]
