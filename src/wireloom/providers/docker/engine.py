"""The gateway to the Docker engine: one client, deadlines on every call, errors of our own tree."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from wireloom.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    NotPermitted,
    RuntimeFailed,
    Unavailable,
    Unsupported,
    WireloomError,
)

__all__ = ["DEFAULT_URL", "Engine", "check_version", "translate"]

DEFAULT_URL: Final = "unix:///var/run/docker.sock"
UNIX_SCHEME: Final = "unix://"

OLDEST_API: Final = (1, 41)

#: aiodocker's own status for "no connection".
STATUS_NO_CONNECTION: Final = 900

_BY_STATUS: Final[dict[int, type[WireloomError]]] = {
    400: InvalidInput,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    501: Unsupported,
    STATUS_NO_CONNECTION: Unavailable,
}


def translate(status: int, message: str, what: str) -> WireloomError:
    """The error of our tree for an engine's HTTP status; ``what`` says what was tried."""
    cls = _BY_STATUS.get(status, RuntimeFailed)
    hint = "is the Docker engine running?" if cls is Unavailable else ""
    return cls(f"{what}: {message.strip()}", hint=hint, details={"engine_status": status})


def check_version(api: str) -> None:
    """:raises Unsupported: the engine speaks an API older than that of Docker 20.10."""
    if tuple(int(part) for part in api.split(".")) < OLDEST_API:
        raise Unsupported(f"the Docker engine is too old (API {api})", hint="use Docker 20.10 or newer")


class Engine:
    """One engine on this host, reached through its UNIX socket. The client is made on first use."""

    def __init__(self, url: str | None = None) -> None:
        """:param url: e.g. ``unix:///var/run/docker.sock``; else what ``DOCKER_HOST`` says.

        :raises Unsupported: the engine would be on another machine, where no network could be plugged.
        """
        self._url = url or os.environ.get("DOCKER_HOST") or DEFAULT_URL
        if not self._url.startswith(UNIX_SCHEME):
            raise Unsupported(
                f"the Docker engine at {self._url} cannot be used",
                hint="an agent works with the engine of its own host, through a UNIX socket",
            )
        self._client: Docker | None = None

    @property
    def socket(self) -> str:
        return self._url.removeprefix(UNIX_SCHEME)

    @asynccontextmanager
    async def calling(self, what: str, timeout_s: float | None) -> AsyncIterator[Docker]:
        """The client for one exchange; leaves as an error of our tree. ``None``: a stream without an end."""
        try:
            async with asyncio.timeout(timeout_s):
                yield self._connected()
        except TimeoutError:
            raise DeadlineExceeded(f"{what}: the Docker engine did not answer in time") from None
        except DockerError as error:
            raise translate(error.status, error.message, what) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Unavailable(f"{what}: lost the Docker engine: {error}", hint="is it running?") from error

    @asynccontextmanager
    async def request(
        self,
        what: str,
        method: str,
        path: str,
        *,
        timeout_s: float | None,
        idle_s: float | None = None,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        data: Any = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A request that the client library has no method for (or only one that decodes or polls).

        :param timeout_s: for the whole exchange; ``None`` for a stream, where ``idle_s`` may bound each silence.
        """
        async with self.calling(what, timeout_s) as docker:
            options = aiohttp.ClientTimeout(total=None, sock_read=idle_s)
            async with docker.session.request(
                method, f"http://docker{path}", params=params, headers=headers, data=data, timeout=options
            ) as response:
                if response.status >= 400:
                    raise DockerError(response.status, await _message(response))
                yield response

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
            await client.connector.close()  # the client leaves a connector that it was given

    def _connected(self) -> Docker:
        if self._client is None:
            # Followed logs and consoles hold connections for long, so the pool has no limit.
            self._client = Docker(url="unix://localhost", connector=aiohttp.UnixConnector(self.socket, limit=0))
        return self._client


async def _message(response: aiohttp.ClientResponse) -> str:
    if response.content_type == "application/json":
        return str((await response.json()).get("message", response.reason))
    return (await response.text()) or str(response.reason)
