"""Work that many wait for and one does, and turns for work of which only so much may run at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from wireloom.library.values import Progress, no_progress

__all__ = ["Flight", "Flights", "Turns", "never"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

#: Whether somebody is held up by the work right now; asked again and again, for that may change.
Urgent = Callable[[], bool]


def never() -> bool:
    """Nobody is held up."""
    return False


@dataclass(eq=False)
class _Waiter:
    progress: Progress
    urgent: Urgent


class Flight(Generic[T]):
    """One piece of work on its way. ``done`` of ``total``: bytes of the part that it is at; ``phase``: in a word.

    ``waiters`` and ``task`` are the business of :class:`Flights`.
    """

    def __init__(self) -> None:
        self.phase = ""
        self.done = 0
        self.total = 0
        self.waiters: list[_Waiter] = []
        self.task: asyncio.Task[T] | None = None

    def tell(self, done: int, total: int) -> None:
        """Say how far it is, to everybody who waits."""
        self.done, self.total = done, total
        for waiter in list(self.waiters):
            waiter.progress(done, total)

    def urgent(self) -> bool:
        """Whether anybody who waits is held up by it."""
        return any(waiter.urgent() for waiter in self.waiters)


class Flights(Generic[K, T]):
    """At most one flight a key. A flight ends early when nobody waits for it any more.

    :param joined: called when somebody more waits: what was not urgent may be now.
    """

    def __init__(self, joined: Callable[[], None] = lambda: None) -> None:
        self._flights: dict[K, Flight[T]] = {}
        self._joined = joined

    def get(self, key: K) -> Flight[T] | None:
        return self._flights.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._flights

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._flights))

    def __len__(self) -> int:
        return len(self._flights)

    async def join(
        self,
        key: K,
        work: Callable[[Flight[T]], Awaitable[T]],
        *,
        progress: Progress = no_progress,
        urgent: Urgent = never,
    ) -> T:
        """What the flight of ``key`` brings. ``work`` is begun where there is none; else its end is waited for."""
        flight = await self._open_flight(key)
        waiter = _Waiter(progress, urgent)
        flight.waiters.append(waiter)
        task = flight.task = flight.task or asyncio.get_running_loop().create_task(self._fly(key, flight, work))
        if flight.total:
            progress(flight.done, flight.total)
        self._joined()
        try:
            return await asyncio.shield(task)
        finally:
            flight.waiters.remove(waiter)
            if not flight.waiters and not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _open_flight(self, key: K) -> Flight[T]:
        """One that may be joined; one that nobody waits for any more comes to its end first."""
        while (flight := self._flights.get(key)) is not None and not flight.waiters:
            if flight.task is not None:
                await asyncio.wait({flight.task})
        if flight is None:
            flight = self._flights[key] = Flight()
        return flight

    async def _fly(self, key: K, flight: Flight[T], work: Callable[[Flight[T]], Awaitable[T]]) -> T:
        try:
            return await work(flight)
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]


@dataclass(eq=False)
class _Waiting:
    urgent: Urgent
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """So many at the same time. What is urgent goes first, and one turn is kept for it where there are several."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._waiting: list[_Waiting] = []

    @contextlib.asynccontextmanager
    async def turn(self, urgent: Urgent = never) -> AsyncIterator[None]:
        """Wait for a turn, and have it for as long as the block lasts."""
        waiting = _Waiting(urgent)
        self._waiting.append(waiting)
        self.look()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:
                self._give_back()  # it was given in the same moment
            raise
        try:
            yield
        finally:
            self._give_back()

    def look(self) -> None:
        """Give turns to whom they belong by now."""
        for waiting in sorted(self._waiting, key=lambda waiting: not waiting.urgent()):
            unreserved = self._most if waiting.urgent() else max(self._most - 1, 1)
            if self._taken >= unreserved:
                return
            self._taken += 1
            self._waiting.remove(waiting)
            if not waiting.turn.done():
                waiting.turn.set_result(None)

    def _give_back(self) -> None:
        self._taken -= 1
        self.look()
