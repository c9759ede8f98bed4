"""The routes, one for each row of the table in :mod:`wireloom.model.views`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket, WebSocketDisconnect

from wireloom.api.failures import ERROR_RESPONSES, error_response
from wireloom.api.streams import ByteStreamResponse, run_console
from wireloom.api.tickets import Tickets
from wireloom.controller.controller import Controller
from wireloom.controller.hub import Mailbox
from wireloom.errors import WireloomError
from wireloom.fabric.documents import Event
from wireloom.model.console import ConsoleLine
from wireloom.model.post_boot import BootRecord
from wireloom.model.runtime import Boot
from wireloom.model.views import (
    ActionRequest,
    DeployRequest,
    ExecRequest,
    ExecView,
    HostView,
    LabSummary,
    LabView,
    OperationView,
    PlanView,
    StatusView,
    StreamMessage,
    TicketView,
)

__all__ = ["API_PREFIX", "TheController", "router"]

API_PREFIX = "/api/v1"
#: A reader of the stream that takes nothing for so long is let go.
SEND_TIMEOUT_S = 30.0
CLOSE_TOO_SLOW = 1013

router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES)


def _controller(connection: HTTPConnection) -> Controller:
    controller: Controller = connection.app.state.controller
    return controller


TheController = Annotated[Controller, Depends(_controller)]

# -------------------------------------------------------------------- what is there


@router.get("/status", operation_id="getStatus", tags=["installation"])
async def status(controller: TheController) -> StatusView:
    """The installation at a glance."""
    return controller.status()


@router.get("/hosts", operation_id="listHosts", tags=["installation"])
async def hosts(controller: TheController) -> list[HostView]:
    """Hosts and what their agents say of them."""
    return controller.hosts()


@router.get("/labs", operation_id="listLabs", tags=["labs"])
async def labs(controller: TheController) -> list[LabSummary]:
    """All labs in short, by name."""
    return controller.board.summaries()


@router.get("/labs/{lab}", operation_id="getLab", tags=["labs"])
async def get_lab(lab: str, controller: TheController) -> LabView:
    """A lab with its nodes and links as they are now."""
    return controller.lab(lab)


@router.get(
    "/labs/{lab}/topology",
    operation_id="getTopology",
    tags=["labs"],
    response_class=PlainTextResponse,
    responses={200: {"content": {"application/yaml": {"schema": {"type": "string"}}}}},
)
async def topology(lab: str, controller: TheController) -> Response:
    """The text of the lab's current revision."""
    return Response(controller.topology(lab), media_type="application/yaml")


@router.get("/labs/{lab}/events", operation_id="listLabEvents", tags=["events"])
async def lab_events(lab: str, controller: TheController) -> list[Event]:
    """Recent history of a lab, oldest first."""
    return controller.journal.recent(lab)


@router.get("/events", operation_id="listEvents", tags=["events"])
async def events(controller: TheController) -> list[Event]:
    """Recent history of everything, oldest first."""
    return controller.journal.recent()


@router.get("/operations/{operation_id}", operation_id="getOperation", tags=["labs"])
async def operation(operation_id: str, controller: TheController) -> OperationView:
    """How far a long-running verb is."""
    return await controller.operation(operation_id)


# -------------------------------------------------------------------- verbs


@router.post("/plan", operation_id="plan", tags=["labs"])
async def plan(body: DeployRequest, controller: TheController) -> PlanView:
    """What deploying would change; changes nothing."""
    return await controller.labs.plan(body)


@router.post("/labs", operation_id="deploy", tags=["labs"], status_code=202)
async def deploy(body: DeployRequest, controller: TheController) -> OperationView:
    """Create a lab, or bring it to this topology."""
    return await controller.labs.deploy(body)


@router.delete("/labs/{lab}", operation_id="destroy", tags=["labs"], status_code=202)
async def destroy(lab: str, controller: TheController) -> OperationView:
    """Remove a lab and everything that it has on any host."""
    return await controller.labs.destroy(lab)


@router.post("/labs/{lab}/actions", operation_id="act", tags=["labs"], status_code=202)
async def act(lab: str, body: ActionRequest, controller: TheController) -> OperationView:
    """Start, stop, restart or wipe nodes."""
    return await controller.labs.act(lab, body)


