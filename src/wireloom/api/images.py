"""Routes on images, one for each row of the table in :mod:`wireloom.model.images`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from wireloom.api.failures import ERROR_RESPONSES
from wireloom.api.routes import API_PREFIX, TheController
from wireloom.controller.library.secrets import LARGEST_SECRET
from wireloom.errors import InvalidInput
from wireloom.model.images import (
    AdoptRequest,
    Choice,
    CollectRequest,
    CollectView,
    EngineImageView,
    ExtractRequest,
    HostsRequest,
    ImageUpdate,
    ImageView,
    ImportRequest,
    JobView,
    PullRequest,
    SaveRequest,
)

__all__ = ["image_router"]

image_router = APIRouter(prefix=API_PREFIX, responses=ERROR_RESPONSES, tags=["images"])

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@image_router.get("/images", operation_id="listImages")
async def images(controller: TheController) -> list[ImageView]:
    """Images of the library, by name."""
    return list(controller.library.catalogue.all())


@image_router.get("/images/engine", operation_id="listEngineImages")
async def engine_images(controller: TheController, host: str = Query("")) -> list[EngineImageView]:
    """What hosts have, whoever brought it; of one host, or of all that answer."""
    return await controller.library.engine_images(host)


@image_router.post("/images/imports", operation_id="importImage", status_code=202)
async def import_image(body: ImportRequest, controller: TheController) -> JobView:
    """Bring in a file that was uploaded, or one that the controller fetches."""
    return await controller.library.imports.import_file(body)


@image_router.post("/images/pulls", operation_id="pullImage", status_code=202)
async def pull(body: PullRequest, controller: TheController) -> JobView:
    """Have a host's engine fetch an image, and bring it in."""
    return await controller.library.imports.pull(body)


@image_router.post("/images/adoptions", operation_id="adoptImage", status_code=202)
async def adopt(body: AdoptRequest, controller: TheController) -> JobView:
    """Bring in what a host has already."""
    return await controller.library.imports.adopt(body)


@image_router.post("/images/saves", operation_id="saveNode", status_code=202)
async def save(body: SaveRequest, controller: TheController) -> JobView:
    """Make an image of a stopped node."""
    return await controller.library.imports.save(body)


@image_router.post("/images/collect", operation_id="collectImages")
async def collect(body: CollectRequest, controller: TheController) -> CollectView:
    """Remove stored files that no image and no work needs."""
    return await controller.library.collector.collect(dry_run=body.dry_run)


@image_router.get("/images/{image_id}", operation_id="getImage")
async def image(image_id: str, controller: TheController) -> ImageView:
    """An image, where it is and what uses it."""
    return controller.library.catalogue.get(image_id)


@image_router.patch("/images/{image_id}", operation_id="updateImage")
async def update(image_id: str, body: ImageUpdate, controller: TheController) -> ImageView:
    """Say what it is, and whose default."""
    return await controller.library.catalogue.update(image_id, body)


@image_router.delete("/images/{image_id}", operation_id="deleteImage", status_code=202)
async def delete(image_id: str, controller: TheController) -> ImageView:
    """Take it off the library and off every host; refused where something uses it."""
    return await controller.library.catalogue.delete(image_id)


@image_router.post("/images/{image_id}/verify", operation_id="verifyImage", status_code=202)
async def verify(image_id: str, controller: TheController) -> JobView:
    """Read it again, in the library and on the hosts that have it."""
    return await controller.library.imports.verify(image_id)


@image_router.post("/images/{image_id}/push", operation_id="pushImage", status_code=202)
async def push(image_id: str, body: HostsRequest, controller: TheController) -> ImageView:
    """Have hosts fetch it before a node needs it."""
    return await controller.library.distribution.push(image_id, body.hosts)


@image_router.post("/images/{image_id}/unpush", operation_id="unpushImage")
async def unpush(image_id: str, body: HostsRequest, controller: TheController) -> ImageView:
    """Take a push back: hosts keep it no longer than they keep others. What they have now is not removed."""
    return await controller.library.distribution.unpush(image_id, body.hosts)


@image_router.post("/images/{image_id}/extract", operation_id="extractImage", status_code=202)
async def extract(image_id: str, body: ExtractRequest, controller: TheController) -> JobView:
    """Take the disk out of a container's image that wraps a virtual machine."""
    return await controller.library.imports.extract(image_id, body)


# --- work -------------------------------------------------------------------------------------


@image_router.get("/image-jobs", operation_id="listImageJobs")
async def jobs(controller: TheController) -> list[JobView]:
    """Work on the library, newest first; what ended is listed for some days."""
    return controller.library.jobs.all()


@image_router.get("/image-jobs/{job_id}", operation_id="getImageJob")
async def job(job_id: str, controller: TheController) -> JobView:
    """How far it is."""
    return controller.library.jobs.get(job_id)


@image_router.get(
    "/image-jobs/{job_id}/log", operation_id="getImageJobLog", response_class=StreamingResponse, responses=_TEXT
)
async def job_log(job_id: str, controller: TheController, follow: bool = False) -> StreamingResponse:
    """What it told, a line each; with `follow` until it ends."""
    lines = controller.library.jobs.log(job_id, follow=follow)
    return StreamingResponse(_ended(lines), media_type="text/plain; charset=utf-8")


@image_router.post("/image-jobs/{job_id}/cancel", operation_id="cancelImageJob", status_code=202)
async def cancel(job_id: str, controller: TheController) -> JobView:
    """End it; what it has made by then stays."""
    return await controller.library.jobs.cancel(job_id)


@image_router.post("/image-jobs/{job_id}/retry", operation_id="retryImageJob", status_code=202)
async def retry(job_id: str, controller: TheController) -> JobView:
    """Do again what failed or was cancelled."""
    return await controller.library.jobs.retry(job_id)


@image_router.post("/image-jobs/{job_id}/choice", operation_id="chooseForImageJob", status_code=202)
async def choose(job_id: str, body: Choice, controller: TheController) -> JobView:
    """Say what of a medium is to be imported."""
    return await controller.library.jobs.choose(job_id, body)


# --- secrets ----------------------------------------------------------------------------------


@image_router.get("/image-secrets", operation_id="listImageSecrets")
async def secrets(controller: TheController) -> list[str]:
    """Names of the secrets that were given; what they are is never told."""
    return list(controller.library.secrets.names())


@image_router.put(
    "/image-secrets/{name}",
    operation_id="putImageSecret",
    status_code=204,
    openapi_extra={"requestBody": {"required": True, **_BYTES}},
)
async def put_secret(name: str, request: Request, controller: TheController) -> None:
    """Keep a secret, such as a licence, for the nodes whose device asks for it."""
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > LARGEST_SECRET:
            raise InvalidInput(f"a secret has at most {LARGEST_SECRET} bytes")
    await controller.library.secrets.put(name, content)


@image_router.delete("/image-secrets/{name}", operation_id="deleteImageSecret", status_code=204)
async def delete_secret(name: str, controller: TheController) -> None:
    """Forget a secret."""
    await controller.library.secrets.delete(name)


async def _ended(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield line.encode() + b"\n"
