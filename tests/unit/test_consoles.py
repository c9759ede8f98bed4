"""The serial owner: one holder, many readers, one writer, bounded backlog."""

from __future__ import annotations

import asyncio

import pytest

from wireloom.agent.consoles import BACKLOG_BYTES, RECENT_BYTES, SerialLine
from wireloom.errors import NotPermitted


class Line:
    """A serial line whose far end is the test."""

    def __init__(self) -> None:
        self.output: asyncio.Queue[bytes] = asyncio.Queue()
        self.typed = bytearray()
        self.closed = False

    async def read(self) -> bytes:
        return await self.output.get()

    async def write(self, data: bytes) -> None:
        self.typed += data

    async def resize(self, columns: int, rows: int) -> None:
        """No size."""

    async def close(self) -> None:
        self.closed = True


async def opened() -> tuple[Line, SerialLine]:
    far = Line()
    return far, SerialLine(far, lambda: None)


async def test_all_readers_see_the_same_output() -> None:
    far, line = await opened()
    readers = [line.attach(read_only=True) for _ in range(3)]
    far.output.put_nowait(b"login: ")
    assert [await reader.read() for reader in readers] == [b"login: "] * 3
    await line.close()


async def test_a_late_reader_gets_the_recent_screen_first() -> None:
    far, line = await opened()
    first = line.attach(read_only=True)
    far.output.put_nowait(b"x" * RECENT_BYTES + b"prompt# ")
    await first.read()
    late = await line.attach(read_only=True).read()
    assert late.endswith(b"prompt# ")
    assert len(late) == RECENT_BYTES
    await line.close()


async def test_one_writes_and_the_lease_passes_on_when_it_leaves() -> None:
    far, line = await opened()
    writer, other = line.attach(read_only=False), line.attach(read_only=False)
    await writer.write(b"a")
    with pytest.raises(NotPermitted):
        await other.write(b"b")
    assert b"reading along" in await other.read()
    await writer.close()
    await other.write(b"c")
    assert far.typed == b"ac"
    await line.close()


async def test_a_reader_that_does_not_keep_up_loses_its_oldest_bytes_with_a_mark_and_holds_up_nobody() -> None:
    far, line = await opened()
    slow, quick = line.attach(read_only=True), line.attach(read_only=True)
    received = 0
    for _ in range(3 * BACKLOG_BYTES // 65536):
        far.output.put_nowait(b"y" * 65536)
        received += len(await quick.read())
    assert received == 3 * BACKLOG_BYTES
    late = await slow.read()
    assert late.startswith(b"\r\n[wireloom: output was faster")
    assert len(late) <= BACKLOG_BYTES + 65536
    await line.close()


async def test_the_end_of_the_line_ends_its_readers_and_closes_it() -> None:
    far, line = await opened()
    reader = line.attach(read_only=False)
    far.output.put_nowait(b"")
    assert await reader.read() == b""
    await asyncio.sleep(0)
    assert far.closed
    assert line.writer is reader


async def test_a_reader_that_may_not_write_never_types_although_nobody_else_does() -> None:
    far, line = await opened()
    reader = line.attach(read_only=True)
    await reader.write(b"reload\r")
    assert far.typed == b""
    writer = line.attach(read_only=False)
    await writer.write(b"x")
    assert far.typed == b"x"
    await line.close()


async def test_one_that_has_left_cannot_take_the_lease_again() -> None:
    far, line = await opened()
    gone = line.attach(read_only=False)
    await gone.close()
    await gone.write(b"late")
    assert far.typed == b""
    await line.attach(read_only=False).write(b"y")
    assert far.typed == b"y"
    await line.close()
