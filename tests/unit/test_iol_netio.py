"""The bridge of IOL nodes against an emulated peer: which port is which, headers, checksums, ports that come and go."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from wireloom.devices import DeviceCatalogue
from wireloom.library.iol.guest import frames, netmap, offloads, ports
from wireloom.library.iol.guest.bridge import Bridge
from wireloom.library.iol.guest.ports import Buffers, Port, PortTable

FRAME = bytes.fromhex("ffffffffffffaabbcc0001100806") + bytes(46)

# ------------------------------------------------------------------ names and numbers


@pytest.mark.parametrize("name", ["iol-xe", "iol-l2"])
def test_every_port_of_the_device_is_the_one_that_the_bridge_maps(name: str) -> None:
    naming = DeviceCatalogue.load(strict=False).get(name).ports
    for index in range(1, naming.limit + 1):
        assert netmap.index_of_device(naming.kernel(index)) == index
        assert netmap.interface_name(index) == naming.display(index)
        assert netmap.interface_of(netmap.port_key(index)) == naming.display(index)


def test_a_port_is_its_slot_and_sixteen_times_its_number() -> None:
    assert [netmap.port_key(index) for index in (1, 2, 4, 5, 8, 32)] == [0, 16, 48, 1, 49, 7 + 48]


@pytest.mark.parametrize("name", ["eth0", "eth01", "lo", "eth65", "ethx", "veth1", "eth1.100", ""])
def test_other_network_devices_are_no_ports(name: str) -> None:
    assert netmap.index_of_device(name) is None


def test_netmap_joins_each_port_with_the_same_of_the_bridge() -> None:
    text = netmap.netmap(7, 1023, 2)
    assert text.splitlines()[:5] == ["7:0/0 1023:0/0", "7:0/1 1023:0/1", "7:0/2 1023:0/2", "7:0/3 1023:0/3",
                                     "7:1/0 1023:1/0"]  # fmt: skip
    assert len(text.splitlines()) == 8


@pytest.mark.parametrize(("application", "slots"), [(0, 4), (1023, 4), (1, 0), (1, 17)])
def test_netmap_refuses_what_iol_cannot_have(application: int, slots: int) -> None:
    with pytest.raises(ValueError, match="not between"):
        netmap.netmap(application, 1023, slots)


def test_slots_cover_the_highest_port_and_leave_some() -> None:
    assert [netmap.slots_for(indexes) for indexes in ((), (1,), (16,), (17, 2), (32,))] == [4, 4, 4, 5, 8]


def test_headers_are_big_endian_and_only_data_counts() -> None:
    header = frames.Header(1, 1023, 0x31, 0x10)
    packed = frames.pack(header)
    assert packed == bytes([0, 1, 3, 255, 0x31, 0x10, 1, 0])
    assert frames.unpack(packed) == header
    assert frames.unpack(packed[:7]) is None
    assert frames.unpack(packed[:6] + b"\x00\x00") is None


# ------------------------------------------------------------------ what is left to a NIC


def whole(frame: bytes, *fields: int) -> list[bytes]:
    """``fields``: flags, kind of segment, payload of a piece, start and offset of the checksum."""
    flags, kind, payload, start, offset = (*fields, 0, 0, 0, 0, 0)[:5]
    header = struct.pack("<BBHHHH", flags, kind, 0, payload, start, offset)
    return [bytes(part) for part in offloads.finished(header, memoryview(bytearray(frame)))]


def tcp(payload: bytes, *, flags: int = 0x18, over_ipv6: bool = False) -> bytes:
    """A TCP segment in a frame, without checksums."""
    if over_ipv6:
        network = struct.pack(">IHBB", 6 << 28, 20 + len(payload), 6, 64) + bytes(range(32))
    else:
        network = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(payload), 0xFFFE, 0, 64, 6, 0) + bytes(range(8))
    segment = struct.pack(">HHIIBBHHH", 1, 2, 0xFFFFFF00, 0, 0x50, flags, 100, 0, 0) + payload
    return bytes(12) + (b"\x86\xdd" if over_ipv6 else b"\x08\x00") + network + segment


def plain_sum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("data", [b"\x01", b"\x00\x01", b"\xff\xff", b"\xff\xfe\x00\x01", bytes(range(1, 250))])
def test_the_sum_is_that_of_the_rfc(data: bytes) -> None:
    assert offloads.checksum(data) == ~plain_sum(data) & 0xFFFF


def test_a_whole_frame_passes_as_it_is() -> None:
    assert whole(FRAME) == [FRAME]


@pytest.mark.parametrize("length", [0, 1, 8, 1459])
def test_an_unfinished_checksum_is_finished(length: int) -> None:
    frame = bytearray(tcp(os.urandom(length)))
    pseudo = bytes(range(8)) + struct.pack(">HH", 6, 20 + length)
    struct.pack_into(">H", frame, 34 + 16, plain_sum(pseudo))
    (done,) = whole(bytes(frame), 1, 0, 0, 34, 16)
    assert plain_sum(pseudo + done[34:]) == 0xFFFF


def test_a_udp_checksum_of_zero_is_written_as_ones() -> None:
    frame = bytearray(14 + 8)
    frame[14:22] = b"\xff\xff" + bytes(6)
    (done,) = whole(bytes(frame), 1, 0, 0, 14, 6)
    assert done[20:22] == b"\xff\xff"


@pytest.mark.parametrize("over_ipv6", [False, True])
def test_a_large_segment_becomes_segments_of_the_network(over_ipv6: bool) -> None:
    payload = bytes(range(256)) * 10
    network, start = 14, 54 if over_ipv6 else 34
    pieces = whole(tcp(payload, flags=0x99, over_ipv6=over_ipv6), 1, 4 if over_ipv6 else 1, 1000, start, 16)
    assert b"".join(piece[start + 20 :] for piece in pieces) == payload
    assert [len(piece) - start - 20 for piece in pieces] == [1000, 1000, 560]
    assert [piece[start + 13] for piece in pieces] == [0x90, 0x10, 0x19]  # CWR first, FIN and PSH last
    sequences = [struct.unpack_from(">I", piece, start + 4)[0] for piece in pieces]
    assert sequences == [0xFFFFFF00, 0x2E8, 0x6D0]
    for number, piece in enumerate(pieces):
        addresses = piece[network + 8 : network + 40] if over_ipv6 else piece[network + 12 : network + 20]
        pseudo = addresses + struct.pack(">IHH", len(piece) - start, 0, 6)
        assert plain_sum(pseudo + piece[start:]) == 0xFFFF
        if over_ipv6:
            assert struct.unpack_from(">H", piece, network + 4)[0] == len(piece) - 54
        else:
            assert plain_sum(piece[network:start]) == 0xFFFF
            assert struct.unpack_from(">HH", piece, network + 2) == (len(piece) - 14, (0xFFFE + number) & 0xFFFF)


@pytest.mark.parametrize(
    ("frame", "fields"),
    [
        (FRAME, (1, 0, 0, 59, 16)),  # a checksum beyond the end
        (tcp(bytes(99)), (1, 1, 0, 34, 16)),  # pieces of nothing
        (tcp(bytes(99)), (1, 5, 50, 34, 6)),  # a kind that is unknown
        (tcp(b"")[:40], (1, 1, 10, 34, 16)),  # no whole header
        (tcp(b""), (1, 1, 10, 3, 16)),  # a header before the header
    ],
)
def test_frames_that_contradict_their_header_are_dropped(frame: bytes, fields: tuple[int, int, int, int, int]) -> None:
    assert whole(frame, *fields) == []


# ------------------------------------------------------------------ the bridge


class Wire:
    """A port of the node whose frames a test makes and sees."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dropped = 0
        self.sent: list[bytes] = []
        self.closed = False
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._near.setblocking(False)

    def fileno(self) -> int:
        return self._near.fileno()

    def put(self, frame: bytes) -> None:
        """As if it came from the link."""
        self._far.send(frame)

    def receive(self) -> Iterator[Buffers]:
        while True:
            try:
                yield (self._near.recv(65536),)
            except BlockingIOError:
                return

    def send(self, frame: memoryview) -> None:
        self.sent.append(bytes(frame))

    def close(self) -> None:
        self.closed = True
        self._near.close()
        self._far.close()


