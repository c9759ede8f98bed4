"""Passes on what one host sends to the host that fetches it, where that cannot come for it itself.

Both dial in: who fetches says what it wants, who has it asks what is wanted and sends that. Nothing is kept; a
connection that breaks is made again from where it was. With several controllers both come to the same one, because
both are told its address.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Final

from wireloom.errors import NotFound, Unavailable
from wireloom.model.base import Value

__all__ = ["Relay", "RelayWish"]

#: A question for wishes is answered, be it with none, within so long; and a wish is fulfilled, or refused.
WISHES_S: Final = 20.0
FULFILLED_S: Final = 5.0
_STALLED_S: Final = 60.0
#: Pieces on their way through us.
_AHEAD: Final = 8


class RelayWish(Value):
    """See :class:`wireloom.agent.moving.relay.RelayWish`."""

    ticket: str
    number: int = -1
    start: int = 0


@dataclass
class _Pipe:
    wish: RelayWish
    pieces: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_AHEAD))
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    size: int = 0
    left: bool = False


class Relay:
    """One per controller. ``token_of`` knows the token of each move, by its id; empty: there is no such move."""

    def __init__(self, token_of: Callable[[str], str]) -> None:
        self.token_of = token_of
        self._wishes: dict[str, deque[_Pipe]] = {}
        self._pipes: dict[str, _Pipe] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._closed = False

    def close(self) -> None:
        """Who asks for wishes is told that there are none, so that the server can end; idempotent."""
        self._closed = True
        for news in self._news.values():
            news.set()

    async def wanted(self, move: str) -> RelayWish | None:
        """The next wish, as soon as there is one; ``None``: none for a while."""
        news = self._news.setdefault(move, asyncio.Event())
        try:
            async with asyncio.timeout(WISHES_S):
                while not self._closed:
                    waiting = self._wishes.get(move)
                    while waiting:
                        pipe = waiting.popleft()
                        if not pipe.left:
                            return pipe.wish
                    news.clear()
                    await news.wait()
        except TimeoutError:
            pass
        return None

    async def fetch(self, move: str, number: int, start: int) -> tuple[int, AsyncIterator[bytes]]:
        """What the other host sends: how many bytes, and these. :raises Unavailable: it does not, now."""
        pipe = _Pipe(RelayWish(ticket=token_hex(8), number=number, start=start))
        self._pipes[pipe.wish.ticket] = pipe
        self._wishes.setdefault(move, deque()).append(pipe)
        self._news.setdefault(move, asyncio.Event()).set()
        try:
            async with asyncio.timeout(FULFILLED_S):
                await pipe.begun.wait()
        except TimeoutError:
            self._drop(move, pipe)
            raise Unavailable("the host that the node leaves does not send", hint="is its agent running?") from None
        except asyncio.CancelledError:
            self._drop(move, pipe)
            raise
        return pipe.size, self._read(move, pipe)

    async def send(self, ticket: str, size: int, pieces: AsyncIterator[bytes]) -> None:
        """What was wished for. :raises NotFound: nobody waits for it (any more)."""
        pipe = self._pipes.get(ticket)
        if pipe is None or pipe.begun.is_set():
            raise NotFound("nobody waits for it any more")
        pipe.size = size
        pipe.begun.set()
        try:
            async for piece in pieces:
                await self._put(pipe, piece)
        finally:
            if not pipe.left:
                await self._put(pipe, None)

    async def _put(self, pipe: _Pipe, piece: bytes | None) -> None:
        while True:
            if pipe.left:
                raise NotFound("nobody waits for it any more")
            try:
                async with asyncio.timeout(1.0):
                    await pipe.pieces.put(piece)
                    return
            except TimeoutError:
                continue

    async def _read(self, move: str, pipe: _Pipe) -> AsyncIterator[bytes]:
        try:
            while True:
                async with asyncio.timeout(_STALLED_S):
                    piece = await pipe.pieces.get()
                if piece is None:
                    return
                yield piece
        finally:
            self._drop(move, pipe)

    def _drop(self, move: str, pipe: _Pipe) -> None:
        pipe.left = True
        self._pipes.pop(pipe.wish.ticket, None)
        waiting = self._wishes.get(move)
        if waiting is not None and not waiting:
            del self._wishes[move]
