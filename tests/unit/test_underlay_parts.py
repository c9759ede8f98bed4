"""Parts of the underlay: signed probes, the search for the largest packet, addresses, keys, messages to WireGuard."""

from __future__ import annotations

import base64
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.agent.underlay import address
from wireloom.agent.underlay.messages import HEARS, KNOWS, PROBE, REPLY, Message, decode, encode, is_signed
from wireloom.agent.underlay.search import LARGEST, largest
from wireloom.agent.underlay.wireguard import own_key
from wireloom.controller.peers import inside_addresses
from wireloom.dataplane.host import wireguard
from wireloom.dataplane.host.attributes import fields
from wireloom.errors import InternalError
from wireloom.model.underlay import FarEnd, Way
from wireloom.model.underlay import Path as WayThere

SECRET = b"x" * 32
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63)
MESSAGES = st.builds(
    Message,
    st.sampled_from([PROBE, REPLY]),
    st.sampled_from([0, KNOWS, KNOWS | HEARS]),
    st.integers(0, 2**64 - 1),
    NAMES,
    NAMES,
)


@given(MESSAGES, st.integers(0, 9000))
def test_a_probe_is_as_long_as_it_was_asked_to_be_and_is_understood(message: Message, size: int) -> None:
    datagram = encode(message, SECRET, size)
    found = decode(datagram)
    assert found is not None
    assert found[0] == Message(
        *(getattr(message, name) for name in ("kind", "flags", "nonce", "source", "target")), len(datagram)
    )
    assert len(datagram) == size or size < len(datagram) < 250
    assert is_signed(*found, SECRET)
    assert not is_signed(*found, b"y" * 32)


@given(MESSAGES, st.data())
def test_a_probe_that_was_changed_is_not_believed(message: Message, data: st.DataObject) -> None:
    datagram = bytearray(encode(message, SECRET))
    datagram[data.draw(st.integers(0, len(datagram) - 1))] ^= data.draw(st.integers(1, 255))
    found = decode(bytes(datagram))
    assert found is None or not is_signed(*found, SECRET)


@given(st.binary(max_size=200), MESSAGES, st.integers(1, 90))
def test_what_is_no_probe_or_not_whole_is_no_message(noise: bytes, message: Message, cut: int) -> None:
    assert decode(noise) is None or noise.startswith(b"wlprobe1")
    assert decode(encode(message, SECRET)[:-cut]) is None


@given(st.integers(256, LARGEST))
async def test_the_largest_packet_is_found_with_few_questions(mtu: int) -> None:
    asked: list[int] = []

    async def passes(size: int) -> bool:
        asked.append(size)
        return size <= mtu

    assert await largest(passes, 256) == mtu
    assert len(asked) <= 18
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize(("mtu", "questions"), [(1500, 2), (9000, 4)])
async def test_usual_sizes_are_found_at_once(mtu: int, questions: int) -> None:
    asked: list[int] = []

    async def passes(size: int) -> bool:
        asked.append(size)
        return size <= mtu

    answer: Callable[[int], Awaitable[bool]] = passes
    assert await largest(answer, 256) == mtu
    assert len(asked) <= questions


def test_an_address_that_nobody_else_reaches_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_ANYWHERE", ())
    assert address.find_address(["tls://127.0.0.1:4222", "nats://[::1]:4222", ""]) == ""


def test_an_interface_may_say_the_address() -> None:
    assert address.address_of("lo") == "127.0.0.1"
    assert address.address_of("wl-no-such-nic") == ""


def test_hosts_inside_have_addresses_of_their_own_that_do_not_depend_on_others() -> None:
    hosts = [f"h{number}" for number in range(2000)]
    found = inside_addresses(hosts)
    assert len(set(found.values())) == len(hosts)
    alone = {host: inside_addresses([host])[host] for host in hosts[:50]}
    assert sum(found[host] == alone[host] for host in alone) >= 48
    assert all(item.startswith(("198.18.", "198.19.")) for item in found.values())


def test_the_key_of_a_host_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "agent" / "wireguard.key"
    first = own_key(file).private_bytes_raw()
    assert own_key(file).private_bytes_raw() == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("nonsense")
    with pytest.raises(InternalError, match="holds no key"):
        own_key(file)


def test_a_peer_is_told_as_the_kernel_wants_it() -> None:
    key = bytes(range(32))
    peer = wireguard.KnownPeer(base64.b64encode(key).decode(), "192.0.2.2", 51871, "198.18.0.2")
    found = fields(wireguard._peer(key, peer))
    assert found[1] == key
    assert found[4] == b"\x02\x00\xca\x9f\xc0\x00\x02\x02" + bytes(8)
    allowed = fields(fields(fields(wireguard._peer(key, peer))[9])[0])
    assert (allowed[1][:1], allowed[2], allowed[3][:1]) == (bytes([socket.AF_INET]), bytes([198, 18, 0, 2]), b"\x20")


@pytest.mark.parametrize(
    ("heard", "answered", "reaches", "problem"),
    [
        (None, None, None, ""),
        (True, True, True, ""),
        (True, False, False, "what is sent to host h (192.0.2.1) does not arrive there"),
        (False, False, None, "nothing arrives from host h (192.0.2.1)"),
        (True, False, None, "host h (192.0.2.1) does not answer"),
        (False, None, None, ""),
    ],
)
def test_what_is_wrong_with_a_way(
    heard: bool | None, answered: bool | None, reaches: bool | None, problem: str
) -> None:
    way = WayThere(host="h", address="192.0.2.1", heard=heard, answered=answered, reaches=reaches)
    assert way.problem == problem


def test_what_fits_depends_on_the_version_of_ip() -> None:
    assert Way(remote="192.0.2.1", mtu=1500).whole_frames == 1450
    assert Way(remote="2001:db8::1", mtu=1500).whole_frames == 1430
    assert Way(remote="192.0.2.1").whole_frames == 0


@pytest.mark.parametrize(("up", "alive", "works"), [(True, True, True), (True, None, None), (False, None, False)])
def test_an_end_works_while_user_and_node_hold_it_up(up: bool, alive: bool | None, works: bool | None) -> None:
    assert FarEnd(id="w", up=up, alive=alive).works is works
