"""Routes on links and segments, one for each row of the table in :mod:`wireloom.model.link_views`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from wireloom.api.failures import ERROR_RESPONSES
from wireloom.api.routes import API_PREFIX, TheController
from wireloom.api.streams import ByteStreamResponse
from wireloom.fabric.link_documents import MtuAnswer, SelfTestAnswer
from wireloom.model.counters import CountersSample
from wireloom.model.link_views import (
    ClearRequest,
    ImpairRequest,
    LinkEnds,
    LinkRequest,
    LinkView,
    SegmentRequest,
)
from wireloom.model.presets import Preset
from wireloom.model.views import OperationView

__all__ = ["link_router", "spoken_in_lines"]

link_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["links"])

#: What is sent line by line, which no route has as its answer.
spoken_in_lines = (CountersSample,)

_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One CountersSample a line, for each host of the lab, until the reader goes",
        "content": {"application/x-ndjson": {"schema": {"$ref": "#/components/schemas/CountersSample"}}},
    }
}


@link_router.get("/labs/{lab}/links", operation_id="listLinks")
async def links(lab: str, controller: TheController, a: str = "", b: str = "") -> list[LinkView]:
    """Links of a lab as they are now, or the one between two ends, in whatever order and spelling."""
    return controller.link_questions.links(lab, a, b)


@link_router.post("/labs/{lab}/links", operation_id="link", status_code=202)
async def link(lab: str, body: LinkRequest, controller: TheController) -> OperationView:
    """Add, remove or move a link, or switch it on or off."""
    return await controller.links.link(lab, body)


@link_router.post("/labs/{lab}/impairments", operation_id="impair", status_code=202)
async def impair(lab: str, body: ImpairRequest, controller: TheController) -> OperationView:
    """Impair a link, in one direction or both, for a time or for good."""
    return await controller.links.impair(lab, body)


@link_router.post("/labs/{lab}/impairments/clear", operation_id="clearImpairment", status_code=202)
async def clear(lab: str, body: ClearRequest, controller: TheController) -> OperationView:
    """Take away what impairs a link, or all links of a lab."""
    return await controller.links.clear(lab, body)


@link_router.get("/impairment-presets", operation_id="listPresets")
async def presets(controller: TheController) -> list[Preset]:
    """Kinds of lines that people know."""
    return controller.links.presets()


@link_router.post("/labs/{lab}/segments", operation_id="segment", status_code=202)
async def segment(lab: str, body: SegmentRequest, controller: TheController) -> OperationView:
    """Add a segment, or remove one with the links to it."""
    return await controller.links.segment(lab, body)


@link_router.post("/labs/{lab}/link-checks", operation_id="checkLink")
async def check(lab: str, body: LinkEnds, controller: TheController) -> MtuAnswer:
    """Find out how large a frame passes over a link, each way."""
    return await controller.link_questions.check_mtu(lab, body)


@link_router.get("/labs/{lab}/counters", operation_id="streamCounters", response_class=Response, responses=_LINES)
async def counters(
    lab: str, controller: TheController, interval: Annotated[float, Query(ge=0.2, le=60)] = 1
) -> Response:
    """Counters and rates of all ports of a lab, every ``interval`` seconds."""
    source = await controller.link_questions.counters(lab, interval)
    return ByteStreamResponse(source, media_type="application/x-ndjson")


@link_router.post("/hosts/{host}/self-test", operation_id="testDataPlane", tags=["installation"])
async def self_test(host: str, controller: TheController) -> SelfTestAnswer:
    """Send a real frame over each kind of path on a host, through ports made for it."""
    return await controller.link_questions.self_test(host)
