"""HTTP and WebSocket calls with deadlines, the token, and errors decoded to :mod:`wireloom.errors`.

Heavy imports: only loaded by :class:`~wireloom.client.client.Client` when a call is made.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from wireloom.client.discovery import Endpoint
from wireloom.errors import DeadlineExceeded, InternalError, InvalidInput, Unavailable, WireloomError, from_wire
from wireloom.paths import ENV_CA

# httpx loads its own command line where click and rich are installed: 40 of its 60 ms, for nothing here.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # the documented way to make an import fail
import httpx  # noqa: E402 - after the line above

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from wireloom.uploading import TusClient

__all__ = ["API_PREFIX", "Transport", "error_of_body", "trusting"]

API_PREFIX = "/api/v1"
CONNECT_TIMEOUT_S = 5.0
#: Largest WebSocket message: a whole lab as one JSON document.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

Query = Mapping[str, str | int | bool | None]

_CONTENT_TYPES: Mapping[type, Mapping[str, str]] = {
    str: {"Content-Type": "application/json"},
    bytes: {"Content-Type": "application/octet-stream"},
}


class Transport:
    """One connection pool to one controller."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(
            base_url=endpoint.url + API_PREFIX,
            headers=self._headers(),
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            verify=trusting(endpoint) or False,
            trust_env=False,  # a proxy in the environment must never see the token of a loopback controller
        )

    async def close(self) -> None:
        await self._http.aclose()

    def uploads(self, interrupted: Callable[[WireloomError], None] = lambda _: None) -> tuple[TusClient, str]:
        """What sends files to the controller, and the address where uploads are begun.

        :param interrupted: told why whenever one is cut off, and will be gone on with.
        """
        from wireloom.uploading import TusClient

        return TusClient(self._http, interrupted=interrupted), f"{self._endpoint.url}{API_PREFIX}/uploads"

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: str | bytes | None = None,
        query: Query | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """The body of the answer. ``body`` is JSON, or bytes of another kind.

        :raises WireloomError: what the controller answered, or that it did not.
        """
        timeout = httpx.Timeout(timeout_s or self._timeout_s, connect=CONNECT_TIMEOUT_S)
        headers = _CONTENT_TYPES.get(type(body), {})
        with self._network_errors():
            answer = await self._http.request(
                method, path, content=body, params=_present(query), headers=headers, timeout=timeout
            )
        if answer.is_error:
            raise error_of_body(answer.status_code, answer.content)
        return answer.content

    async def read_stream(self, path: str, *, query: Query | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes of a streamed answer as they come; without a deadline between two pieces."""
        timeout = httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S, read=None)
        with self._network_errors():
            async with self._http.stream("GET", path, params=_present(query), timeout=timeout) as answer:
                if answer.is_error:
                    raise error_of_body(answer.status_code, await answer.aread())
                async for piece in answer.aiter_bytes():
                    yield piece

    async def open_socket(self, path: str, *, query: Query | None = None) -> ClientConnection:
        """A WebSocket to ``path``; the caller closes it."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, InvalidStatus

        scheme_free = self._endpoint.url.removeprefix("http")  # leaves "s://…" or "://…"
        parameters = _present(query)
        suffix = f"?{urlencode(parameters)}" if parameters else ""
        try:
            return await connect(
                f"ws{scheme_free}{API_PREFIX}{path}{suffix}",
                additional_headers=self._headers(),
                open_timeout=self._timeout_s,
                close_timeout=CONNECT_TIMEOUT_S,
                max_size=MAX_MESSAGE_BYTES,
                proxy=None,
                ssl=trusting(self._endpoint),
            )
        except InvalidStatus as error:
            raise error_of_body(error.response.status_code, bytes(error.response.body or b"")) from error
        except TimeoutError as error:
            raise self._late() from error
        except (OSError, InvalidHandshake) as error:
            raise self._unreachable(error) from error

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._endpoint.token}"}

    @contextlib.contextmanager
    def _network_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise self._unreachable() from error
        except httpx.TimeoutException as error:
            raise self._late() from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException | None = None) -> Unavailable:
        if _is_distrust(error):
            return Unavailable(
                f"the certificate of the controller at {self._endpoint.url} is none that we trust",
                hint=f"name its authority's certificate with --ca or {ENV_CA};"
                " on the controller `wireloom host ca` prints it",
            )
        return Unavailable(
            f"the controller does not answer at {self._endpoint.url}", hint="start it with `sudo wireloom up`"
        )

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"the controller at {self._endpoint.url} took too long to answer", hint="look at `wireloom status`"
        )


def trusting(endpoint: Endpoint) -> ssl.SSLContext | None:
    """By what the controller's certificate is judged; ``None``: it has none."""
    if not endpoint.url.startswith("https:"):
        return None  # reading the machine's certificates takes 25 ms
    try:
        return ssl.create_default_context(cadata=endpoint.ca or None)
    except ssl.SSLError as error:
        raise InvalidInput("the controller's authority has no certificate that can be read") from error


def _is_distrust(error: BaseException | None) -> bool:
    """Whether a certificate was what went wrong, however deep below."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def error_of_body(status: int, body: bytes) -> WireloomError:
    """The error in ``{"error": …}``; a body of another shape becomes ``InternalError``."""
    try:
        return from_wire(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return InternalError(
            f"the controller answered {status} without an error that we understand",
            hint="is this address really a Wireloom controller?",
        )


def _present(query: Query | None) -> dict[str, str]:
    found = {key: value for key, value in (query or {}).items() if value is not None}
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in found.items()}
