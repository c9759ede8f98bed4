"""Requests as bytes, and objects of the kernel as values: recorded from iproute2 and the kernel."""

from __future__ import annotations

import errno
import ipaddress
import struct

import pytest

from wireloom.dataplane.host import addresses, links, traffic
from wireloom.dataplane.host.attributes import attr, fields, nested, text, u16, u32
from wireloom.dataplane.host.links import Link, VethEnd
from wireloom.dataplane.host.protocol import NLM_F_CREATE, NLM_F_EXCL
from wireloom.dataplane.host.watcher import Filter, drain
from wireloom.model.network import PortAlias, PortEvent, SegmentAlias

ALIAS = PortAlias(installation="i1", lab_id="l1", node_id="n1", index=2, name="lab/node/eth2")


def link_body(name: str = "wlp1", *, flags: int = 0x1003, alias: str = "", mtu: int = 1500, more: bytes = b"") -> bytes:
    body = struct.pack("=BxHiII", 0, 1, 7, flags, 0) + text(3, name) + u32(4, mtu) + nested(18, text(1, "veth"))
    return body + (text(20, alias) if alias else b"") + more


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_a_veth_pair_is_one_request_with_the_guests_end_finished() -> None:
    request = links.new_veth("wlp1", 9000, VethEnd(netns=5, name="eth1", mac="02:00:00:00:00:0a", mtu=9000), 1000)
    assert request.flags == NLM_F_CREATE | NLM_F_EXCL
    top = fields(request.body, 16)
    assert (top[3], top[4]) == (b"wlp1\0", struct.pack("=I", 9000))
    info = fields(top[18])
    assert info[1] == b"veth\0"
    peer = fields(fields(info[2])[1], 16)
    assert peer[3] == b"eth1\0"
    assert peer[1] == bytes.fromhex("02000000000a")
    assert peer[4] == struct.pack("=I", 9000)
    assert peer[28] == struct.pack("=I", 5)


def test_a_link_is_read_with_its_other_end() -> None:
    more = u32(5, 33) + attr(37, struct.pack("=i", 4)) + u32(10, 12) + attr(1, bytes(6))
    link = links.parse_link(link_body(flags=0x11043, alias=ALIAS.text(), more=more))
    assert link == Link(7, "wlp1", "veth", ALIAS.text(), 1500, True, True, 12, 33, 4, bytes(6))


def test_a_link_without_attributes_is_read_too() -> None:
    assert links.parse_link(struct.pack("=BxHiII", 0, 1, 3, 0, 0)) == Link(3, "")


def test_an_alias_is_cut_to_what_the_kernel_stores() -> None:
    request = links.set_link("wlp1", alias="x" * 300)
    assert len(fields(request.body, 16)[20]) == 255


def test_several_devices_are_removed_by_one_request_for_their_group() -> None:
    requests = links.delete_together(["a", "b", "c"])
    groups = {fields(request.body, 16)[27] for request in requests}
    assert [request.kind for request in requests] == [19, 19, 19, links.RTM_DELLINK]
    assert len(groups) == 1
    assert links.delete_together(["a"]) == [links.delete_link("a")]
    assert links.delete_together([]) == []


def test_a_redirection_matches_everything_and_is_replaced_in_place() -> None:
    request = traffic.redirect(14, 16, "wlp1")
    assert request.flags == NLM_F_CREATE, "without EXCL the kernel replaces the filter of the same handle"
    _, index, handle, parent, info = struct.unpack_from("=BxxxiIII", request.body)
    assert (index, handle, parent) == (14, 0x80000800, 0xFFFFFFF2)
    assert info & 0xFFFF == 0x0300, "all protocols, in network byte order"
    selector = fields(fields(request.body, 20)[2])[5]
    assert len(selector) == 16, "no key: frames shorter than a key would not match"
    assert traffic.parse_redirect(request.body) == 16


@pytest.mark.parametrize(
    "options",
    [nested(2), nested(2, u16(4, 1)), nested(2, nested(7, nested(1, text(1, "gact"))))],
    ids=["empty", "bpf", "another action"],
)
def test_other_filters_are_no_redirection(options: bytes) -> None:
    assert traffic.parse_redirect(bytes(20) + options) is None


def test_the_fence_is_a_program_that_drops() -> None:
    options = fields(fields(traffic.fence(14, "wlp1").body, 20)[2])
    assert options[5] == struct.pack("=HBBI", 0x06, 0, 0, 2)
    assert options[8] == struct.pack("=I", 1)


def test_addresses_are_written_and_read_back() -> None:
    for given in ("172.30.128.5/20", "192.0.2.1/31", "fd00::5/64"):
        address = ipaddress.ip_interface(given)
        body = addresses.add_address(9, address, "wlb1").body
        assert addresses.parse_addresses([body], 9) == {address}
        assert addresses.parse_addresses([body], 8) == set()


def test_a_broadcast_address_is_set_where_there_is_one() -> None:
    wide = addresses.add_address(9, ipaddress.ip_interface("172.30.128.5/20"), "x").body
    narrow = addresses.add_address(9, ipaddress.ip_interface("192.0.2.1/31"), "x").body
    assert fields(wide, 8)[4] == ipaddress.ip_address("172.30.143.255").packed
    assert 4 not in fields(narrow, 8)


@pytest.mark.parametrize(
    ("alias", "installation"),
    [
        ("wireloom segment i=abc name=management", "abc"),
        ("wireloom segment i=abc l=1 name=a b", "abc"),
        ("wireloom segment name=x", None),
        ("wireloom i=abc l=l n=n p=0 name=x", None),
        ("", None),
    ],
)
def test_a_segments_alias_names_its_installation(alias: str, installation: str | None) -> None:
    found = SegmentAlias.parse(alias)
    assert (found.installation if found else None) == installation


def test_watching_tells_news_of_our_devices_once() -> None:
    news = Filter("i1")
    up = message(links.RTM_NEWLINK, link_body(alias=ALIAS.text()))
    assert news.events(up + up) == [PortEvent(device="wlp1", up=True, carrier=False)]
    assert news.events(up) == []
    assert news.events(message(links.RTM_NEWLINK, link_body(alias=ALIAS.text(), flags=0x1002))) == [
        PortEvent(device="wlp1", up=False, carrier=False)
    ]
    assert news.events(message(links.RTM_DELLINK, link_body(alias=ALIAS.text()))) == [
        PortEvent(device="wlp1", removed=True)
    ]
    news.events(up)
    news.forget()
    assert news.events(up) == [PortEvent(device="wlp1", up=True, carrier=False)]


def test_watching_says_when_messages_were_lost() -> None:
    up = message(links.RTM_NEWLINK, link_body(alias=ALIAS.text()))
    answers: list[bytes | OSError] = [up, OSError(errno.ENOBUFS, "lost"), up, BlockingIOError()]

    class Socket:
        def recv(self, size: int) -> bytes:
            answer = answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer

    assert list(drain(Socket(), Filter("i1"))) == [PortEvent(device="wlp1", up=True, carrier=False), PortEvent()]


def test_watching_ignores_devices_of_others() -> None:
    other = ALIAS.model_copy(update={"installation": "i2"}).text()
    for alias in ("", "eth uplink", other, "wireloom segment i=i2 name=x"):
        assert Filter("i1").events(message(links.RTM_NEWLINK, link_body(alias=alias))) == []
    segment = message(links.RTM_NEWLINK, link_body("wlb1", alias="wireloom segment i=i1 name=x"))
    assert Filter("i1").events(segment) == [PortEvent(device="wlb1", up=True, carrier=False)]
