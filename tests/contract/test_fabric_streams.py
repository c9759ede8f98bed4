"""Byte streams over a real nats-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from statistics import median

import pytest
from fabric_rig import Rig, rig

from wireloom.errors import InvalidInput, NotFound, Unavailable
from wireloom.fabric import streams
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import ConsoleOpen
from wireloom.fabric.methods import CONSOLE
from wireloom.fabric.streams import WINDOW
from wireloom.model.console import ConsoleCommand, ConsoleNotice
from wireloom.providers.contract import ByteStream

OPEN = ConsoleOpen(lab_id="l1", node_id="n1")


class Line:
    """A local stream whose far end a test plays: ``coming`` is what reads give, ``written`` what was sent to it."""

    def __init__(self, echo: bool = False) -> None:
        self.coming: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.written = bytearray()
        self.sizes: list[tuple[int, int]] = []
        self.closed = asyncio.Event()
        self.sized = asyncio.Event()
        self.reads = 0
        self._echo = echo

    async def read(self) -> bytes:
        item = await self.coming.get()
        self.reads += 1
        if isinstance(item, Exception):
            raise item
        return item

    async def write(self, data: bytes) -> None:
        self.written += data
        if self._echo:
            self.coming.put_nowait(data)

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))
        self.sized.set()

    async def close(self) -> None:
        self.closed.set()


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path / "nats") as made:
        yield made


async def serving(fabric: Rig, make: Callable[[], ByteStream]) -> Fabric:
    agent = await fabric.agent("h1")

    async def handler(question: ConsoleOpen) -> ByteStream:
        assert question == OPEN
        return make()

    await agent.serve_stream("h1", CONSOLE, handler)
    return agent


async def within(event: asyncio.Event, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await event.wait()


async def read_all(stream: ByteStream) -> bytes:
    data = bytearray()
    while chunk := await stream.read():
        data += chunk
    return bytes(data)


async def test_bytes_and_sizes_travel_and_the_end_is_seen(fabric: Rig) -> None:
    line = Line()
    await serving(fabric, lambda: line)
    stream = await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    await stream.write(bytes(range(256)))
    await stream.resize(132, 43)
    await within(line.sized, 2)
    line.coming.put_nowait(b"\x00\xffhello")
    line.coming.put_nowait(b"")
    assert await read_all(stream) == b"\x00\xffhello"
    await within(line.closed, 2)
    assert bytes(line.written) == bytes(range(256))
    assert line.sizes == [(132, 43)]
    await stream.close()
    await stream.close()
    assert await stream.read() == b""


async def test_a_close_here_closes_there(fabric: Rig) -> None:
    line = Line()
    await serving(fabric, lambda: line)
    stream = await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    await stream.close()
    await within(line.closed, 2)


async def test_an_error_of_the_line_is_raised_after_its_last_bytes(fabric: Rig) -> None:
    line = Line()
    await serving(fabric, lambda: line)
    stream = await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    line.coming.put_nowait(b"last words")
    line.coming.put_nowait(NotFound("the node is gone", node="n1"))
    assert await stream.read() == b"last words"
    with pytest.raises(NotFound, match="gone"):
        await stream.read()
    with pytest.raises(NotFound):
        await stream.write(b"x")
    await within(line.closed, 2)


async def test_a_refused_open_raises_what_the_handler_raised(fabric: Rig) -> None:
    agent = await fabric.agent("h1")

    async def refuse(question: ConsoleOpen) -> ByteStream:
        raise NotFound("no such node", node=question.node_id)

    await agent.serve_stream("h1", CONSOLE, refuse)
    with pytest.raises(NotFound):
        await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    with pytest.raises(Unavailable, match="h2"):
        await fabric.controller.open_stream("h2", CONSOLE, OPEN)


async def test_a_reader_that_waits_holds_its_writer_and_loses_nothing(fabric: Rig) -> None:
    line = Line()
    await serving(fabric, lambda: line)
    stream = await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    chunk = bytes(16 * 1024)
    count = 4 * WINDOW // len(chunk)
    for _ in range(count):
        line.coming.put_nowait(chunk)
    line.coming.put_nowait(b"")
    await asyncio.sleep(0.5)
    assert line.reads <= WINDOW // len(chunk) + 1
    assert len(await read_all(stream)) == count * len(chunk)


async def test_both_directions_carry_much_at_once_unchanged(fabric: Rig) -> None:
    line = Line(echo=True)
    await serving(fabric, lambda: line)
    stream = await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    data = bytes(range(256)) * 8192
    writing = asyncio.create_task(stream.write(data))
    received = bytearray()
    async with asyncio.timeout(20):
        while len(received) < len(data):
            received += await stream.read()
    await writing
    assert bytes(received) == data
    await stream.close()


async def test_fifty_streams_at_once_and_an_echo_is_quick(fabric: Rig) -> None:
    await serving(fabric, lambda: Line(echo=True))
    opened = await asyncio.gather(*(fabric.controller.open_stream("h1", CONSOLE, OPEN) for _ in range(50)))

    async def converse(stream: ByteStream, text: bytes) -> None:
        for _ in range(20):
            await stream.write(text)
            received = b""
            while len(received) < len(text):
                received += await stream.read()
            assert received == text

    await asyncio.gather(*(converse(stream, b"stream %d" % n) for n, stream in enumerate(opened)))
    echoes, round_trips = [], []
    for _ in range(200):  # side by side, so that whatever else the machine does weighs on both
        started = time.perf_counter()
        await opened[7].write(b"k")
        assert await opened[7].read() == b"k"
        echoes.append(time.perf_counter() - started)
        started = time.perf_counter()
        await fabric.controller._link.flush()
        round_trips.append(time.perf_counter() - started)
    print(f"echo p50 {median(echoes) * 1000:.2f} ms, one round trip {median(round_trips) * 1000:.2f} ms")
    # 0.4 ms on an idle machine. An echo is two messages through the server, so some round trips at most.
    assert median(echoes) < max(0.001, 6 * median(round_trips))
    await asyncio.gather(*(stream.close() for stream in opened))


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ALIVE_S", 0.2)
    monkeypatch.setattr(streams, "DEAD_S", 1.0)


async def test_an_agent_that_vanishes_is_noticed(fabric: Rig, short_silence: None) -> None:
    line = Line()
    agent = await serving(fabric, lambda: line)
    stream = await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    agent._link._client._status = 2  # the client is cut off without a word: nothing is sent, nothing reconnects
    agent._link._client._transport.close()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(5):
            await stream.read()
    await within(line.closed, 5)


async def test_a_client_that_vanishes_frees_the_line(fabric: Rig, short_silence: None) -> None:
    line = Line()
    await serving(fabric, lambda: line)
    client = await fabric.login(fabric.server.controller)
    await client.open_stream("h1", CONSOLE, OPEN)
    client._link._client._status = 2
    client._link._client._transport.close()
    await within(line.closed, 5)


async def test_an_agent_that_stops_says_so(fabric: Rig) -> None:
    line = Line()
    agent = await serving(fabric, lambda: line)
    stream = await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    await agent.close()
    with pytest.raises(Unavailable, match="stopping"):
        async with asyncio.timeout(3):
            await stream.read()
    assert line.closed.is_set()


async def test_a_kill_of_the_server_breaks_no_quiet_stream_and_hides_no_loss(fabric: Rig) -> None:
    line = Line(echo=True)
    await serving(fabric, lambda: line)
    quiet = await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    await fabric.kill()
    async with asyncio.timeout(10):
        try:
            while True:
                await quiet.write(b"again")
                if await quiet.read() == b"again":
                    break
        except Unavailable:
            pass  # a frame was lost with the server: said, not hidden
    await quiet.close()
    fresh = await fabric.controller.open_stream("h1", CONSOLE, OPEN)
    await fresh.write(b"x")
    assert await fresh.read() == b"x"
    await fresh.close()


# -------------------------------------------------------------------- consoles


class Console(Line):
    """A console whose far end a test plays."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: asyncio.Queue[ConsoleCommand] = asyncio.Queue()
        self.notices: asyncio.Queue[bytes | ConsoleNotice] = asyncio.Queue()

    async def receive(self) -> bytes | ConsoleNotice:
        return await self.notices.get()

    async def command(self, command: ConsoleCommand) -> None:
        self.commands.put_nowait(command)


