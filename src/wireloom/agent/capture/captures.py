"""The captures that run on this host: so many at most, each for one reader, none longer than what it is of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import structlog

from wireloom import __version__
from wireloom.agent.capture.decode import Decoded, check_decoder
from wireloom.agent.capture.filters import compile_filter
from wireloom.agent.capture.points import Medium, Subject, find_subject
from wireloom.agent.capture.process import Sniffer
from wireloom.agent.reporter import Tell
from wireloom.errors import CapacityExceeded, NotFound, Unavailable
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import EventLevel
from wireloom.fabric.methods import CAPTURE
from wireloom.model.capture import CaptureEnd
from wireloom.model.network import DataPlaneState
from wireloom.model.slice import SegmentIntent, Slice
from wireloom.planning.cabling import bridge_of
from wireloom.sniffer.order import Order, Point

__all__ = ["Captures", "Running"]

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
_DRAIN_S: Final = 2.0
_NET: Final = Path("/sys/class/net")
#: Each has a ring in the kernel, of 256 KiB at least.
_POINTS_MOST: Final = 128
#: Dissectors take much more memory than captures.
_DECODERS_MOST: Final = 8


class _Source(Protocol):
    """What a capture is read from."""

    async def read(self) -> bytes: ...

    async def ask_to_finish(self, reason: str) -> None: ...

    def listen_at(self, points: tuple[Point, ...]) -> None: ...

    async def end(self) -> CaptureEnd: ...

    async def kill(self) -> None: ...


class Captures:
    """Handler of :data:`~wireloom.fabric.methods.CAPTURE`.

    :param slices: intents by lab id. :param most: captures at once.
    :param tell: told of each capture that has ended.
    :param state: what the data plane last showed.
    """

    def __init__(
        self,
        slices: Mapping[str, Slice],
        tell: Tell,
        *,
        most: int,
        state: Callable[[], DataPlaneState] = DataPlaneState,
    ) -> None:
        self._slices = slices
        self._state = state
        self._tell = tell
        self._most = most
        self._opening: list[CaptureOpen] = []
        self._running: set[Running] = set()
        self._watch: asyncio.Task[None] | None = None

    async def serve(self, fabric: Fabric, host: str) -> None:
        """Begin to answer for ``host``."""
        await fabric.serve_stream(host, CAPTURE, self.open)

    async def open(self, wanted: CaptureOpen) -> Running:
        """Begin a capture. Devices that are not there yet are captured from when they come.

        :raises InvalidInput: the filter is none. :raises NotFound: the lab has no such thing on this host.
        :raises CapacityExceeded: as many as may run are running, or it is of too many ports.
        :raises Unsupported: a program is not installed.
        """
        wanted.options.check()
        if wanted.decode:
            check_decoder()
        lab, subject = self._find(wanted)
        self._check_room(wanted, subject)
        self._opening.append(wanted)
        try:
            program = await compile_filter(wanted.options.filter, wanted.options.snaplen)
            order = _order(lab, subject, wanted, program)
            source: _Source = await (Decoded if wanted.decode else Sniffer).start(order)
            running = Running(source, wanted, subject, self._ended)
            self._running.add(running)
        finally:
            self._opening.remove(wanted)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.get_running_loop().create_task(self._keep_watch())
        log.info("capture.started", lab=lab.lab, of=subject.name, running=len(self._running))
        return running

    async def close(self) -> None:
        """End all of them."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*(running.kill() for running in self._running))

    def _check_room(self, wanted: CaptureOpen, subject: Subject) -> None:
        """:raises CapacityExceeded:"""
        known = [*self._opening, *(running.wanted for running in self._running)]
        if len(known) >= self._most:
            raise CapacityExceeded(
                f"{self._most} captures run on this host, and no more may",
                hint="end one of them, or raise the setting captures_at_once",
            )
        if wanted.decode and sum(each.decode for each in known) >= _DECODERS_MOST:
            raise CapacityExceeded(
                f"{_DECODERS_MOST} captures are decoded on this host, and no more may be",
                hint="end one of them, or capture without --decode and read the file elsewhere",
            )
        if len(subject.points) > _POINTS_MOST:
            raise CapacityExceeded(
                f"frames come into {subject.name} at {len(subject.points)} places, and {_POINTS_MOST} are captured at"
                " most",
                hint="capture single links into it",
            )

    def _find(self, wanted: CaptureOpen) -> tuple[Slice, Subject]:
        lab = self._slices.get(wanted.lab_id)
        if lab is None or lab.removed:
            raise NotFound("this host has no such lab")
        return lab, find_subject(lab, wanted, self._medium)

    def _medium(self, segment: SegmentIntent) -> Medium:
        """A segment with all that a bridge of the kernel has, and what only the data plane knows."""
        state = self._state()
        device = bridge_of(segment, state.bridges)
        known = state.segments.get(device)
        uplink = known.uplink if known is not None else None
        found = {*_bridged(device), *state.members.get(device, ()), *filter(None, [uplink])}
        return Medium(device, sorted(found))

    async def _keep_watch(self) -> None:
        """For as long as there are captures: end those of what is gone, and follow what comes into segments."""
        while self._running:
            await asyncio.sleep(_LOOK_S)
            for running in list(self._running):
                await self._look_after(running)

    async def _look_after(self, running: Running) -> None:
        try:
            _, subject = self._find(running.wanted)
        except NotFound:
            subject = None
        if subject is not None and subject.points == running.subject.points:
            return
        if subject is None or running.wanted.kind != "segment":
            await running.ask_to_finish(f"{running.subject.name} is gone")
        else:
            running.subject = subject
            running.listen_at(subject.points)

    def _ended(self, running: Running, end: CaptureEnd) -> None:
        self._running.discard(running)
        lab = self._slices.get(running.wanted.lab_id)
        log.info("capture.ended", of=running.subject.name, **end.model_dump())
        if lab is None:
            return
        level = EventLevel.WARNING if end.dropped else EventLevel.INFO
        message = f"captured {running.subject.name}: {end.packets} {'packet' if end.packets == 1 else 'packets'}"
        message += f", {end.dropped} more were too many for its reader" if end.dropped else ""
        self._tell(lab.lab, running.subject.node, "capture.ended", f"{message} ({end.reason or 'cut off'})", level)


