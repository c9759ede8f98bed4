"""Reading files by HTTP, with little work on the loop, which has a host's nodes and consoles to serve meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import aiohttp

from wireloom.errors import InvalidInput

__all__ = ["AioHttp", "Answer", "Http", "LostError"]

#: Silence for so long is a lost connection; a slow one is not.
_SILENCE_S: Final = 30.0
_CONNECT_S: Final = 10.0
_READ: Final = 1 << 20


class LostError(Exception):
    """There was no connection, or it was lost; trying again may help."""


class Answer(Protocol):
    """What a server answered; names of headers in any case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. :raises LostError: it ended too early."""
        ...


class Http(Protocol):
    """Asks servers."""

    def get(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Answer]:
        """:raises LostError: nobody answers. :raises InvalidInput: that is no address."""
        ...


class AioHttp:
    """Connections are made when they are needed, and follow no redirection: the token is for who was named."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncGenerator[Answer, None]:
        """:raises LostError: nobody answers. :raises InvalidInput: that is no address."""
        try:
            async with self._open().get(url, headers=headers, allow_redirects=False) as response:
                yield _Response(response)
        except aiohttp.InvalidURL as error:
            raise InvalidInput(f"{url} is no address to fetch from") from error
        except aiohttp.ClientError as error:
            raise LostError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Let go of all connections; idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
                auto_decompress=False,
                read_bufsize=_READ,
                trust_env=False,  # a proxy in the environment must never see the tokens of an installation
            )
        return self._session


class _Response:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._response.content.iter_any():
            yield piece
