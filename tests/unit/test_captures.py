"""Captures without a kernel: the file format, the order of frames, what to listen on, and what a decoder says."""

from __future__ import annotations

import contextlib
import json
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom import pcapng
from wireloom.agent.capture.decode import parse_lines
from wireloom.agent.capture.filters import parse_program
from wireloom.agent.capture.points import Medium, find_subject
from wireloom.errors import InvalidInput, NotFound
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.model.capture import CaptureOptions
from wireloom.model.slice import NodeIntent, PlugIntent, PortIntent, PortRef, SegmentIntent, Slice, WireIntent
from wireloom.pcapng import BlockReader, Direction
from wireloom.sniffer.merge import HOLD_NS, Merge
from wireloom.sniffer.order import Order, Point, Report, Request
from wireloom.sniffer.outlet import Outlet
from wireloom.sniffer.ring import Frame

NAMES = st.text(max_size=40)


# ---------------------------------------------------------------- the file


def file(frames: list[bytes], comment: str = "lab x", name: str = "r1:eth1", dropped: int = 0) -> bytes:
    parts = [
        pcapng.section_header(comment, program="Wireloom", system="Linux"),
        pcapng.interface_description(name, description="a port", snaplen=96, capture_filter="icmp"),
        *(pcapng.enhanced_packet(0, 7, frame, len(frame), Direction.INBOUND) for frame in frames),
        pcapng.interface_statistics(
            0, started_ns=1, ended_ns=2, received=9, dropped=dropped, delivered=8, comment="enough"
        ),
    ]
    return b"".join(parts)


@given(frames=st.lists(st.binary(max_size=70), max_size=6), cuts=st.lists(st.integers(1, 50)), name=NAMES)
def test_a_file_is_summed_up_wherever_its_pieces_are_cut(frames: list[bytes], cuts: list[int], name: str) -> None:
    data = file(frames, name=name, dropped=3)
    reader = BlockReader()
    position = 0
    for cut in cuts:
        reader.feed(data[position : position + cut])
        position += cut
    reader.feed(data[position:])
    summary = reader.summary
    assert (summary.packets, summary.dropped, summary.ended) == (len(frames), 3, "enough")
    assert summary.interfaces == [name.encode()[:0xFFFF].decode()]


@given(comment=st.text(max_size=200))
def test_every_block_says_its_length_at_both_ends(comment: str) -> None:
    data = file([b"x" * size for size in range(5)], comment=comment)
    position = 0
    while position < len(data):
        _, total = struct.unpack_from("=II", data, position)
        assert total % 4 == 0
        assert struct.unpack_from("=I", data, position + total - 4) == (total,)
        position += total
    assert position == len(data)


@given(data=st.binary(max_size=200))
def test_what_is_no_capture_is_refused_or_waited_for(data: bytes) -> None:
    reader = BlockReader()
    try:
        reader.feed(data)
    except ValueError:
        return
    assert reader.summary.packets <= len(data)


# ---------------------------------------------------------------- the order of frames


def frame(time_ns: int, interface: int = 0, size: int = 60) -> Frame:
    return Frame(time_ns, interface, Direction.INBOUND, bytes(size), size)


def test_a_port_alone_waits_for_nobody() -> None:
    merge = Merge(1)
    merge.add([frame(5), frame(3)])
    assert [each.time_ns for each in merge.due(5)] == [5, 3]


@given(times=st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 3)), max_size=30))
def test_frames_of_several_ports_go_in_their_order(times: list[tuple[int, int]]) -> None:
    merge = Merge(4)
    for time_ns, interface in times:
        merge.add([frame(time_ns, interface)])
    seen = [each.time_ns for each in merge.due(10**9 + HOLD_NS)]
    assert seen == sorted(time_ns for time_ns, _ in times)
    assert merge.wait_ms(0) is None


