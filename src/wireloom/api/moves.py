"""Routes of nodes that move, and of what hosts carry by way of this controller."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from wireloom.api.failures import ERROR_RESPONSES
from wireloom.api.routes import API_PREFIX, TheController
from wireloom.model.moves import MoveRequest, MovesView, MoveView

__all__ = ["move_of", "move_router"]

move_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["labs"])

_CARRIED: Final = re.compile(re.escape(API_PREFIX) + r"/moves/([0-9a-f]{1,32})/.+")


def move_of(path: str) -> str | None:
    """Which move a request of a host is about."""
    found = _CARRIED.fullmatch(path)
    return found[1] if found else None


@move_router.post("/labs/{lab}/moves", operation_id="moveNodes", status_code=202)
async def move(lab: str, body: MoveRequest, controller: TheController) -> MovesView:
    """Move nodes to another host with what they have; a dry run says what would happen."""
    return await controller.moves.move(lab, body)


@move_router.get("/labs/{lab}/moves", operation_id="listMoves")
async def moves(lab: str, controller: TheController) -> list[MoveView]:
    """Nodes of the lab that move, and moves that were undone, with why."""
    return controller.moves.views(lab)


@move_router.delete("/labs/{lab}/moves/{node}", operation_id="abortMove", status_code=204)
async def abort(lab: str, node: str, controller: TheController) -> Response:
    """Have a node that moves stay where it was; possible until all of it has arrived."""
    await controller.moves.abort(lab, node)
    return Response(status_code=204)


@move_router.get("/moves/{move_id}/manifest", include_in_schema=False)
async def manifest(move_id: str, controller: TheController) -> Response:
    """What is to be carried, from the host that the node leaves."""
    return await _fetched(controller, move_id, -1, 0)


@move_router.get("/moves/{move_id}/files/{number}", include_in_schema=False)
async def carried_file(move_id: str, number: int, request: Request, controller: TheController) -> Response:
    """A file of the node, from the host that it leaves, from an offset on."""
    start = request.query_params.get("from", "0")
    return await _fetched(controller, move_id, number, int(start) if start.isdecimal() else 0)


@move_router.get("/moves/{move_id}/wanted", include_in_schema=False)
async def wanted(move_id: str, controller: TheController) -> Response:
    """What is wanted of the host that the node leaves; nothing for a while: 204."""
    wish = await controller.moves.relay.wanted(move_id)
    if wish is None:
        return Response(status_code=204)
    return Response(wish.model_dump_json(), media_type="application/json")


@move_router.put("/moves/{move_id}/data/{ticket}", include_in_schema=False)
async def data(move_id: str, ticket: str, request: Request, controller: TheController) -> Response:
    """What was wanted."""
    del move_id  # the guard has looked at it
    size = request.headers.get("content-length", "0")
    await controller.moves.relay.send(ticket, int(size) if size.isdecimal() else 0, _body(request))
    return Response(status_code=204)


async def _fetched(controller: TheController, move_id: str, number: int, start: int) -> Response:
    size, pieces = await controller.moves.relay.fetch(move_id, number, start)
    headers = {"Content-Length": str(size)}
    return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            if piece:
                yield piece
    except ClientDisconnect:
        return
