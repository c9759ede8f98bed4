"""Hosts through the API: ``client.host``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from wireloom.client.calls import Calls
from wireloom.model.host_views import (
    CordonRequest,
    DrainRequest,
    HostDetails,
    JoinAnswer,
    JoinRequest,
    JoinTokenRequest,
    JoinTokenView,
    LabelsRequest,
    MadeJoinToken,
    RemovalPreview,
)
from wireloom.model.views import HostView

__all__ = ["Hosts"]

#: An agent makes a key pair and logs in anew; servers are told of revoked keys.
_AGENT_S: Final = 60.0


class Hosts(Calls):
    """Calls on hosts; errors as of :class:`~wireloom.client.client.Client`."""

    async def get(self, host: str) -> HostDetails:
        """A host with what is on it. :raises NotFound:"""
        return await self._one(HostDetails, "GET", _host(host))

    async def authority(self) -> str:
        """The certificate (PEM) of the authority that the API's own is of; empty: it has none. Needs no token."""
        return (await self._bytes("GET", "/ca", None, None, None)).decode()

    async def make_token(self, request: JoinTokenRequest) -> MadeJoinToken:
        """A token to join; it is told this once."""
        return await self._one(MadeJoinToken, "POST", "/join-tokens", request)

    async def tokens(self) -> list[JoinTokenView]:
        """Tokens by which somebody can join still."""
        return await self._many(JoinTokenView, "GET", "/join-tokens")

    async def revoke_token(self, token_id: str) -> None:
        """Nobody joins by it any more. :raises NotFound:"""
        await self._bytes("DELETE", f"/join-tokens/{quote(token_id, safe='')}", None, None, None)

    async def join(self, request: JoinRequest) -> JoinAnswer:
        """Join, as a host; the token of the client's endpoint is a token to join."""
        return await self._one(JoinAnswer, "POST", "/hosts/join", request, timeout_s=_AGENT_S)

    async def label(self, host: str, labels: Mapping[str, str | None]) -> HostView:
        """Set labels; ``None`` takes one away."""
        return await self._one(HostView, "POST", f"{_host(host)}/labels", LabelsRequest(labels=dict(labels)))

    async def cordon(self, host: str, reason: str = "") -> HostView:
        """No new nodes there; those that are there stay."""
        return await self._one(HostView, "POST", f"{_host(host)}/cordon", CordonRequest(reason=reason))

    async def uncordon(self, host: str) -> HostView:
        """New nodes may come again; a drain ends with it."""
        return await self._one(HostView, "POST", f"{_host(host)}/uncordon")

    async def drain(self, host: str, *, draining: bool = True) -> HostView:
        """Have its nodes move away, or end that; it stays cordoned. Returns before they have moved."""
        return await self._one(HostView, "POST", f"{_host(host)}/drain", DrainRequest(draining=draining))

    async def rotate(self, host: str) -> HostDetails:
        """Have its agent log in by a new key. :raises Unavailable: it does not answer."""
        return await self._one(HostDetails, "POST", f"{_host(host)}/rotate", timeout_s=_AGENT_S)

    async def removal(self, host: str) -> RemovalPreview:
        """What removing it would mean."""
        return await self._one(RemovalPreview, "GET", f"{_host(host)}/removal")

    async def remove(self, host: str, *, force: bool = False) -> RemovalPreview:
        """Remove it. :raises Conflict: labs have nodes there, and ``force`` is not given."""
        return await self._one(RemovalPreview, "DELETE", _host(host), query={"force": force}, timeout_s=_AGENT_S)


def _host(host: str) -> str:
    return f"/hosts/{quote(host, safe='')}"
