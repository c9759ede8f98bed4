"""The ASGI application."""

from __future__ import annotations

import warnings
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.warnings import UnsupportedFieldAttributeWarning
from starlette.middleware import Middleware

from wireloom import __version__
from wireloom.api import failures
from wireloom.api.guard import ErrorBoundary, Guard
from wireloom.api.routes import API_PREFIX, router
from wireloom.controller.controller import Controller
from wireloom.model.views import StreamMessage

__all__ = ["create_app", "openapi_document"]

# FastAPI silences this warning while it builds a body's validator; ours are built later, at their first use.
warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning, message="The 'alias' attribute")

_TITLE = "Wireloom"
_DESCRIPTION = """Virtual network labs in which containers and virtual machines are equals.

Two WebSockets stand beside these paths: `/api/v1/stream?lab=` sends one `StreamMessage` per change, everything as it
is first; `/api/v1/labs/{lab}/nodes/{node}/console?columns=&rows=&read_only=&line=` carries a console in binary
messages, and its size in text messages `{"columns", "rows"}`.
"""


def create_app(controller: Controller, *, token: str, listen_host: str) -> FastAPI:
    """The API of ``controller``, for those who know ``token``.

    :param listen_host: the address that it will be served on; other names in ``Host`` are refused.
    """
    app = FastAPI(
        title=_TITLE,
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(ErrorBoundary), Middleware(Guard, token=token, listen_host=listen_host)],
    )
    app.state.controller = controller
    failures.install(app)
    app.include_router(router)
    app.add_api_route(f"{API_PREFIX}/openapi.json", openapi_document, include_in_schema=False)
    return app


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, the same for every installation of this version."""
    bare = FastAPI(openapi_url=None)
    bare.include_router(router)
    document = get_openapi(
        title=_TITLE,
        version=__version__,
        description=_DESCRIPTION,
        routes=bare.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = document["components"]
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    # Spoken on a WebSocket only, which OpenAPI cannot describe; clients generate their types from here all the same.
    message = StreamMessage.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= message.pop("$defs", {}) | {"StreamMessage": message}
    document["security"] = [{"token": []}]
    return document
