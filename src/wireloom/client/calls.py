"""What groups of calls have in common: a request with a value in, a value out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from wireloom.client.transport import Query, Transport
    from wireloom.model.base import Value
    from wireloom.model.views import OperationView

__all__ = ["Calls"]

V = TypeVar("V", bound="Value")


class Calls:
    """Calls over the transport of a client, which is made at the first one."""

    def __init__(self, transport: Callable[[], Transport]) -> None:
        self._transport = transport

    async def _one(
        self,
        answer: type[V],
        method: str,
        path: str,
        body: Value | None = None,
        *,
        query: Query | None = None,
        timeout_s: float | None = None,
    ) -> V:
        return answer.model_validate_json(await self._bytes(method, path, body, query, timeout_s))

    async def _many(
        self, answer: type[V], method: str, path: str, body: Value | None = None, *, query: Query | None = None
    ) -> list[V]:
        from pydantic import TypeAdapter

        content = await self._bytes(method, path, body, query, None)
        return TypeAdapter(list[answer]).validate_json(content)  # type: ignore[valid-type]

    async def _operation(self, path: str, body: Value, *, timeout_s: float | None = None) -> OperationView:
        from wireloom.model.views import OperationView

        return await self._one(OperationView, "POST", path, body, timeout_s=timeout_s)

    async def _bytes(
        self, method: str, path: str, body: Value | None, query: Query | None, timeout_s: float | None
    ) -> bytes:
        text = body.model_dump_json() if body is not None else None
        return await self._transport().request(method, path, body=text, query=query, timeout_s=timeout_s)
