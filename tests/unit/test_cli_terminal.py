"""The console's escape key, however typing is cut into pieces."""

from __future__ import annotations

import pytest

from wireloom.cli.terminal import EscapeScanner, escape_byte, escape_name
from wireloom.errors import InvalidInput

PREFIX = 0x1D


def scan(*pieces: bytes) -> tuple[bytes, bool]:
    scanner = EscapeScanner(PREFIX)
    sent = b""
    for piece in pieces:
        out, leave = scanner.feed(piece)
        sent += out
        if leave:
            return sent, True
    return sent, False


@pytest.mark.parametrize(
    ("typed", "sent", "leaves"),
    [
        (b"show\r", b"show\r", False),
        (b"ab\x1dqcd", b"ab", True),
        (b"\x1dQ", b"", True),
        (b"\x1d\x1d", b"\x1d", False),
        (b"\x1dx", b"\x1dx", False),
        (b"q", b"q", False),
        (b"\x1d\x1dq", b"\x1dq", False),
    ],
)
def test_the_escape_key_is_found_at_every_cut(typed: bytes, sent: bytes, leaves: bool) -> None:
    assert scan(typed) == (sent, leaves)
    for cut in range(1, len(typed)):
        assert scan(typed[:cut], typed[cut:]) == (sent, leaves)


@pytest.mark.parametrize(("written", "code"), [("^]", 0x1D), ("ctrl-]", 0x1D), ("Ctrl+A", 1), ("C-a", 1), ("^^", 0x1E)])
def test_an_escape_key_can_be_written_in_many_ways(written: str, code: int) -> None:
    assert escape_byte(written) == code


@pytest.mark.parametrize("written", ["", "]", "^", "ctrl-ab", "^1", "alt-x"])
def test_other_keys_are_refused(written: str) -> None:
    with pytest.raises(InvalidInput, match="control key"):
        escape_byte(written)


def test_the_escape_key_is_named_as_people_say() -> None:
    assert (escape_name(0x1D), escape_name(1)) == ("Ctrl-]", "Ctrl-A")
