"""Byte streams of nodes over HTTP and WebSocket, with back-pressure both ways.

Neither side is read faster than the other takes it: one piece is in flight per direction, and the server's own flow
control stops reading from a socket whose messages are not taken. Whoever goes first, the node's stream is closed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from wireloom.errors import InvalidInput, WireloomError
from wireloom.fabric.consoles import SharedConsole
from wireloom.model.console import ConsoleCommand
from wireloom.providers.contract import ByteStream

__all__ = ["ByteStreamResponse", "run_console", "run_lines"]

CLOSE_NORMAL = 1000
CLOSE_ERROR = 1011


class ByteStreamResponse(Response):
    """Streams ``source`` until it ends or the client goes away, and closes it."""

    media_type = "application/octet-stream"

    def __init__(self, source: ByteStream, *, media_type: str | None = None) -> None:
        super().__init__(media_type=media_type)
        self._source = source
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def pump() -> None:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while data := await self._source.read():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def watch() -> None:
            # A quiet log sends nothing for hours, so nothing would be noticed by sending.
            while (await receive())["type"] != "http.disconnect":
                pass

        try:
            await _first_of(pump, watch)
        finally:
            await self._source.close()


async def run_console(websocket: WebSocket, source: SharedConsole) -> None:
    """Serve a console on an accepted ``websocket`` until either end goes, then close both.

    Binary messages are bytes both ways. A text message from the client is ``{"columns", "rows"}`` or a
    ``ConsoleCommand``; one from us is ``{"notice"}``, or ``{"error"}`` and the end.
    """

    async def from_node() -> None:
        while item := await source.receive():
            if isinstance(item, bytes):
                await websocket.send_bytes(item)
            else:
                await websocket.send_text(f'{{"notice":{item.model_dump_json()}}}')

    async def from_client() -> None:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            if data is not None:
                await source.write(data)
            else:
                await _obey(source, message.get("text") or "")

    await _serve(websocket, source.close, from_node, from_client)


async def run_lines(websocket: WebSocket, source: ByteStream) -> None:
    """Send each line of ``source`` as a message on an accepted ``websocket`` until either end goes; then close both."""

    async def from_source() -> None:
        rest = b""
        while data := await source.read():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                await websocket.send_text(line.decode())

    async def from_client() -> None:
        # What a reader says is of no interest; that it goes away is.
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    await _serve(websocket, source.close, from_source, from_client)


async def _serve(
    websocket: WebSocket, close: Callable[[], Awaitable[None]], *sides: Callable[[], Awaitable[None]]
) -> None:
    """Run ``sides`` until one of them ends, tell the client of an error, and close both ends."""
    code = CLOSE_NORMAL
    try:
        await _first_of(*sides)
    except WireloomError as error:
        code = CLOSE_ERROR
        with suppress(WebSocketDisconnect, RuntimeError):
            await websocket.send_json({"error": error.to_wire()})
    except WebSocketDisconnect:
        pass
    finally:
        await close()
        with suppress(WebSocketDisconnect, RuntimeError):  # the client was first to go
            await websocket.close(code)


async def _obey(source: SharedConsole, text: str) -> None:
    """Carry out a text message of the client. :raises InvalidInput: it is none that we know."""
    try:
        document = json.loads(text)
        if "do" in document:
            await source.command(ConsoleCommand.model_validate(document))
            return
        columns, rows = int(document["columns"]), int(document["rows"])
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            'a text message on a console is {"columns": N, "rows": N} or {"do": "ask" | "give" | "take"}'
        ) from error
    if not (0 < columns <= 1000 and 0 < rows <= 1000):
        raise InvalidInput("a terminal has 1 to 1000 columns and rows")
    await source.resize(columns, rows)


async def _first_of(*sides: Callable[[], Awaitable[None]]) -> None:
    """Run ``sides`` until one of them ends; the others are cancelled, and its error is raised."""
    tasks = [asyncio.ensure_future(side()) for side in sides]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