def test_a_young_frame_is_held_until_an_earlier_one_must_have_come() -> None:
    merge = Merge(2)
    merge.add([frame(HOLD_NS)])
    assert merge.due(HOLD_NS + 1) == []
    assert merge.wait_ms(HOLD_NS) == HOLD_NS / 1_000_000
    merge.add([frame(HOLD_NS - 1, 1)])
    assert [each.interface for each in merge.due(2 * HOLD_NS)] == [1, 0]


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    merge = Merge(2)
    merge.add([frame(10**18)])
    assert len(merge.due(5)) == 1


def test_little_is_held_while_much_comes() -> None:
    merge = Merge(2)
    merge.add([frame(number, size=65000) for number in range(20)])
    assert len(merge.due(0)) == 20
    assert merge.rest() == []


# ---------------------------------------------------------------- a reader that is slow


def test_what_its_reader_does_not_take_waits_up_to_a_bound() -> None:
    reading, writing = os.pipe()
    try:
        outlet = Outlet(writing, most=1 << 20)
        pieces = [bytes([number % 251]) * 70_000 for number in range(20)]
        for piece in pieces:
            outlet.put(piece)
        assert outlet.full
        taken = bytearray()
        while outlet.waiting:
            taken += os.read(reading, 1 << 16)
            outlet.push()
        assert not outlet.full
        os.set_blocking(reading, False)
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(reading, 1 << 16):
                taken += piece
        assert bytes(taken) == b"".join(pieces)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_reader_that_has_gone_is_noticed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError):
            Outlet(writing, most=10).put(b"x")
    finally:
        os.close(writing)


# ---------------------------------------------------------------- between agent and process


@given(name=NAMES, seconds=st.floats(0, 1e6), packets=st.integers(0, 10**9))
def test_an_order_is_one_line_and_arrives_as_it_was(name: str, seconds: float, packets: int) -> None:
    order = Order(
        points=(Point("wl1", name, name, "both"), Point("wl2", "x")),
        program=((6, 0, 0, 96),),
        comment=name,
        writer="Wireloom",
        seconds=seconds,
        packets=packets,
    )
    line = order.line()
    assert line.count(b"\n") == 1
    assert Order.parse(line) == order


@pytest.mark.parametrize("points", [None, (), (Point("wl1", "a:e1"), Point("eth0", "eth0", "of the host", "both"))])
@given(reason=NAMES)
def test_a_request_is_one_line_and_arrives_as_it_was(points: tuple[Point, ...] | None, reason: str) -> None:
    line = Request(reason, points).line()
    assert line.count(b"\n") == 1
    assert Request.parse(line) == Request(reason, points)


def test_a_report_arrives_as_it_was_and_a_traceback_is_none() -> None:
    report = Report(ended="enough", packets=3, dropped=1)
    assert Report.parse(report.line()) == report
    with pytest.raises((ValueError, TypeError)):
        Report.parse(b"Traceback (most recent call last):\n")


# ---------------------------------------------------------------- what to listen on


def _node(number: int) -> NodeIntent:
    port = PortIntent(index=1, name="eth1", guest_name="eth1", device=f"wl{number}", mac="02:00:00:00:00:01")
    return NodeIntent(id=f"n{number}", name=f"r{number}", device="frr", provider="docker", image="i", ports=(port,))


def _lab(kind: str = "switch") -> Slice:
    refs = [PortRef(node_id=f"n{number}", index=1) for number in range(4)]
    segment = SegmentIntent.model_validate({"id": "s", "name": "lan", "kind": kind, "device": "wls"})
    return Slice(
        installation="i",
        lab_id="l",
        lab="demo",
        generation=1,
        nodes=tuple(_node(number) for number in range(4)),
        wires=(WireIntent(id="w", a=refs[0], b=refs[1]),),
        segments=(segment,),
        plugs=(PlugIntent(id="p2", port=refs[2], segment="s"), PlugIntent(id="p3", port=refs[3], segment="s")),
    )


