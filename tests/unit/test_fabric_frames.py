"""Frames of byte streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.errors import InternalError, NotFound
from wireloom.fabric.frames import FrameKind, credit_body, decode, encode, error_body, resize_body


@given(st.sampled_from(FrameKind), st.integers(0, 2**32 - 1), st.binary(max_size=200))
def test_a_frame_round_trips(kind: FrameKind, number: int, body: bytes) -> None:
    frame = decode(encode(kind, number, body))
    assert (frame.kind, frame.number, frame.body) == (kind, number, body)


def test_numbers_wrap_at_32_bits() -> None:
    assert decode(encode(FrameKind.DATA, 2**32 + 7)).number == 7


@given(st.binary(max_size=4))
def test_too_short_a_frame_is_a_defect(data: bytes) -> None:
    with pytest.raises(InternalError):
        decode(data)


def test_an_unknown_kind_is_a_defect() -> None:
    with pytest.raises(InternalError):
        decode(b"?\0\0\0\0")


def test_bodies_carry_their_values() -> None:
    assert decode(encode(FrameKind.CREDIT, 0, credit_body(65536))).credit == 65536
    assert decode(encode(FrameKind.RESIZE, 0, resize_body(132, 43))).size == (132, 43)
    assert decode(encode(FrameKind.RESIZE, 0, resize_body(-1, 99999))).size == (1, 65535)
    error = decode(encode(FrameKind.ERROR, 0, error_body(NotFound("gone", node="r1")))).error
    assert isinstance(error, NotFound)
    assert error.node == "r1"
