"""The serial line as a channel: a dialogue under the line's writer lease, which everybody may watch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from wireloom.agent.channels.base import Call, ChannelTarget, HeldLine, SerialLines, checked
from wireloom.agent.channels.typed import TypedScript, play, script_for_load, script_for_run
from wireloom.dialogue import strip_terminal
from wireloom.model.device import Step
from wireloom.model.runtime import ExecResult

__all__ = ["SerialChannel"]

#: A dialogue waits at most so long until whoever types on the line lets go of it: they are told that it is wanted, and
#: keep it unless they are idle. A dialogue that waits in vain has not begun, so another channel may be asked.
_LEASE_S: Final = 15.0
_SCREEN: Final = 16 << 10
_READER: Final = "wireloom: readiness"


class SerialChannel:
    """:param lines: who holds the serial lines of this host."""

    def __init__(self, lines: SerialLines) -> None:
        self._lines = lines

    def lacks(self, target: ChannelTarget, step: Step) -> str:
        del step
        if "serial" not in target.capabilities.consoles:
            return f"{target.capabilities.name} has no serial lines"
        return "" if target.cli is not None else "its device describes no command line"

    async def run(self, call: Call) -> ExecResult:
        return await self._play(call.target, script_for_run(call), call.timeout_s, "wireloom: exec")

    async def fetch(self, target: ChannelTarget, step: Step, *, timeout_s: float) -> bytes:
        call = Call(target, step, "", timeout_s)
        result = await self._play(target, script_for_run(call), timeout_s, "wireloom: reading the configuration")
        return checked(result, target, step.run).stdout

    async def load(self, target: ChannelTarget, step: Step, text: str, *, timeout_s: float) -> ExecResult:
        return await self._play(target, script_for_load(step, text), timeout_s, "wireloom: loading a configuration")

    async def read_along(self, target: ChannelTarget, *, quiet_s: float, most_s: float) -> tuple[str, bool]:
        """What the line shows in the end, and whether it has fallen silent; nothing is typed.

        It is read until it is silent for ``quiet_s``, and for no longer than ``most_s``.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + most_s
        shown = bytearray()
        stream = await self._lines.attach(target, line_of(target), who=_READER, automation=True, read_only=True)
        try:
            while (data := await _next_within(stream, quiet_s)) and clock() < until:
                shown += data
                del shown[:-_SCREEN]
        finally:
            await stream.close()
        return strip_terminal(shown.decode(errors="replace")), not data

    async def reach(self, target: ChannelTarget, *, timeout_s: float) -> None:
        """Come to the home prompt, by what the device's command line knows of logins and recoveries.

        :raises Unavailable: it was not reached; ``Conflict``: somebody is typing on the line.
        """
        await self._play(target, TypedScript(()), timeout_s, _READER, yielding=True)

    async def _play(
        self, target: ChannelTarget, typed: TypedScript, timeout_s: float, who: str, *, yielding: bool = False
    ) -> ExecResult:
        """:param yielding: a person may take the line at any moment."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        async with self._held(target, who, min(_LEASE_S, timeout_s)) as line:
            line.pause(between_steps=yielding)
            left_s = deadline - asyncio.get_running_loop().time()
            return await play(line, target, typed, timeout_s=left_s)

    @contextlib.asynccontextmanager
    async def _held(self, target: ChannelTarget, who: str, timeout_s: float) -> AsyncIterator[HeldLine]:
        """:raises Conflict: somebody is typing on the line."""
        line = await self._lines.attach(target, line_of(target), who=who, automation=True)
        try:
            await line.acquire(timeout_s)
            try:
                yield line
            finally:
                line.release()
        finally:
            await line.close()


async def _next_within(stream: HeldLine, quiet_s: float) -> bytes:
    """The next bytes; none when the line is silent for so long, or has ended."""
    try:
        async with asyncio.timeout(quiet_s):
            return await stream.read()
    except TimeoutError:
        return b""


def line_of(target: ChannelTarget) -> int:
    """The line that carries the device's command line: the first serial console that it names."""
    return next((console.line for console in target.node.console if console.kind == "serial"), 0)