class Play:
    """A bridge with ports of tests, and an IOL of tests at its other side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices: dict[str, int] = {}
        self.wires: dict[str, Wire] = {}
        self.table = PortTable(lambda: dict(self.devices), self._open)
        self.bridge = Bridge(7, 1023, str(folder), self.table)
        self.iol: socket.socket | None = None

    def _open(self, name: str, _: int) -> Port:
        self.wires[name] = Wire(name)
        return self.wires[name]

    def start_iol(self) -> socket.socket:
        self.stop_iol()
        (self.folder / "7").unlink(missing_ok=True)
        self.iol = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.iol.bind(str(self.folder / "7"))
        self.iol.settimeout(5)
        return self.iol

    def stop_iol(self) -> None:
        if self.iol is not None:
            self.iol.close()
            self.iol = None

    def from_iol(self, datagram: bytes) -> None:
        assert self.iol is not None
        self.iol.sendto(datagram, str(self.folder / "1023"))
        self.bridge.pass_from_iol()

    def close(self) -> None:
        self.stop_iol()
        self.bridge.close()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    made = Play(tmp_path)
    made.devices = {"lo": 1, "eth0": 2, "eth1": 3, "eth5": 4}
    made.bridge.look()
    yield made
    made.close()


def data(to: int, port: int, frame: bytes = FRAME, sender: int = 7) -> bytes:
    return frames.pack(frames.Header(to, sender, port, port)) + frame


def test_frames_cross_with_the_header_of_their_port(play: Play) -> None:
    iol = play.start_iol()
    play.wires["eth5"].put(FRAME)
    play.bridge.pass_to_iol(1)
    assert iol.recv(65536) == bytes([0, 7, 3, 255, 1, 1, 1, 0]) + FRAME
    play.from_iol(data(1023, 1))
    assert (play.wires["eth5"].sent, play.wires["eth1"].sent) == ([FRAME], [])


def test_only_data_ports_are_bridged(play: Play) -> None:
    assert set(play.wires) == {"eth1", "eth5"}


def test_a_tag_travels_as_a_piece_of_the_frame(play: Play) -> None:
    iol = play.start_iol()
    play.bridge._give(b"headhead", (FRAME[:12], b"\x81\x00\x20\x64", FRAME[12:]))
    assert iol.recv(65536) == b"headhead" + FRAME[:12] + b"\x81\x00\x20\x64" + FRAME[12:]


@pytest.mark.parametrize(
    "datagram",
    [
        data(1023, 2),  # a port that is not there
        data(99, 1),  # for somebody else
        data(1023, 1, b"short"),
        data(1023, 1)[:5],
        b"\x03\xff\x00\x07\x01\x01\x00\x00" + FRAME,  # no data
        b"",
    ],
)
def test_what_is_no_frame_for_a_port_is_dropped(play: Play, datagram: bytes) -> None:
    play.start_iol()
    play.from_iol(datagram)
    assert play.bridge.counts.astray == 1
    assert not any(wire.sent for wire in play.wires.values())


def test_iol_may_be_away_and_come_back(play: Play) -> None:
    play.wires["eth1"].put(FRAME)
    play.bridge.pass_to_iol(1)
    play.start_iol()
    play.stop_iol()
    play.wires["eth1"].put(FRAME)
    play.bridge.pass_to_iol(1)
    assert play.bridge.counts.away == 2
    iol = play.start_iol()
    play.wires["eth1"].put(FRAME)
    play.bridge.pass_to_iol(1)
    assert iol.recv(65536)[8:] == FRAME


def test_an_iol_that_takes_nothing_holds_nobody_up_for_long(play: Play) -> None:
    iol = play.start_iol()
    iol.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    for _ in range(600):  # more than any queue of datagrams has
        play.bridge._give(b"headhead", (FRAME,))
        if play.bridge.counts.full:
            break
    assert play.bridge.counts.full == 1


def test_ports_that_come_late_are_taken_up_and_those_that_go_let_go(play: Play) -> None:
    first = play.wires["eth1"]
    play.devices = {"eth1": 9, "eth2": 10}
    play.bridge.look()
    assert first.closed
    assert not play.wires["eth1"].closed
    assert set(play.table.ports) == {netmap.port_key(1), netmap.port_key(2)}
    iol = play.start_iol()
    play.wires["eth2"].put(FRAME)
    play.bridge.pass_to_iol(1)
    assert iol.recv(65536)[:8] == bytes([0, 7, 3, 255, 16, 16, 1, 0])


def test_a_port_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    tries = []

    def open_port(name: str, device: int) -> Port:
        tries.append(name)
        if len(tries) == 1:
            raise OSError("gone again")
        return Wire(name)

    table = PortTable(lambda: {"eth1": 3}, open_port)
    assert table.update() == ((), ())
    ((key, port),), _ = table.update()
    assert key == 0
    assert table.update() == ((), ())
    port.close()


def test_a_socket_of_an_earlier_bridge_is_replaced(tmp_path: Path) -> None:
    old = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    old.bind(str(tmp_path / "1023"))
    old.close()
    bridge = Bridge(7, 1023, str(tmp_path), PortTable(dict, ports.PacketPort))
    assert (tmp_path / "1023").exists()
    bridge.close()
    assert not (tmp_path / "1023").exists()