class Running:
    """One capture, as the byte stream that its reader gets."""

    def __init__(
        self, source: _Source, wanted: CaptureOpen, subject: Subject, ended: Callable[[Running, CaptureEnd], None]
    ) -> None:
        self.wanted = wanted
        self.subject = subject
        self._source = source
        self._ended = ended
        self._over = False
        self._killed = False
        self.ask_to_finish = source.ask_to_finish
        self.listen_at = source.listen_at

    async def read(self) -> bytes:
        """The next bytes; ``b""`` when a limit is reached, or when what is captured is gone.

        :raises Unavailable: the agent is stopping.
        """
        data = await self._source.read()
        if self._killed:
            raise Unavailable("the agent is stopping", hint="begin the capture again when it is back")
        if not data:
            await self._finish()
        return data

    async def write(self, data: bytes) -> None:
        """A capture takes nothing."""

    async def resize(self, columns: int, rows: int) -> None:
        """Nor has it a size."""

    async def close(self) -> None:
        """The reader leaves; idempotent."""
        if self._over:
            return
        with contextlib.suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(_DRAIN_S):
                await self._source.ask_to_finish("its reader left")
                while await self._source.read():  # what it still has, so that it can say how it ended
                    pass
        await self._finish()

    async def kill(self) -> None:
        """End it at once; idempotent."""
        self._killed = True
        await self._source.kill()
        await self._finish()

    async def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._ended(self, await self._source.end())


def _bridged(bridge: str) -> tuple[str, ...]:
    """The devices in a bridge of the kernel; none where it is something else, or not there."""
    try:
        return tuple(path.name for path in (_NET / bridge / "brif").iterdir())
    except OSError:
        return ()


def _order(lab: Slice, subject: Subject, wanted: CaptureOpen, program: tuple[tuple[int, int, int, int], ...]) -> Order:
    options = wanted.options
    return Order(
        points=subject.points,
        program=program,
        comment=f"lab {lab.lab}, {wanted.kind} {subject.name}",
        writer=f"Wireloom {__version__}",
        capture_filter=options.filter,
        packets=options.packets,
        seconds=options.seconds,
        snaplen=options.snaplen,
        spare=max(0, _POINTS_MOST - len(subject.points)) if wanted.kind == "segment" else 0,
    )
