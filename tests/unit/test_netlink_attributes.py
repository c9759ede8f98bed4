"""Coding of netlink attributes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from wireloom.dataplane.host.attributes import align, attr, fields, nested, text, u32, walk


def test_an_attribute_is_padded_to_four_bytes() -> None:
    assert attr(3, b"abcde") == struct.pack("=HH", 9, 3) + b"abcde\0\0\0"


def test_text_ends_with_nul() -> None:
    assert text(3, "eth0") == struct.pack("=HH", 9, 3) + b"eth0\0" + b"\0\0\0"


def test_nested_attributes_carry_the_flag_and_are_read_without_it() -> None:
    packed = nested(18, u32(1, 7), u32(2, 8))
    assert struct.unpack_from("=HH", packed) == (20, 18 | 0x8000)
    assert fields(fields(packed)[18]) == {1: struct.pack("=I", 7), 2: struct.pack("=I", 8)}


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=300)), max_size=20))
def test_what_is_packed_is_read_back(attributes: list[tuple[int, bytes]]) -> None:
    packed = b"".join(attr(kind, value) for kind, value in attributes)
    assert len(packed) == align(len(packed))
    assert list(walk(packed)) == attributes


@given(st.binary(max_size=200))
def test_reading_any_bytes_ends(data: bytes) -> None:
    assert sum(len(value) + 4 for _, value in walk(data)) <= len(data) + 3


def test_a_length_beyond_the_end_stops_the_reading() -> None:
    assert list(walk(u32(1, 1) + struct.pack("=HH", 400, 2) + b"xx")) == [(1, struct.pack("=I", 1))]
