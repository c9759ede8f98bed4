"""Captures as text: what tshark says of each frame, as lines of ``CaptureMessage`` in JSON.

Dissectors read whatever guests send, so they run as nobody, without a right and with bounded memory; they get frames
from the capturing process through a pipe of their own, and look up no names.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from asyncio.subprocess import PIPE, Process
from typing import Final

from wireloom.agent.capture.process import READ, Output, Sniffer, end_process, pipe
from wireloom.errors import Unavailable, Unsupported
from wireloom.model.capture import CaptureEnd, CaptureMessage, DecodedFrame
from wireloom.sniffer.order import Order

__all__ = ["DECODER", "Decoded", "parse_lines"]

DECODER: Final = "tshark"

_CAGE: Final = (
    "prlimit", "--as=1073741824", "--core=0",
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
    "--inh-caps=-all", "--bounding-set=-all",
)  # fmt: skip
#: What it remembers of conversations is forgotten after so many frames, or its memory would grow for ever.
_FORGET: Final = "100000"
#: Titles and fields of the columns, in the order of :class:`DecodedFrame` but for the destination: beside the source
#: it would be joined to it with an arrow.
_COLUMNS: Final = (
    "%m", "%Cus:frame.time_epoch:0:R", "%Cus:frame.interface_name:0:R", "%s", "%p", "%d", "%L", "%i",
)  # fmt: skip
_FORMAT: Final = "gui.column.format:" + ",".join(f'"c{number}","{column}"' for number, column in enumerate(_COLUMNS))
_PROGRAM: Final = (*_CAGE, DECODER, "-n", "-l", "-M", _FORGET, "-r", "-", "-T", "tabs", "-o", _FORMAT)
_ENVIRONMENT: Final = {"HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
_FINISH_S: Final = 2.0


class Decoded:
    """A capture on its way through the decoder."""

    def __init__(self, sniffer: Sniffer, decoder: Process) -> None:
        self._sniffer = sniffer
        self._decoder = decoder
        self._output = Output(decoder)
        self._rest = b""
        self._over = False
        self.ask_to_finish = sniffer.ask_to_finish
        self.listen_at = sniffer.listen_at
        self._last_words = ""
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def start(cls, order: Order) -> Decoded:
        """Start both processes. :raises Unsupported: the decoder is not installed. :raises DataPlaneFailed:"""
        check_decoder()
        reading, writing = os.pipe()
        try:
            environment = {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT}
            decoder = await asyncio.create_subprocess_exec(
                *_PROGRAM,
                stdin=reading, stdout=PIPE, stderr=PIPE, limit=READ, env=environment, cwd="/", start_new_session=True,
            )  # fmt: skip
            try:
                return cls(await Sniffer.start(order, output=writing), decoder)
            except BaseException:
                await end_process(decoder, Output(decoder))
                raise
        finally:
            os.close(reading)
            os.close(writing)

    async def read(self) -> bytes:
        """The next lines; ``b""`` at the end. :raises Unavailable: the decoder failed."""
        while not self._over:
            data = await self._output.read()
            if not data:
                return await self._closing_line()
            whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
            frames = parse_lines(whole) if newline else ()
            if frames:
                return _line(CaptureMessage(frames=frames))
        return b""

    async def _closing_line(self) -> bytes:
        self._over = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S):
                await self._decoder.wait()
        if self._decoder.returncode:
            await self.kill()
            raise Unavailable(f"{DECODER} ended: {self._last_words or f'code {self._decoder.returncode}'}")
        return _line(CaptureMessage(end=await self.end()))

    async def end(self) -> CaptureEnd:
        """How the capture ended; what has not ended by itself is killed."""
        end = await self._sniffer.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S):
                await self._decoder.wait()
        await self.kill()
        return end

    async def kill(self) -> None:
        """End both at once; idempotent."""
        await end_process(self._decoder, self._output)
        await self._listening
        await self._sniffer.kill()

    async def _listen(self) -> None:
        async for line in pipe(self._decoder.stderr):
            self._last_words = line.decode(errors="replace").strip() or self._last_words


def check_decoder() -> None:
    """:raises Unsupported: it is not installed."""
    if shutil.which(DECODER) is None:
        raise Unsupported(
            f"{DECODER} is not installed on this host, so frames cannot be decoded there",
            hint=f"install {DECODER}, or capture without --decode and read the file elsewhere",
        )


def parse_lines(text: bytes) -> tuple[DecodedFrame, ...]:
    """The frames in whole lines of the decoder; a line that is none is left out."""
    found = (_parse(line) for line in text.decode(errors="replace").split("\n"))
    return tuple(frame for frame in found if frame is not None)


def _parse(line: str) -> DecodedFrame | None:
    fields = [field.strip() for field in line.split("\t", len(_COLUMNS) - 1)]
    try:
        number, time, port, source, protocol, destination, length, info = fields
        return DecodedFrame(
            number=int(number),
            time=float(time),
            port=port,
            source=source,
            destination=destination,
            protocol=protocol,
            length=int(length),
            info=info,
        )
    except ValueError:
        return None


def _line(message: CaptureMessage) -> bytes:
    return message.model_dump_json(exclude_defaults=True).encode() + b"\n"
