"""A console over a WebSocket: the four verbs of a ``ByteStream``, and notices and commands beside them."""

from __future__ import annotations

import json

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from wireloom.errors import Unavailable, from_wire
from wireloom.model.console import ConsoleCommand, ConsoleNotice

__all__ = ["ConsoleStream"]


class ConsoleStream:
    """A node's console. Binary messages are its bytes; text messages carry everything else."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        """The next bytes; ``b""`` at the end. Notices are passed over.

        :raises WireloomError: the far end said why it stopped.
        """
        while True:
            item = await self.receive()
            if isinstance(item, bytes):
                return item

    async def receive(self) -> bytes | ConsoleNotice:
        """The next bytes or the next notice; ``b""`` at the end. :raises WireloomError: as :meth:`read`."""
        while True:
            try:
                message = await self._socket.recv()
            except ConnectionClosed:
                return b""
            if isinstance(message, bytes):
                if message:
                    return message
                continue
            document = json.loads(message)
            if "notice" not in document:
                raise from_wire(document.get("error") or {})
            return ConsoleNotice.model_validate(document["notice"])

    async def write(self, data: bytes) -> None:
        """:raises Unavailable: the console has ended."""
        await self._send(data)

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the far end the terminal's size."""
        await self._send(json.dumps({"columns": columns, "rows": rows}))

    async def command(self, command: ConsoleCommand) -> None:
        """Ask for the keyboard, give or take it; the answer comes as a notice."""
        await self._send(command.model_dump_json())

    async def close(self) -> None:
        """Leave the console; idempotent."""
        await self._socket.close()

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise Unavailable("the console has ended", hint="open it again") from error
