"""Processes of a capture: the one that captures, and where its frames are to be read as text, one that decodes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from typing import Final, TypeVar

import structlog

from wireloom.errors import DataPlaneFailed, DeadlineExceeded, InternalError
from wireloom.model.capture import CaptureEnd
from wireloom.sniffer.order import Order, Point, Report, Request

__all__ = ["READ", "Output", "Sniffer", "end_process", "pipe"]

log = structlog.get_logger(__name__)

S = TypeVar("S")

#: Bytes that are read at once; the reader holds twice as many at most.
READ: Final = 64 * 1024
_START_S: Final = 10.0
_FINISH_S: Final = 2.0
_PROGRAM: Final = (sys.executable, "-I", "-m", "wireloom.sniffer")


class Sniffer:
    """A capturing process. It ends with this one, however that ends: its standard input is closed then."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._output = Output(process)
        self.read = self._output.read
        self._told: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.Event()
        self._reports = asyncio.get_running_loop().create_task(self._follow_reports())

    @classmethod
    async def start(cls, order: Order, *, output: int = PIPE) -> Sniffer:
        """Start it, and return when it listens: what comes from now on is captured.

        :param output: a descriptor to write to, instead of a pipe to :meth:`read`.
        :raises DataPlaneFailed: the kernel refuses. :raises DeadlineExceeded: it does not start.
        """
        # The agent's environment may hold secrets.
        process = await asyncio.create_subprocess_exec(
            *_PROGRAM, stdin=PIPE, stdout=output, stderr=PIPE, limit=READ, env={}, start_new_session=True
        )
        sniffer = cls(process)
        try:
            async with asyncio.timeout(_START_S):
                await sniffer._send(order.line())
                await sniffer._listening.wait()
        except TimeoutError:
            await sniffer.kill()
            raise DeadlineExceeded(f"the capture did not start in {_START_S:g} s") from None
        except BaseException:
            await sniffer.kill()
            raise
        if sniffer._told.done():
            await sniffer.kill()
            raise DataPlaneFailed(f"the kernel refuses to capture: {sniffer._told.result().problem}")
        return sniffer

    async def ask_to_finish(self, reason: str) -> None:
        """Ask it to write what it has and its statistics. Somebody has to go on reading."""
        await self._send(Request(finish=reason).line())

    def listen_at(self, points: tuple[Point, ...]) -> None:
        """Have it listen at ``points`` from now on; none of them may be more than it has spare ones for."""
        with contextlib.suppress(ConnectionError):  # it has ended, which its reader sees
            pipe(self._process.stdin).write(Request(points=points).line())  # whoever watches them all waits for none

    async def end(self) -> CaptureEnd:
        """How it ended, when all of it has been read; one that has not ended by itself is killed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S):
                await self._process.wait()
        await self.kill()
        report = self._told.result()
        return CaptureEnd(packets=report.packets, dropped=report.dropped, reason=report.ended)

    async def kill(self) -> None:
        """End it at once; idempotent."""
        await end_process(self._process, self._output)
        await self._reports

    async def _send(self, line: bytes) -> None:
        control = pipe(self._process.stdin)
        with contextlib.suppress(ConnectionError):  # it has ended, which its reader sees
            control.write(line)
            await control.drain()

    async def _follow_reports(self) -> None:
        reports = pipe(self._process.stderr)
        last = Report()
        async for line in reports:
            try:
                last = Report.parse(line)
            except (ValueError, TypeError):
                log.error("capture.defect", said=line.decode(errors="replace").rstrip())
                last = Report(problem="the capturing process has a defect; the agent's log shows it")
            if last.problem or last.ended:
                break
            self._listening.set()
        if not self._told.done():
            self._told.set_result(last)
        self._listening.set()
        async for line in reports:
            log.error("capture.defect", said=line.decode(errors="replace").rstrip())


def pipe(stream: S | None) -> S:
    """A pipe that the process was started with."""
    if stream is None:
        raise InternalError("a process was started without one of its pipes")
    return stream


class Output:
    """What a process writes to its standard output, for one reader."""

    def __init__(self, process: Process) -> None:
        self._stream = process.stdout
        self._reading = False
        self._abandoned = False

    async def read(self) -> bytes:
        """The next bytes; ``b""`` at the end."""
        if self._abandoned:
            return b""
        self._reading = True
        try:
            return await pipe(self._stream).read(READ)
        finally:
            self._reading = False

    async def abandon(self) -> None:
        """Throw away what is left. A process counts as ended only when its pipes are, and nobody may be reading."""
        self._abandoned = True
        while self._stream is not None and not self._reading and await self._stream.read(READ):
            pass


async def end_process(process: Process, output: Output) -> None:
    """Kill it if it lives, and reap it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await output.abandon()
    await process.wait()
