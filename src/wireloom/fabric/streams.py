"""Byte streams over the fabric: windowed, so that a slow reader holds its writer and nobody else.

Each end may have ``WINDOW`` bytes under way that the other has not consumed. Both say that they live every
``ALIVE_S`` seconds and give the other up after ``DEAD_S`` seconds of silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import structlog
from nats.aio.msg import Msg

from wireloom.errors import InternalError, Unavailable, WireloomError
from wireloom.fabric import frames
from wireloom.fabric.frames import FrameKind
from wireloom.fabric.link import Link, Subscription
from wireloom.fabric.methods import StreamMethod
from wireloom.fabric.rpc import Answerer, ask_raw, check_answer, encode_answer, parse_question
from wireloom.fabric.subjects import open_subject, stream_subject
from wireloom.model.base import Value
from wireloom.providers.contract import ByteStream

__all__ = ["ALIVE_S", "DEAD_S", "WINDOW", "Item", "Plain", "Resize", "StreamEnd", "StreamServer", "Talk", "open_stream"]

log = structlog.get_logger(__name__)

Q = TypeVar("Q", bound=Value)

WINDOW = 256 * 1024
FRAME = 32 * 1024
ALIVE_S = 2.0
DEAD_S = 8.0
_OPEN_S = 15.0
_SESSION = "Wireloom-Session"

Resize = tuple[int, int]

#: What travels on a stream: bytes, the size of the terminal, or a message (a JSON document) beside them.
Item = bytes | Resize | str


class Talk(Protocol):
    """The local side of a served stream."""

    async def receive(self) -> Item | None:
        """The next item for the far end; ``None`` at the end."""
        ...

    async def take(self, item: Item) -> None:
        """An item from the far end."""
        ...

    async def close(self) -> None: ...


class StreamEnd:
    """One end of a stream; what a client holds is a :class:`~wireloom.providers.contract.ByteStream`."""

    def __init__(self, link: Link, *, inbound: str, outbound: str) -> None:
        self._link = link
        self._inbound = inbound
        self._outbound = outbound
        self._subscription: Subscription | None = None
        self._alive: asyncio.Task[None] | None = None
        self._items: deque[Item] = deque()
        self._arrived = asyncio.Event()  # something to receive, or the end
        self._room = asyncio.Event()  # something to send into, or the end
        self._ended = False  # nothing more will arrive
        self._error: WireloomError | None = None
        self._closed = False
        self._sent = 0
        self._expected = 0
        self._under_way = 0
        self._unreported = 0
        self._heard = self._said = asyncio.get_running_loop().time()

    async def start(self) -> None:
        """Listen, and say from time to time that this end lives."""
        self._subscription = await self._link.subscribe(self._inbound, self._on_message)
        self._alive = asyncio.get_running_loop().create_task(self._keep_alive())

    async def read(self) -> bytes:
        """The next bytes; ``b""`` at the end. :raises WireloomError: the stream broke or the far end failed."""
        while True:
            item = await self.receive()
            if item is None:
                return b""
            if isinstance(item, bytes):
                return item

    async def receive(self) -> Item | None:
        """The next item, in order; ``None`` at the end. :raises WireloomError: as :meth:`read`."""
        while not (self._items or self._ended or self._closed):
            self._arrived.clear()
            await self._arrived.wait()
        if not self._items:
            if self._error is not None and not self._closed:
                raise self._error
            return None
        item = self._items.popleft()
        if isinstance(item, bytes):
            await self._consumed(len(item))
        return item

    async def write(self, data: bytes) -> None:
        """Send ``data``; waits while the far end is behind. :raises Unavailable: the stream has ended."""
        for start in range(0, len(data), FRAME):
            chunk = data[start : start + FRAME]
            while self._under_way >= WINDOW and not (self._ended or self._closed):
                self._room.clear()
                await self._room.wait()
            if self._ended or self._closed:
                raise self._error or Unavailable("the stream has ended")
            self._under_way += len(chunk)
            await self._send(FrameKind.DATA, chunk)

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the far end the terminal's size."""
        if not (self._ended or self._closed):
            await self._send(FrameKind.RESIZE, frames.resize_body(columns, rows))

    async def say(self, message: str) -> None:
        """Send a message (a JSON document) beside the bytes."""
        if not (self._ended or self._closed):
            await self._send(FrameKind.MESSAGE, message.encode())

    async def close(self) -> None:
        """Let go; the far end learns of it. Idempotent."""
        await self._finish(FrameKind.CLOSE)

    async def end(self) -> None:
        """Say that all data has been sent, and let go."""
        await self._finish(FrameKind.END)

    async def fail(self, error: WireloomError) -> None:
        """Say what went wrong, and let go."""
        await self._finish(FrameKind.ERROR, frames.error_body(error))

    async def _finish(self, kind: FrameKind, body: bytes = b"") -> None:
        if self._closed:
            return
        self._closed = True
        if not self._ended:
            with contextlib.suppress(WireloomError):
                await self._send(kind, body)
        if self._alive is not None:
            self._alive.cancel()
        if self._subscription is not None:
            await self._subscription.cancel()
        self._wake()

    def _wake(self) -> None:
        self._arrived.set()
        self._room.set()

    async def _send(self, kind: FrameKind, body: bytes = b"") -> None:
        number, self._sent = self._sent, self._sent + 1
        self._said = asyncio.get_running_loop().time()
        await self._link.publish(self._outbound, frames.encode(kind, number, body))

    async def _consumed(self, size: int) -> None:
        self._unreported += size
        if self._unreported < WINDOW // 4 or self._ended or self._closed:
            return
        consumed, self._unreported = self._unreported, 0
        with contextlib.suppress(Unavailable):  # a lost frame is found out by its number
            await self._send(FrameKind.CREDIT, frames.credit_body(consumed))

    async def _on_message(self, message: Msg) -> None:
        frame = frames.decode(message.data)
        self._heard = asyncio.get_running_loop().time()
        if self._ended or self._closed:
            return
        if frame.number != self._expected % (1 << 32):
            await self._break(Unavailable("the fabric lost a part of the stream", hint="open it again"))
            return
        self._expected += 1
        self._take(frame)
        self._wake()

    def _take(self, frame: frames.Frame) -> None:
        match frame.kind:
            case FrameKind.DATA:
                self._items.append(frame.body)
            case FrameKind.RESIZE:
                self._items.append(frame.size)
            case FrameKind.MESSAGE:
                self._items.append(frame.body.decode(errors="replace"))
            case FrameKind.CREDIT:
                self._under_way = max(0, self._under_way - frame.credit)
            case FrameKind.ERROR:
                self._error = frame.error
                self._ended = True
            case FrameKind.END | FrameKind.CLOSE:
                self._ended = True
            case FrameKind.ALIVE:
                pass

    async def _break(self, error: WireloomError) -> None:
        """The stream cannot go on: the reader here gets ``error``, and so does the far end."""
        with contextlib.suppress(WireloomError):
            await self._send(FrameKind.ERROR, frames.error_body(error))
        self._error = self._error or error
        self._ended = True
        self._wake()

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._ended:
            await asyncio.sleep(ALIVE_S / 2)
            if loop.time() - self._heard > DEAD_S:
                await self._break(Unavailable("the other end of the stream went away"))
                return
            if loop.time() - self._said >= ALIVE_S and self._link.connected:
                with contextlib.suppress(Unavailable):
                    await self._send(FrameKind.ALIVE)


