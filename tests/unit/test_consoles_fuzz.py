"""Serial lines that misbehave: whatever a guest writes, the agent keeps running and holds a bounded number of bytes."""

from __future__ import annotations

import asyncio
import random
import tracemalloc

import pytest

from wireloom.agent.consoles_line import BACKLOG_BYTES, CHUNK_BYTES, RECENT_BYTES, Attached, SerialLine
from wireloom.model.console import ConsoleCommand, ConsoleNotice

MIB = 1024 * 1024
READERS = 4
#: What one reader may hold, and the line for all: the backlog, a piece that is handed over, what a buffer is larger
#: than its content by.
HELD_BYTES = 2 * (READERS * (BACKLOG_BYTES + CHUNK_BYTES) + RECENT_BYTES) + 2 * MIB


class Gushing:
    """A line that always has more to say and never waits, so that nothing but the owner itself can pause."""

    def __init__(self, pieces: list[bytes], total: int) -> None:
        self._pieces = pieces
        self._left = total
        self.given = 0
        self.typed = 0
        self.closed = asyncio.Event()

    async def read(self) -> bytes:
        if self._left <= 0:
            return b""
        piece = self._pieces[self.given % len(self._pieces)]
        self._left -= len(piece)
        self.given += 1
        return piece

    async def write(self, data: bytes) -> None:
        self.typed += len(data)

    async def resize(self, columns: int, rows: int) -> None:
        """No size."""

    async def close(self) -> None:
        self.closed.set()


def noise(seed: int, count: int, most: int) -> list[bytes]:
    source = random.Random(seed)  # noqa: S311 - the same noise in every run
    return [source.randbytes(source.randint(1, most)) for _ in range(count)]


GUESTS = {
    "random bytes in small pieces": (noise(1, 997, 200), 4 * MIB),
    "one line without an end": ([b"x" * 4096], 32 * MIB),
    "single bytes": ([b"\x00", b"\xff"], MIB // 8),
    "escape sequences cut anywhere": ([*noise(2, 50, 3), b"\x1b[", b"\x1b]0;", b"\x9b1;2"], MIB // 4),
    "pieces larger than every buffer": ([b"y" * (3 * MIB)], 48 * MIB),
}


@pytest.mark.parametrize("guest", GUESTS)
async def test_a_flood_is_taken_to_its_end_with_bounded_memory_while_others_run(guest: str) -> None:
    pieces, total = GUESTS[guest]
    far = Gushing(pieces, total)
    turns = 0

    async def bystander() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(bystander())
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    line = SerialLine(far, lambda: None)
    readers = [line.attach(read_only=True) for _ in range(READERS)]  # none of them reads
    await far.closed.wait()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    other.cancel()
    assert most - before < HELD_BYTES + 2 * max(map(len, pieces))
    # The line paused at least once for every 64 KiB, or for every piece that is larger than that.
    pauses = total // max(64 * 1024, *map(len, pieces))
    assert turns >= pauses - 1
    assert all(len(reader._waiting) <= BACKLOG_BYTES for reader in readers)
    assert len(line.recent) <= RECENT_BYTES


async def test_a_reader_at_any_pace_gets_bytes_in_order_and_every_gap_is_marked() -> None:
    source = random.Random(3)  # noqa: S311 - the same pace in every run
    text = b"".join(b"%08d\n" % number for number in range(400_000))
    pieces, at = [], 0
    while at < len(text):
        size = source.randint(1, 200_000)
        pieces.append(text[at : at + size])
        at += size
    line = SerialLine(Gushing(pieces, len(text)), lambda: None)
    reader = line.attach(read_only=True)
    received: list[bytes] = []
    while data := await reader.read():
        received.append(data)
        for _ in range(source.randint(0, 40)):
            await asyncio.sleep(0)
    runs = b"".join(received).split(b"\r\n[wireloom: output came faster")
    assert len(runs) > 1, "this test wants a reader that is too slow"
    position = 0
    for run in runs:
        part = run.partition(b"]\r\n")[2] if b"]\r\n" in run else run
        found = text.find(part[:64], position)
        assert text[found : found + len(part)] == part
        position = found + len(part)
    assert position == len(text)


async def test_people_who_come_ask_take_and_go_at_random_leave_one_holder_and_no_trace() -> None:
    source = random.Random(4)  # noqa: S311 - the same people in every run
    line = SerialLine(Gushing([b"."], 10**9), lambda: None, idle_s=0.5)
    present: list[Attached] = []
    for _ in range(3000):
        match source.randrange(8):
            case 0 | 1 if len(present) < 20:
                present.append(line.attach("p", automation=source.random() < 0.2, read_only=source.random() < 0.2))
            case 2 if present:
                await present.pop(source.randrange(len(present))).close()
            case 3 | 4 if present:
                do = source.choice(["ask", "give", "take"])
                to = source.choice(["", "nobody", present[0].id])
                await source.choice(present).command(ConsoleCommand.model_validate({"do": do, "to": to}))
            case 5 if present:
                source.choice(present).release()
            case _:
                await asyncio.sleep(0)
        state = line.state
        ids = {attendee.id for attendee in state.attendees}
        assert len(ids) == len(present)
        assert state.writer is None or (state.writer.id in ids and not state.writer.read_only)
        assert {asking.id for asking in state.asking} <= ids
        assert state.writer is None or state.writer.id not in {asking.id for asking in state.asking}
    for attached in present:
        await attached.close()
    assert line.state.attendees == ()
    assert line.state.writer is None
    await line.close()


async def test_notices_that_nobody_takes_are_bounded_and_the_newest_ones_stay() -> None:
    line = SerialLine(Gushing([b"."], 10**9), lambda: None)
    deaf = line.attach("deaf", read_only=True)
    for number in range(500):
        await line.attach(f"visitor {number}").close()
    taken = []
    while deaf._notices:
        taken.append(await deaf.receive())
    assert len(taken) <= 64
    assert isinstance(taken[-1], ConsoleNotice)
    assert taken[-1].state.attendees == line.state.attendees
    await line.close()
