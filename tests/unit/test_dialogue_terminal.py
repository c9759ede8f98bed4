"""What a terminal shows of bytes that were cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wireloom.dialogue import strip_terminal
from wireloom.dialogue.terminal import Terminal


def shown(*pieces: bytes) -> list[str]:
    """Finished lines, and the unfinished one."""
    terminal = Terminal()
    lines = [line.text for piece in pieces for line in terminal.feed(piece)]
    return [*lines, terminal.text]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\r\ntwo", ["one", "two"]),
        (b"one\r\r\ntwo\x00\x00", ["one", "two"]),
        (b"\x1b[1;32mgreen\x1b[0m plain", ["green plain"]),
        (b"\x1b]0;a title\x07user$ ", ["user$ "]),
        (b"\x1b]0;a title\x1b\\user$ ", ["user$ "]),
        (b"\x1b(B\x1b[?2004huser$ ", ["user$ "]),
        (b"wrong\rright", ["right"]),
        (b"longer text\rshort", ["shortr text"]),
        (b"longer text\rshort\x1b[K", ["short"]),
        (b"ab\b\bcd", ["cd"]),
        (b"ab\x1b[2Dcd", ["cd"]),
        (b"a\x1b[3Cb", ["a   b"]),
        (b"abc\x1b[2G\x1b[P", ["ac"]),
        (b"boot\x1b[2Jnew", ["    new"]),
        (b" --More-- " + b"\b" * 10 + b" " * 10 + b"\b" * 10 + b"interface", ["interface "]),
        ("Grüße ✓".encode(), ["Grüße ✓"]),
        (b"caf\xe9s", ["caf�s"]),
        (b"bell\x07 rings", ["bell rings"]),
        (b"\x1b\x1b[31mred", ["red"]),
    ],
)
def test_lines_show_what_a_terminal_would(data: bytes, lines: list[str]) -> None:
    assert shown(data) == lines
    assert shown(*(data[index : index + 1] for index in range(len(data)))) == lines


_FRAGMENTS = st.sampled_from(
    [
        b"\x1b",
        b"[",
        b"0",
        b"K",
        b"]",
        b"\x07",
        b"\\",
        b"\r",
        b"\n",
        b"\b",
        b"\x00",
        b"text",
        "ü✓".encode(),
        b"\xe2",
        b" ",
    ]
)


@settings(deadline=None)
@given(st.lists(_FRAGMENTS, max_size=60).map(b"".join), st.data())
def test_cuts_do_not_matter(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert shown(*pieces) == shown(data)


def test_a_sequence_that_never_ends_is_given_up() -> None:
    terminal = Terminal()
    for _ in range(3000):
        list(terminal.feed(b"\x1b]x"))
    list(terminal.feed(b"y" * 3000))
    assert terminal.text.endswith("yyy")


@pytest.mark.parametrize("unit", [b"x", b"\x1b]", b"\x1b[0", b"\b ", b"\r", b"\xff\xfe", b"x\n"])
def test_memory_does_not_grow(unit: bytes) -> None:
    terminal = Terminal()
    chunk = unit * (4096 // len(unit))
    for _ in range(50):
        for _ in terminal.feed(chunk):
            pass
        assert len(terminal.text) + len(terminal.printed) + len(terminal._unfinished) < 90_000


def test_text_that_was_dealt_with_is_over_once_it_is_drawn_over() -> None:
    terminal = Terminal()
    list(terminal.feed(b" --More-- "))
    terminal.mark_seen(9)
    list(terminal.feed(b"\b" * 10 + b" "))
    assert (terminal.text, terminal.seen) == (" ", 0)


def test_strip_terminal_takes_out_what_is_not_text() -> None:
    assert strip_terminal("\x1b[1mbold\x1b[0m\r\n\x00\x1b]0;t\x07end") == "bold\nend"
