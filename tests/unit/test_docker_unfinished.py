"""A terminal's line without an end is given once, before the log has it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from wireloom.providers.docker.unfinished import LineEnd


def test_question_that_waits_is_given_before_the_log_has_it() -> None:
    line_end = LineEnd()
    line_end.printed(b"booted\r\nr1 log")
    line_end.printed(b"in: ")

    assert line_end.logged(b"booted\r\n") == b"booted\r\n"
    assert line_end.unfinished() == b"r1 login: "
    assert line_end.unfinished() == b""
    line_end.printed(b"admin\r\n")
    assert line_end.logged(b"r1 login: admin\r\n") == b"admin\r\n"


def test_line_that_the_log_still_owes_is_waited_for() -> None:
    line_end = LineEnd()
    line_end.printed(b"Password: ")
    assert line_end.unfinished() == b"Password: "
    line_end.printed(b"\r\nr1> ")

    assert line_end.unfinished() == b""
    assert line_end.logged(b"Password: \r\n") == b"\r\n"
    assert line_end.unfinished() == b"r1> "


def test_line_that_was_joined_in_its_middle_comes_whole_with_the_log() -> None:
    line_end = LineEnd()
    line_end.printed(b"gin: ")
    assert line_end.unfinished() == b"gin: "
    assert line_end.logged(b"r1 login: \r\n") == b"r1 login: \r\n"


def test_line_too_long_for_a_question_is_left_to_the_log() -> None:
    line_end = LineEnd()
    line_end.printed(b"." * 5000)
    assert line_end.unfinished() == b""
    assert line_end.logged(b"." * 5000 + b"\n") == b"." * 5000 + b"\n"


@settings(deadline=None)
@given(st.lists(st.text("ab\n", max_size=6), max_size=12), st.data())
def test_every_byte_is_given_once_and_in_order(pieces: list[str], data: st.DataObject) -> None:
    line_end, given_bytes, printed, logged = LineEnd(), b"", b"", 0
    for piece in pieces:
        printed += piece.encode()
        line_end.printed(piece.encode())
        whole = printed[logged : printed.rfind(b"\n") + 1]
        if data.draw(st.booleans()) and whole:
            for line in whole.splitlines(keepends=True):
                given_bytes += line_end.logged(line)
            logged += len(whole)
        # Both sides are quiet only when the log has every whole line.
        if logged == printed.rfind(b"\n") + 1:
            given_bytes += line_end.unfinished()
    for line in printed[logged:].splitlines(keepends=True):
        given_bytes += line_end.logged(line)
    assert given_bytes == printed