async def open_stream(link: Link, host: str, method: StreamMethod[Q], question: Q) -> StreamEnd:
    """Ask ``host`` for a stream. :raises WireloomError: what its handler raised, or ``Unavailable``."""
    session = secrets.token_hex(12)
    end = StreamEnd(
        link,
        inbound=stream_subject(host, session, "down"),
        outbound=stream_subject(host, session, "up"),
    )
    await end.start()
    try:
        subject = open_subject(host, method.name)
        data = await ask_raw(link, host, subject, question, timeout_s=_OPEN_S, headers={_SESSION: session})
        check_answer(data)
    except BaseException:
        await end.close()
        raise
    return end


class StreamServer:
    """Serves streams of an agent: copies between a local stream and its end on the fabric."""

    def __init__(self, link: Link, answerer: Answerer) -> None:
        self._link = link
        self._answerer = answerer
        self._sessions: set[asyncio.Task[None]] = set()

    async def serve(self, host: str, method: StreamMethod[Q], handler: Callable[[Q], Awaitable[Talk]]) -> None:
        """Open a local side with ``handler`` for each stream that is asked for."""

        async def answer(message: Msg) -> bytes:
            session = (message.headers or {}).get(_SESSION, "")
            question = parse_question(message.data, method.question)
            local = await handler(question)
            end = StreamEnd(
                self._link,
                inbound=stream_subject(host, session, "up"),
                outbound=stream_subject(host, session, "down"),
            )
            try:
                await end.start()
            except BaseException:
                await local.close()
                raise
            task = asyncio.get_running_loop().create_task(_copy(local, end))
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)
            return encode_answer(None)

        await self._answerer.serve(open_subject(host, method.name), answer)

    async def close(self) -> None:
        """End every session; the far ends learn why."""
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)


class Plain:
    """A byte stream as the local side of a served one."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.close = stream.close

    async def receive(self) -> Item | None:
        return await self._stream.read() or None

    async def take(self, item: Item) -> None:
        if isinstance(item, bytes):
            await self._stream.write(item)
        elif isinstance(item, tuple):
            await self._stream.resize(*item)


async def _copy(local: Talk, end: StreamEnd) -> None:
    """Carry items both ways until either side ends; then release both."""
    loop = asyncio.get_running_loop()
    down = loop.create_task(_down(local, end))
    up = loop.create_task(_up(end, local))
    try:
        await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
        await _report(end, next(task for task in (down, up) if task.done()))
    except asyncio.CancelledError:
        await end.fail(Unavailable("the agent is stopping"))
        raise
    finally:
        for task in (down, up):
            task.cancel()
        await asyncio.gather(down, up, return_exceptions=True)
        await end.close()
        await local.close()


async def _down(local: Talk, end: StreamEnd) -> None:
    while (item := await local.receive()) is not None:
        if isinstance(item, bytes):
            await end.write(item)
        elif isinstance(item, str):
            await end.say(item)


async def _up(end: StreamEnd, local: Talk) -> None:
    while (item := await end.receive()) is not None:
        await local.take(item)


async def _report(end: StreamEnd, task: asyncio.Task[None]) -> None:
    """Tell the far end how the stream ended."""
    error = task.exception()
    if error is None:
        await end.end()
    elif isinstance(error, WireloomError):
        await end.fail(error)
    else:
        log.error("fabric.stream-failed", exc_info=error)
        await end.fail(InternalError(f"{type(error).__name__}: {error}"))
