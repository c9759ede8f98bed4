"""Commands in a container: run to the end with separate outputs, or on a terminal that a person holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Any, Final

from wireloom.errors import DeadlineExceeded, GuestFailed, NotFound, Unavailable, WireloomError
from wireloom.model.runtime import ExecResult
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.hijack import STDERR, Hijacked

__all__ = ["TerminalStream", "open_terminal", "run_command"]

_CALL_S: Final = 20.0
_OUTPUT_MOST: Final = 4 << 20  # what an answer over the fabric can hold
_EXIT_CODE_TRIES: Final = 250
_HANGUP_TRIES: Final = 50
_POLL_S: Final = 0.02
#: What a shell answers for a program that there is not (POSIX, 2.8.2).
_NOT_FOUND: Final = 127
#: The engine would take Ctrl-P Ctrl-Q for a wish to leave, and hold every Ctrl-P back.
_DETACH_KEYS: Final = ",".join(["ctrl-@", "ctrl-^", "ctrl-@", "ctrl-_"] * 3)


async def run_command(
    engine: Engine, runtime_id: str, command: Sequence[str], *, timeout_s: float, stdin: bytes
) -> ExecResult:
    """Run ``command`` and collect its outputs; one that overruns is killed with all that it started.

    :raises DeadlineExceeded: with what it had written in ``details``.
    :raises GuestFailed: it writes without end.
    """
    exec_id = await _prepare(engine, runtime_id, command, stdin=bool(stdin), tty=False)
    stdout, stderr = bytearray(), bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            await _talk(engine, exec_id, stdin, stdout, stderr)
    except TimeoutError:
        await _kill(engine, exec_id)
        raise DeadlineExceeded(
            f"the command {command[0]!r} did not end within {timeout_s:g} s and was killed",
            details={"stdout": stdout.decode(errors="replace"), "stderr": stderr.decode(errors="replace")},
        ) from None
    except (asyncio.CancelledError, WireloomError):
        await asyncio.shield(_kill(engine, exec_id))
        raise
    state = await _end(engine, exec_id)
    if not state["Pid"]:
        # It was never started, and what came is the engine's own text. A shell says this as follows.
        told = f"{command[0]}: not found in the guest, or not executable\n".encode()
        return ExecResult(exit_code=_NOT_FOUND, stderr=told, channel="exec")
    return ExecResult(exit_code=int(state["ExitCode"]), stdout=bytes(stdout), stderr=bytes(stderr), channel="exec")


async def open_terminal(
    engine: Engine, runtime_id: str, command: Sequence[str], *, columns: int, rows: int
) -> TerminalStream:
    """Run ``command`` on a terminal of its own."""
    exec_id = await _prepare(engine, runtime_id, command, stdin=True, tty=True)
    stream = TerminalStream(engine, exec_id, await _open(engine, exec_id, tty=True))
    await stream.resize(columns, rows)
    return stream


class TerminalStream:
    """A :class:`~wireloom.providers.contract.ByteStream` on a command's terminal."""

    def __init__(self, engine: Engine, exec_id: str, stream: Hijacked) -> None:
        self._engine = engine
        self._exec_id = exec_id
        self._stream = stream
        self._closed = False

    async def read(self) -> bytes:
        return await self._stream.read()

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def resize(self, columns: int, rows: int) -> None:
        """The engine knows the terminal only once the command runs, so the first try may come too early."""
        for _ in range(10):
            with contextlib.suppress(WireloomError):
                async with self._engine.calling("resize a terminal", _CALL_S) as docker:
                    await docker.containers.exec(self._exec_id).resize(h=rows, w=columns)
                return
            await asyncio.sleep(_POLL_S)

    async def close(self) -> None:
        """Hang up: the engine would let the command live on without its terminal."""
        if self._closed:
            return
        self._closed = True
        self._stream.close()
        with contextlib.suppress(Unavailable, NotFound):
            await _hang_up(self._engine, self._exec_id)


async def _prepare(engine: Engine, runtime_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> str:
    async with engine.calling("prepare a command", _CALL_S) as docker:
        container = docker.containers.container(runtime_id)
        keys = _DETACH_KEYS if tty else None
        prepared = await container.exec(list(command), stdin=stdin, tty=tty, detach_keys=keys)
    return prepared.id


async def _open(engine: Engine, exec_id: str, *, tty: bool) -> Hijacked:
    return await Hijacked.open(
        engine.socket,
        f"/exec/{exec_id}/start",
        {"Detach": False, "Tty": tty},
        what="start a command",
        timeout_s=_CALL_S,
    )


async def _talk(engine: Engine, exec_id: str, stdin: bytes, stdout: bytearray, stderr: bytearray) -> None:
    stream = await _open(engine, exec_id, tty=False)
    feeder = asyncio.create_task(_feed(stream, stdin)) if stdin else None
    try:
        async for number, payload in stream.frames():
            (stderr if number == STDERR else stdout).extend(payload)
            if len(stdout) + len(stderr) > _OUTPUT_MOST:
                raise GuestFailed(
                    f"the command wrote more than {_OUTPUT_MOST >> 20} MiB and was ended",
                    hint="let it write to a file",
                )
    finally:
        if feeder is not None:
            feeder.cancel()
        stream.close()


async def _feed(stream: Hijacked, stdin: bytes) -> None:
    await stream.write(stdin)
    await stream.end_input()


async def _inspect(engine: Engine, exec_id: str) -> dict[str, Any]:
    async with engine.calling("look at a command", _CALL_S) as docker:
        return await docker.containers.exec(exec_id).inspect()


async def _end(engine: Engine, exec_id: str) -> dict[str, Any]:
    """The command's state once it has ended; its outputs may close a moment before the engine has seen that."""
    for _ in range(_EXIT_CODE_TRIES):
        state = await _inspect(engine, exec_id)
        if not state["Running"] and state["ExitCode"] is not None:
            return state
        await asyncio.sleep(_POLL_S)
    raise DeadlineExceeded("the command closed its outputs but does not end")


async def _hang_up(engine: Engine, exec_id: str) -> None:
    state = await _inspect(engine, exec_id)
    if not state["Running"]:
        return
    _signal_group(state["Pid"], signal.SIGHUP)
    for _ in range(_HANGUP_TRIES):
        await asyncio.sleep(_POLL_S)
        if not (await _inspect(engine, exec_id))["Running"]:
            return
    _signal_group(state["Pid"], signal.SIGKILL)


async def _kill(engine: Engine, exec_id: str) -> None:
    with contextlib.suppress(Unavailable, NotFound):
        state = await _inspect(engine, exec_id)
        if state["Running"]:
            _signal_group(state["Pid"], signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    """The engine starts each command as the leader of a session of its own; ``pid`` is the host's number."""
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
