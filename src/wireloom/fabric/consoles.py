"""Consoles over the fabric: a byte stream with typed notices and commands beside its bytes."""

from __future__ import annotations

from typing import Protocol

from pydantic import ValidationError

from wireloom.errors import InternalError, InvalidInput
from wireloom.fabric.streams import Item, StreamEnd
from wireloom.model.console import ConsoleCommand, ConsoleNotice
from wireloom.providers.contract import ByteStream

__all__ = ["ConsoleTalk", "RemoteConsole", "SharedConsole"]


class SharedConsole(ByteStream, Protocol):
    """A console that several may have open; see :class:`~wireloom.model.console.ConsoleNotice`."""

    async def receive(self) -> bytes | ConsoleNotice:
        """The next bytes or the next notice, whichever comes; ``b""`` at the end."""
        ...

    async def command(self, command: ConsoleCommand) -> None:
        """Say what is wanted of the line; the answer is a notice."""
        ...


class RemoteConsole:
    """The asking end of a console on another host."""

    def __init__(self, end: StreamEnd) -> None:
        self._end = end
        self.read, self.write, self.resize, self.close = end.read, end.write, end.resize, end.close

    async def receive(self) -> bytes | ConsoleNotice:
        while (item := await self._end.receive()) is not None:
            if isinstance(item, bytes):
                return item
            if isinstance(item, str):
                return _notice(item)
        return b""

    async def command(self, command: ConsoleCommand) -> None:
        await self._end.say(command.model_dump_json())


class ConsoleTalk:
    """The serving end: what travels is items. ``notices``: the asking end understands them."""

    def __init__(self, console: SharedConsole, *, notices: bool) -> None:
        self._console = console
        self._notices = notices
        self.close = console.close

    async def receive(self) -> Item | None:
        while True:
            item = await self._console.receive()
            if isinstance(item, bytes):
                return item or None
            if self._notices:
                return item.model_dump_json()

    async def take(self, item: Item) -> None:
        if isinstance(item, bytes):
            await self._console.write(item)
        elif isinstance(item, str):
            await self._console.command(_command(item))
        else:
            await self._console.resize(*item)


def _notice(text: str) -> ConsoleNotice:
    try:
        return ConsoleNotice.model_validate_json(text)
    except ValidationError as error:
        raise InternalError("the fabric brought a notice that is not one") from error


def _command(text: str) -> ConsoleCommand:
    try:
        return ConsoleCommand.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInput("this is not a command for a console") from error
