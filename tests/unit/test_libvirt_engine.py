"""The thread that owns a libvirt connection, on libvirt's own test driver (in this process, no daemon)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import libvirt
import pytest

from wireloom.errors import DeadlineExceeded, InternalError, NotFound, Unavailable
from wireloom.providers.libvirt.engine import Engine

URI = "test:///default"
LONG_S = 10.0
SHORT_S = 0.05


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(URI, "test")
    yield made
    await made.close()


class Blocker:
    """A call that blocks in the engine's thread until it is let go."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.let_go = threading.Event()
        self.undone = threading.Event()

    def __call__(self, _connection: Any) -> str:
        self.running.set()
        assert self.let_go.wait(LONG_S)
        return "done"

    def undo(self, connection: Any, result: str) -> None:
        assert result == "done"
        self.undone.set()


async def reached(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, LONG_S)


async def test_a_call_runs_in_one_thread_of_its_own(engine: Engine) -> None:
    names = {await engine.call(lambda c: threading.current_thread().name, timeout_s=LONG_S) for _ in range(3)}
    assert names == {"test"}


async def test_libvirt_errors_become_ours_by_code(engine: Engine) -> None:
    with pytest.raises(NotFound):
        await engine.call(lambda c: c.lookupByName("nobody"), timeout_s=LONG_S)


async def test_a_defect_reaches_its_caller_and_the_thread_goes_on(engine: Engine) -> None:
    def broken(_connection: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(InternalError):
        await engine.call(broken, timeout_s=LONG_S)
    assert await engine.call(lambda c: 1, timeout_s=LONG_S) == 1


async def test_an_overrun_fails_at_once_and_another_thread_takes_over(engine: Engine) -> None:
    stuck = Blocker()
    try:
        with pytest.raises(DeadlineExceeded):
            await engine.call(stuck, timeout_s=SHORT_S, undo=stuck.undo)
        assert await engine.call(lambda c: 1, timeout_s=LONG_S) == 1
        assert not stuck.undone.is_set()
    finally:
        stuck.let_go.set()
    await reached(stuck.undone)


async def test_calls_queued_behind_an_overrun_are_carried_out(engine: Engine) -> None:
    stuck = Blocker()
    first = asyncio.create_task(engine.call(stuck, timeout_s=SHORT_S))
    await reached(stuck.running)
    second = asyncio.create_task(engine.call(lambda c: 2, timeout_s=LONG_S))
    with pytest.raises(DeadlineExceeded):
        await first
    assert await second == 2
    stuck.let_go.set()


async def test_a_cancelled_running_call_is_undone(engine: Engine) -> None:
    slow = Blocker()
    work = asyncio.create_task(engine.call(slow, timeout_s=LONG_S, undo=slow.undo))
    await reached(slow.running)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    slow.let_go.set()
    await reached(slow.undone)
    assert await engine.call(lambda c: 1, timeout_s=LONG_S) == 1


async def test_a_cancelled_queued_call_never_runs(engine: Engine) -> None:
    slow, ran = Blocker(), threading.Event()
    first = asyncio.create_task(engine.call(slow, timeout_s=LONG_S))
    await reached(slow.running)
    second = asyncio.create_task(engine.call(lambda c: ran.set(), timeout_s=LONG_S))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    slow.let_go.set()
    assert await first == "done"
    assert await engine.call(lambda c: 1, timeout_s=LONG_S) == 1
    assert not ran.is_set()


async def test_a_result_that_nobody_took_any_more_is_undone(engine: Engine) -> None:
    """The call ends, and its caller is cancelled before the loop gets to hand it the result."""
    slow, after = Blocker(), threading.Event()
    work = asyncio.create_task(engine.call(slow, timeout_s=LONG_S, undo=slow.undo))
    await reached(slow.running)
    marker = asyncio.create_task(engine.call(lambda c: after.set(), timeout_s=LONG_S))
    await asyncio.sleep(0)
    slow.let_go.set()
    assert after.wait(LONG_S)  # blocks the loop on purpose: the result is on its way to it now
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await marker
    await reached(slow.undone)


async def test_a_daemon_that_does_not_answer_is_unavailable_and_tried_again() -> None:
    engine = Engine("test:///no/such/file.xml", "test")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await engine.call(lambda c: 1, timeout_s=LONG_S)
    await engine.close()


async def test_a_closed_engine_refuses_calls(engine: Engine) -> None:
    await engine.close()
    with pytest.raises(Unavailable):
        await engine.call(lambda c: 1, timeout_s=LONG_S)


async def test_a_lost_connection_is_opened_again_and_told() -> None:
    told: list[str] = []

    def connected(_connection: Any) -> Callable[[], None]:
        told.append("connected")
        return lambda: told.append("disconnected")

    def lose(connection: Any) -> None:
        connection.close()
        raise libvirt.libvirtError("lost")

    engine = Engine(URI, "test", connected)
    with pytest.raises(Unavailable):
        await engine.call(lose, timeout_s=LONG_S)
    assert await engine.call(lambda c: c.isAlive(), timeout_s=LONG_S) == 1
    assert told == ["connected", "disconnected", "connected"]
    await engine.close()
