"""Captures: a file that grows while it is downloaded, and decoded frames on a WebSocket."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from starlette.websockets import WebSocket

from wireloom.api.failures import ERROR_RESPONSES, error_response
from wireloom.api.routes import API_PREFIX, TheController
from wireloom.api.streams import ByteStreamResponse, run_lines
from wireloom.errors import WireloomError
from wireloom.model.capture import FILTER_MOST, SNAPLEN_MOST, CaptureMessage, CaptureOptions

__all__ = ["capture_router", "spoken_on_capture_sockets"]

capture_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["captures"])

#: Messages that OpenAPI's paths do not mention.
spoken_on_capture_sockets = (CaptureMessage,)

_MEDIA_TYPE = "application/x-pcapng"
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


class _Capture(BaseModel):
    """``of``: a port (``r1:eth1``), a link (``r1:eth1 -- r2:eth1``) or a segment. Limits of 0 are none."""

    of: str = Field(min_length=1, max_length=500)
    filter: str = Field("", max_length=FILTER_MOST, description="As of pcap-filter(7); empty: all frames.")
    packets: int = Field(0, ge=0)
    seconds: float = Field(0, ge=0)
    snaplen: int = Field(SNAPLEN_MOST, description="Bytes of a frame that are kept.")

    def options(self) -> CaptureOptions:
        return CaptureOptions(filter=self.filter, packets=self.packets, seconds=self.seconds, snaplen=self.snaplen)


@capture_router.get("/labs/{lab}/capture", operation_id="capture", response_class=Response, responses=_FILE)
async def capture(lab: str, controller: TheController, wanted: Annotated[_Capture, Query()]) -> Response:
    """Capture frames as pcapng until a limit is reached or the reader goes.

    A reader that is slow costs frames in the capture, never in the lab; the statistics at its end tell how many.
    """
    source = await controller.captures.open(lab, wanted.of, wanted.options())
    answer = ByteStreamResponse(source, media_type=_MEDIA_TYPE)
    answer.headers["Content-Disposition"] = f'attachment; filename="{lab}.pcapng"'
    return answer


@capture_router.websocket("/labs/{lab}/capture")
async def decoded(
    websocket: WebSocket, lab: str, controller: TheController, wanted: Annotated[_Capture, Query()]
) -> None:
    """The same, decoded: one ``CaptureMessage`` a message."""
    try:
        source = await controller.captures.open(lab, wanted.of, wanted.options(), decode=True)
    except WireloomError as error:
        await websocket.send_denial_response(error_response(error))
        return
    try:
        await websocket.accept()
    except BaseException:
        await source.close()
        raise
    await run_lines(websocket, source)
