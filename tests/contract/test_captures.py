"""Captures on the real kernel: which frames are there, once each, and what becomes of the processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from capture_rig import LAB, Lab, capture_processes, eventually, listened_to, packets, read_all, summed, wired_lab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wireloom.agent.capture import captures, filters
from wireloom.agent.capture.filters import compile_filter
from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.errors import CapacityExceeded, InvalidInput, NotFound, Unavailable, Unsupported
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.fabric.documents import EventLevel
from wireloom.model.network import WirePlan
from wireloom.testing.frames import FRAMES, ethernet, source_of
from wireloom.testing.guests import Guest, receive

pytestmark = pytest.mark.kernel

#: Starts a capture on the loopback device, says so, and waits for ever.
LONELY = """
import asyncio
from wireloom.agent.capture.{module} import {source}
from wireloom.sniffer.order import Order, Point
async def main():
    order = Order(points=(Point("lo", "lo"),), program=((6, 0, 0, 64),), comment="", writer="")
    source = await {source}.start(order)
    print("it captures", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture(params=[KernelDataPlane, OvsDataPlane], ids=lambda factory: factory.name)
def factory(request: pytest.FixtureRequest) -> Callable[[str], DataPlane]:
    return request.param


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with wired_lab(KernelDataPlane) as made:
        yield made


@pytest.fixture
async def any_lab(factory: Callable[[str], DataPlane]) -> AsyncIterator[Lab]:
    async with wired_lab(factory) as made:
        yield made


# ---------------------------------------------------------------- which frames, on every data plane


async def test_each_frame_of_a_wire_is_there_once_with_where_it_came_in(any_lab: Lab) -> None:
    lab = any_lab
    capture = await lab.wire(packets=2 * len(FRAMES))
    sent = [build() for build in FRAMES.values()]
    back = [build() for build in FRAMES.values()]
    for frame, answer in zip(sent, back, strict=True):
        lab.a.guest.send(frame)
        lab.b.guest.send(answer)
    data = await read_all(capture)
    summary = summed(data)
    assert summary.interfaces == ["n0:eth1", "n1:eth1"]
    assert summary.ended == "the limit of packets is reached"
    assert sorted(packet.frame for packet in packets(data) if packet.interface == 0) == sorted(sent)
    assert sorted(packet.frame for packet in packets(data) if packet.interface == 1) == sorted(back)
    assert {packet.direction for packet in packets(data)} == {1}
    assert lab.history == [
        (f"captured n0:eth1 -- n1:eth1: {2 * len(FRAMES)} packets ({summary.ended})", EventLevel.INFO)
    ]


async def test_a_port_is_captured_both_ways(any_lab: Lab) -> None:
    lab = any_lab
    capture = await lab.port(lab.a, packets=2)
    out, back = FRAMES["lldp"](), FRAMES["lacp"]()
    lab.a.guest.send(out)
    assert await receive(lab.b.guest, source_of(out)) == out
    lab.b.guest.send(back)
    found = packets(await read_all(capture))
    assert [(packet.frame, packet.direction) for packet in found] == [(out, 1), (back, 2)]


# ---------------------------------------------------------------- limits


async def test_a_filter_takes_what_it_says_and_a_snap_length_cuts_it(lab: Lab) -> None:
    capture = await lab.wire(filter="arp or vlan 100", snaplen=40, packets=2)
    for frame in (FRAMES["lldp"](), tagged := FRAMES["802.1q"](), FRAMES["ipv4"](), arp := FRAMES["arp"]()):
        lab.a.guest.send(frame)
    data = await read_all(capture)
    assert [packet.frame for packet in packets(data)] == [tagged[:44], arp[:40]]  # a tag is kept beside the bytes
    assert [packet.length for packet in packets(data)] == [len(tagged), len(arp)]
    assert b"arp or vlan 100" in data


async def test_a_time_limit_ends_a_capture_also_while_frames_come(lab: Lab) -> None:
    capture = await lab.wire(seconds=0.4)
    reading = asyncio.create_task(read_all(capture))
    while not reading.done():
        lab.a.guest.send(FRAMES["lldp"]())
        await asyncio.sleep(0.01)
    summary = summed(await reading)
    assert summary.ended == "the time is over"
    assert summary.packets > 5


# ---------------------------------------------------------------- filters are data


@pytest.mark.parametrize(
    "text",
    [
        "foo bar",
        "tcp) or (udp",
        "-w {file}",
        "--help",
        "-r /etc/passwd",
        "$(touch {file})",
        "icmp; touch {file}",
        "ip (",
    ],
)
async def test_what_is_no_filter_is_refused_before_anything_is_captured(lab: Lab, tmp_path: Path, text: str) -> None:
    file = tmp_path / "made"
    with pytest.raises(InvalidInput, match="not a capture filter"):
        await lab.wire(filter=text.format(file=file))
    assert not file.exists()
    assert not capture_processes()


@pytest.mark.parametrize("text", ["icmp\0", "icmp\nor tcp", "x" * 5000])
async def test_a_filter_is_one_short_line(lab: Lab, text: str) -> None:
    with pytest.raises(InvalidInput):
        await lab.wire(filter=text)


#: What filters are made of, and what people who mean harm would try.
WORDS = """
    tcp udp icmp arp ip ip6 vlan mpls host net port portrange src dst and or not ( ) [ ] = < > & | 0 1 10 0xff 80-90
    10.0.0.1 10.0.0.0/8 ::1 ether len inbound outbound ifname -w -r /etc/passwd $(id) ; `id` ' " \\ % * ! -
"""


def filter_texts() -> st.SearchStrategy[str]:
    words = st.sampled_from(WORDS.split())
    return st.one_of(
        st.lists(words, max_size=12).map(" ".join),
        st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=80),
        st.builds(lambda word, count: word * count, words, st.integers(0, 700)),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=filter_texts())
