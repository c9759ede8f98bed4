"""The serial owner: each serial line is held once; many read, one writes.

A hypervisor's serial socket serves one client, so the agent is that client and everybody else attaches here. A
reader that joins late gets the recent screen first. A reader that does not keep up loses its oldest bytes, with
a mark, and never holds up the line or the others. Consoles that are commands in the guest need no owner.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

import structlog

from wireloom.errors import NotPermitted, Unsupported, WireloomError
from wireloom.model.device import Console
from wireloom.model.runtime import Capabilities, ConsoleRequest, RuntimeStatus
from wireloom.model.slice import NodeIntent
from wireloom.providers.contract import ByteStream, Provider

__all__ = ["Consoles", "LogStream", "SerialLine"]

log = structlog.get_logger(__name__)

#: What a late joiner sees first, in bytes.
RECENT_BYTES = 16 * 1024
#: What may wait for one reader before its oldest bytes are dropped.
BACKLOG_BYTES = 1024 * 1024
_LOST = b"\r\n[wireloom: output was faster than this console; some of it is missing here, the log has it all]\r\n"


class SerialLine:
    """One open serial line and those attached to it."""

    def __init__(self, stream: ByteStream, closed: Callable[[], None]) -> None:
        self._stream = stream
        self._closed = closed
        self._recent = bytearray()
        self._readers: list[Attached] = []
        self.writer: Attached | None = None
        self._pump = asyncio.create_task(self._run(), name="serial-line")

    async def _run(self) -> None:
        try:
            while data := await self._stream.read():
                self._recent += data
                del self._recent[:-RECENT_BYTES]
                for reader in list(self._readers):
                    reader.feed(data)
        except WireloomError as error:
            log.info("serial line ended", reason=str(error))
        finally:
            self._closed()
            for reader in list(self._readers):
                reader.end()
            with contextlib.suppress(WireloomError):
                await self._stream.close()

    def attach(self, *, read_only: bool) -> Attached:
        """Join the line; the first who may write holds the writer lease until it leaves."""
        attached = Attached(self, self._stream, may_write=not read_only)
        if self._recent:
            attached.feed(bytes(self._recent))
        self._readers.append(attached)
        if not read_only and self.writer is None:
            self.writer = attached
        elif not read_only:
            attached.feed(b"\r\n[wireloom: someone else is typing on this console; you are reading along]\r\n")
        return attached

    def detach(self, attached: Attached) -> None:
        if attached in self._readers:
            self._readers.remove(attached)
        if self.writer is attached:
            self.writer = None

    async def close(self) -> None:
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)


class Attached:
    """One reader (and perhaps the writer) of a serial line; a ``ByteStream``."""

    def __init__(self, line: SerialLine, stream: ByteStream, *, may_write: bool) -> None:
        self._line = line
        self._stream = stream
        self._may_write = may_write
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._event = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Bytes from the line; never waits."""
        self._waiting.append(data)
        self._size += len(data)
        dropped = False
        while self._size > BACKLOG_BYTES and len(self._waiting) > 1:
            self._size -= len(self._waiting.popleft())
            dropped = True
        if dropped:
            self._waiting.appendleft(_LOST)
            self._size += len(_LOST)
        self._event.set()

    def end(self) -> None:
        self._ended = True
        self._event.set()

    async def read(self) -> bytes:
        while not self._waiting and not self._ended:
            self._event.clear()
            await self._event.wait()
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        return data

    async def write(self, data: bytes) -> None:
        """Dropped where it may not write at all, or has left.

        :raises NotPermitted: someone else holds the writer lease.
        """
        if not self._may_write or self._ended:
            return
        if self._line.writer is None:
            self._line.writer = self
        if self._line.writer is not self:
            raise NotPermitted("someone else is typing on this console", hint="wait until they leave it")
        await self._stream.write(data)

    async def resize(self, columns: int, rows: int) -> None:
        """A serial line has no size."""

    async def close(self) -> None:
        self._line.detach(self)
        self.end()


class ReadOnly:
    """A stream that takes no input."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.read, self.resize, self.close = stream.read, stream.resize, stream.close

    async def write(self, data: bytes) -> None:
        del data


class Consoles:
    """Opens consoles of any node, by the first kind in its device's chain that the provider serves."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], SerialLine] = {}
        # A lock lives as long as somebody opens that line.
        self._opening: WeakValueDictionary[tuple[str, int], asyncio.Lock] = WeakValueDictionary()

    async def open(
        self,
        node: NodeIntent,
        runtime: RuntimeStatus,
        provider: Provider,
        capabilities: Capabilities,
        *,
        columns: int,
        rows: int,
        read_only: bool,
        line: int | None = None,
    ) -> ByteStream:
        """:raises Unsupported: none of the device's consoles is served by the provider."""
        console = _choose(node, capabilities, line)
        request = ConsoleRequest(
            kind=console.kind, command=console.command, line=console.line, columns=columns, rows=rows
        )
        if console.kind == "exec":
            stream = await provider.console(runtime.runtime_id, request)
            return ReadOnly(stream) if read_only else stream
        return await self._serial(
            runtime, lambda: provider.console(runtime.runtime_id, request), console.line, read_only
        )

    async def _serial(
        self, runtime: RuntimeStatus, connect: Callable[[], Awaitable[ByteStream]], line: int, read_only: bool
    ) -> ByteStream:
        key = (runtime.runtime_id, line)
        lock = self._opening.setdefault(key, asyncio.Lock())
        async with lock:
            held = self._lines.get(key)
            if held is None:
                held = SerialLine(await connect(), lambda: self._drop(key))
                self._lines[key] = held
        return held.attach(read_only=read_only)

    def _drop(self, key: tuple[str, int]) -> None:
        self._lines.pop(key, None)

    async def close(self) -> None:
        for line in list(self._lines.values()):
            await line.close()


def _choose(node: NodeIntent, capabilities: Capabilities, line: int | None) -> Console:
    if line is not None:
        return Console(kind="serial", line=line)
    chosen = next((item for item in node.console if item.kind in capabilities.consoles), None)
    if chosen is None:
        raise Unsupported(
            f"provider {node.provider} serves none of the consoles of device {node.device}", node=node.name
        )
    return chosen


class LogStream:
    """A boot log as a stream that takes no input."""

    def __init__(self, provider: Provider, runtime_id: str, *, follow: bool) -> None:
        self._chunks = provider.boot_log(runtime_id, follow=follow)

    async def read(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""

    async def write(self, data: bytes) -> None:
        del data

    async def resize(self, columns: int, rows: int) -> None:
        """A log has no size."""

    async def close(self) -> None:
        await self._chunks.aclose()
