"""The serial owner: each serial line is held once; many read, one writes.

A hypervisor's serial socket serves one client, so the agent is that client and everybody else attaches here: people
over the fabric, and parts of the agent that type by themselves. A reader that joins late gets the recent screen
first, also after a restart of the agent, because engines log their lines whether an agent runs or not. Consoles that
are commands in the guest belong to whoever opened them and need no owner.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog

from wireloom.agent.consoles_line import RECENT_BYTES, Attached, SerialLine
from wireloom.errors import NotPermitted, Unsupported, WireloomError
from wireloom.fabric.consoles import SharedConsole
from wireloom.model.console import ConsoleCommand, ConsoleLine, ConsoleNotice
from wireloom.model.device import Console
from wireloom.model.runtime import ConsoleRequest
from wireloom.providers.contract import ByteStream, Provider

if TYPE_CHECKING:
    from wireloom.agent.channels import ChannelTarget

__all__ = ["Attached", "Consoles", "LogStream", "SerialLine"]

log = structlog.get_logger(__name__)

_PRIME_S: Final = 3.0


class Consoles:
    """Opens consoles of any node, and holds its serial lines."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], SerialLine] = {}
        # A lock lives as long as somebody opens that line.
        self._opening: WeakValueDictionary[tuple[str, int], asyncio.Lock] = WeakValueDictionary()

    async def open(
        self,
        target: ChannelTarget,
        *,
        who: str,
        columns: int,
        rows: int,
        read_only: bool,
        line: int | None = None,
    ) -> SharedConsole:
        """A person's console: the first kind in the device's chain that the provider serves, or serial ``line``.

        :raises Unsupported: there is none.
        """
        console = _choose(target, line)
        if console.kind == "exec":
            request = ConsoleRequest(kind="exec", command=console.command, columns=columns, rows=rows)
            return PrivateConsole(await target.provider.console(target.runtime_id, request), read_only=read_only)
        attached = await self.attach(target, console.line, who=who, read_only=read_only)
        try:
            await attached.resize(columns, rows)
        except BaseException:
            await attached.close()  # nobody would ever leave it, and it may hold the writer lease
            raise
        return PersonsConsole(attached)

    async def attach(
        self,
        target: ChannelTarget,
        line: int = 0,
        *,
        who: str,
        automation: bool = False,
        read_only: bool = False,
    ) -> Attached:
        """Join serial ``line`` of a running node, which is opened at the first call and stays open.

        The recent screen comes first. Automation never types before it has called ``acquire``.

        :param who: how those attached are told of this one, e.g. ``wireloom: post-boot``.
        :raises Unsupported: the provider serves no serial lines.
        :raises WireloomError: what the provider says of a line that cannot be opened.
        """
        if "serial" not in target.capabilities.consoles:
            raise Unsupported(f"provider {target.node.provider} has no serial lines", node=target.node.name)
        key = (target.runtime_id, line)
        lock = self._opening.setdefault(key, asyncio.Lock())
        async with lock:
            held = self._lines.get(key)
            if held is None:
                held = await self._connect(target, line)
                self._lines[key] = held
        return held.attach(who, automation=automation, read_only=read_only)

    def lines(self, runtime_id: str) -> tuple[ConsoleLine, ...]:
        """The open lines of a runtime, with those attached to them."""
        return tuple(held.state for (owner, _), held in sorted(self._lines.items()) if owner == runtime_id)

    async def close(self) -> None:
        """Let go of every line; guests notice nothing."""
        for line in list(self._lines.values()):
            await line.close()

    async def _connect(self, target: ChannelTarget, line: int) -> SerialLine:
        key = (target.runtime_id, line)
        stream = await target.provider.console(target.runtime_id, ConsoleRequest(kind="serial", line=line))
        try:
            recent = await _recent_screen(target.provider, target.runtime_id, line)
        except BaseException:
            await stream.close()
            raise
        return SerialLine(stream, lambda: self._drop(key), number=line, recent=recent)

    def _drop(self, key: tuple[str, int]) -> None:
        self._lines.pop(key, None)


async def _recent_screen(provider: Provider, runtime_id: str, line: int) -> bytes:
    """What the line showed before it was opened; nothing where that cannot be told in time."""
    ability = provider.abilities.recent
    if ability is None:
        return b""
    try:
        async with asyncio.timeout(_PRIME_S):
            return await ability.recent(runtime_id, line, RECENT_BYTES)
    except (TimeoutError, WireloomError) as error:
        log.info("no recent screen", runtime=runtime_id, line=line, reason=str(error))
        return b""


def _choose(target: ChannelTarget, line: int | None) -> Console:
    if line is not None:
        return Console(kind="serial", line=line)
    node = target.node
    chosen = next((item for item in node.console if item.kind in target.capabilities.consoles), None)
    if chosen is None:
        raise Unsupported(
            f"provider {node.provider} serves none of the consoles of device {node.device}", node=node.name
        )
    return chosen


class PersonsConsole:
    """A place at a serial line as a person has it: typing out of turn is answered by a notice, not by an error."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached
        self.read, self.receive = attached.read, attached.receive
        self.resize, self.command, self.close = attached.resize, attached.command, attached.close

    async def write(self, data: bytes) -> None:
        try:
            await self._attached.write(data)
        except NotPermitted:
            self._attached.refuse()


class PrivateConsole:
    """A command's terminal, which nobody shares."""

    def __init__(self, stream: ByteStream, *, read_only: bool) -> None:
        self._stream = stream
        self._read_only = read_only
        self.read, self.resize, self.close = stream.read, stream.resize, stream.close

    async def receive(self) -> bytes | ConsoleNotice:
        return await self._stream.read()

    async def write(self, data: bytes) -> None:
        if not self._read_only:
            await self._stream.write(data)

    async def command(self, command: ConsoleCommand) -> None:
        """There is nobody to ask."""


class LogStream:
    """A boot log as a stream that takes no input."""

    def __init__(self, provider: Provider, runtime_id: str, *, follow: bool, boot: int = 0) -> None:
        self._chunks = provider.boot_log(runtime_id, follow=follow, boot=boot)

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