def _points(wanted: CaptureOpen, kind: str = "switch", members: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    subject = find_subject(_lab(kind), wanted, lambda segment: Medium(segment.device, members))
    return [(point.device, point.name, point.take) for point in subject.points]


def test_a_wire_is_listened_to_where_frames_come_in_at_both_ends() -> None:
    wanted = CaptureOpen(lab_id="l", kind="wire", id="w")
    assert _points(wanted) == [("wl0", "r0:eth1", "in"), ("wl1", "r1:eth1", "in")]
    assert find_subject(_lab(), wanted, lambda _: Medium("")).name == "r0:eth1 -- r1:eth1"


def test_a_port_and_a_plug_are_listened_to_both_ways() -> None:
    assert _points(CaptureOpen(lab_id="l", kind="port", node_id="n0", index=1)) == [("wl0", "r0:eth1", "both")]
    assert _points(CaptureOpen(lab_id="l", kind="plug", id="p2")) == [("wl2", "r2:eth1", "both")]


def test_a_segment_is_listened_to_at_every_way_into_it() -> None:
    wanted = CaptureOpen(lab_id="l", kind="segment", id="s")
    ours = [("wl2", "r2:eth1", "in"), ("wl3", "r3:eth1", "in")]
    assert _points(wanted, members=("wl2", "wl3")) == ours
    assert _points(wanted, "external", ("eth0", "wl2", "wl3")) == [
        *ours,
        ("eth0", "eth0", "in"),
        ("wls", "host", "out"),
    ]


def test_a_segment_on_a_bridge_of_the_host_is_listened_to_there() -> None:
    wanted = CaptureOpen(lab_id="l", kind="segment", id="s")
    subject = find_subject(_lab("external"), wanted, lambda _: Medium("br0", ("eth0", "wl2")))
    assert [(point.device, point.name, point.take) for point in subject.points[2:]] == [
        ("eth0", "eth0", "in"),
        ("br0", "host", "out"),
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        CaptureOpen(lab_id="l", kind="wire", id="p2"),
        CaptureOpen(lab_id="l", kind="plug", id="w"),
        CaptureOpen(lab_id="l", kind="segment", id="w"),
        CaptureOpen(lab_id="l", kind="port", node_id="n9", index=1),
        CaptureOpen(lab_id="l", kind="port", node_id="n1", index=2),
    ],
)
def test_what_a_lab_does_not_have_is_not_found(wanted: CaptureOpen) -> None:
    with pytest.raises(NotFound):
        _points(wanted)


# ---------------------------------------------------------------- options, filters, lines


@pytest.mark.parametrize(
    "options",
    [
        {"filter": "a\tb"},
        {"filter": "x" * 4097},
        {"packets": -1},
        {"seconds": -0.1},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"snaplen": 13},
        {"snaplen": 1 << 20},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        CaptureOptions.model_validate(options).check()


def test_a_program_is_read_as_its_compiler_writes_it() -> None:
    assert parse_program("2\n40 0 0 12\n6 0 0 96") == ((40, 0, 0, 12), (6, 0, 0, 96))


@given(text=st.one_of(st.text(), st.from_regex(r"\d\n(\d+ \d+ \d+ \d+\n?)*", fullmatch=True)))
def test_what_is_no_program_gives_none(text: str) -> None:
    assert all(len(instruction) == 4 for instruction in parse_program(text))


def test_lines_of_the_decoder_become_frames() -> None:
    line = b"   12\t1700000000.123456789\tr1:eth1\t10.0.0.1\tICMP\t10.0.0.2\t98\tEcho\trequest \xff\n\nnoise\n"
    (found,) = parse_lines(line)
    assert json.loads(found.model_dump_json()) == {
        "number": 12,
        "time": 1700000000.1234567,
        "port": "r1:eth1",
        "source": "10.0.0.1",
        "destination": "10.0.0.2",
        "protocol": "ICMP",
        "length": 98,
        "info": "Echo\trequest �",
    }