def test_whatever_people_write_becomes_a_program_or_a_refusal(text: str) -> None:
    program: tuple[filters.Instruction, ...] = ()
    with contextlib.suppress(InvalidInput):
        program = asyncio.run(compile_filter(text, 96))
    assert len(program) <= 4096
    # It cuts, or refuses: nothing is taken whole.
    assert {k for code, _, _, k in program if code == 6} <= {0, 96}


async def test_a_filter_needs_its_compiler(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "COMPILER", "no-such-compiler")
    with pytest.raises(Unsupported, match="no-such-compiler"):
        await lab.wire(filter="icmp")


async def test_the_empty_filter_only_cuts() -> None:
    assert await compile_filter("  ", 96) == ((6, 0, 0, 96),)
    assert (await compile_filter("arp", 96))[-2] == (6, 0, 0, 96)


# ---------------------------------------------------------------- so many, so long


async def test_no_more_captures_than_may_run_and_an_ended_one_makes_room(lab: Lab) -> None:
    opened = [await lab.wire() for _ in range(4)]
    with pytest.raises(CapacityExceeded, match="4 captures run"):
        await lab.wire()
    await opened[0].close()
    await (await lab.wire()).close()
    assert len(capture_processes()) == 3


async def test_fewer_captures_are_decoded_than_may_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "_DECODERS_MOST", 1)
    decoded = await lab.captures.open(lab.of_wire().model_copy(update={"decode": True}))
    with pytest.raises(CapacityExceeded, match="1 captures are decoded") as caught:
        await lab.captures.open(lab.of_wire().model_copy(update={"decode": True}))
    assert "without --decode" in (caught.value.hint or "")
    await lab.wire()
    await decoded.close()
    await lab.captures.open(lab.of_wire().model_copy(update={"decode": True}))


async def test_a_pause_of_the_reader_costs_nothing_while_little_comes(lab: Lab) -> None:
    capture = await lab.wire()
    many = [ethernet("020000000001", b"\x88\xb5" + bytes(1400)) for _ in range(400)]  # more than the pipes take
    few = [FRAMES["lldp"]() for _ in range(50)]
    for frame in many:
        lab.a.guest.send(frame)
    for frame in few:
        lab.a.guest.send(frame)
        await asyncio.sleep(0.05)  # longer than a block of the ring stays open, and more often than it has blocks
    await capture.ask_to_finish("enough")
    data = await read_all(capture)
    assert [packet.frame for packet in packets(data)] == [*many, *few]
    assert summed(data).dropped == 0


async def test_a_slow_reader_costs_frames_of_the_capture_and_none_of_the_lab(lab: Lab) -> None:
    capture = await lab.wire()
    arrived = 0
    for number in range(12_000):
        frame = ethernet("020000000001", b"\x88\xb5" + number.to_bytes(4) + bytes(1400))
        lab.a.guest.send(frame)
        if number % 50 == 49:
            while lab.b.guest.read() is not None:
                arrived += 1
    await eventually(lambda: lab.b.guest.read() is None)
    while lab.b.guest.read() is not None:
        arrived += 1
    assert arrived == 12_000
    await capture.ask_to_finish("enough")
    summary = summed(await read_all(capture))
    assert summary.ended == "enough"
    assert summary.dropped > 0
    assert summary.packets + summary.dropped == 12_000
    assert lab.history[0][0].endswith(f"{summary.dropped} more were too many for its reader (enough)")
    assert lab.history[0][1] is EventLevel.WARNING


# ---------------------------------------------------------------- what comes and goes


async def test_a_reader_that_leaves_takes_its_process_with_it(lab: Lab) -> None:
    capture = await lab.wire()
    lab.a.guest.send(FRAMES["lldp"]())
    assert len(capture_processes()) == 1
    await capture.close()
    await capture.close()
    assert not capture_processes()
    assert lab.history == [("captured n0:eth1 -- n1:eth1: 1 packet (its reader left)", EventLevel.INFO)]


