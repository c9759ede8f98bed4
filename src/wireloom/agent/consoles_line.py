"""One serial line, held once: many read, one types; see ``consoles.py``.

Nobody can hold the line up. What a reader has not taken is bounded, and its oldest bytes go first, with a mark.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from wireloom.agent.consoles_lease import IDLE_S, Change, Lease, Seat
from wireloom.errors import Conflict, NotPermitted, WireloomError
from wireloom.model.console import Attendee, ConsoleCommand, ConsoleLine, ConsoleNotice, NoticeEvent, clean_name
from wireloom.providers.contract import ByteStream

__all__ = ["BACKLOG_BYTES", "CHUNK_BYTES", "RECENT_BYTES", "Attached", "SerialLine"]

log = structlog.get_logger(__name__)

#: What a late joiner sees first, in bytes.
RECENT_BYTES: Final = 64 * 1024
#: What may wait for one reader before its oldest bytes are dropped.
BACKLOG_BYTES: Final = 1024 * 1024
#: Most that one ``read`` gives, so that a long backlog is handed over in pieces.
CHUNK_BYTES: Final = 64 * 1024
#: Notices that may wait for one reader; each holds the whole state, so that old ones can go.
_NOTICES: Final = 32
#: After so many bytes, or pieces, without a pause the line lets everything else run.
_YIELD_BYTES: Final = 64 * 1024
_YIELD_PIECES: Final = 64
#: A repeated refusal is told again only after so many seconds.
_REFUSAL_PAUSE_S: Final = 1.0
#: A log's tail and a live stream that meet in fewer bytes than this may do so by chance; more are not looked for.
_OVERLAP_LEAST: Final = 8
_OVERLAP_MOST: Final = 4096

_LOST: Final = b"\r\n[wireloom: output came faster than this console took it; the log has what is missing here]\r\n"


class SerialLine:
    """One open serial line and those attached to it.

    :param stream: the line itself; this object is the only one that reads, writes and closes it.
    :param recent: what it showed before it was opened, e.g. the tail of its log.
    :param closed: called once when the line has ended.
    """

    def __init__(
        self,
        stream: ByteStream,
        closed: Callable[[], None],
        *,
        number: int = 0,
        recent: bytes = b"",
        idle_s: float = IDLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self._stream = stream
        self._closed = closed
        self._clock = clock
        self._recent = bytearray(recent[-RECENT_BYTES:])
        self._primed = bool(recent)
        self._lease = Lease(idle_s=idle_s, clock_offset=time.time() - clock())
        self._attached: dict[Seat, Attached] = {}
        self._ids = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._sizes: set[asyncio.Task[None]] = set()
        self._ended = False
        self._pump = asyncio.create_task(self._run(), name="serial-line")

    # ------------------------------------------------------------------ what is known

    @property
    def state(self) -> ConsoleLine:
        """Who is attached, who types, who asks."""
        return self._lease.state(self.number)

    @property
    def recent(self) -> bytes:
        """The last output of the line."""
        return bytes(self._recent)

    # ------------------------------------------------------------------ coming and going

    def attach(self, who: str = "someone", *, automation: bool = False, read_only: bool = False) -> Attached:
        """Join the line; the first person who may write holds the writer lease until it leaves or passes it on."""
        attendee = Attendee(
            id=str(next(self._ids)),
            who=clean_name(who),
            since=time.time(),
            automation=automation,
            read_only=read_only,
        )
        seat = Seat(attendee, typed_at=self._clock())
        attached = Attached(self, seat)
        if self._recent:
            attached.feed(bytes(self._recent))
        if self._ended:
            attached.end()
            return attached
        self._attached[seat] = attached
        self._tell(self._lease.join(seat, self._clock()), newcomer=seat)
        return attached

    def detach(self, seat: Seat) -> None:
        """Idempotent."""
        if self._attached.pop(seat, None) is not None:
            self._tell(self._lease.leave(seat, self._clock()))

    async def close(self) -> None:
        """End the line and everybody on it."""
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)

    # ------------------------------------------------------------------ typing

    async def type(self, seat: Seat, data: bytes) -> None:
        """:raises NotPermitted: somebody else holds the lease, or automation does not hold it."""
        allowed, changes = self._lease.type(seat, self._clock())
        self._tell(changes)
        if not allowed:
            raise NotPermitted(self._held_by(), hint="ask for the keyboard, or wait until it is free")
        await self._stream.write(data)

    async def size(self, seat: Seat) -> None:
        """The window of whoever types is the line's, where it has a size at all."""
        size = self._attached[seat].size if seat in self._attached else None
        if size is not None and self._lease.holder is seat:
            await self._stream.resize(*size)

    async def acquire(self, seat: Seat, granted: asyncio.Event, timeout_s: float) -> None:
        """Ask for the lease and wait for it. :raises Conflict: naming who held it all the time."""
        if not seat.may_write:
            raise NotPermitted("this one only reads along")
        self._tell(self._lease.ask(seat, self._clock()))
        try:
            async with asyncio.timeout(timeout_s):
                while self._lease.holder is not seat:
                    if self._ended or seat not in self._attached:
                        raise Conflict("the console has ended")
                    granted.clear()
                    await granted.wait()
        except TimeoutError:
            holder = self._lease.holder
            if holder is seat:  # in the last moment
                return
            self.release(seat)
            raise Conflict(
                self._held_by(),
                hint="ask them to leave the console, or to pass it on",
                details={"holder": holder.attendee.who if holder else ""},
            ) from None
        except asyncio.CancelledError:
            self.release(seat)
            raise

    def release(self, seat: Seat) -> None:
        """Neither hold nor want the lease. Idempotent."""
        self._tell(self._lease.withdraw(seat, self._clock()))

    def command(self, seat: Seat, command: ConsoleCommand) -> None:
        """What somebody attached wants; the answer is a notice."""
        now = self._clock()
        match command.do:
            case "ask":
                self._tell(self._lease.ask(seat, now))
            case "take":
                self._tell(self._lease.take(seat, now))
            case "give":
                self._tell(self._lease.give(seat, command.to, now))

    def refuse(self, seat: Seat) -> None:
        """Tell ``seat`` that its typing goes nowhere."""
        self._tell([Change("refused", seat, to=seat)])

    # ------------------------------------------------------------------ inside

    async def _run(self) -> None:
        try:
            size = pieces = 0
            while data := await self._stream.read():
                self._take(data)
                size, pieces = size + len(data), pieces + 1
                if size >= _YIELD_BYTES or pieces >= _YIELD_PIECES:
                    size = pieces = 0
                    await asyncio.sleep(0)  # a stream that always has bytes never waits by itself
        except WireloomError as error:
            log.info("serial line ended", reason=str(error))
        finally:
            self._finish()
            with contextlib.suppress(WireloomError):
                await self._stream.close()

    def _take(self, data: bytes) -> None:
        known = _overlap(self._recent, data) if self._primed else 0
        self._primed = False
        self._recent += data[known:]
        del self._recent[:-RECENT_BYTES]
        for attached in list(self._attached.values()):
            attached.feed(data)

    def _finish(self) -> None:
        self._ended = True
        self._closed()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._sizes:
            task.cancel()
        for attached in list(self._attached.values()):
            attached.end()

    def _tell(self, changes: list[Change], newcomer: Seat | None = None) -> None:
        """Carry changes to those attached, and come back when the next one is due."""
        if changes:
            self._notify(changes, newcomer)
        self._schedule()

    def _notify(self, changes: list[Change], newcomer: Seat | None) -> None:
        state = self.state
        if newcomer is not None:
            self._attached[newcomer].notify("here", _greeting(state, newcomer), None, state)
        losers = {change.to for change in changes if change.event == "lost"}
        for change in changes:
            for seat, attached in list(self._attached.items()):
                known = seat is newcomer or (change.event == "typing" and seat in losers)
                if (change.to is None or change.to is seat) and not known:
                    attached.notify(change.event, _text(change, seat, state), change.subject, state)
            if change.event == "typing" and change.subject is not None:
                self._adopt_size(change.subject)

    def _adopt_size(self, seat: Seat) -> None:
        task = asyncio.get_running_loop().create_task(self._resize_quietly(seat))
        self._sizes.add(task)
        task.add_done_callback(self._sizes.discard)

    async def _resize_quietly(self, seat: Seat) -> None:
        with contextlib.suppress(WireloomError):
            await self.size(seat)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at = self._lease.wake_at
        if wake_at is not None and not self._ended:
            delay = max(0.0, wake_at - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._tell(self._lease.tick(self._clock()))

    def _held_by(self) -> str:
        holder = self._lease.holder
        return f"{holder.attendee.who} is typing on this console" if holder else "the keyboard was not asked for"


class Attached:
    """One place at a serial line; a ``ByteStream``, with the notices of the line beside its bytes."""

    def __init__(self, line: SerialLine, seat: Seat) -> None:
        self.size: tuple[int, int] | None = None
        self._line = line
        self._seat = seat
        self._waiting = bytearray()
        self._notices: deque[ConsoleNotice] = deque(maxlen=_NOTICES)
        self._lost = False
        self._ended = False
        self._left = False
        self._changed = asyncio.Event()
        self._granted = asyncio.Event()
        self._refused_at = float("-inf")

    @property
    def id(self) -> str:
        """This one's id among the attendees of the line."""
        return self._seat.attendee.id

    @property
    def state(self) -> ConsoleLine:
        """Who else is there."""
        return self._line.state

    # ------------------------------------------------------------------ from the line

    def feed(self, data: bytes) -> None:
        """Bytes from the line; never waits."""
        self._waiting += data
        excess = len(self._waiting) - BACKLOG_BYTES
        if excess > 0:
            del self._waiting[:excess]
            self._lost = True
        self._changed.set()

    def notify(self, event: NoticeEvent, text: str, subject: Seat | None, state: ConsoleLine) -> None:
        """A notice from the line; never waits."""
        about = subject.attendee if subject is not None else None
        self._notices.append(ConsoleNotice(event=event, text=text, you=self.id, subject=about, state=state))
        self._granted.set()
        self._changed.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._granted.set()
        self._changed.set()

    # ------------------------------------------------------------------ reading

    async def read(self) -> bytes:
        """The next bytes; ``b""`` at the end. Notices are passed over."""
        while True:
            item = await self.receive()
            if isinstance(item, bytes):
                return item

    async def receive(self) -> bytes | ConsoleNotice:
        """The next notice or the next bytes; ``b""`` at the end. Notices overtake bytes that wait."""
        while not (self._notices or self._waiting or self._ended):
            self._changed.clear()
            await self._changed.wait()
        if self._notices:
            return self._notices.popleft()
        return self._next_bytes()

    def _next_bytes(self) -> bytes:
        data = bytes(self._waiting[:CHUNK_BYTES])
        del self._waiting[:CHUNK_BYTES]
        if self._lost:
            self._lost = False
            data = _LOST + data
        return data

    # ------------------------------------------------------------------ typing

    async def write(self, data: bytes) -> None:
        """Dropped where it may not write at all, or has left.

        :raises NotPermitted: somebody else holds the writer lease; automation: it does not hold it.
        """
        if not self._seat.may_write or self._ended or self._left:
            return
        await self._line.type(self._seat, data)

    async def acquire(self, timeout_s: float = 0) -> None:
        """Hold the writer lease on return; whoever holds it is told that it is wanted.

        :raises Conflict: somebody held it for ``timeout_s``; ``details["holder"]`` says who.
        """
        await self._line.acquire(self._seat, self._granted, timeout_s)

    def release(self) -> None:
        """Let go of the writer lease. Idempotent."""
        self._line.release(self._seat)

    def pause(self, *, between_steps: bool) -> None:
        """Automation says when it may be interrupted; after an interruption its next write is refused."""
        self._seat.between_steps = between_steps

    async def command(self, command: ConsoleCommand) -> None:
        """Ask for, give or take the lease; the answer comes as a notice."""
        if not (self._ended or self._left):
            self._line.command(self._seat, command)

    def refuse(self) -> None:
        """Tell this one, not too often, that its typing went nowhere."""
        now = time.monotonic()
        if now - self._refused_at >= _REFUSAL_PAUSE_S:
            self._refused_at = now
            self._line.refuse(self._seat)

    async def resize(self, columns: int, rows: int) -> None:
        """The size of this one's window; the line takes that of whoever types, where it has a size."""
        self.size = (columns, rows)
        await self._line.size(self._seat)

    async def close(self) -> None:
        """Leave the line, which lives on. Idempotent."""
        self._left = True
        self._line.detach(self._seat)
        self.end()


def _overlap(known: bytes | bytearray, data: bytes) -> int:
    """How many first bytes of ``data`` are the last ones of ``known``, where that cannot be chance."""
    most = min(len(known), len(data), _OVERLAP_MOST)
    return next((n for n in range(most, _OVERLAP_LEAST - 1, -1) if known[-n:] == data[:n]), 0)


def _greeting(state: ConsoleLine, seat: Seat) -> str:
    if seat.attendee.read_only:
        return "you are watching; you cannot type"
    if state.writer is None:
        return "the keyboard is free: type to get it"
    if state.writer.id == seat.attendee.id:
        return "you have the keyboard"
    return f"{state.writer.who} is typing; you are reading along"


def _text(change: Change, reader: Seat, state: ConsoleLine) -> str:
    """One sentence on ``change`` for ``reader``."""
    who = change.subject.attendee.who if change.subject is not None else "someone"
    own = change.subject is reader
    match change.event:
        case "typing":
            return "you have the keyboard" if own else f"{who} is typing"
        case "lost":
            return f"{who} has the keyboard now; you are reading along"
        case "free":
            return "the keyboard is free: type to get it"
        case "asked":
            return "you asked for the keyboard" if own else f"{who} asks for the keyboard"
        case "refused":
            return _refusal(reader, state)
        case "joined" | "left":
            return f"{who} {change.event}"
        case "here":
            return ""


def _refusal(reader: Seat, state: ConsoleLine) -> str:
    if reader.attendee.read_only:
        return "you are watching; you cannot type"
    if state.writer is not None and state.writer.id != reader.attendee.id:
        return f"{state.writer.who} is typing, so what you typed was dropped"
    return "nobody is there who could take the keyboard"
