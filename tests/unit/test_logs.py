"""Logging: no secret is written, in one form for all, and files do not grow for ever."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from wireloom.logfiles import rotate, tail
from wireloom.logs import HIDDEN, configure, hide_secrets
from wireloom.settings import Settings


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("key", ["token", "api_token", "password", "fabric_password", "Authorization", "private_key"])
def test_secrets_are_blanked_by_their_key(key: str) -> None:
    assert hide_secrets(None, "info", {key: "s3cret"}) == {key: HIDDEN}


def test_passwords_in_urls_are_blanked() -> None:
    event = hide_secrets(None, "info", {"event": "connecting to nats://me:s3cret@host:4222/x"})
    assert event["event"] == f"connecting to nats://me:{HIDDEN}@host:4222/x"


def test_json_lines_carry_fields_of_ours_and_of_libraries(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    structlog.get_logger("wireloom.test").info("made", node="r1", token="s3cret")  # noqa: S106
    logging.getLogger("library").warning("odd %s", "thing")
    ours, theirs = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (ours["event"], ours["node"], ours["level"], ours["token"]) == ("made", "r1", "info", HIDDEN)
    assert (theirs["event"], theirs["level"]) == ("odd thing", "warning")


def test_a_terminal_gets_key_value_pairs(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="console"))
    structlog.get_logger("wireloom.test").info("made it", node="r1")
    assert 'event="made it" node=r1' in capsys.readouterr().err


def test_the_level_holds(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json", log_level="warning"))
    structlog.get_logger("wireloom.test").info("quiet")
    assert capsys.readouterr().err == ""


def test_a_large_file_is_rotated_while_its_writer_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "agent.log"
    with file.open("ab") as writer:
        for content in (b"first", b"second", b"third"):
            writer.write(content)
            writer.flush()
            assert rotate(file, limit_bytes=3, kept=2)
        writer.write(b"on")
    assert file.read_bytes() == b"on"
    assert (tmp_path / "agent.log.1").read_bytes() == b"third"
    assert (tmp_path / "agent.log.2").read_bytes() == b"second"
    assert not (tmp_path / "agent.log.3").exists()


def test_a_small_or_absent_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "agent.log"
    assert not rotate(file)
    file.write_text("x")
    assert not rotate(file)


def test_the_tail_is_the_last_lines(tmp_path: Path) -> None:
    file = tmp_path / "up.log"
    assert tail(file) == ""
    file.write_text("".join(f"{n}\n" for n in range(9)))
    assert tail(file, lines=2) == "7\n8"
