"""A serial line as a byte stream: the emulator's UNIX socket, which serves one client at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from wireloom.errors import DeadlineExceeded, RuntimeFailed
from wireloom.providers.libvirt.domains import Domain

__all__ = ["SerialStream", "SerialTails", "open_serial", "read_tail"]

_CHUNK: Final = 64 * 1024
_CONNECT_TIMEOUT_S: Final = 5.0


class SerialStream:
    """The line's bytes both ways; see ``ByteStream`` in the provider contract."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(_CHUNK)
        except ConnectionError:  # the emulator ended
            return b""

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            raise RuntimeFailed("the serial line is closed: the virtual machine has ended") from None

    async def resize(self, columns: int, rows: int) -> None:
        """A serial line has no size."""

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def open_serial(socket: Path) -> SerialStream:
    """Connect to a line. While another client holds it, no bytes arrive: callers share through the serial owner.

    :raises RuntimeFailed: nothing listens there, because the virtual machine is off.
    """
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
    except TimeoutError:
        raise DeadlineExceeded("the serial line does not accept a connection") from None
    except OSError as error:
        raise RuntimeFailed(f"the serial line is not open: {error.strerror}", hint="is the node running?") from error
    return SerialStream(reader, writer)


class SerialTails:
    """The :class:`~wireloom.providers.contract.RecentOutput` of virtual machines: the end of the emulator's log."""

    def __init__(self, find: Callable[[str], Awaitable[Domain]]) -> None:
        self._find = find

    async def recent(self, runtime_id: str, line: int, size: int) -> bytes:
        logs = (await self._find(runtime_id)).logs
        return await asyncio.to_thread(read_tail, logs[line], size) if line < len(logs) else b""


def read_tail(log: Path, size: int) -> bytes:
    """The last ``size`` bytes of a line's log, also across one rotation by virtlogd. Blocks on a local file."""
    tail = b""
    for part in (log, log.with_name(f"{log.name}.0")):
        try:
            with part.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - (size - len(tail))))
                tail = file.read() + tail
        except FileNotFoundError:
            continue
        if len(tail) >= size:
            break
    return tail[-size:]
