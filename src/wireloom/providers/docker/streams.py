"""What flows out of the engine: logs, events, use of resources."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final

import structlog

from wireloom.errors import WireloomError
from wireloom.model.identity import LABEL_INSTALLATION, LABEL_NODE_ID
from wireloom.model.runtime import EventKind, RuntimeEvent, RuntimeStats
from wireloom.providers.boots import check_boot
from wireloom.providers.docker.engine import Engine
from wireloom.providers.docker.hijack import FrameDecoder
from wireloom.providers.docker.inspection import engine_timestamp, query
from wireloom.providers.docker.unfinished import LineEnd, with_line_end

__all__ = ["boot_log", "read_log", "read_stats", "watch_events"]

_CALL_S: Final = 20.0
_IDLE_S: Final = 30.0
_RECONNECT_FIRST_S: Final = 0.1
_RECONNECT_MOST_S: Final = 2.0
_NANOSECONDS: Final = 1e9
_ROUNDING_S: Final = 2e-6

_KINDS: Final = {
    "create": EventKind.CREATED,
    "start": EventKind.STARTED,
    "die": EventKind.EXITED,
    "destroy": EventKind.REMOVED,
}

_log = structlog.get_logger(__name__)


async def boot_log(
    engine: Engine, facts: dict[str, Any], starts: Sequence[float], *, follow: bool, boot: int
) -> AsyncGenerator[bytes, None]:
    """The engine's log of one of the container's runs. Nothing of the guest runs before the gate opens, so the
    start times cut no line off. A followed log ends with the run.

    :param facts: the container as the engine inspects it.
    :param starts: when it was started, newest first.
    :raises NotFound: it has no such run.
    """
    check_boot(boot, starts)
    runtime_id, tty = facts["Id"], facts["Config"]["Tty"]
    started = engine_timestamp(facts["State"]["StartedAt"])
    if boot > 0:
        bounds = {"since": _stamp(starts[boot]), "until": _stamp(starts[boot - 1])}
        log = read_log(engine, runtime_id, tty=tty, follow=False, **bounds)
    elif started is None:
        return
    elif follow:
        log = _followed(engine, runtime_id, tty=tty, started=started)
    else:
        log = read_log(engine, runtime_id, tty=tty, follow=False, since=started)
    async with aclosing(log):
        async for text in log:
            yield text


async def _followed(engine: Engine, runtime_id: str, *, tty: bool, started: str) -> AsyncGenerator[bytes, None]:
    """The log of a run until its end, with the unfinished line of a terminal."""
    line_end = LineEnd()
    given = 0

    async def counted() -> AsyncGenerator[bytes, None]:
        nonlocal given
        async with aclosing(read_log(engine, runtime_id, tty=tty, follow=True, since=started)) as log:
            async for text in log:
                given += len(text)
                yield text

    followed = with_line_end(engine, runtime_id, counted(), line_end) if tty else counted()
    async with aclosing(followed):
        async for text in followed:
            yield text
    # The engine may end a followed log before the last lines of a run that ended quickly.
    until = f"{time.time():.6f}"
    async with aclosing(read_log(engine, runtime_id, tty=tty, follow=False, since=started, until=until)) as late:
        async for text in late:
            if (missing := text[given:]) and (rest := line_end.logged(missing)):
                yield rest
            given = max(0, given - len(text))


def _stamp(moment: float) -> str:
    """UNIX seconds as the engine's queries take them. A little early: the gate is closed for longer than that."""
    return f"{moment - _ROUNDING_S:.6f}"


async def read_log(
    engine: Engine, runtime_id: str, *, tty: bool, follow: bool, **bounds: str
) -> AsyncGenerator[bytes, None]:
    """One reading of the log, without the engine's framing."""
    decoder = None if tty else FrameDecoder()
    async with engine.request(
        "read the log of a container",
        "GET",
        f"/containers/{runtime_id}/logs",
        timeout_s=None,
        idle_s=None if follow else _IDLE_S,
        params=query(stdout=True, stderr=True, follow=follow, **bounds),
    ) as response:
        async for chunk in response.content.iter_any():
            text = chunk if decoder is None else b"".join(payload for _, payload in decoder.feed(chunk))
            if text:
                yield text


async def read_stats(engine: Engine, runtime_id: str) -> RuntimeStats:
    """One sample, without the engine's second of waiting for another; zero while it is off."""
    async with engine.request(
        "read the use of resources",
        "GET",
        f"/containers/{runtime_id}/stats",
        timeout_s=_CALL_S,
        params={"stream": "0", "one-shot": "1"},
    ) as response:
        sample = await response.json()
    memory = sample.get("memory_stats") or {}
    if "usage" not in memory:
        return RuntimeStats(cpu_seconds=0, memory_bytes=0)
    parts = memory.get("stats") or {}
    resident = parts.get("total_rss", parts.get("anon", memory["usage"]))  # cgroup v1, v2
    return RuntimeStats(
        cpu_seconds=sample["cpu_stats"]["cpu_usage"]["total_usage"] / _NANOSECONDS,
        memory_bytes=resident,
    )


async def watch_events(engine: Engine, installation: str) -> AsyncIterator[RuntimeEvent]:
    """For ever; each new connection to the engine begins with ``RESYNC`` and ends with ``LOST``."""
    pause = _RECONNECT_FIRST_S
    while True:
        connected = False
        try:
            async with aclosing(_connected_events(engine, installation)) as events:
                async for event in events:
                    connected = True
                    yield event
        except WireloomError as error:
            _log.info("docker.events.lost", reason=error.message, retry_s=pause)
        if connected:
            pause = _RECONNECT_FIRST_S
            yield RuntimeEvent(kind=EventKind.LOST)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _RECONNECT_MOST_S)


async def _connected_events(engine: Engine, installation: str) -> AsyncGenerator[RuntimeEvent]:
    filters = {
        "type": ["container"],
        "event": list(_KINDS),
        "label": [f"{LABEL_INSTALLATION}={installation}"],
    }
    # The engine answers a moment before it subscribes us; "since" fetches what falls between.
    params = query(filters=filters, since=f"{time.time():.6f}")
    async with engine.request("watch events", "GET", "/events", timeout_s=None, params=params) as response:
        yield RuntimeEvent(kind=EventKind.RESYNC)
        pending = b""
        async for chunk in response.content.iter_any():
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                event = _event(json.loads(line)) if line.strip() else None
                if event is not None:
                    yield event


def _event(told: dict[str, Any]) -> RuntimeEvent | None:
    kind = _KINDS.get(told.get("Action", ""))
    if kind is None:
        return None
    actor = told["Actor"]
    return RuntimeEvent(kind=kind, runtime_id=actor["ID"], node_id=actor["Attributes"].get(LABEL_NODE_ID, ""))
