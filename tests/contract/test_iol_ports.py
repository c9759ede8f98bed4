"""The ports of IOL nodes on real network devices: tags, checksums, large segments, devices that come and go."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wireloom.library.iol.guest import frames
from wireloom.library.iol.guest.bridge import Bridge
from wireloom.library.iol.guest.ports import PacketPort, PortTable, devices

pytestmark = pytest.mark.kernel

NODE, PEER = f"wli{os.getpid()}n", f"wli{os.getpid()}p"
OWN = bytes.fromhex("02aabbcc0001")


def ip(*arguments: str, space: str = "") -> str:
    command = ["ip", *(("-n", space) if space else ()), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def inside(space: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", space, *command], capture_output=True, text=True, timeout=30, check=False
    )


def add_link(name: str, mtu: int = 1500) -> None:
    """A port ``name`` of the node, with ``name`` at the peer as its far end."""
    ip("link", "add", name, "type", "veth", "peer", "name", name, "netns", PEER, space=NODE)
    for space in (NODE, PEER):
        ip("link", "set", name, "mtu", str(mtu), "up", space=space)


@contextlib.contextmanager
def entered(space: str) -> Iterator[None]:
    """This thread in another network namespace."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{space}") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture
def spaces() -> Iterator[None]:
    for space in (NODE, PEER):
        ip("netns", "add", space)
        ip("link", "set", "lo", "up", space=space)
        inside(space, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        inside(space, "sysctl", "-qw", "net.unix.max_dgram_qlen=512")
    try:
        yield
    finally:
        for space in (NODE, PEER):
            ip("netns", "del", space)


class Iol:
    """A netio peer with one address, which answers ARP and keeps what else comes; ``taken`` is as it came."""

    def __init__(self, folder: Path) -> None:
        self.bridge_path = str(folder / "1023")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "7"))
        self.socket.settimeout(10)

    def send(self, key: int, frame: bytes) -> None:
        self.socket.sendto(frames.pack(frames.Header(1023, 7, key, key)) + frame, self.bridge_path)

    def take(self, kind: int) -> tuple[int, bytes]:
        """Port and frame of the next frame of an EtherType, whatever else comes before it."""
        while True:
            datagram = self.socket.recv(65536)
            header = frames.unpack(datagram)
            assert header is not None
            frame = datagram[frames.HEADER_SIZE :]
            if struct.unpack_from(">H", frame, 12)[0] == kind:
                return header.to_port, frame


@pytest.fixture
def iol(spaces: None, tmp_path: Path) -> Iterator[Iol]:
    """A bridge in the node's namespace, in threads of its own, and its IOL."""
    with entered(NODE):
        bridge = Bridge(7, 1023, str(tmp_path), PortTable(devices, PacketPort))
        peer = Iol(tmp_path)
    ending = threading.Event()

    def to_iol() -> None:
        with entered(NODE):
            bridge.look()
            while not ending.is_set():
                bridge.pass_to_iol(0.1)

    def from_iol() -> None:
        while not ending.is_set():
            bridge.pass_from_iol()

    threads = [threading.Thread(target=work) for work in (to_iol, from_iol)]
    for thread in threads:
        thread.start()
    try:
        yield peer
    finally:
        ending.set()
        peer.send(99, bytes(20))  # wakes the one that waits for IOL
        for thread in threads:
            thread.join(10)
        bridge.close()
        peer.socket.close()


def raw(space: str, name: str) -> socket.socket:
    with entered(space):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        opened.bind((name, 3))
        opened.settimeout(10)
        return opened


def appeared(iol: Iol, wire: socket.socket, key: int) -> None:
    """The bridge has the port: what IOL sends comes out of it."""
    probe = OWN + OWN + b"\x88\xb6" + bytes(46)
    wire.settimeout(0.2)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        iol.send(key, probe)
        with contextlib.suppress(TimeoutError):
            while wire.recv(65536) != probe:
                pass
            wire.settimeout(10)
            return
    raise AssertionError("the bridge did not take the port up")


def test_ports_that_come_late_carry_frames_both_ways_and_on_their_own_port(iol: Iol) -> None:
    add_link("eth1")
    add_link("eth6")
    with raw(PEER, "eth6") as wire:
        appeared(iol, wire, 1 + 16)
        frame = OWN + OWN + b"\x88\xb5" + bytes(range(46))
        wire.send(frame)
        assert iol.take(0x88B5) == (1 + 16, frame)
    ip("link", "del", "eth6", space=NODE)
    add_link("eth6")
    with raw(PEER, "eth6") as wire:
        appeared(iol, wire, 1 + 16)


@pytest.mark.parametrize("kind", [0x8100, 0x88A8])
def test_tags_come_through_in_both_directions(iol: Iol, kind: int) -> None:
    add_link("eth1")
    with raw(PEER, "eth1") as wire:
        appeared(iol, wire, 0)
        tagged = OWN + OWN + struct.pack(">HH", kind, 0x6064) + b"\x88\xb5" + bytes(range(46))
        wire.send(tagged)
        assert iol.take(kind) == (0, tagged)
        iol.send(0, tagged)
        wire.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA
        while (got := untouched(wire))[12:14] != tagged[12:14]:
            pass
        assert got == tagged


def untouched(wire: socket.socket) -> bytes:
    """The next frame with its tag, which the kernel notes beside it, where it was."""
    frame, notes, *_ = wire.recvmsg(65536, socket.CMSG_SPACE(20))
    for _, _, note in notes:
        status, _, _, _, _, tag, kind = struct.unpack("=IIIHHHH", note)
        if status & 0x10:
            return frame[:12] + struct.pack(">HH", kind, tag) + frame[12:]
    return frame


