"""Captures as text, by the decoder that people know, and captures that it reads back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from capture_rig import LAB, Lab, capture_processes, eventually, read_all, wired_lab

from wireloom.agent.capture import decode
from wireloom.commands import run
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.errors import Unavailable, Unsupported
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.model.capture import CaptureEnd, CaptureMessage, CaptureOptions, DecodedFrame
from wireloom.testing.frames import FRAMES, source_of

pytestmark = pytest.mark.kernel


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with wired_lab(KernelDataPlane) as made:
        yield made


def decoded(**options: object) -> CaptureOpen:
    return CaptureOpen(lab_id=LAB, kind="wire", id="w", decode=True, options=CaptureOptions.model_validate(options))


def messages(data: bytes) -> list[CaptureMessage]:
    return [CaptureMessage.model_validate_json(line) for line in data.splitlines()]


def frames(data: bytes) -> list[DecodedFrame]:
    return [frame for message in messages(data) for frame in message.frames]


async def test_a_file_is_read_back_with_names_and_comment(lab: Lab, tmp_path: Path) -> None:
    capture = await lab.wire(packets=2 * len(FRAMES), filter="not ip host 192.0.2.77")
    for build in FRAMES.values():
        lab.a.guest.send(build())
        lab.b.guest.send(build())
    file = tmp_path / "wire.pcapng"
    file.write_bytes(await read_all(capture))
    listed = await run(
        "tshark", "-n", "-r", str(file), "-T", "fields",
        "-e", "frame.interface_name", "-e", "frame.interface_description", "-e", "frame.packet_flags_direction",
    )  # fmt: skip
    assert listed.code == 0, listed.errors
    seen = {tuple(line.split("\t")) for line in listed.output.splitlines()}
    assert seen == {
        ("n0:eth1", "lab/n0/eth1", "0x00000001"),
        ("n1:eth1", "lab/n1/eth1", "0x00000001"),
    }
    told = await run("capinfos", str(file))
    assert f"Number of packets:   {2 * len(FRAMES)}" in told.output
    assert "lab lab, wire n0:eth1 -- n1:eth1" in told.output
    assert "not ip host 192.0.2.77" in told.output
    assert "Strict time order:   True" in told.output


async def test_frames_are_decoded_as_they_come(lab: Lab) -> None:
    capture = await lab.captures.open(decoded())
    lab.a.guest.send(FRAMES["arp"]())
    async with asyncio.timeout(10):
        (first,) = frames(await capture.read())
    assert (first.number, first.port) == (1, "n0:eth1")
    sent = FRAMES["ipv4"]()
    lab.b.guest.send(sent)
    async with asyncio.timeout(10):
        (second,) = frames(await capture.read())
    assert (second.number, second.port, second.protocol) == (2, "n1:eth1", "UDP")
    assert (second.source, second.destination, second.length) == ("192.0.2.1", "192.0.2.2", len(sent))
    assert second.time >= first.time > 1_700_000_000
    await capture.close()
    assert not capture_processes()


async def test_every_frame_of_the_zoo_is_a_line_and_the_end_is_told(lab: Lab) -> None:
    capture = await lab.captures.open(decoded(packets=len(FRAMES)))
    sent = [build() for build in FRAMES.values()]
    for frame in sent:
        lab.a.guest.send(frame)
    data = await read_all(capture)
    assert [frame.number for frame in frames(data)] == list(range(1, len(FRAMES) + 1))
    assert messages(data)[-1].end == CaptureEnd(packets=len(FRAMES), reason="the limit of packets is reached")
    assert [frame.length for frame in frames(data)] == [len(frame) for frame in sent]
    assert {source_of(frame).hex(":") for frame in sent} & {frame.source for frame in frames(data)}
    assert lab.history
    assert not capture_processes()


async def test_a_decoder_that_dies_is_an_error_and_leaves_nothing(lab: Lab) -> None:
    capture = await lab.captures.open(decoded())
    decoder = next(pid for pid in capture_processes() if b"gui.column" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(decoder, signal.SIGKILL)
    with pytest.raises(Unavailable, match="tshark ended"):
        await read_all(capture)
    await capture.close()
    await eventually(lambda: not capture_processes())


async def test_the_decoder_has_no_rights(lab: Lab) -> None:
    capture = await lab.captures.open(decoded())
    for pid in capture_processes():
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        assert "CapEff:\t0000000000000000" in status
    await capture.close()


async def test_a_host_without_a_decoder_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "DECODER", "no-such-decoder")
    with pytest.raises(Unsupported, match="no-such-decoder is not installed"):
        await lab.captures.open(decoded())
    assert not capture_processes()
