"""``wireloom capture`` over a client that answers from memory: where frames go, and what is said."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_rig import FakeClient, wireloom

from wireloom import pcapng
from wireloom.cli.commands import captures as command
from wireloom.cli.state import CliState
from wireloom.errors import InvalidInput
from wireloom.model.capture import CaptureEnd, CaptureMessage, CaptureOptions, DecodedFrame
from wireloom.pcapng import Direction

FRAME = DecodedFrame(
    number=1, time=0.25, port="r1:eth1", source="10.0.0.1", destination="10.0.0.2", protocol="ICMP", length=98, info="x"
)


def capture_file(*, dropped: int = 0) -> bytes:
    return b"".join(
        (
            pcapng.section_header("", program="", system=""),
            pcapng.interface_description("r1:eth1", description="", snaplen=96),
            pcapng.enhanced_packet(0, 1, b"frame", 5, Direction.INBOUND),
            pcapng.interface_statistics(
                0, started_ns=1, ended_ns=2, received=1, dropped=dropped, delivered=1, comment="the time is over"
            ),
        )
    )


class FakeCaptures:
    """``client.captures``."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, CaptureOptions]] = []
        self.pieces = [capture_file()]
        self.messages = [CaptureMessage(frames=(FRAME,)), CaptureMessage(end=CaptureEnd(packets=1, reason="enough"))]
        self.error: BaseException | None = None

    async def read(self, lab: str, of: str, options: CaptureOptions) -> AsyncGenerator[bytes, None]:
        self.asked.append((lab, of, options))
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error

    async def decoded(self, lab: str, of: str, options: CaptureOptions) -> AsyncGenerator[CaptureMessage, None]:
        self.asked.append((lab, of, options))
        for message in self.messages:
            yield message


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> FakeCaptures:
    fake: Any = FakeClient()
    fake.captures = FakeCaptures()
    monkeypatch.setattr(CliState, "client", lambda _self, **_: fake)
    return fake.captures


def test_a_capture_goes_to_standard_output_and_its_end_to_the_other(captures: FakeCaptures) -> None:
    result = wireloom("capture", "demo", "r1:eth1", "--filter", "icmp", "-c", "3", "--seconds", "1.5", "-s", "96")
    assert result.exit_code == 0
    assert result.stdout_bytes == capture_file()
    assert result.stderr == "1 packet (the time is over)\n"
    options = CaptureOptions(filter="icmp", packets=3, seconds=1.5, snaplen=96)
    assert captures.asked == [("demo", "r1:eth1", options)]


@pytest.mark.parametrize("words", [["r1:eth1 -- r2:eth1"], ["r1:eth1", "--", "r2:eth1"], ["r1:eth1", "r2:eth1"]])
def test_a_link_is_named_with_quotes_or_without(captures: FakeCaptures, words: list[str]) -> None:
    assert wireloom("capture", "demo", *words).exit_code == 0
    assert captures.asked[0][1] == "r1:eth1 -- r2:eth1"


def test_a_file_gets_what_comes_and_losses_are_said(captures: FakeCaptures, tmp_path: Path) -> None:
    captures.pieces = [capture_file(dropped=7)[:33], capture_file(dropped=7)[33:]]
    result = wireloom("capture", "demo", "r1:eth1", "--out", str(tmp_path / "x.pcapng"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "x.pcapng").read_bytes() == capture_file(dropped=7)
    assert "7 more came faster than they were read" in result.stderr


def test_a_capture_that_is_refused_leaves_the_file_alone(captures: FakeCaptures, tmp_path: Path) -> None:
    captures.pieces, captures.error = [], InvalidInput("not a capture filter: syntax error")
    (tmp_path / "x.pcapng").write_text("precious")
    result = wireloom("capture", "demo", "r1:eth1", "--out", str(tmp_path / "x.pcapng"), "-f", "foo bar")
    assert result.exit_code == 1
    assert "syntax error" in result.stderr
    assert (tmp_path / "x.pcapng").read_text() == "precious"


def test_ctrl_c_is_the_usual_end(captures: FakeCaptures) -> None:
    captures.pieces, captures.error = [capture_file()[:-108]], KeyboardInterrupt()
    result = wireloom("capture", "demo", "r1:eth1")
    assert result.exit_code == 0
    assert "1 packet (interrupted)" in result.stderr


def test_a_terminal_gets_no_bytes(captures: FakeCaptures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    result = wireloom("capture", "demo", "r1:eth1")
    assert result.exit_code == 1
    assert "wireshark -k -i -" in result.stderr
    assert not captures.asked


def test_decoded_frames_are_lines(captures: FakeCaptures) -> None:
    result = wireloom("capture", "demo", "lan", "--decode")
    [line] = result.stdout.splitlines()
    assert line.split() == [line.split()[0], "r1:eth1", "10.0.0.1", ">", "10.0.0.2", "ICMP", "98", "x"]
    assert line.split()[0].endswith(".250000")
    assert result.stderr == "1 packet (enough)\n"


def test_decoded_frames_are_json_a_line(captures: FakeCaptures) -> None:
    result = wireloom("capture", "demo", "lan", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [FRAME.model_dump()]


@pytest.mark.parametrize("words", [["a:1", "b:2", "c:3"], ["lan", "--decode", "--out", "x"]])
def test_what_makes_no_sense_is_refused(captures: FakeCaptures, words: list[str]) -> None:
    assert wireloom("capture", "demo", *words).exit_code == 1
    assert not captures.asked