# -------------------------------------------------------------------- nodes


@router.post("/labs/{lab}/nodes/{node}/exec", operation_id="exec", tags=["nodes"])
async def exec_in_node(lab: str, node: str, body: ExecRequest, controller: TheController) -> ExecView:
    """Run a command in a node."""
    return await controller.questions.exec(lab, node, body)


@router.get("/labs/{lab}/nodes/{node}/post-boot", operation_id="getPostBoot", tags=["nodes"])
async def post_boot(lab: str, node: str, controller: TheController) -> list[BootRecord]:
    """What post-boot commands did in the newest boots, the newest first."""
    return list(await controller.questions.post_boot(lab, node))


@router.get(
    "/labs/{lab}/nodes/{node}/log",
    operation_id="getLog",
    tags=["nodes"],
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def log(
    lab: str, node: str, controller: TheController, follow: bool = False, boot: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Console output since power-on; with ``follow`` also what comes. ``boot`` 1 is the boot before the last one."""
    return ByteStreamResponse(await controller.questions.log(lab, node, follow=follow, boot=boot))


@router.get("/labs/{lab}/nodes/{node}/boots", operation_id="listBoots", tags=["nodes"])
async def boots(lab: str, node: str, controller: TheController) -> list[Boot]:
    """The boots of the node of which a log is kept, newest first."""
    return await controller.questions.boots(lab, node)


@router.get("/labs/{lab}/nodes/{node}/console", operation_id="listConsoleLines", tags=["nodes"])
async def console_lines(lab: str, node: str, controller: TheController) -> list[ConsoleLine]:
    """Who is on the node's serial lines, who types, and who asks for the keyboard."""
    return list(await controller.questions.lines(lab, node))


@router.post("/tickets", operation_id="makeTicket", tags=["installation"], status_code=201)
async def ticket(request: Request) -> TicketView:
    """A ticket that opens one WebSocket within half a minute, for clients that cannot send the token with it."""
    tickets: Tickets = request.app.state.tickets
    made, expires_at = tickets.issue()
    return TicketView(ticket=made, expires_at=expires_at)


class _ConsoleOptions(BaseModel):
    """Size of the terminal, whether to type at all, which line instead of the device's own choice, who opens it, and
    whether it wants notices."""

    columns: int = Field(80, ge=1, le=1000)
    rows: int = Field(24, ge=1, le=1000)
    read_only: bool = False
    line: int | None = Field(None, ge=0)
    who: str = Field("", max_length=200)
    notices: bool = False


@router.websocket("/labs/{lab}/nodes/{node}/console")
async def console(
    websocket: WebSocket,
    lab: str,
    node: str,
    controller: TheController,
    options: Annotated[_ConsoleOptions, Query()],
) -> None:
    """The node's console."""
    try:
        source = await controller.questions.console(lab, node, **options.model_dump())
    except WireloomError as error:
        await websocket.send_denial_response(error_response(error))
        return
    try:
        await websocket.accept()
    except BaseException:
        await source.close()
        raise
    await run_console(websocket, source)


@router.websocket("/stream")
async def stream(websocket: WebSocket, controller: TheController, lab: str | None = None) -> None:
    """Everything as it is, then every change."""
    await websocket.accept()
    with controller.hub.subscribe(lab) as mailbox:
        greeting = controller.greeting(lab)
        sender = asyncio.ensure_future(_send_changes(websocket, mailbox, greeting))
        reader = asyncio.ensure_future(_until_gone(websocket))
        try:
            await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, reader):
                task.cancel()
            await asyncio.gather(sender, reader, return_exceptions=True)


async def _send_changes(websocket: WebSocket, mailbox: Mailbox, greeting: list[StreamMessage]) -> None:
    messages = greeting
    try:
        while True:
            for message in messages:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await websocket.send_text(message.model_dump_json())
            messages = await mailbox.take()
    except TimeoutError:
        await websocket.close(CLOSE_TOO_SLOW, "too slow")
    except WebSocketDisconnect:
        return


async def _until_gone(websocket: WebSocket) -> None:
    """What a reader says is of no interest; that it goes away is."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