NOTICE = ConsoleNotice(event="joined", text="bob joined", you="1")


@pytest.mark.parametrize("wanted", [True, False])
async def test_notices_and_commands_travel_beside_bytes_in_order_for_those_who_want_them(
    fabric: Rig, wanted: bool
) -> None:
    agent = await fabric.agent("h1")
    local = Console()

    async def handler(question: ConsoleOpen) -> Console:
        return local

    await agent.serve_console("h1", CONSOLE, handler)
    opened = await fabric.controller.open_console("h1", CONSOLE, OPEN.model_copy(update={"notices": wanted}))
    expected: list[bytes | ConsoleNotice] = [b"one", NOTICE, b"two", b""] if wanted else [b"one", b"two", b""]
    await opened.command(ConsoleCommand(do="ask"))
    async with asyncio.timeout(5):
        assert await local.commands.get() == ConsoleCommand(do="ask")
        for item in (b"one", NOTICE, b"two", b""):
            local.notices.put_nowait(item)
        assert [await opened.receive() for _ in expected] == expected
    await within(local.closed, 2)
    await opened.command(ConsoleCommand(do="ask"))  # after the end: nobody is there to be asked
    await opened.close()


async def test_a_command_that_is_none_ends_the_console_with_the_reason(fabric: Rig) -> None:
    agent = await fabric.agent("h1")
    local = Console()

    async def handler(question: ConsoleOpen) -> Console:
        return local

    await agent.serve_console("h1", CONSOLE, handler)
    opened = await fabric.controller.open_console("h1", CONSOLE, OPEN)
    await opened._end.say("{")  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput):
        await opened.read()
    await within(local.closed, 2)
