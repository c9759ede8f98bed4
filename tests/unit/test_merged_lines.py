"""Lines of several hosts as one stream."""

from __future__ import annotations

import asyncio

import pytest

from wireloom.controller.merged_lines import MergedLines
from wireloom.errors import Unavailable, Unsupported
from wireloom.testing.memory_fabric import MemoryStream


async def drained(merged: MergedLines) -> bytes:
    found = b""
    while data := await merged.read():
        assert data.endswith(b"\n")
        found += data
    return found


async def test_lines_stay_whole_however_they_are_cut() -> None:
    first = MemoryStream(b"a1\na", b"2\n", b"a3", b"\n", ends=True)
    second = MemoryStream(b"b", b"1\nb2\n", ends=True)
    lines = (await drained(MergedLines([first, second]))).splitlines()
    assert [line for line in lines if line.startswith(b"a")] == [b"a1", b"a2", b"a3"]
    assert [line for line in lines if line.startswith(b"b")] == [b"b1", b"b2"]


async def test_a_source_that_fails_is_left_out_and_the_others_go_on() -> None:
    failing, going = MemoryStream(b"a1\n"), MemoryStream(b"b1\n")
    merged = MergedLines([failing, going])
    failing.feed(Unavailable("the host went"))
    assert sorted([await merged.read(), await merged.read()]) == [b"a1\n", b"b1\n"]
    going.feed(b"b2\n")
    assert await merged.read() == b"b2\n"
    going.feed(b"")
    assert await merged.read() == b""
    assert await merged.read() == b""


async def test_a_slow_reader_holds_its_sources_back_and_closing_lets_them_go() -> None:
    source = MemoryStream(*[b"line\n"] * 100)
    merged = MergedLines([source])
    assert await merged.read() == b"line\n"
    for _ in range(50):
        await asyncio.sleep(0)
    assert not source._pieces.empty()
    await merged.close()
    await merged.close()
    assert source.closed.is_set()


async def test_nothing_is_written_to_counters() -> None:
    merged = MergedLines([])
    assert await merged.read() == b""
    await merged.resize(80, 24)
    with pytest.raises(Unsupported):
        await merged.write(b"x")
    await merged.close()