async def test_the_process_has_no_rights_once_it_listens(lab: Lab) -> None:
    await lab.wire()
    status = Path(f"/proc/{capture_processes()[0]}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    assert set(fields["Uid"].split()) == set(fields["Gid"].split()) == {"65534"}
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert Path(f"/proc/{capture_processes()[0]}/environ").read_bytes() == b""


@pytest.mark.parametrize(("module", "source", "count"), [("process", "Sniffer", 1), ("decode", "Decoded", 2)])
async def test_a_capture_dies_with_its_agent(module: str, source: str, count: int) -> None:
    program = LONELY.format(module=module, source=source)
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert agent.stdout is not None
    assert await agent.stdout.readline() == b"it captures\n"
    processes = capture_processes(agent.pid)
    assert len(processes) == count
    agent.kill()
    await agent.wait()
    await eventually(lambda: not any(_lives(pid) for pid in processes))


def _lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_a_capture_goes_on_over_a_lost_carrier_and_over_a_port_that_is_made_anew(lab: Lab) -> None:
    capture = await lab.wire()
    frames = [FRAMES["lldp"]() for _ in range(3)]
    lab.b.guest.send(frames[0])
    await lab.rig.plane.set_carrier({lab.a.device: False})
    await lab.rig.plane.set_carrier({lab.a.device: True})
    await crossed(lab.a.guest, lab.b.guest)
    lab.a.guest.send(frames[1])
    assert await receive(lab.b.guest, source_of(frames[1])) == frames[1]
    await lab.rig.plane.remove_ports([lab.a.device])
    await lab.rig.plane.ensure_ports([lab.a.plan])
    await lab.rig.plane.ensure_wires([WirePlan(a=lab.a.device, b=lab.b.device)])
    again = await lab.rig.guest(lab.a.plan)
    await crossed(again, lab.b.guest)
    await eventually(lambda: listened_to(lab.a))
    again.send(frames[2])
    assert await receive(lab.b.guest, source_of(frames[2])) == frames[2]
    await capture.ask_to_finish("enough")
    assert [packet.frame for packet in packets(await read_all(capture)) if packet.frame in frames] == frames


async def crossed(sender: Guest, receiver: Guest) -> None:
    """Frames cross again: the kernel tells a guest of its carrier a moment after it is there."""
    for _ in range(50):
        sender.send(frame := FRAMES["arp"]())
        if await receive(receiver, source_of(frame), 0.1) == frame:
            return
    raise AssertionError("no frame crosses")


async def test_a_capture_may_wait_for_a_port_that_is_not_there_yet(lab: Lab) -> None:
    await lab.rig.plane.remove_ports([lab.a.device])
    capture = await lab.port(lab.a, packets=1)
    await lab.rig.plane.ensure_ports([lab.a.plan])
    guest = await lab.rig.guest(lab.a.plan)
    await eventually(lambda: listened_to(lab.a))
    guest.send(frame := FRAMES["lldp"]())
    assert [packet.frame for packet in packets(await read_all(capture))] == [frame]


async def test_a_capture_ends_with_the_link_that_it_is_of(lab: Lab) -> None:
    capture = await lab.wire()
    lab.put()
    assert summed(await read_all(capture)).ended == "n0:eth1 -- n1:eth1 is gone"
    assert not capture_processes()


async def test_what_a_lab_does_not_have_is_not_found(lab: Lab) -> None:
    for wanted in (
        CaptureOpen(lab_id="other", kind="wire", id="w"),
        CaptureOpen(lab_id=LAB, kind="wire", id="x"),
        CaptureOpen(lab_id=LAB, kind="plug", id="w"),
        CaptureOpen(lab_id=LAB, kind="segment", id="w"),
        CaptureOpen(lab_id=LAB, kind="port", node_id="n0", index=77),
    ):
        with pytest.raises(NotFound):
            await lab.captures.open(wanted)


async def test_a_stopped_agent_leaves_no_capture_whether_read_or_not(lab: Lab) -> None:
    captures = [await lab.wire(), await lab.port(lab.a), await lab.port(lab.b)]
    reading = asyncio.create_task(read_all(captures[2]))
    for _ in range(2000):
        lab.a.guest.send(ethernet("020000000001", b"\x88\xb5" + bytes(1400)))
    await asyncio.sleep(0.3)
    async with asyncio.timeout(10):
        await lab.captures.close()
    assert not capture_processes()
    for read in (reading, *(read_all(capture) for capture in captures[:2])):
        with pytest.raises(Unavailable, match="stopping"):
            await read


async def test_fifty_captures_at_once_see_the_same(lab: Lab) -> None:
    async with wired_lab(KernelDataPlane, most=50) as wide:
        opened = await asyncio.gather(*(wide.wire(packets=2) for _ in range(50)))
        frames = [FRAMES["lldp"](), FRAMES["arp"]()]
        for frame in frames:
            wide.a.guest.send(frame)
        for data in await asyncio.gather(*(read_all(capture) for capture in opened)):
            assert [packet.frame for packet in packets(data)] == frames
