"""Routes on hosts, one for each row of the table in :mod:`wireloom.model.host_views`."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from starlette.requests import Request

from wireloom.api.failures import ERROR_RESPONSES
from wireloom.api.routes import API_PREFIX, TheController
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

__all__ = ["PUBLIC", "SMALL", "host_router", "is_joining"]

host_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["hosts"])

_JOIN: Final = f"{API_PREFIX}/hosts/join"
#: What is told to everybody: whom to trust, which a token to join says too, and that somebody is here.
PUBLIC: Final = frozenset({("GET", f"{API_PREFIX}/ca"), ("GET", f"{API_PREFIX}/health")})

#: Where anybody may knock.
SMALL: Final = frozenset({("POST", _JOIN)})


def is_joining(method: str, path: str) -> bool:
    """Whether a request is one of a host that wants to join, whose right is its token."""
    return method == "POST" and path == _JOIN


@host_router.get("/health", operation_id="getHealth", response_class=PlainTextResponse, tags=["installation"])
async def health() -> str:
    """Whether this controller answers; for those who watch it. Needs no token."""
    return "ok\n"


@host_router.get("/ca", operation_id="getAuthority", response_class=PlainTextResponse)
async def authority(controller: TheController) -> Response:
    """The certificate (PEM) of the authority that the API's own is of; empty: it has none of ours. Needs no token."""
    return Response(controller.host_parts.joining.address.ca, media_type="application/x-pem-file")


@host_router.post("/hosts/join", operation_id="joinHost", status_code=201)
async def join(body: JoinRequest, request: Request, controller: TheController) -> JoinAnswer:
    """Let a host in. The bearer token is a token to join, as `wireloom host token` makes them."""
    token = request.headers.get("authorization", "").partition(" ")[2].strip()
    return await controller.host_parts.joining.join(token, body, seen_as=_name_of(request.headers.get("host", "")))


@host_router.get("/join-tokens", operation_id="listJoinTokens")
async def tokens(controller: TheController) -> list[JoinTokenView]:
    """Tokens by which somebody can join still, without their secrets."""
    return await controller.host_parts.joining.tokens()


@host_router.post("/join-tokens", operation_id="makeJoinToken", status_code=201)
async def make_token(body: JoinTokenRequest, controller: TheController) -> MadeJoinToken:
    """Make a token to join. It is told this once."""
    return await controller.host_parts.joining.make_token(body)


@host_router.delete("/join-tokens/{token_id}", operation_id="revokeJoinToken", status_code=204)
async def revoke_token(token_id: str, controller: TheController) -> Response:
    """Nobody joins by it any more; hosts that did stay."""
    await controller.host_parts.joining.revoke_token(token_id)
    return Response(status_code=204)


@host_router.get("/hosts/{host}", operation_id="getHost")
async def host_details(host: str, controller: TheController) -> HostDetails:
    """A host with what is on it."""
    return await controller.host_parts.removal.details(host)


@host_router.post("/hosts/{host}/labels", operation_id="labelHost")
async def label(host: str, body: LabelsRequest, controller: TheController) -> HostView:
    """Set labels, or take some away."""
    await controller.registry.set_labels(host, body.labels)
    return controller.registry.view(host)


@host_router.post("/hosts/{host}/cordon", operation_id="cordonHost")
async def cordon(host: str, body: CordonRequest, controller: TheController) -> HostView:
    """Place no new nodes there; those that are there stay."""
    await controller.registry.cordon(host, body.reason)
    return controller.registry.view(host)


@host_router.post("/hosts/{host}/uncordon", operation_id="uncordonHost")
async def uncordon(host: str, controller: TheController) -> HostView:
    """Place nodes there again; a drain ends with it."""
    await controller.registry.uncordon(host)
    return controller.registry.view(host)


@host_router.post("/hosts/{host}/drain", operation_id="drainHost", status_code=202)
async def drain(host: str, body: DrainRequest, controller: TheController) -> HostView:
    """Have the nodes of the host move away, or leave those that are still there where they are."""
    await controller.registry.set_draining(host, body.draining)
    return controller.registry.view(host)


@host_router.post("/hosts/{host}/rotate", operation_id="rotateHost")
async def rotate(host: str, controller: TheController) -> HostDetails:
    """Have the host's agent make a new key pair and log in by it; the old key is good for nothing then."""
    return await controller.host_parts.rotation.rotate(host)


@host_router.get("/hosts/{host}/removal", operation_id="previewHostRemoval")
async def removal(host: str, controller: TheController) -> RemovalPreview:
    """What removing the host would mean; changes nothing."""
    return await controller.host_parts.removal.preview(host)


@host_router.delete("/hosts/{host}", operation_id="removeHost")
async def remove(host: str, controller: TheController, force: bool = False) -> RemovalPreview:
    """Remove the host: its agent is cut off at once, and refused when it comes back."""
    return await controller.host_parts.removal.remove(host, force=force)


def _name_of(host: str) -> str:
    """The name in a ``Host`` header, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
