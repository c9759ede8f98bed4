"""A container's own terminal: what its first process reads and writes. The engine lets several hold it at once."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Final
from urllib.parse import urlencode

from wireloom.errors import InvalidInput, Unsupported
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.hijack import Hijacked
from wireloom.providers.docker.inspection import engine_timestamp, query
from wireloom.providers.docker.streams import read_log

__all__ = ["FirstTerminal", "RecentLog", "attach_terminal"]

_CALL_S: Final = 20.0
#: The engine would take Ctrl-P Ctrl-Q for a wish to leave, and hold every Ctrl-P back. These bytes nobody types.
_NEVER_TYPED: Final = ",".join(["\xff", "\xfe"] * 8).encode("latin-1")
#: Entries of the log that are looked through for a recent screen; one holds a line, or 16 KiB of a longer one.
_TAIL_ENTRIES: Final = 500


async def attach_terminal(engine: Engine, runtime_id: str, line: int) -> FirstTerminal:
    """Join the terminal of the container's first process.

    :raises InvalidInput: there is no such line.
    :raises Unsupported: the process has no terminal.
    """
    if line != 0:
        raise InvalidInput(f"a container has no serial line {line}", hint="line 0 is its first process's terminal")
    if not (await _facts(engine, runtime_id))["Config"]["Tty"]:
        raise Unsupported("the first process of the container has no terminal", hint="set 'tty' to true")
    parameters = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1, "detachKeys": _NEVER_TYPED}
    stream = await Hijacked.open(
        engine.socket,
        f"/containers/{runtime_id}/attach?{urlencode(parameters)}",
        {},
        what="attach to a container",
        timeout_s=_CALL_S,
    )
    return FirstTerminal(engine, runtime_id, stream)


class FirstTerminal:
    """A :class:`~wireloom.providers.contract.ByteStream`; leaving it ends no input and sends no signal."""

    def __init__(self, engine: Engine, runtime_id: str, stream: Hijacked) -> None:
        self._engine = engine
        self._runtime_id = runtime_id
        self._stream = stream

    async def read(self) -> bytes:
        return await self._stream.read()

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def resize(self, columns: int, rows: int) -> None:
        async with self._engine.request(
            "resize a terminal",
            "POST",
            f"/containers/{self._runtime_id}/resize",
            timeout_s=_CALL_S,
            params=query(h=rows, w=columns),
        ):
            return

    async def close(self) -> None:
        """The engine keeps the container's input open when one of those attached goes."""
        self._stream.close()


class RecentLog:
    """The :class:`~wireloom.providers.contract.RecentOutput` of containers: the end of the engine's log."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def recent(self, runtime_id: str, line: int, size: int) -> bytes:
        facts = await _facts(self._engine, runtime_id)
        started = engine_timestamp(facts["State"]["StartedAt"])
        if line != 0 or started is None:
            return b""
        bounds = {"since": started, "tail": str(_TAIL_ENTRIES)}
        text = bytearray()
        tty = bool(facts["Config"]["Tty"])
        async with aclosing(read_log(self._engine, runtime_id, tty=tty, follow=False, **bounds)) as chunks:
            async for chunk in chunks:
                text += chunk
                del text[:-size]
        return bytes(text)


async def _facts(engine: Engine, runtime_id: str) -> dict[str, Any]:
    async with engine.calling("look at a container", _CALL_S) as docker:
        facts: dict[str, Any] = await docker.containers.container(runtime_id).show()
    return facts
