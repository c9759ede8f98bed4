"""The ASGI application."""

from __future__ import annotations

import hmac
import warnings
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.warnings import UnsupportedFieldAttributeWarning
from starlette.middleware import Middleware

from wireloom import __version__
from wireloom.api import failures
from wireloom.api.blobs import blob_router, is_blob_path
from wireloom.api.captures import capture_router, spoken_on_capture_sockets
from wireloom.api.configs import config_router
from wireloom.api.devices import device_router
from wireloom.api.guard import ErrorBoundary, Guard, Narrow
from wireloom.api.hosts import PUBLIC, SMALL, host_router, is_joining
from wireloom.api.images import image_router
from wireloom.api.links import link_router, spoken_in_lines
from wireloom.api.moves import move_of, move_router
from wireloom.api.orphans import orphan_router
from wireloom.api.routes import API_PREFIX, router
from wireloom.api.tickets import Tickets
from wireloom.api.uploads import upload_id_of, upload_router
from wireloom.controller.controller import Controller
from wireloom.model.console import ConsoleCommand, ConsoleNotice
from wireloom.model.views import StreamMessage

__all__ = ["create_app", "openapi_document"]

# FastAPI silences this warning while it builds a body's validator; ours are built later, at their first use.
warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning, message="The 'alias' attribute")

_ROUTERS = (
    router,
    device_router,
    config_router,
    link_router,
    capture_router,
    image_router,
    upload_router,
    blob_router,
    host_router,
    orphan_router,
    move_router,
)
_TITLE = "Wireloom"
_DESCRIPTION = """Virtual network labs in which containers and virtual machines are equals.

Three WebSockets stand beside these paths: `/api/v1/stream?lab=` sends one `StreamMessage` per change, everything as it
is first; `/api/v1/labs/{lab}/nodes/{node}/console?columns=&rows=&read_only=&line=&who=&notices=` carries a console in
binary messages. Text messages on it are JSON: from the client its size `{"columns", "rows"}` or a `ConsoleCommand`
(`{"do": "ask"}`); from the server `{"error"}`, the last one, and with `notices=true` `{"notice": ConsoleNotice}` when
somebody comes, goes, asks for the keyboard or gets it.

`/api/v1/labs/{lab}/capture`, with the parameters of the path of that name, sends decoded frames: one `CaptureMessage` a
message, the last one with `end`, or `{"error"}`.

A browser cannot send the token with a WebSocket. It asks for a ticket with `POST /api/v1/tickets` and opens the
WebSocket with the subprotocols `wireloom` and `ticket.<ticket>`; a ticket is good for half a minute and for one use.
"""


def create_app(controller: Controller, *, token: str, listen_host: str) -> FastAPI:
    """The API of ``controller``, for those who know ``token``.

    :param listen_host: the address that it will be served on; other names in ``Host`` are refused.
    """
    tickets = Tickets(token)
    narrow = _tokens_of_hosts(controller)
    guard = Middleware(
        Guard, token=token, listen_host=listen_host, tickets=tickets, narrow=narrow, public=PUBLIC, small=SMALL
    )
    app = FastAPI(
        title=_TITLE,
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(ErrorBoundary), guard],
    )
    app.state.controller = controller
    app.state.tickets = tickets
    failures.install(app)
    for part in _ROUTERS:
        app.include_router(part)
    app.add_api_route(f"{API_PREFIX}/openapi.json", openapi_document, include_in_schema=False)
    return app


def _tokens_of_hosts(controller: Controller) -> Narrow:
    """Stored files are read, and an upload is continued, by hosts that were given a token for it."""

    async def narrow(method: str, path: str, token: str) -> bool:
        if is_joining(method, path):
            return controller.host_parts.joining.is_token(token)  # whether it is good, joining says itself
        if is_blob_path(path):
            return method in {"GET", "HEAD"} and controller.library.distribution.may_read_blobs(token)
        move_id = move_of(path)
        if move_id is not None:
            return hmac.compare_digest(controller.moves.token_of(move_id).encode() or b"-", token.encode())
        upload_id = upload_id_of(path)
        if upload_id is None or method not in {"HEAD", "PATCH"}:
            return False
        return await controller.library.uploads.may_write(upload_id, token)

    return narrow


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, the same for every installation of this version."""
    bare = FastAPI(openapi_url=None)
    for part in _ROUTERS:
        bare.include_router(part)
    document = get_openapi(
        title=_TITLE,
        version=__version__,
        description=_DESCRIPTION,
        routes=bare.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = document["components"]
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    # Spoken on a WebSocket or in lines, which OpenAPI cannot describe; clients take their types from here all the same.
    for spoken in (StreamMessage, ConsoleCommand, ConsoleNotice, *spoken_in_lines, *spoken_on_capture_sockets):
        schema = spoken.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"] |= schema.pop("$defs", {}) | {spoken.__name__: schema}
    document["security"] = [{"token": []}]
    return document
