"""A console over a WebSocket, with the four verbs of a ``ByteStream``."""

from __future__ import annotations

import json

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from wireloom.errors import Unavailable, from_wire

__all__ = ["ConsoleStream"]


class ConsoleStream:
    """A node's console. Binary messages are its bytes; text messages carry sizes out and errors in."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        """The next bytes; ``b""`` at the end. :raises WireloomError: the far end said why it stopped."""
        while True:
            try:
                message = await self._socket.recv()
            except ConnectionClosed:
                return b""
            if isinstance(message, str):
                raise from_wire(json.loads(message).get("error") or {})
            if message:
                return message

    async def write(self, data: bytes) -> None:
        """:raises Unavailable: the console has ended."""
        await self._send(data)

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the far end the terminal's size."""
        await self._send(json.dumps({"columns": columns, "rows": rows}))

    async def close(self) -> None:
        """Leave the console; idempotent."""
        await self._socket.close()

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise Unavailable("the console has ended", hint="open it again") from error
