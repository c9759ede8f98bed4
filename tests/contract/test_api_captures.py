"""Captures over HTTP, WebSocket and a real fabric: what hosts are asked, what readers get, what becomes of streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from api_rig import Api
from capture_rig import capture_processes, eventually, packets, summed, wired_lab
from fabric_rig import rig

from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.errors import CapacityExceeded, InvalidInput, NotFound, Unavailable, Unsupported
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.fabric.methods import CAPTURE
from wireloom.model.capture import CaptureEnd, CaptureMessage, CaptureOptions, DecodedFrame
from wireloom.model.link_views import SegmentRequest
from wireloom.providers.contract import ByteStream
from wireloom.testing.frames import FRAMES, ethernet
from wireloom.testing.memory_fabric import MemoryStream

#: FastAPI silences it while it builds a body's validator; ours are built later, at their first use.
pytestmark = pytest.mark.filterwarnings("ignore:The 'alias' attribute")

FRAME = DecodedFrame(
    number=1, time=2.5, port="a:eth1", source="10.0.0.1", destination="10.0.0.2", protocol="ICMP", length=98, info="é"
)


class Host:
    """The agent's side of captures, played by a test.

    :ivar asked: what was asked for.
    :ivar stream: what the next one gets (by default nothing but the end); an error is raised instead.
    """

    def __init__(self) -> None:
        self.asked: list[CaptureOpen] = []
        self.stream: MemoryStream | Exception | None = None

    async def open(self, wanted: CaptureOpen) -> MemoryStream:
        self.asked.append(wanted)
        if isinstance(self.stream, Exception):
            raise self.stream
        return self.stream or MemoryStream(ends=True)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async for api in Api(tmp_path).run():
        await api.deploy()
        yield api


@pytest.fixture
async def host(api: Api) -> Host:
    made = Host()
    await api.fabric.serve_stream("h1", CAPTURE, made.open)
    return made


async def read(api: Api, of: str, options: CaptureOptions | None = None) -> bytes:
    async with aclosing(api.client.captures.read("pair", of, options)) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_a_capture_is_downloaded_as_it_comes(api: Api, host: Host) -> None:
    host.stream = MemoryStream(b"one", b"two", ends=True)
    assert await read(api, "a:eth1") == b"onetwo"
    await asyncio.wait_for(host.stream.closed.wait(), 5)


@pytest.mark.parametrize("of", ["a:eth1 -- b:eth1", "b:ETH1--a:eth1"])
async def test_a_link_is_named_by_its_ends_in_any_order(api: Api, host: Host, of: str) -> None:
    options = CaptureOptions(filter="tcp port 179 and host 10.0.0.1", packets=5, seconds=1.5, snaplen=96)
    await read(api, of, options)
    [asked] = host.asked
    wire = next(iter(api.host.slices.values())).wires[0]
    assert (asked.kind, asked.id, asked.options, asked.decode) == ("wire", wire.id, options, False)


async def test_ports_plugs_and_segments_are_named_as_elsewhere(api: Api, host: Host) -> None:
    links = api.client.links
    await api.client.wait(await links.add_segment("pair", SegmentRequest(verb="add", name="lan")), timeout_s=5)
    await api.client.wait(await links.add("pair", "a:eth2", "lan"), timeout_s=5)
    for of in ("a:eth2", "a:eth2 -- lan", "lan", "a:eth0"):
        await read(api, of)
    lab = next(iter(api.host.slices.values()))
    port, plug, segment, management = host.asked
    assert (port.kind, port.node_id, port.index) == ("port", lab.nodes[0].id, 2)
    assert (plug.kind, plug.id) == ("plug", lab.plugs[0].id)
    assert (segment.kind, segment.id) == ("segment", lab.segments[0].id)
    assert management.index == 0


@pytest.mark.parametrize("of", ["nobody:eth1", "a:nothing", "a:eth1 -- a:eth2", "nowhere", "a:eth31"])
async def test_what_is_not_there_is_not_found(api: Api, host: Host, of: str) -> None:
    with pytest.raises(NotFound):
        await read(api, of)
    assert not host.asked


@pytest.mark.parametrize(
    "error", [InvalidInput("not a capture filter"), CapacityExceeded("64 captures run"), Unsupported("no tshark")]
)
async def test_a_refusal_comes_before_the_first_byte(api: Api, host: Host, error: Exception) -> None:
    host.stream = error
    with pytest.raises(type(error), match=str(error)):
        await read(api, "a:eth1")
    with pytest.raises(type(error), match=str(error)):
        await anext(api.client.captures.decoded("pair", "a:eth1"))


async def test_options_that_make_no_sense_are_refused_without_the_host(api: Api, host: Host) -> None:
    for options in (CaptureOptions(filter="a\nb"), CaptureOptions(snaplen=1), CaptureOptions(seconds=float("nan"))):
        with pytest.raises(InvalidInput):
            await read(api, "a:eth1", options)
    assert not host.asked


async def test_a_host_that_is_away_is_said(api: Api, host: Host) -> None:
    api.fabric.expire_host("h1")
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable, match="h1"):
        await read(api, "a:eth1")


async def test_a_reader_that_leaves_ends_the_stream(api: Api, host: Host) -> None:
    host.stream = MemoryStream(b"first")
    async with aclosing(api.client.captures.read("pair", "a:eth1")) as pieces:
        assert await anext(pieces) == b"first"
    await asyncio.wait_for(host.stream.closed.wait(), 5)


async def test_decoded_frames_come_one_message_a_line(api: Api, host: Host) -> None:
    last = CaptureMessage(end=CaptureEnd(packets=1, reason="enough"))
    lines = b"".join(message.model_dump_json().encode() + b"\n" for message in (CaptureMessage(frames=(FRAME,)), last))
    host.stream = MemoryStream(lines[:10], lines[10:70], lines[70:], ends=True)
    seen = [message async for message in api.client.captures.decoded("pair", "a:eth1")]
    assert seen == [CaptureMessage(frames=(FRAME,)), last]
    assert host.asked[0].decode
    await asyncio.wait_for(host.stream.closed.wait(), 5)


async def test_a_decoder_that_fails_is_an_error_for_its_reader(api: Api, host: Host) -> None:
    host.stream = MemoryStream()
    host.stream.feed(Unavailable("tshark ended: code 2"))
    with pytest.raises(Unavailable, match="code 2"):
        await anext(api.client.captures.decoded("pair", "a:eth1"))


# ---------------------------------------------------------------- over a real fabric


async def drained(stream: ByteStream) -> bytes:
    data = bytearray()
    while piece := await stream.read():
        data += piece
    return bytes(data)


@pytest.mark.kernel
async def test_over_a_real_fabric_frames_arrive_and_a_slow_reader_is_told_what_it_missed(tmp_path: Path) -> None:
    async with rig(tmp_path / "nats") as fabric, wired_lab(KernelDataPlane) as lab:
        agent = await fabric.agent("h1")
        await lab.captures.serve(agent, "h1")
        stream = await fabric.controller.open_stream("h1", CAPTURE, lab.of_wire())
        for number in range(12_000):
            lab.a.guest.send(ethernet("020000000001", b"\x88\xb5" + number.to_bytes(4) + bytes(1400)))
            while lab.b.guest.read() is not None:
                pass
        await asyncio.sleep(0.2)
        lab.put()  # the link goes, and takes its capture with it
        data = await drained(stream)
        summary = summed(data)
        assert summary.packets == len(packets(data))
        assert summary.dropped > 0
        assert summary.packets + summary.dropped == 12_000
        assert summary.ended == "n0:eth1 -- n1:eth1 is gone"
        await eventually(lambda: not capture_processes())


@pytest.mark.kernel
async def test_over_a_real_fabric_a_reader_that_leaves_and_an_agent_that_stops_end_captures(tmp_path: Path) -> None:
    async with rig(tmp_path / "nats") as fabric, wired_lab(KernelDataPlane) as lab:
        agent = await fabric.agent("h1")
        await lab.captures.serve(agent, "h1")
        with pytest.raises(InvalidInput, match="not a capture filter"):
            await fabric.controller.open_stream("h1", CAPTURE, lab.of_wire(filter="no such thing"))
        left = await fabric.controller.open_stream("h1", CAPTURE, lab.of_wire())
        stopped = await fabric.controller.open_stream("h1", CAPTURE, lab.of_wire())
        await left.close()
        await eventually(lambda: len(capture_processes()) == 1)
        lab.a.guest.send(FRAMES["lldp"]())
        await agent.close()
        with pytest.raises(Unavailable, match="stopping"):
            await drained(stopped)
        await eventually(lambda: not capture_processes())