def test_frames_that_do_not_fit_are_dropped_and_the_next_ones_pass(iol: Iol) -> None:
    add_link("eth1", mtu=9000)
    with raw(PEER, "eth1") as wire:
        appeared(iol, wire, 0)
        for size in (9000, frames.LARGEST_FRAME + 1, frames.LARGEST_FRAME, 60):
            wire.send(OWN + OWN + b"\x88\xb5" + bytes(size - 14))
        assert [len(iol.take(0x88B5)[1]) for _ in range(2)] == [frames.LARGEST_FRAME, 60]
        ip("link", "set", "eth1", "mtu", "1500", space=NODE)
        ip("link", "set", "eth1", "mtu", "1500", space=PEER)
        iol.send(0, OWN + OWN + b"\x88\xb5" + bytes(3000))
        iol.send(0, OWN + OWN + b"\x88\xb7" + bytes(1500))
        while (got := wire.recv(65536))[12:14] != b"\x88\xb7":
            assert got[12:14] != b"\x88\xb5"
        assert len(got) == 1514


def test_a_linux_neighbour_leaves_nothing_unfinished_to_iol(iol: Iol) -> None:
    """A kernel sends a segment over a veth with an unfinished checksum; IOL gets it whole."""
    add_link("eth1")
    ip("address", "add", "10.9.8.1/24", "dev", "eth1", space=PEER)
    ip("neighbour", "add", "10.9.8.2", "lladdr", OWN.hex(":"), "dev", "eth1", space=PEER)
    with raw(PEER, "eth1") as wire:
        appeared(iol, wire, 0)
    with entered(PEER), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"some words of UDP", ("10.9.8.2", 9))
    _, frame = iol.take(0x0800)
    packet = frame[14:]
    pseudo = packet[12:20] + struct.pack(">HH", 17, len(packet) - 20)
    assert words(pseudo + packet[20:]) == 0xFFFF


def test_large_segments_arrive_in_pieces_with_right_checksums(iol: Iol) -> None:
    """The kernel of a TCP sender hands a veth segments of up to 64 KiB. IOL is played as the receiver."""
    add_link("eth1")
    ip("address", "add", "10.9.8.1/24", "dev", "eth1", space=PEER)
    ip("neighbour", "add", "10.9.8.2", "lladdr", OWN.hex(":"), "dev", "eth1", space=PEER)
    peer_mac = bytes.fromhex(mac_of_peer())
    with raw(PEER, "eth1") as wire:
        appeared(iol, wire, 0)
    payload = os.urandom(40_000)
    with entered(PEER):
        sender = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sender.settimeout(10)
    thread = threading.Thread(target=lambda: (sender.connect(("10.9.8.2", 7)), sender.sendall(payload)))
    thread.start()
    received = receive_tcp(iol, peer_mac, len(payload))
    thread.join(10)
    sender.close()
    assert received == payload


def mac_of_peer() -> str:
    return ip("-o", "link", "show", "eth1", space=PEER).split("link/ether ")[1].split()[0].replace(":", "")


def receive_tcp(iol: Iol, peer_mac: bytes, size: int) -> bytes:
    """Accept one connection by hand, with a large window; every segment is checked."""
    got: dict[int, bytes] = {}
    first = None
    while sum(map(len, got.values())) < size:
        _, frame = iol.take(0x0800)
        packet = frame[14:]
        segment = packet[20 : struct.unpack_from(">H", packet, 2)[0]]
        if packet[9] != 6:
            continue
        assert len(frame) <= 1514
        assert words(packet[:20]) == 0xFFFF
        assert words(packet[12:20] + struct.pack(">HH", 6, len(segment)) + segment) == 0xFFFF
        sequence, flags = struct.unpack_from(">I", segment, 4)[0], segment[13]
        data = segment[(segment[12] >> 4) * 4 :]
        if flags & 2:
            first = sequence + 1
            answer = tcp_segment(packet, segment, (1000, first), 0x12, b"\x02\x04\x05\xb4\x03\x03\x07\x01")
        elif data and first is not None:
            got[sequence] = data
            following = first
            for start in sorted(got):
                following = start + len(got[start]) if start <= following else following
            answer = tcp_segment(packet, segment, (1001, following), 0x10, b"")
        else:
            continue
        iol.send(0, peer_mac + OWN + b"\x08\x00" + answer)
    return b"".join(got[start] for start in sorted(got))


def tcp_segment(packet: bytes, segment: bytes, numbers: tuple[int, int], flags: int, options: bytes) -> bytes:
    """An answer; ``numbers``: its own sequence, and what it acknowledges."""
    sequence, acknowledged = numbers
    ports = segment[2:4] + segment[:2]
    header = ports + struct.pack(
        ">IIBBHHH", sequence, acknowledged & 0xFFFFFFFF, (20 + len(options)) // 4 << 4, flags, 65535, 0, 0
    )
    body = header + options
    addresses = packet[16:20] + packet[12:16]
    total = ~words(addresses + struct.pack(">HH", 6, len(body)) + body) & 0xFFFF
    body = body[:16] + struct.pack(">H", total) + body[18:]
    network = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 6, 0) + addresses
    return network[:10] + struct.pack(">H", ~words(network) & 0xFFFF) + network[12:] + body


def words(data: bytes) -> int:
    """The sum of RFC 1071."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
