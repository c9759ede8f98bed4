"""The line at the end of a terminal that has no end yet: the engine's log gives whole lines only.

A guest that asks ``login:`` and waits never ends that line, so who follows the log would never see the question. What
the terminal prints is read along, and a line that stays unfinished is given before the log has it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final
from urllib.parse import urlencode

import structlog

from wireloom.errors import WireloomError
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.hijack import Hijacked

__all__ = ["LineEnd", "with_line_end"]

#: So long nothing was printed, and the log has caught up: the line stays unfinished.
QUIET_S: Final = 0.3
#: A longer line without an end is no question.
_LINE_MOST: Final = 4096
_CALL_S: Final = 20.0

_log = structlog.get_logger(__name__)


class LineEnd:
    """Joins a log of whole lines with the live terminal, so that each byte is given once. Pure."""

    def __init__(self) -> None:
        self._live = b""
        self._given = b""

    def printed(self, data: bytes) -> None:
        """The terminal printed ``data``."""
        self._live = (self._live + data).rpartition(b"\n")[2]

    def unfinished(self) -> bytes:
        """What has not been given yet of the unfinished line. To be called when both sides have been quiet."""
        rest = self._live[len(self._given) :]
        # Another line than the one that was given in part: the log still owes that one.
        if not self._live.startswith(self._given) or len(self._live) > _LINE_MOST:
            return b""
        self._given = self._live
        return rest

    def logged(self, text: bytes) -> bytes:
        """What has not been given yet of ``text``, the next piece of the log."""
        given, self._given = self._given, b""
        return text.removeprefix(given)


async def with_line_end(
    engine: Engine, runtime_id: str, log: AsyncGenerator[bytes, None], line_end: LineEnd
) -> AsyncGenerator[bytes, None]:
    """The followed ``log`` of a runtime that has a terminal, with its unfinished line; it ends with the log."""
    pieces: asyncio.Queue[tuple[bool, bytes]] = asyncio.Queue(maxsize=64)
    readers = [
        asyncio.create_task(_read_log(log, pieces), name=f"log-{runtime_id[:12]}"),
        asyncio.create_task(_read_terminal(engine, runtime_id, pieces), name=f"line-end-{runtime_id[:12]}"),
    ]
    try:
        while True:
            try:
                async with asyncio.timeout(QUIET_S):
                    is_logged, piece = await pieces.get()
            except TimeoutError:
                if rest := line_end.unfinished():
                    yield rest
                is_logged, piece = await pieces.get()
            if not is_logged:
                line_end.printed(piece)
            elif not piece:
                break
            elif rest := line_end.logged(piece):
                yield rest
        await readers[0]  # it raises what ended the log
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _read_log(log: AsyncGenerator[bytes, None], pieces: asyncio.Queue[tuple[bool, bytes]]) -> None:
    task = asyncio.current_task()
    async with contextlib.aclosing(log):
        try:
            async for text in log:
                await pieces.put((True, text))
        finally:
            if task is not None and not task.cancelling():
                await pieces.put((True, b""))  # also when it broke: whoever waits shall learn of it


async def _read_terminal(engine: Engine, runtime_id: str, pieces: asyncio.Queue[tuple[bool, bytes]]) -> None:
    """Whoever cannot read along has whole lines, as the log gives them."""
    parameters = urlencode({"stream": 1, "stdout": 1, "stderr": 1})
    path = f"/containers/{runtime_id}/attach?{parameters}"
    try:
        stream = await Hijacked.open(engine.socket, path, {}, what="read along with a container", timeout_s=_CALL_S)
    except WireloomError as error:
        _log.info("docker.log.whole-lines-only", runtime=runtime_id, reason=error.message)
        return
    try:
        while data := await stream.read():
            await pieces.put((False, data))
    finally:
        stream.close()
