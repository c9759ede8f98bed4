"""Channels that type: a dialogue with the device's command line, played on a stream of bytes.

The dialogue itself has no clock and no I/O; here it gets both.
"""

from __future__ import annotations

import asyncio
from typing import Final

from wireloom.agent.channels.base import COMMAND, Call, ChannelTarget, command_line
from wireloom.dialogue import RELOGIN, Dialogue, Line, Script
from wireloom.dialogue import Outcome as DialogueOutcome
from wireloom.errors import DeadlineExceeded, GuestFailed, Unavailable, Unsupported, WireloomError
from wireloom.model.device import Step
from wireloom.model.runtime import ExecResult
from wireloom.providers.contract import ByteStream

__all__ = ["TypedScript", "play", "script_for_load", "script_for_run"]

_WRITE_S: Final = 10.0
#: How a shell tells the exit code of its last command.
_STATUS_LINE: Final = "echo $?"


class TypedScript:
    """What is typed for one call, and how its answers become a result.

    :param asks_status: the last line asks a shell for the exit code.
    :param repeatable: a line may be typed again when the session was lost. A command that changes something may have
        done so, and may be what ended the session (``reload``); a line of a configuration has lost its context.
    """

    def __init__(self, lines: tuple[Line, ...], *, asks_status: bool = False, repeatable: bool = True) -> None:
        self.script = Script(lines=lines)
        self.disabled = frozenset() if repeatable else frozenset({RELOGIN})
        self._asks_status = asks_status

    @property
    def first(self) -> bytes:
        """Begin of what the guest has been asked to do, once it was typed."""
        return self.script.lines[0].text.encode() if self.script.lines else b""

    def result(self, outcome: DialogueOutcome) -> ExecResult:
        answers = list(outcome.answers)
        code = int(any(answer.refused for answer in answers))
        if self._asks_status and answers:
            status = answers.pop().text.strip()
            code = int(status) if status.isdigit() else code
        text = "\n".join(answer.text for answer in answers)
        return ExecResult(exit_code=code, stdout=f"{text}\n".encode() if text else b"")


def script_for_run(call: Call) -> TypedScript:
    """:raises Unsupported: the command wants input, which a command line cannot give."""
    if call.stdin:
        raise Unsupported("a typed command gets no input", node=call.target.node.name)
    cli = call.target.cli
    reads = not call.command  # nothing but the step's own command, which reads a configuration
    line = Line(text=command_line(call), prompt=call.step.prompt)
    if cli is not None and (call.step.prompt or cli.home) == "shell":
        return TypedScript((line, Line(text=_STATUS_LINE, prompt=call.step.prompt)), asks_status=True, repeatable=reads)
    return TypedScript((line,), repeatable=reads)


def script_for_load(step: Step, text: str) -> TypedScript:
    """The step's own line, if it has one, the lines of ``text``, and those of ``finish``."""
    before = () if step.run == COMMAND else (step.run,)
    written = [line.rstrip() for line in text.splitlines() if line.strip()]
    lines = tuple(Line(text=line, prompt=step.prompt) for line in (*before, *written, *step.finish))
    return TypedScript(lines, repeatable=False)


async def play(stream: ByteStream, target: ChannelTarget, typed: TypedScript, *, timeout_s: float) -> ExecResult:
    """Play ``typed`` on ``stream``, for at most ``timeout_s``.

    :raises Unavailable: the command line was not reached; nothing of the script was typed.
    :raises DeadlineExceeded: it took longer. :raises GuestFailed: the guest refused, or the stream ended.
    """
    if target.cli is None:
        raise Unsupported("its device describes no command line", node=target.node.name)
    dialogue = Dialogue(
        target.cli,
        typed.script,
        target.values(),
        now=asyncio.get_running_loop().time(),
        slow_factor=target.slow_factor,
        disabled=typed.disabled,
    )
    player = _Player(stream, dialogue, typed.first)
    try:
        async with asyncio.timeout(timeout_s):
            await player.run()
        return typed.result(dialogue.outcome())
    except TimeoutError:
        failure: WireloomError = DeadlineExceeded(f"the dialogue did not end in {timeout_s:.3g} s")
    except WireloomError as error:
        failure = error
    told = _told(failure, begun=player.begun, node=target.node.name)
    raise told from (None if told is failure else failure)


def _told(failure: WireloomError, *, begun: bool, node: str) -> WireloomError:
    """``failure`` as channels tell it: whether another one may do what was asked for."""
    if not begun:
        message = f"no prompt was reached: {failure.message}"
        return Unavailable(message, node=node, hint=failure.hint, details=failure.details)
    if isinstance(failure, Unavailable):
        return GuestFailed(failure.message, node=node, hint=failure.hint, details=failure.details)
    failure.node = node
    return failure


class _Player:
    """Carries bytes between a stream and a dialogue, and the clock to the dialogue."""

    def __init__(self, stream: ByteStream, dialogue: Dialogue, first: bytes) -> None:
        self._stream = stream
        self._dialogue = dialogue
        self._first = first
        self._reading: asyncio.Task[bytes] | None = None
        self.begun = False  # the first line was typed

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            await self._type()
            while not self._dialogue.done:
                data = await self._next(clock())
                if data is None:
                    self._dialogue.tick(clock())
                elif data:
                    self._dialogue.receive(data, clock())
                else:
                    self._dialogue.close(clock())
                await self._type()
        finally:
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.gather(self._reading, return_exceptions=True)

    async def _type(self) -> None:
        typed = self._dialogue.take()
        if typed:
            self.begun = self.begun or (bool(self._first) and self._first in typed)
            async with asyncio.timeout(_WRITE_S):
                await self._stream.write(typed)

    async def _next(self, now: float) -> bytes | None:
        """What was printed; ``None`` when the dialogue's own time has come first."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._stream.read())
        wake_at = self._dialogue.wake_at
        timeout = None if wake_at is None else max(wake_at - now, 0)
        await asyncio.wait({self._reading}, timeout=timeout)
        if not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        return reading.result()
