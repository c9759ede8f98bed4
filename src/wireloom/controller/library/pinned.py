"""HTTP to addresses that were looked at before: what a name means may change between the look and the connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import httpx

__all__ = ["PinnedTransport", "pinned_to"]

_ADDRESSES: Final = "wireloom.addresses"
_MOST: Final = 4


def pinned_to(addresses: Sequence[str]) -> dict[str, Any]:
    """Extensions of a request that is to go to one of ``addresses``, and to nowhere else."""
    return {_ADDRESSES: tuple(addresses[:_MOST])}


class PinnedTransport(httpx.AsyncBaseTransport):
    """Asks ``inner`` for the first of a request's addresses that can be connected to.

    The host's name stays what the server is asked for, and what its certificate must be of.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        addresses: Sequence[str] = request.extensions[_ADDRESSES]
        failure: httpx.TransportError = httpx.ConnectError("there is no address", request=request)
        for address in addresses:
            try:
                return await self._inner.handle_async_request(_at(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure

    async def aclose(self) -> None:
        await self._inner.aclose()


def _at(request: httpx.Request, address: str) -> httpx.Request:
    name = request.url.raw_host.decode("ascii")
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,  # with the name in ``Host``
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": name},
    )
